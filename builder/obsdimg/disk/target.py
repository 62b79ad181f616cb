"""The machine in a rescue system and its disk: how it is named, what is known of it, and why it
may not be written to."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.process import Completed, ProcessError, dies_with_us, run
from obsdimg.core.scratch import run_folder, runtime_folder

_TARGET = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*@)?(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[A-Za-z0-9][A-Za-z0-9.-]*))"
    r":(?P<device>/dev/[A-Za-z0-9][A-Za-z0-9_.:+@/-]*)"
)
LOGIN_SECONDS = 180.0
"""A person may have to type a password."""
_UNTIL_THE_END = "read line"
"""Of standard input: what the connection's own session runs there."""
KINDS = {
    "virtio_net": "vio", "e1000": "em", "e1000e": "em", "igb": "em", "igc": "igc", "ixgbe": "ix",
    "i40e": "ixl", "ice": "ice", "vmxnet3": "vmx", "r8169": "re", "8139cp": "re", "bnxt_en": "bnxt",
    "bnx2": "bnx", "tg3": "bge", "mlx5_core": "mcx", "hv_netvsc": "hvn", "xen_netfront": "xnf",
    "vif": "xnf", "forcedeth": "nfe", "atlantic": "aq", "alx": "alc",
}  # fmt: skip
"""Linux's drivers of network cards, and OpenBSD's drivers of the same cards."""


class TargetError(ObsdimgError):
    """The machine or its disk is not one that can or may be written to."""


class ConnectionLostError(TargetError):
    """ssh ended before the work did."""


@dataclass(frozen=True)
class DiskTarget:
    """Which disk of which machine, and how ssh gets there."""

    host: str
    """`user@host`, as ssh takes it."""
    device: str
    port: int | None = None
    identity: Path | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.device}"

    @classmethod
    def parse(cls, text: str, port: int | None, identity: Path | None) -> DiskTarget:
        """From `user@host:/dev/sda`.  Raises TargetError."""
        found = _TARGET.fullmatch(text)
        if found is None or "/../" in f"{found['device']}/" or "//" in found["device"]:
            raise TargetError(
                f"{text!r}: is no disk of a machine", "name it like root@203.0.113.7:/dev/sda"
            )
        host = re.sub(r"[\[\]]", "", found["host"])
        return cls(host, found["device"], port, identity)


@dataclass(frozen=True)
class Rescue:
    """An ssh connection to the machine; every command goes through the one login."""

    target: DiskTarget
    control: Path

    def words(self, script: str) -> list[str]:
        """The command that runs `script` by sh there, with the device as its argument."""
        there = f"sh -c {shlex.quote(script)} obsdimg {shlex.quote(self.target.device)}"
        return [*self.ssh("-T", "-e", "none"), self.target.host, there]

    def ssh(self, *extra: str) -> list[str]:
        """ssh with its options, but for the host."""
        options = ["ServerAliveInterval=15", "ServerAliveCountMax=4", "ConnectTimeout=60"]
        options += [f"ControlPath={self.control}"]
        words = ["ssh", *(f"-o{one}" for one in options), *extra]
        if self.target.port is not None:
            words += ["-p", str(self.target.port)]
        if self.target.identity is not None:
            words += ["-i", str(self.target.identity)]
        return words

    def run(self, name: str, timeout: float) -> Completed:
        """Run rescue/`name`.sh there.  Raises ConnectionLostError."""
        try:
            return run(self.words(script(name)), timeout=timeout)
        except ProcessError as error:
            raise lost(self.target, error.message) from error


def lost(target: DiskTarget, why: str) -> ConnectionLostError:
    """What to raise where ssh failed or ended early."""
    return ConnectionLostError(
        f"{target.host}: {why}",
        f"does `ssh {target.host} true` work?  The same command goes on where it stopped",
    )


@contextmanager
def connected(target: DiskTarget) -> Iterator[Rescue]:
    """A connection that is used again and ends with the block; one login for all."""
    with run_folder(runtime_folder()) as folder:  # a short path, for the name of a socket
        rescue = Rescue(target, folder / "s")
        master = _log_in(rescue)
        try:
            yield rescue
        finally:
            _end(master)


