"""What a scenario is made of: stages that are timed and keep their evidence, machines, secrets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.progress import Progress, Step
from obsdimg.smoke.console import Console, ConsoleLine, ExpectationError, Mark
from obsdimg.smoke.expectations import DEBUGGER, PANIC
from obsdimg.smoke.machine import VirtualMachine
from obsdimg.smoke.outside import Prober, probe_peer
from obsdimg.smoke.plan import Secret, SmokePlan
from obsdimg.smoke.qemu import Accelerator, Forward, MachineSpec, Qemu
from obsdimg.smoke.result import Screenshot, SmokeCheck, SmokeResult, SmokeVerdict, Stage


@dataclass(frozen=True)
class RunOptions:
    """How the scenario is played; `disk` is where the machine's disk is made.

    `installed` starts from that disk (never written to) instead of installing;
    `finished_install` is called with the disk when the installation is through.
    """

    folder: Path
    """Where the machine's disk is made."""
    qemu: Qemu
    accelerator: Accelerator = Accelerator.TCG
    serial_mirror: bool = True
    installed: Path | None = None
    finished_install: Callable[[Path], Path] | None = None
    prober: Prober = probe_peer
    slowness: float | None = None
    doomed: Path | None = None
    """A folder to be removed even if this process is killed: `folder`, or what it is in."""
    on_line: Callable[[ConsoleLine], None] | None = None


class StageError(ObsdimgError):
    """A stage's checks failed and what follows needs them."""


@dataclass
class Play:
    """What every scenario needs: stages, machines, and a result that grows while it runs."""

    plan: SmokePlan
    options: RunOptions
    progress: Progress
    result: SmokeResult
    started: float = field(default_factory=time.monotonic)
    _console: Console | None = None
    _machine: VirtualMachine | None = None
    _step: Step | None = None

    # -- stages as context managers

    @contextlib.contextmanager
    def stage(self, name: str, title: str) -> Iterator[Stage]:
        """Time a stage; a failure is written into it and ends the play."""
        stage = Stage(name, title, start=self.clock())
        self.result.stages.append(stage)
        begin = time.monotonic()
        try:
            with self.progress.step(title) as step:
                self._step = step
                yield stage
                self._picture(stage, "at the end")
        except ObsdimgError as error:
            stage.verdict = SmokeVerdict.FAILED
            stage.error, stage.hint = stage.error or error.message, stage.hint or error.hint or ""
            if isinstance(error, ExpectationError):
                stage.evidence = error.lines
                if error.screenshot:
                    stage.screenshots.append(
                        Screenshot(f"{title}: when it failed", self.clock(), error.screenshot)
                    )
            elif self._console:
                stage.evidence = self._console.last()
            raise
        else:
            bad = any(c.verdict is SmokeVerdict.FAILED for c in stage.checks)
            stage.verdict = SmokeVerdict.FAILED if bad else SmokeVerdict.PASSED
        finally:
            stage.seconds = time.monotonic() - begin
            if stage.verdict is SmokeVerdict.SKIPPED:
                stage.verdict = SmokeVerdict.FAILED
                stage.error = "interrupted"
                stage.evidence = self._console.last() if self._console else ()

    def clock(self) -> float:
        return time.monotonic() - self.started

    def _picture(self, stage: Stage, when: str) -> None:
        if self._machine is None:
            return
        with contextlib.suppress(ObsdimgError, OSError):
            png = self._machine.screenshot()
            stage.screenshots.append(Screenshot(f"{stage.title}: {when}", self.clock(), png))

    @property
    def slowness(self) -> float:
        given = self.options.slowness
        return self.options.accelerator.slowness if given is None else given

    @contextlib.contextmanager
    def machine(self, disk: Path, *, cd: bool) -> Iterator[tuple[VirtualMachine, Console]]:
        """A machine with the plan's disk, ISO and ports, and its console in the transcript."""
        udp = sorted({p.port for p in self.plan.peers})
        tcp = sorted({22, *self.plan.tcp_ports})
        spec = MachineSpec(
            memory_mib=self.plan.memory_mib,
            cdrom=self.plan.iso,
            cd_inserted=cd,
            disk=disk,
            forwards=(*(Forward("udp", p) for p in udp), *(Forward("tcp", p) for p in tcp)),
            serial_mirror=self.options.serial_mirror,
            network=self.plan.network,
            private_networks=self.plan.private_networks,
            board=self.plan.board,
            network_card=self.plan.network_card,
            uefi=self.plan.uefi,
            uefi_vars=self.options.folder / "uefi-vars.fd",
            online=self.plan.online,
            offline=self.plan.offline,
            doomed=self.options.doomed,
        )
        with contextlib.ExitStack() as stack:
            with self.stage("start", "starts the machine") as stage:
                machine = stack.enter_context(
                    VirtualMachine(spec, self.options.accelerator, self.options.qemu)
                )
                stage.checks.append(
                    SmokeCheck.of("QEMU runs", True, self.options.accelerator.value)
                )
                stage.checks.append(reach_check(machine))
            offset = self.clock()
            console = Console(
                machine.serial,
                secrets=secrets_of(self.plan),
                slowness=self.slowness,
                health=machine.check,
                screenshot=machine.screenshot,
                screen=machine.screen_text,
                on_line=self.options.on_line,
            )
            console.failures = (PANIC, DEBUGGER)
            self._console, self._machine = console, machine
            try:
                yield machine, console
            finally:
                with contextlib.suppress(ObsdimgError):
                    console.drain()
                self.result.transcript += [
                    ConsoleLine(offset + x.at, x.text) for x in console.lines
                ]
                self._console = self._machine = None

    def expect(self, console: Console, *marks: Mark) -> Mark:
        """Wait for one of `marks`, and tell the user when it is there."""
        mark = console.expect(*marks)
        if mark.says:
            self.note(mark.says)
        return mark

    def note(self, text: str) -> None:
        """A line for the user, under the stage that runs."""
        if self._step:
            self._step.note(text)

    def skip(self, name: str, title: str, reason: str) -> None:
        """Record a stage that was not played."""
        stage = Stage(
            name,
            title,
            start=self.clock(),
            checks=[SmokeCheck(title, SmokeVerdict.SKIPPED, reason)],
        )
        self.result.stages.append(stage)


