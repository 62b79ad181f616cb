"""The ramdisk hook: its settings file, and the files it adds to the ramdisk.

`response/obsdimg.sh` is the same on every ISO; what differs is in /obsdimg.conf, shell
assignments that `conf` makes from typed data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from obsdimg.core.entry import Entry
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.passphrase import MAX_LENGTH, MIN_LENGTH
from obsdimg.core.resources import resource
from obsdimg.core.secret import Secret

SCRIPT = "/obsdimg.sh"
CONF = "/obsdimg.conf"
KEY = "/obsdimg.key"
SOURCE_LINE = b". /obsdimg.sh\n"

SLOW_ROUNDS = 1000
MAX_ROUNDS = 1 << 30
ROUND_SECONDS = 0.0033
"""Seconds for a round of bcrypt_pbkdf on a recent processor (measured on 6.6)."""


class HookError(ObsdimgError):
    """A setting of the hook is out of range."""


class Mode(Enum):
    """What opens the disk."""

    PASSPHRASE = "passphrase"  # noqa: S105
    KEYDISK = "keydisk"
    EMBEDDED = "embedded"
    NONE = "none"


ASKING = (Mode.PASSPHRASE, Mode.EMBEDDED)
"""Modes in which the boot loader asks for the passphrase at every start."""


class Table(Enum):
    """The partition table of the disk; AUTO: GPT where UEFI started the machine."""

    AUTO = "auto"
    MBR = "mbr"
    GPT = "gpt"


class After(Enum):
    """What follows a successful installation."""

    REBOOT = "reboot"
    HALT = "halt"


@dataclass(frozen=True)
class HookSettings:
    """What the hook needs to know.

    `disk` is a name (`sd0`) or `auto`, the only disk that can be written; `rounds` is for
    bioctl -r, None for `auto` (about a second on that machine); `keydisk` is a partition
    (`sd1a`) of type RAID on another disk, needed in mode KEYDISK only.
    """

    mode: Mode = Mode.PASSPHRASE
    disk: str = "auto"
    rounds: int | None = None
    random_fill: bool = True
    overwrite: bool = False
    keydisk: str | None = None
    table: Table = Table.AUTO
    after: After = After.REBOOT
    need_mb: int = 0
    """The smallest disk, in MB, that holds what is to be installed (image/space.py)."""
    fdisk_gpt: str = "-gy -b 532480"
    """fdisk(8)'s options for GPT with an EFI System partition, of that release."""
    loader_speed: int | None = None
    """Bits per second of com0, if a loader of the BIOS shall ask for the passphrase there."""


def conf(settings: HookSettings) -> bytes:
    """/obsdimg.conf: one shell assignment a line, quoted.  Raises HookError."""
    validate(settings)
    rounds = "auto" if settings.rounds is None else str(settings.rounds)
    values = {
        "mode": settings.mode.value,
        "disk": settings.disk,
        "rounds": rounds,
        "fill": _yes_no(settings.random_fill),
        "overwrite": _yes_no(settings.overwrite),
        "keydisk": settings.keydisk or "",
        "table": settings.table.value,
        "fdisk_gpt": settings.fdisk_gpt,
        "after": settings.after.value,
        "loader": f"com0 {settings.loader_speed}" if settings.loader_speed else "",
        "need": str(settings.need_mb),
        "min": str(MIN_LENGTH),
        "max": str(MAX_LENGTH),
        # Last, so that a truncated file is noticed.
        "conf_complete": "yes",
    }
    return "".join(f"obsdimg_{name}={_quoted(value)}\n" for name, value in values.items()).encode()