def _log_in(rescue: Rescue) -> subprocess.Popen[bytes]:
    """Start the connection; it is there once its socket is.  ssh asks on the terminal, and
    complains there.

    It lives as long as the pipe to it: should this process be killed, even where a death is not
    told (all but Linux), nothing of it stays, here or there.
    """
    words = rescue.ssh("-M", "-T", "-oControlPersist=no")
    hint = f"does `ssh {rescue.target.host} true` work?  Options of ssh go into ~/.ssh/config"
    refused = TargetError(f"{rescue.target.host}: cannot log in", hint)
    try:
        master = subprocess.Popen(
            [*words, rescue.target.host, f"sh -c {shlex.quote(_UNTIL_THE_END)}"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=dies_with_us(),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise TargetError("ssh is not installed", "install OpenSSH's client") from error
    except OSError as error:
        raise refused from error
    end = time.monotonic() + LOGIN_SECONDS
    try:
        while not rescue.control.exists():
            if master.poll() is not None or time.monotonic() > end:
                raise refused
            time.sleep(0.05)
    except BaseException:
        _end(master)
        raise
    return master


def _end(master: subprocess.Popen[bytes]) -> None:
    assert master.stdin is not None
    with suppress(OSError):
        master.stdin.close()
    try:
        master.wait(5)
    except subprocess.TimeoutExpired:
        master.kill()
        master.wait()


def script(name: str) -> str:
    """The text of rescue/`name`.sh without its comments."""
    text = (Path(__file__).parent / "rescue" / f"{name}.sh").read_text()
    return "\n".join(line for line in text.splitlines() if line and not line.startswith("#")) + "\n"


@dataclass(frozen=True)
class Card:
    """A network card there: Linux's name and driver, the MAC address."""

    name: str
    driver: str
    mac: str

    @property
    def kind(self) -> str | None:
        """OpenBSD's driver, if it is known."""
        return KINDS.get(self.driver)


@dataclass(frozen=True)
class TargetFacts:
    """What the machine says of itself and of the disk; sizes in bytes."""

    user: int
    device: str
    """With links followed."""
    size: int
    block: bool
    partition: bool
    readonly: bool
    title: str
    """Vendor, model and serial number, as far as known."""
    parts: tuple[tuple[str, int], ...] = ()
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    uefi: bool = False
    cards: tuple[Card, ...] = ()
    lines: Sequence[str] = field(default=(), repr=False)


def ask(rescue: Rescue) -> TargetFacts:
    """Look at the machine; nothing is changed.  Raises TargetError."""
    said = rescue.run("facts", LOGIN_SECONDS).stdout.decode(errors="replace")
    return read_facts(said, rescue.target)


def read_facts(said: str, target: DiskTarget) -> TargetFacts:
    """The facts from what rescue/facts.sh printed.  Raises TargetError."""
    lines = [line.partition("=") for line in said.splitlines() if "=" in line]
    one = {name: value.strip() for name, _, value in lines}
    many: dict[str, list[str]] = {}
    for name, _, value in lines:
        many.setdefault(name, []).append(value.strip())
    if "end" not in one:
        raise TargetError(
            f"{target.host}: does not answer as a Linux system does",
            "start it in a rescue or live system with sh, dd and sha256sum",
        )
    title = " ".join(filter(None, (one.get(n, "") for n in ("vendor", "model", "serial"))))
    return TargetFacts(
        user=_number(one.get("user", "")),
        device=one.get("device", ""),
        size=512 * max(0, _number(one.get("sectors", ""))),
        block="block" in one and "known" in one,
        partition="partition" in one,
        readonly=one.get("readonly") == "1",
        title=re.sub(r"[^ -~]|\s+", " ", title)[:80],
        parts=tuple(
            (name, 512 * _number(size))
            for name, _, size in (text.partition(" ") for text in many.get("part", []))
        ),
        used=tuple(dict.fromkeys(many.get("used", []))),
        missing=tuple(many.get("missing", [])),
        uefi=one.get("firmware") == "uefi",
        cards=tuple(
            Card(*words)
            for words in (text.split() for text in many.get("card", []))
            if len(words) == 3
        ),
    )


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,18}", text) else -1


def refuse(facts: TargetFacts, target: DiskTarget, size: int) -> None:
    """Raise TargetError if a disk of `size` bytes cannot or must not be written there."""
    where = str(target)
    if not facts.block:
        raise TargetError(f"{where}: is no disk there", "`lsblk` on that machine lists its disks")
    if facts.user != 0:
        raise TargetError(f"{target.host}: that is not root", "log in as root")
    if facts.missing:
        raise TargetError(f"{target.host}: lacks {', '.join(facts.missing)}",
                          "use another rescue system")  # fmt: skip
    if facts.partition:
        raise TargetError(
            f"{where}: is a partition", "name the whole disk: the image has a partition table"
        )
    if facts.used:
        raise TargetError(
            f"{where}: is in use: {facts.used[0]}",
            "is it the disk that the running system is on?  Start the rescue system, or unmount it",
        )
    if facts.readonly:
        raise TargetError(f"{where}: can only be read")
    if facts.size < size:
        raise TargetError(
            f"{where}: has {facts.size} bytes, the image needs {size}",
            f"make it smaller: obsdimg disk --size {max(1, facts.size >> 20)}M",
        )


def refuse_cards(facts: TargetFacts, target: DiskTarget, names: Sequence[str]) -> None:
    """Raise TargetError if none of `names` (interfaces, MAC addresses) can be a card there.

    A card whose driver is not known to us may be any.
    """
    kinds = {name.rstrip("0123456789") for name in names if ":" not in name}
    macs = {name for name in names if ":" in name}
    for card in facts.cards:
        if card.kind is None or card.kind in kinds or card.mac in macs:
            return
    if not facts.cards:
        return
    there = ", ".join(f"{card.name} ({card.driver}, OpenBSD's {card.kind})" for card in facts.cards)
    raise TargetError(
        f"{target.host}: the server looks for {', '.join(names)}, and this machine has {there}:"
        " it would start without a network",
        f'set network.also = ["{facts.cards[0].kind}0"], build, and make the disk again;'
        " --other-network writes it all the same",
    )
