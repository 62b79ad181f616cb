"""libvirt's own command, virsh, as a function: one call, one answer, every error a ProviderError.

It speaks all of libvirt's addresses (qemu:///system, qemu+ssh://HOST/system) and needs no library
of libvirt's version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from obsdimg.core.errors import printable
from obsdimg.core.process import Completed, ProcessError, pour, run
from obsdimg.deploy.provider import MissingError, ProviderError

SECONDS = 60.0
HINT = (
    "install it: Debian/Ubuntu `apt install libvirt-clients`, Fedora `dnf install libvirt-client`"
)
_MISSING = ("failed to get ", "not found", "no storage vol", "no domain with", "no network with")


class Virsh:
    """`virsh -c URI`.  `folder` is where it is started: PATHs that it reads and writes."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __call__(self, *words: str | Path, stdin: str = "", seconds: float = SECONDS) -> str:
        """What the command prints.  Raises MissingError: no such thing; ProviderError."""
        return self.data(words, stdin, seconds).decode("utf-8", "replace")

    def data(self, words: Sequence[str | Path], stdin: str = "", seconds: float = SECONDS) -> bytes:
        """The same as bytes.  Raises MissingError, ProviderError."""
        argv = self._argv(words)
        return self._judged(lambda: run(argv, stdin=stdin.encode(), timeout=seconds, check=False))

    def pour(
        self, words: Sequence[str | Path], sink: Callable[[bytes], object], seconds: float
    ) -> None:
        """Give `sink` what the command writes to its standard output, which no file ever holds.

        Raises MissingError, ProviderError.
        """
        self._judged(lambda: pour(self._argv(words), sink, timeout=seconds))

    def _argv(self, words: Sequence[str | Path]) -> list[str | Path]:
        return ["virsh", "-q", "-c", self.uri, *words]

    def _judged(self, work: Callable[[], Completed]) -> bytes:
        try:
            done = work()
        except ProcessError as error:
            hint = HINT if "not found" in error.message else error.hint
            raise ProviderError(error.message, hint) from error
        if done.returncode == 0:
            return done.stdout
        words = done.argv[4:]
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        lines = [line.removeprefix("error: ").strip() for line in said if line.strip()]
        message = printable("; ".join(lines) or f"exit code {done.returncode}")[:400]
        if any(word in message.lower() for word in _MISSING):
            raise MissingError(f"libvirt: {message}")
        raise ProviderError(f"libvirt ({words[0]}): {message}", self._hint(message))

    def _hint(self, message: str) -> str | None:
        if "failed to connect" in message or "Cannot recv data" in message:
            return f"does `virsh -c {self.uri} list` work? deploy.uri says where libvirt is"
        return None

    def exists(self, *words: str | Path) -> bool:
        """Whether the command finds its thing."""
        try:
            self(*words)
        except MissingError:
            return False
        return True
