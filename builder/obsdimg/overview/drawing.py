"""The drawing of the network: boxes and curves with their places, for page.html.j2 to draw.

Pure.  Units are those of the SVG: one is a pixel where the picture is shown at its own size.
"""

from __future__ import annotations

from dataclasses import dataclass

from obsdimg.overview.reach import ReachTable, ReachTarget, TargetKind

WIDTH = 960
LANE = 72
"""Height of a client's lane."""
TOP = 84
CLIENT_X, CLIENT_WIDTH = 16, 190
SERVER_X, SERVER_WIDTH = 400, 226
TARGET_X, TARGET_WIDTH = 734, 210
TARGET_HEIGHT = 56
COLOURS = (
    ("#1f6fb2", "#6fb1e6"), ("#b0531f", "#e69a6c"), ("#2e7d4f", "#6cc192"),
    ("#8a3f9e", "#c98bd9"), ("#9a7b00", "#d6b94a"), ("#b3264a", "#ef7f9c"),
)  # fmt: skip
"""Of the clients, in turns: each on a light page and on a dark one."""
CHIP_WIDTH, CHIP_HEIGHT = 64, 22


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and a line below it; `full` is the title where it is cut, `colour`
    the number of a client's."""

    x: float
    y: float
    width: float
    height: float
    title: str
    detail: str = ""
    full: str = ""
    colour: int = 0


@dataclass(frozen=True)
class Way:
    """A client's way: an SVG path, the number of its colour, and what it means in words."""

    path: str
    colour: int
    means: str


@dataclass(frozen=True)
class ServiceChip:
    """Something of the server itself that a client may use, or may not."""

    x: float
    y: float
    width: float
    height: float
    title: str
    allowed: bool
    means: str


@dataclass(frozen=True)
class NetworkDrawing:
    """Everything on the picture."""

    width: float
    height: float
    clients: tuple[Box, ...]
    server: Box
    tunnel: Box
    targets: tuple[Box, ...]
    lines: tuple[Way, ...]
    chips: tuple[ServiceChip, ...]


def draw(table: ReachTable, server: tuple[str, str], tunnel: tuple[str, str]) -> NetworkDrawing:
    """Place everything; `server` and `tunnel` are the title and the line below of these two."""
    far = table.columns(TargetKind.INTERNET, TargetKind.NETWORK)
    rows = max(len(table.clients), len(far), 1)
    height = TOP + rows * LANE + 28
    middle = TOP + rows * LANE / 2
    clients = tuple(
        Box(
            CLIENT_X, TOP + n * LANE + 8, CLIENT_WIDTH, LANE - 16,
            shorten(client.name, 20), shorten(", ".join(client.addresses), 27), client.name,
            n % len(COLOURS),
        )
        for n, client in enumerate(table.clients)
    )  # fmt: skip
    first = middle - len(far) * LANE / 2
    targets = tuple(
        _target(table.targets[column], first + n * LANE) for n, column in enumerate(far)
    )
    lines, chips = [], []
    for client, box in zip(table.clients, clients, strict=True):
        y, colour = box.y + box.height / 2, box.colour
        through = SERVER_X + (SERVER_WIDTH if any(client.allowed[c] for c in far) else 0)
        lines.append(
            Way(f"M {CLIENT_X + CLIENT_WIDTH} {y} H {through}", colour, f"{client.name}: tunnel")
        )
        for column, target in zip(far, targets, strict=True):
            if client.allowed[column]:
                lines.append(
                    Way(_curve(y, target.y + target.height / 2), colour,
                         f"{client.name} reaches {table.targets[column].name}")
                )  # fmt: skip
        near = table.columns(TargetKind.SSH, TargetKind.RESOLVER, TargetKind.CLIENTS)
        chips += [
            _chip(table.targets[column], client.name, client.allowed[column], place, y)
            for place, column in enumerate(near)
        ]
    return NetworkDrawing(
        width=WIDTH,
        height=height,
        clients=clients,
        server=Box(SERVER_X, 16, SERVER_WIDTH, height - 32, shorten(server[0], 24), server[1],
                   server[0]),
        tunnel=Box(CLIENT_X + CLIENT_WIDTH + 22, TOP - 4, SERVER_X - CLIENT_X - CLIENT_WIDTH - 44,
                   rows * LANE + 8, tunnel[0], tunnel[1]),
        targets=targets,
        lines=tuple(lines),
        chips=tuple(chips),
    )  # fmt: skip


def shorten(text: str, longest: int) -> str:
    """`text`, cut with an ellipsis where it would not fit into its box."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _target(target: ReachTarget, y: float) -> Box:
    return Box(
        TARGET_X, y + (LANE - TARGET_HEIGHT) / 2, TARGET_WIDTH, TARGET_HEIGHT,
        shorten(target.name, 24), shorten(target.detail, 30), target.name,
    )  # fmt: skip


def _chip(target: ReachTarget, client: str, allowed: bool, place: int, y: float) -> ServiceChip:
    short = {TargetKind.SSH: "ssh", TargetKind.RESOLVER: "DNS", TargetKind.CLIENTS: "clients"}[
        target.kind
    ]
    verb = "may use" if allowed else "may not use"
    return ServiceChip(
        SERVER_X + 10 + place * (CHIP_WIDTH + 7), y - CHIP_HEIGHT / 2, CHIP_WIDTH, CHIP_HEIGHT,
        short, allowed, f"{client} {verb} {target.name}",
    )  # fmt: skip


def _curve(y: float, to: float) -> str:
    """From the server's right edge to a target's left edge."""
    start, end = SERVER_X + SERVER_WIDTH, TARGET_X
    bend = (start + end) / 2
    return f"M {start} {y} C {bend} {y} {bend} {to} {end} {to}"
