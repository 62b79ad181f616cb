"""The scenario: install from the ISO, boot the disk, use the server, look for what must not be.

Every stage is a method; `run_smoke` plays them in order and turns whatever goes wrong into a
failed stage with its evidence.  Nothing sleeps: every wait is an expectation.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.progress import Progress
from obsdimg.smoke import expectations as says
from obsdimg.smoke.console import Console, ExpectationError
from obsdimg.smoke.disk_search import (
    MUST_BE_THERE,
    PLAIN_TEXTS,
    check_disk,
    plain_areas,
    search,
)
from obsdimg.smoke.inside import check_inside
from obsdimg.smoke.loader import Loader
from obsdimg.smoke.machine import AcceleratorError, VirtualMachine, make_disk
from obsdimg.smoke.outside import check_ports, check_tunnel, name_is_known
from obsdimg.smoke.plan import Secret, SmokePlan, kdf_seconds
from obsdimg.smoke.play import Play, RunOptions, StageError, absent_secrets
from obsdimg.smoke.qemu import Accelerator
from obsdimg.smoke.result import SmokeCheck, SmokeResult, SmokeVerdict
from obsdimg.smoke.way_in import NoWayInError, ssh_port
from obsdimg.tunnel.keys import WgPublicKey

WRONG = "not the passphrase"
"""Typed where a wrong passphrase must be refused; long enough for the hook's rules."""
TUNNEL_SECONDS = 30.0  # handshakes are retried for so long, times the slowness up to 3
REBOOT_SECONDS = 120.0  # from the last words of the installer to its reboot, with hardware