def reach_check(machine: VirtualMachine) -> SmokeCheck:
    """What of this host and its network the guest reaches."""
    name = "the guest reaches neither this host's loopback nor a network"
    if machine.isolated:
        return SmokeCheck.of(name, True, "QEMU runs in a network namespace of its own")
    if machine.spec.offline:
        return SmokeCheck.of(name, True, "--offline: QEMU passes nothing on")
    why = f"not isolated: {machine.isolation.missing}"
    return SmokeCheck(
        name, SmokeVerdict.SKIPPED, "--online: it reaches both" if machine.spec.online else why
    )


def named_secrets(plan: SmokePlan) -> list[tuple[str, Secret]]:
    """Every secret of the plan with a name for the report."""
    found = [("the disk's passphrase", plan.passphrase)]
    if plan.sealing_passphrase:
        found.append(("the sealing passphrase", plan.sealing_passphrase))
    for peer in plan.peers:
        if peer.private:
            found.append((f"the private key of {peer.name}", Secret(peer.private.reveal())))
        if peer.preshared:
            found.append((f"the pre-shared key of {peer.name}", Secret(peer.preshared.reveal())))
    return [*found, *plan.secrets]


def absent_secrets(plan: SmokePlan) -> list[tuple[str, Secret]]:
    """Those that must be nowhere on the disk in clear.

    The server works with the pre-shared keys, so on a disk that is not encrypted they are there.
    """
    shared = {peer.preshared.reveal() for peer in plan.peers if peer.preshared}
    found = named_secrets(plan)
    if plan.encrypted:
        return found
    return [(name, secret) for name, secret in found if secret.reveal() not in shared]


def secrets_of(plan: SmokePlan) -> Sequence[Secret]:
    """Every secret of the plan, for masking."""
    return [secret for _, secret in named_secrets(plan)]
