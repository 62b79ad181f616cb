"""obsdimg(1), from the table that the parser and the help are made from."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Any

from obsdimg.cli.commands import COMMANDS
from obsdimg.cli.options import Spec, specs
from support import mdoc

DAY = "November 26, 2026"
"""When the words of the page were last gone over; the options are always current."""

EVERYWHERE = (
    ("Fl q , Fl -quiet", "Only results and errors."),
    ("Fl -debug", "Show a traceback on errors."),
    ("Fl h , Fl -help", "The options of this command."),
)

FILES = (
    ("obsdimg.toml", "The configuration of a project, obsdimg.toml(5)."),
    ("secrets/", "Keys of the project, mode 0700. They are never overwritten: keep a backup."),
    ("clients/", "A WireGuard configuration for each client, with its private key."),
    ("images/", "The ISOs, each with its checksum, its signed manifest and its response file."),
    ("overlay/", "Files that land on the server as they are."),
    ("~/.cache/obsdimg", "Verified downloads."),
)

ENVIRONMENT = (
    ("OBSDIMG_PASSPHRASE_FILE", "The file that holds the passphrase, mode 0600."),
    ("OBSDIMG_CONSOLE_PASSWORD_FILE", "The same for the password of a console."),
    ("OBSDIMG_CACHE", "Where downloads are kept."),
    ("OBSDIMG_RELEASES", "A folder with files of releases that this version does not know."),
    ("SOURCE_DATE_EPOCH", "The time of everything new in an ISO, in seconds since 1970."),
    ("VULTR_API_KEY", "The token for Vultr."),
)

STATUS = (
    ("0", "Done."),
    ("1", "An error, said in one line that begins with error: and one that begins with hint:."),
    ("2", "Wrong usage."),
    (
        "3 and more",
        "apply --check, status and unlock tell more: see docs/servers.md and docs/console.md.",
    ),
    ("130", "Interrupted."),
)

EXAMPLES = (
    ("See what it does; nothing is downloaded:", ["obsdimg demo"]),
    (
        "A server for two clients:",
        [
            "obsdimg init vpn --endpoint vpn.example.org \\",
            "    --ssh-key ~/.ssh/id_ed25519.pub --peer laptop --peer phone",
            "cd vpn",
            "obsdimg check",
            "obsdimg build",
            "obsdimg rehearse",
        ],
    ),
    ("One client more, on the running server:", ["obsdimg client add tablet --apply"]),
    ("Complete words in bash:", ['eval "$(obsdimg completion bash)"']),
)


_WHAT = """\
turns a plain install ISO of OpenBSD into a WireGuard server that installs itself, encrypted, on
a machine that need not be trusted.
It verifies the ISO, writes the response file of the installer and the site set, puts a step that
encrypts the disk into the ramdisk of the installer, and writes a new ISO."""

_WARNING = """\
It wipes disks: that ISO erases the disk of the machine that starts from it.
It refuses a disk that holds anything, unless the words "wipe sd0" are typed on the console or
the configuration says so."""


def manual() -> bytes:
    """The page, in mdoc."""
    lines = [
        ".Sh SYNOPSIS",
        ".Nm",
        ".Ar command",
        ".Op Ar option ...",
        ".Nm",
        ".Fl -version",
        ".Sh DESCRIPTION",
        ".Nm",
        *mdoc.prose(_WHAT),
        ".Pp",
        *mdoc.prose(_WARNING),
        ".Pp",
        "Every command takes these options:",
        *mdoc.tagged((head, mdoc.prose(text)) for head, text in EVERYWHERE),
        ".Sh COMMANDS",
    ]
    for name, brief in COMMANDS.items():
        lines += _command(name, brief)
    lines += _list("ENVIRONMENT", "Ev", ENVIRONMENT)
    lines += _list("FILES", "Pa", FILES)
    lines += _list("EXIT STATUS", "", STATUS)
    lines.append(".Sh EXAMPLES")
    for number, (what, commands) in enumerate(EXAMPLES):
        lines += [".Pp"] * bool(number) + mdoc.prose(what)
        lines += [".Bd -literal -offset indent", *map(mdoc.escape, commands), ".Ed"]
    lines += [".Sh SEE ALSO", ".Xr obsdimg.toml 5"]
    brief = "make an install ISO that sets up an encrypted WireGuard server"
    return mdoc.page("obsdimg", 1, brief, DAY, lines)


def _command(name: str, brief: str) -> list[str]:
    options = importlib.import_module(f"obsdimg.cli.{name}").Options
    table = [spec for _, spec in specs(options)]
    places = [spec for spec in table if not spec.words]
    head = [f".Ss {name}", ".Nm", f".Cm {name}", ".Op Ar option ..."]
    head += [f".Ar {mdoc.word(_usage(spec))}" for spec in places]
    return [
        *head,
        ".Pp",
        *mdoc.prose(_sentence(brief)),
        *mdoc.tagged((_head(spec), mdoc.prose(_sentence(_help(spec)))) for spec in table),
    ]


def _usage(spec: Spec) -> str:
    metavar = str(spec.how["metavar"])
    count = spec.how.get("nargs")
    if metavar.startswith("[") or count not in ("?", "*"):
        return metavar
    return f"[{metavar}{' ...' if count == '*' else ''}]"


def _head(spec: Spec) -> str:
    if not spec.words:
        return f"Ar {mdoc.word(str(spec.how['metavar']))}"
    flags = " , ".join(f"Fl {word[1:]}" for word in spec.words)
    return f"{flags}{_value(spec.words[-1], spec.how)}"


def _value(word: str, how: dict[str, Any]) -> str:
    """The word for an option's value, as argparse's help has it."""
    if how.get("action") in ("store_true", "store_const"):
        return ""
    choices = how.get("choices")
    metavar = how.get("metavar") or (
        "{" + ",".join(map(str, choices)) + "}"
        if choices
        else word.lstrip("-").upper().replace("-", "_")
    )
    text = " ".join(metavar) if isinstance(metavar, tuple) else str(metavar)
    value = f" Ar {mdoc.word(text)}" if text else ""
    return f" Op{value}" if how.get("nargs") == "?" else value


def _help(spec: Spec) -> str:
    text = str(spec.how.get("help") or spec.how.get("metavar"))
    if spec.how.get("action") == "append" and "repeated" not in text:
        text += "; may be given several times"
    return text.replace("%%", "%")


def _sentence(text: str) -> str:
    if not re.match(r"(?!default|with)\w+:", text):  # what the user types stays as it is
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "…")) else f"{text}."


def _list(heading: str, macro: str, entries: Iterable[tuple[str, str]]) -> list[str]:
    items = ((f"{macro} {name}".strip(), mdoc.prose(text)) for name, text in entries)
    return [f".Sh {heading}", *mdoc.tagged(items)]
