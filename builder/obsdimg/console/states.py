"""What a screen of an OpenBSD machine means: firmware, loader, installer, kernel, login.

`recognise` looks at text only.  Texts and their sources: smoke/expectations.py, and the facts
of docs/console.md (the loader's: sys/lib/libsa/softraid.c and stand/boot of OpenBSD).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from obsdimg.console.screen import Kind, Screen


class Sight(enum.Enum):
    """What is seen; the value is what is told to programs."""

    BLANK = "blank"
    UNREADABLE = "unreadable"
    PASSPHRASE = "passphrase-prompt"  # noqa: S105
    REFUSED = "passphrase-refused"
    """The prompt again, below the loader's `incorrect passphrase`."""
    ABORTED = "aborted"
    """The loader gave up unlocking: an empty passphrase, or no key disk."""
    LOADER = "loader"
    """`boot>`, and no passphrase asked for above it."""
    BOOTING = "booting"
    LOGIN = "login"
    PANIC = "panic"
    SINGLE_USER = "single-user"
    ROOT_DEVICE = "root-device"
    GUARD = "guard"
    """The installer's encryption step, asking whether to erase, or for a new passphrase."""
    SEALED = "sealed-secrets"
    """The installation asks for the passphrase of the sealed secrets."""
    INSTALLER = "installer"
    INSTALL_FAILED = "install-failed"
    INSTALLED = "installed"
    NO_SYSTEM = "no-system"
    ON_SERIAL_LINE = "on-serial-line"
    """The loader has moved to the serial line, and this is the screen."""
    HALTED = "halted"
    OTHER = "other"


WORDS = {
    Sight.BLANK: "the screen is blank",
    Sight.UNREADABLE: "the screen shows no text that can be read",
    Sight.PASSPHRASE: "the boot loader asks for the passphrase",
    Sight.REFUSED: "the boot loader refused the passphrase and asks again",
    Sight.ABORTED: "the boot loader gave up unlocking the disk",
    Sight.LOADER: "the boot loader waits at its prompt",
    Sight.BOOTING: "OpenBSD boots",
    Sight.LOGIN: "OpenBSD waits for a login",
    Sight.PANIC: "the kernel has crashed",
    Sight.SINGLE_USER: "the boot stopped in single-user mode",
    Sight.ROOT_DEVICE: "the kernel did not find its root disk",
    Sight.GUARD: "the ISO's encryption step asks a question: the machine started from the ISO",
    Sight.SEALED: "the installation asks for the passphrase of the sealed secrets",
    Sight.INSTALLER: "the OpenBSD installer runs: the machine started from the ISO",
    Sight.INSTALL_FAILED: "the installation failed",
    Sight.INSTALLED: "the installation is complete",
    Sight.NO_SYSTEM: "the firmware finds nothing to boot",
    Sight.ON_SERIAL_LINE: "the boot loader has gone to the serial line",
    Sight.HALTED: "the machine has halted",
    Sight.OTHER: "the screen shows something else",
}


REFUSAL = "incorrect passphrase"


@dataclass(frozen=True)
class Seen:
    """A sight, and the line that it was known by."""

    sight: Sight
    line: str = ""

    @property
    def words(self) -> str:
        said = WORDS[self.sight]
        return f"{said}: {self.line}" if self.line and self.sight in _QUOTED else said


_QUOTED = (Sight.PANIC, Sight.INSTALL_FAILED, Sight.NO_SYSTEM, Sight.OTHER, Sight.ABORTED)

_ANYWHERE = (
    (Sight.PANIC, r"^panic: |^ddb(?:\{\d+\})?>|fatal (?:page|protection|non-maskable).* fault"),
    (Sight.INSTALL_FAILED, r"^obsdimg: STOPPED: |failed; check /tmp/ai/ai\.log"),
    (Sight.HALTED, r"The operating system has halted\."),
)
"""Where these stand, nothing that follows on the screen makes them untrue."""

_LAST = (
    # After an empty passphrase a loader that goes on by itself asks once more in its own line.
    (Sight.PASSPHRASE, r"^(?:booting \S+: )?Passphrase:$"),
    (Sight.LOADER, r"^boot> ?\S*$"),
    (Sight.LOGIN, r"^\S* ?login:\s*$|^Password:$"),
    (Sight.GUARD, r"^(?:Answer|New passphrase|The same again):$"),
    (Sight.SEALED, r"Passphrase of the sealed secrets:$"),
    (Sight.INSTALLER, r"\(I\)nstall, \(U\)pgrade(?:, \(A\)utoinstall)? or \(S\)hell\?"),
    (Sight.SINGLE_USER, r"Enter pathname of shell or RETURN for sh:"),
    (Sight.ROOT_DEVICE, r"^root device(?: \(default \S+\))?:"),
    (Sight.ON_SERIAL_LINE, r"^switching console to com\d*$"),
    (Sight.NO_SYSTEM, r"No bootable device|No bootable option or device|Shell>$"),
)
"""What waits for somebody, and so is the last line."""