def validate(settings: HookSettings) -> None:
    """Raise HookError for a setting that the tools of the ramdisk would not take."""
    if not re.fullmatch(r"auto|[sw]d[0-9]{1,3}", settings.disk):
        raise HookError(f"disk: {settings.disk!r}", "use auto or a name such as sd0")
    if settings.rounds is not None and not 16 <= settings.rounds <= MAX_ROUNDS:
        raise HookError(
            f"rounds: {settings.rounds}", "use auto, or 16 or more (later releases refuse less)"
        )
    if settings.mode is Mode.KEYDISK:
        part = settings.keydisk or ""
        if not re.fullmatch(r"[sw]d[0-9]{1,3}[abd-zA-Z]", part):
            raise HookError(
                f"keydisk: {settings.keydisk!r}", "use the name of a partition such as sd1a"
            )
        if part[:-1] == settings.disk:
            raise HookError(f"keydisk: {part} is on {settings.disk}, the disk it opens")
    elif settings.keydisk is not None:
        raise HookError("keydisk: given, and the mode is not keydisk", "remove one of the two")
    if settings.loader_speed is not None and settings.mode not in ASKING:
        raise HookError("loader: given, and the boot loader asks for no passphrase")


def warnings(settings: HookSettings) -> list[str]:
    """What the user should know before building, a sentence each."""
    found = []
    if settings.mode is Mode.EMBEDDED:
        found.append(
            "the passphrase is embedded in the ISO: whoever has the ISO can read the disk;"
            " for laboratories and machines to be thrown away"
        )
    if settings.mode is Mode.NONE:
        found.append("the disk is not encrypted: the provider can read everything on it")
    if settings.rounds is not None and settings.rounds >= SLOW_ROUNDS:
        seconds = settings.rounds * ROUND_SECONDS
        found.append(
            f"{settings.rounds} KDF rounds take about {seconds:.0f} s on a recent processor,"
            " and longer in the boot loader, at every start"
        )
    if settings.overwrite:
        found.append("overwrite = true: whatever is on the disk is erased without a question")
        if settings.mode is not Mode.PASSPHRASE and settings.after is After.REBOOT:
            found.append(
                "overwrite = true and nobody is asked for anything: if the ISO stays attached and"
                " is started first, the server is erased at every start; use after = halt"
            )
    return found


def ramdisk_files(settings: HookSettings, embedded: Secret | None = None) -> list[Entry]:
    """Files to add to the ramdisk.

    `embedded` is the passphrase, given in mode EMBEDDED and in no other.  Raises HookError.
    """
    script = resource("response", "obsdimg.sh").read_bytes()
    files = [
        Entry(SCRIPT, script, 0o644, "response/obsdimg.sh"),
        Entry(CONF, conf(settings), 0o644, "[disk]"),
    ]
    if (embedded is not None) != (settings.mode is Mode.EMBEDDED):
        raise HookError("the passphrase goes into the ramdisk in mode embedded, and only then")
    if embedded is not None:
        key = embedded.reveal().encode("ascii") + b"\n"
        files.append(Entry(KEY, key, 0o600, "the passphrase", secret=True))
    return files


def hooked(install_md: bytes) -> bytes:
    """install.md with the line that sources the hook; unchanged if it is there already."""
    if SOURCE_LINE in install_md:
        return install_md
    if install_md and not install_md.endswith(b"\n"):
        install_md += b"\n"
    return install_md + SOURCE_LINE


def describe(settings: HookSettings) -> Mapping[str, object]:
    """For the manifest and `inspect`: the settings as plain values."""
    return {
        "mode": settings.mode.value,
        "disk": settings.disk,
        "rounds": settings.rounds or "auto",
        "random_fill": settings.random_fill,
        "overwrite": settings.overwrite,
        "keydisk": settings.keydisk,
        "table": settings.table.value,
        "after": settings.after.value,
        "loader": "com0" if settings.loader_speed else "firmware",
        "needed_mb": settings.need_mb,
        "passphrase_in_iso": settings.mode is Mode.EMBEDDED,
    }


def parse_conf(data: bytes) -> dict[str, str]:
    """The values of an /obsdimg.conf found in an ISO, for `inspect`; unknown lines are left out."""
    pattern = r"^obsdimg_([a-z_]+)='([^'\n]*)'$"
    return dict(re.findall(pattern, data.decode("ascii", "replace"), re.MULTILINE))


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _quoted(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._ -]*", value):
        raise HookError(f"{value!r}: not a plain word")
    return f"'{value}'"