class Scenario(Play):
    """Installation, use, absence, second boot, restart."""

    server_key: str | None = None
    """Shown by a server that makes its key at the first boot."""

    # -- installing

    def install(self, disk: Path) -> None:
        """From an empty disk to the reboot that ends the installation."""
        make_disk(disk, self.plan.disk_size)
        with self.machine(disk, cd=True) as (machine, console):
            self._boot_cd(machine, console)
            self._dialogue(console)
            self._installation(machine, console)

    def _boot_cd(self, machine: VirtualMachine, console: Console) -> None:
        with self.stage("cd", "boots from the ISO") as stage:
            loader = Loader(machine, console, self.slowness)
            loader.to_serial_line()
            stage.checks.append(SmokeCheck.of("boot loader of the ISO", True, "", "E66 13"))
            loader.boot()
            self.expect(console, says.KERNEL)
            first = replace(says.WELCOME, failures=(says.NO_BOOT,))
            self.expect(console, first)
            start = replace(says.NON_INTERACTIVE, failures=(says.NO_AUTOINSTALL,))
            self.expect(console, start)
            stage.checks.append(SmokeCheck.of("automatic installation starts", True, "", "R66"))

    def _dialogue(self, console: Console) -> None:
        """The encryption step's questions: first two different passphrases, then the right one."""
        with self.stage("dialogue", "encryption step asks for the passphrase") as stage:
            mark = self.expect(console, says.HOOK, replace(says.DISKS, failures=()))
            if mark.name != says.HOOK.name:
                raise StageError(
                    "the installer went on without the encryption step",
                    "this ISO was not made by `obsdimg build`, or by another version",
                )
            if not self.plan.encrypted or self.plan.unattended:
                mark = self.expect(console, says.INSTALLING, says.NEW_PASSPHRASE, says.NOT_EMPTY)
                if mark.name != says.INSTALLING.name:
                    raise StageError(f"it waits for an answer that nobody gives: {mark.says}")
                stage.checks.append(SmokeCheck.of("asks nothing, as configured", True))
                return
            right = self.plan.passphrase.reveal()
            mark = self.expect(console, says.NEW_PASSPHRASE, says.NOT_EMPTY)
            if mark.name == says.NOT_EMPTY.name:
                raise StageError("the fresh disk is not empty to the encryption step")
            console.send(right)
            self.expect(console, says.SAME_AGAIN)
            console.send(WRONG)
            self.expect(console, says.DIFFER)
            stage.checks.append(SmokeCheck.of("two different passphrases are refused", True))
            self.expect(console, says.NEW_PASSPHRASE)
            console.send(right)
            self.expect(console, says.SAME_AGAIN)
            console.send(right)
            self.expect(console, says.INSTALLING)
            echoed = console.shown(self.plan.passphrase)
            stage.checks.append(SmokeCheck.of("the passphrase is not shown", not echoed))

    def _installation(self, machine: VirtualMachine, console: Console) -> None:
        with self.stage("install", "installs") as stage:
            seen: list[str] = []
            said = ""
            while True:
                mark = console.expect(*says.INSTALL_STEPS)
                if (text := console.matched().strip()) != said:
                    self.note(text)
                    said = text
                if mark.name not in seen:
                    seen.append(mark.name)
                if mark.name == says.SEALED_ASKS.name:
                    if seen.count("asked") or self.plan.sealing_passphrase is None:
                        raise StageError(
                            "the passphrase does not open the sealed secrets",
                            "give the one of the build with --sealing-passphrase-file",
                        )
                    seen.append("asked")
                    console.send(self.plan.sealing_passphrase.reveal())
                if mark.name == says.CONGRATULATIONS.name:
                    break
            if self.plan.encrypted:
                stage.checks.append(SmokeCheck.of("an encrypted volume was made", "volume" in seen))
            stage.checks.append(
                SmokeCheck.of("the sets' signature was verified", "verified" in seen, "", "E66 13")
            )
            if self.plan.halts:
                self.expect(console, says.HALTED)
                stage.checks.append(SmokeCheck.of("it halts, as configured", True))
                return
            reason = self._wait_shutdown(machine, console, REBOOT_SECONDS)
            stage.checks.append(
                SmokeCheck.of(
                    "it reboots by itself", reason == "guest-reset", reason or "it does not"
                )
            )

    def _wait_shutdown(
        self, machine: VirtualMachine, console: Console, limit: float, since: int = 0
    ) -> str | None:
        """Wait for a reset or power-off, keeping the console read; `limit` with hardware."""
        end = time.monotonic() + limit * self.slowness
        while time.monotonic() < end:
            reason = machine.wait_shutdown(0.2, since)
            console.drain()
            if reason is not None:
                return reason
            machine.check()
        return None

    # -- the installed system

    def use(self, disk: Path) -> None:
        """Boot the installed disk and look at everything."""
        with self.machine(disk, cd=False) as (machine, console):
            self._unlock(machine, console, first=True)
            self._first_boot(machine, console, "first-boot", "first boot")
            if self.plan.idle_seconds:
                self._idle(machine, console)
            self._tunnel(machine, "tunnel", "tunnel of every client")
            self._ports(machine)
            self._inside(machine)
            self._power_off(machine, console)
            self._disk(disk)
            if self.plan.guarded:
                self._guard(machine, console)
            else:
                reason = "the configuration says overwrite = true: it would be erased"
                self.skip("guard", "starts with the ISO still attached", reason)
            machine.eject()
            machine.restart()
            self._unlock(machine, console, first=False)
            self._first_boot(machine, console, "again", "boots again")
            self._tunnel(machine, "tunnel-again", "tunnel after the restart")

    def _unlock(self, machine: VirtualMachine, console: Console, *, first: bool) -> None:
        name = "unlock" if first else "unlock-again"
        title = "boots from the disk" if first else "boots from the disk again"
        with self.stage(name, title) as stage:
            loader = Loader(machine, console, self.slowness)
            if self.plan.encrypted:
                wrong = Secret(WRONG) if first else None
                loader.kdf_seconds = kdf_seconds(self.plan.kdf_rounds)
                asked_on_serial = loader.unlock(self.plan.passphrase, wrong)
                if first:
                    stage.checks.append(
                        SmokeCheck.of("a wrong passphrase is refused at boot", True, "", "E66 13")
                    )
                stage.checks.append(SmokeCheck.of("the passphrase unlocks", True, "", "E66 13"))
                if self.plan.loader_on_com0:
                    name = "the boot loader asks on the serial line, not on the screen"
                    stage.checks.append(SmokeCheck.of(name, asked_on_serial, "", "E66 E77"))
            else:
                loader.to_serial_line()
            loader.boot()
            self.expect(console, says.KERNEL)
            self.expect(console, says.ROOT_ON)
            root = console.matched().split()[-1]
            good = root == "sd1a" if self.plan.encrypted else root == "sd0a"
            stage.checks.append(SmokeCheck.of("root file system", good, root, "E66 13"))

    def _first_boot(self, machine: VirtualMachine, console: Console, name: str, title: str) -> None:
        with self.stage(name, title) as stage:
            again = replace(says.BOOTED, limit=240)  # no packages, no patches
            self.expect(console, says.BOOTED if name == "first-boot" else again)
            stage.checks.append(SmokeCheck.of("the system is up", True, "", "E66 13"))
            texts = this_boot([line.text for line in console.lines])
            why = no_internet(texts, cut_off=machine.isolated or self.plan.offline)
            stage.checks += boot_checks(texts, first=name == "first-boot", no_internet=why)
            for text in texts:
                if found := re.search(says.SERVER_KEY, text):
                    self.server_key = found[1]

    def _tunnel(self, machine: VirtualMachine, name: str, title: str) -> None:
        with self.stage(name, title) as stage:
            if not self.plan.peers:
                stage.checks.append(
                    SmokeCheck("tunnel", SmokeVerdict.SKIPPED, "no client configuration was given")
                )
                return
            ports = {f.guest_port: p for f, p in machine.ports.items() if f.protocol == "udp"}
            limit = TUNNEL_SECONDS * min(3.0, self.slowness)
            shown = WgPublicKey.parse(self.server_key, "console") if self.server_key else None
            peers = [p if p.server else replace(p, server=shown) for p in self.plan.peers]
            stage.checks += check_tunnel(
                peers,
                ports,
                self.plan.network,
                self.plan.private_networks,
                self.options.prober,
                limit,
            )
            machine.check()

    def _idle(self, machine: VirtualMachine, console: Console) -> None:
        """Nobody calls: a server must bear that (seen on 7.7: first used after 13 minutes, the
        tunnel carried nothing)."""
        minutes = self.plan.idle_seconds / 60
        with self.stage("idle", f"is left alone for {minutes:.0f} minutes") as stage:
            before = len(console.lines)
            since = machine.qmp.count()
            self._wait_shutdown(machine, console, self.plan.idle_seconds / self.slowness, since)
            bad = idle_trouble([line.text for line in console.lines[before:]])
            if (reason := machine.wait_shutdown(0, since)) is not None:
                bad = bad or f"the machine has gone down: {reason}"
            stage.checks.append(SmokeCheck.of("nothing failed meanwhile", not bad, bad))

    def _ports(self, machine: VirtualMachine) -> None:
        with self.stage("ports", "other ports from outside") as stage:
            ports = sorted({22, *self.plan.tcp_ports})
            stage.checks += check_ports(machine, ports, self.plan.ssh_open, self.slowness)

    def _inside(self, machine: VirtualMachine) -> None:
        if self.plan.login is None:
            self.skip("inside", "looks from inside", "no login was given (--login)")
            return
        with self.stage("inside", "looks from inside") as stage:
            limit = 30 * self.slowness
            try:
                with ssh_port(self.plan, machine.ports, self.server_key, limit) as port:
                    stage.checks += check_inside(self.plan.login, port, self.plan.encrypted, limit)
            except NoWayInError as error:
                stage.checks.append(
                    SmokeCheck("login over ssh", SmokeVerdict.FAILED, error.message)
                )

    def _power_off(self, machine: VirtualMachine, console: Console) -> None:
        with self.stage("power-off", "powers off") as stage:
            self._wait_login(machine, console)
            since = machine.qmp.count()
            machine.power_button()
            reason = self._wait_shutdown(machine, console, 120, since)
            good = reason == "guest-shutdown"
            stage.checks.append(
                SmokeCheck.of(
                    "the power button shuts it down cleanly", good, reason or "no reaction"
                )
            )

    def _wait_login(self, machine: VirtualMachine, console: Console) -> None:
        """Until the screen asks for a login, where it is text; else for as long as it takes.

        init(8) of 6.6 loses a power button that is pressed before /etc/rc has ended, and the
        kernel does not signal it a second time (E66).
        """
        end = time.monotonic() + 5 * self.slowness
        while time.monotonic() < end:
            if any("login:" in line for line in machine.screen_text()):
                return
            console.drain(0.2)

    def _disk(self, disk: Path) -> None:
        with self.stage("disk", "searches the disk for what must not be readable") as stage:
            known = [(n, s.reveal().encode()) for n, s in absent_secrets(self.plan)]
            names = [name for name, _ in known]
            plain = [*MUST_BE_THERE, *PLAIN_TEXTS] if self.plan.encrypted else []
            needles = [*known, *self.plan.absent, *plain]
            findings = search(disk, [(n, b) for n, b in needles if b])
            areas = plain_areas(disk) if self.plan.encrypted else ()
            stage.checks += check_disk(findings, names, self.plan.encrypted, areas)

    def _guard(self, machine: VirtualMachine, console: Console) -> None:
        """The ISO is still attached at the next boot: the disk must be left alone."""
        with self.stage("guard", "starts with the ISO still attached") as stage:
            before = machine.written()
            machine.insert()
            machine.restart()
            loader = Loader(machine, console, self.slowness)
            loader.to_serial_line()
            loader.boot()
            self.expect(console, replace(says.NON_INTERACTIVE, failures=(says.NO_AUTOINSTALL,)))
            self.expect(console, says.HOOK)
            unguarded = replace(says.INSTALLING, failures=())
            mark = self.expect(console, says.NOT_EMPTY, says.NEW_PASSPHRASE, unguarded)
            noticed = mark.name == says.NOT_EMPTY.name
            if noticed:
                mark = self.expect(console, says.ANSWER, says.NEW_PASSPHRASE, unguarded)
                noticed = mark.name == says.ANSWER.name
            stage.checks.append(
                SmokeCheck.of(
                    "the encryption step notices the installed system", noticed, "", "OURS"
                )
            )
            if noticed:
                console.send("yes")
                mark = self.expect(console, says.LEFT_ALONE, says.NEW_PASSPHRASE, unguarded)
                stage.checks.append(
                    SmokeCheck.of(
                        "`yes` is not enough to erase it", mark.name == says.LEFT_ALONE.name
                    )
                )
            written = machine.written() - before
            stage.checks.append(
                SmokeCheck.of("nothing was written to the disk", written == 0, f"{written} writes")
            )