_LATELY = (
    (Sight.INSTALLED, r"^CONGRATULATIONS! "),
    # Not every line of ours: the first boot of the installed system has some, too.
    (
        Sight.INSTALLER,
        r"^obsdimg: (?:this medium installs|random data:|making the |(?:opening )?the sealed)",
    ),
    (Sight.INSTALLER, r"^obsdimg: \S+ (?:holds|is NOT EMPTY|is the encrypted volume)"),
    (Sight.INSTALLER, r"Welcome to the OpenBSD/\S+ \S+ installation program\."),
    (Sight.INSTALLER, r"^Starting non-interactive mode|^Performing non-interactive install"),
    (Sight.INSTALLER, r"^(?:Installing|Verifying|Get/Verify) \S+|^Available disks are:"),
    (Sight.BOOTING, r"^booting \S+:|^entry point at|^[a-z]+\d+ at [a-z]+\d+\b"),
    (Sight.BOOTING, r"^OpenBSD \d+\.\d|^root on sd\d+a|^starting |^Automatic boot in progress"),
    (
        Sight.BOOTING,
        r"^reordering |^running rc\.|^relinking",
    ),
)
"""What goes by; the lowest on the screen counts."""


def recognise(screen: Screen) -> Seen:
    """What `screen` shows."""
    if screen.kind is Kind.BLANK:
        return Seen(Sight.BLANK)
    if screen.kind is Kind.GRAPHICS:
        return Seen(Sight.UNREADABLE)
    lines = _since_power_on([line.strip() for line in screen.lines if line.strip()])
    if not lines:
        return Seen(Sight.BLANK)
    last = lines[-1]
    for sight, pattern in _ANYWHERE:
        found = next((line for line in lines if re.search(pattern, line)), None)
        if found is not None:
            return Seen(sight, found)
    for sight, pattern in _LAST:
        if re.search(pattern, last):
            return _at_loader(sight, lines)
    for line in reversed(lines):
        for sight, pattern in _LATELY:
            if re.search(pattern, line):
                return Seen(sight, line)
    return Seen(Sight.OTHER, last)


def _since_power_on(lines: list[str]) -> list[str]:
    """Without what a serial line still shows of the time before a restart."""
    starts = [n for n, line in enumerate(lines) if re.match(r"SeaBIOS \(|Using drive \d", line)]
    return lines[starts[-1] :] if starts else lines


def _at_loader(sight: Sight, lines: list[str]) -> Seen:
    """The loader's prompts mean different things after what stands above them."""
    if sight is Sight.PASSPHRASE:
        if len(lines) > 1 and lines[-2] == REFUSAL:
            return Seen(Sight.REFUSED, REFUSAL)
        if not any(line.startswith(">> OpenBSD/") or line == REFUSAL for line in lines):
            return Seen(Sight.OTHER, "a passphrase is asked for, but not by OpenBSD's loader")
    if sight is Sight.LOADER:
        gave_up = next(
            (line for line in lines[-5:] if re.search(r"aborting\.\.\.|keydisk not found", line)),
            None,
        )
        if gave_up:
            return Seen(Sight.ABORTED, gave_up)
    return Seen(sight, lines[-1])


def hostname(screen: Screen) -> str | None:
    """The name in OpenBSD's greeting before a login (getty(8)), if it stands there."""
    found = re.search(r"^OpenBSD/\S+ \((\S+)\) \((?:tty\w+|console)\)", screen.text, re.MULTILINE)
    return found[1] if found else None


def other_system(screen: Screen) -> str | None:
    """The line by which a login prompt is that of another system; None: it may be OpenBSD's.

    OpenBSD asks `login:` and greets with its own name before (gettytab(5)); FreeBSD and NetBSD
    greet in the same form, Linux's getty puts the host's name into the prompt.
    """
    lines = [line.strip() for line in screen.lines if line.strip()]
    if not lines or not re.search(r"login:$", lines[-1]):
        return None
    if re.fullmatch(r"\S+ login:", lines[-1]):
        return lines[-1]
    greeting = re.compile(r"(?!OpenBSD/)\w+/\w+ \(\S+\) \(\w+\)")
    return next((line for line in reversed(lines) if greeting.match(line)), None)


def stranger(screen: Screen, host: str | None) -> str | None:
    """Why this is the console of another machine than `host` (None: of any OpenBSD), if it is."""
    if (line := other_system(screen)) is not None:
        return f"this is the console of another system: {line}"
    shown = hostname(screen)
    if host is None or shown is None or _short(shown) == _short(host):
        return None
    return f"this is the console of {shown}, not of {host}"


def _short(name: str) -> str:
    return name.partition(".")[0].lower()


def fingerprint(screen: Screen) -> tuple[str, ...]:
    """What must change for something to have happened: the text of every row."""
    return tuple(screen.lines)
