"""A console that shows what a script says: scenes follow each other, or the keys."""

from __future__ import annotations

from collections.abc import Callable

from obsdimg.console.errors import ConsoleError
from obsdimg.console.keys import Chord, bytes_of
from obsdimg.console.screen import Cell, Kind, Screen

BANNER = ">> OpenBSD/amd64 BOOT 3.67\n"
PROMPT = BANNER + "Passphrase: "
LOGIN = "OpenBSD/amd64 (vpn.example.org) (ttyC0)\n\nlogin: "


def screen(text: str, kind: Kind = Kind.TEXT, rows: int = 25) -> Screen:
    lines = (text.split("\n") + [""] * rows)[:rows]
    cells = tuple(tuple(Cell(c, 0xAAAAAA, 0) for c in line.ljust(80)) for line in lines)
    return Screen(kind, cells)


Scene = str | Screen | ConsoleError
Answer = Callable[[str], list[Scene]]


class ScriptedConsole:
    """Shows `scenes`, the next at each wait; after Enter those that `answer` gives."""

    label = "vnc://scripted"

    def __init__(self, *scenes: Scene, answer: Answer = lambda line: []) -> None:
        self.scenes, self.answer = list(scenes), answer
        self.changes = 0
        self.typed = ""
        self.closed = False
        self._line = ""

    def screen(self) -> Screen:
        scene = self.scenes[0]
        if isinstance(scene, ConsoleError):
            raise scene
        return screen(scene) if isinstance(scene, str) else scene

    def wait(self, after: int, seconds: float) -> bool:
        if len(self.scenes) > 1:
            self.scenes.pop(0)
            self.changes += 1
            return True
        return False

    def press(self, keys: Chord, pace: float = 0) -> None:
        text = bytes_of(keys).decode()
        self.typed += text
        if text != "\r":
            self._line += text
            return
        self.scenes = self.answer(self._line) or self.scenes
        self._line = ""

    def png(self) -> bytes:
        return b"\x89PNG"

    def close(self) -> None:
        self.closed = True