def this_boot(lines: list[str]) -> list[str]:
    """The lines since the kernel last named its root disk: a fast guest may have said much
    before the stage began."""
    starts = [n for n, text in enumerate(lines) if re.search(says.ROOT_ON.pattern, text)]
    return lines[starts[-1] :] if starts else lines


def idle_trouble(lines: list[str]) -> str:
    """The line that tells of trouble while nobody did anything: a crash, a start; or nothing."""
    signs = (says.PANIC.pattern, says.DEBUGGER.pattern, says.KERNEL.pattern, says.FAILED_STEP)
    return next((text for text in lines if any(re.search(s, text) for s in signs)), "")


def no_internet(
    lines: list[str], *, cut_off: bool, known: Callable[[str], bool] = name_is_known
) -> str:
    """Why the guest can fetch nothing here, whatever the ISO; or nothing.

    A mirror whose name the guest does not find is a fault of its configuration, unless this
    machine (`known`), through which the guest reaches the internet, does not find it either.
    """
    if cut_off:
        return "the machine has no network; --online gives it one"
    if not any(says.PATCHES_FAILED in text for text in lines):
        return ""
    names = [found[1] for text in lines if (found := re.search(says.NAME_NOT_FOUND, text))]
    if not names or known(names[-1]):
        return ""
    return f"no internet here: this machine does not find {names[-1]} either"


def boot_checks(lines: list[str], *, first: bool = True, no_internet: str = "") -> list[SmokeCheck]:
    """What the lines of a boot say about daemons and, with `first`, the first boot's own steps.

    Those have worked if none says that it failed and their last line came.  `no_internet` is the
    reason, if there is one, why nothing can be fetched here: that is not tried, rather than
    failed.
    """
    started = [text for text in lines if re.search(says.FAILED_DAEMON, text)]
    failed = [word for text in started for word in re.findall(r"\S+\((?:failed|absent)\)", text)]
    steps = [text for text in lines if re.search(says.FAILED_STEP, text)]
    checks = [SmokeCheck.of("every daemon started", not failed, ", ".join(failed), "E66 14")]
    if no_internet and (patches := [text for text in steps if says.PATCHES_FAILED in text]):
        steps = [text for text in steps if text not in patches]
        checks.append(SmokeCheck("patches at the first boot", SmokeVerdict.SKIPPED, no_internet))
    if first:
        ended = any(re.search(says.STEPS_ENDED, text) for text in lines)
        bad = steps[0] if steps else "" if ended else "their last line did not come"
        checks.append(SmokeCheck.of("every step of the first boot worked", not bad, bad, "OURS"))
    else:
        bad = steps[0] if steps else ""
        checks.append(SmokeCheck.of("obsdimg's own scripts complain of nothing", not bad, bad))
    return checks


def run_smoke(
    plan: SmokePlan, options: RunOptions, progress: Progress, result: SmokeResult
) -> SmokeResult:
    """Play the scenario; what goes wrong ends in `result`, which is returned.

    Raises AcceleratorError where the accelerator does not run the guest (start over with
    another), and MachineError before the first stage.
    """
    play = Scenario(plan, options, progress, result)
    disk = options.folder / "disk.qcow2"
    try:
        if options.installed is None:
            play.install(disk)
            installed = options.finished_install(disk) if options.finished_install else disk
        else:
            installed = options.installed
        if result.failed:
            return result
        if installed != disk:
            make_disk(disk, plan.disk_size, backing=installed)
        play.use(disk)
    except AcceleratorError:
        raise
    except ObsdimgError as error:
        if result.failed is None:
            raise
        if isinstance(error, ExpectationError) and _accelerator_is_suspect(options, result, error):
            raise AcceleratorError(
                f"{options.accelerator.value} does not get through the boot loader: "
                + error.message
            ) from error
    finally:
        result.seconds = time.monotonic() - play.started
    return result


def _accelerator_is_suspect(
    options: RunOptions, result: SmokeResult, error: ExpectationError
) -> bool:
    """With hardware acceleration the boot loader was not even reached, or the BIOS read
    nothing: seen where /dev/kvm opens and does not work."""
    early = result.failed is not None and result.failed.name in ("start", "cd", "unlock")
    loader_mark = error.mark is not None and error.mark.name.startswith("loader")
    return options.accelerator is not Accelerator.TCG and early and loader_mark
