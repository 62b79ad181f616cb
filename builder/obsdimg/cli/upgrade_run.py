"""One server on its way to the next release: where it is, what is left, what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from obsdimg.cli.ui import Ui
from obsdimg.cli.upgrade_console import ConsoleWatch, UpgradeConsole
from obsdimg.cli.upgrade_words import RESTARTS, check_facts, explain, show_checks, undone
from obsdimg.config.edit import set_release
from obsdimg.core.errors import ObsdimgError, printable
from obsdimg.releases.release import load_release
from obsdimg.server.access import ServerAccess, join_hub
from obsdimg.server.applying import apply_change, find_change, find_release_change
from obsdimg.server.asking import ask_state, expect, run_script
from obsdimg.server.kept import ServerMemory
from obsdimg.server.next_release import (
    ReleaseFiles,
    is_version,
    next_release,
    next_version,
    previous_version,
    release_files,
    with_release,
)
from obsdimg.server.state import ServerState
from obsdimg.server.upgrade_checks import (
    Afterwards,
    Beforehand,
    UpgradeCheck,
    check_afterwards,
    check_beforehand,
    failed,
    topics,
)
from obsdimg.server.upgrade_report import UpgradeReport
from obsdimg.server.upgrading import (
    UpgradeError,
    ask_upgrade,
    await_fetch,
    await_first_start,
    await_release,
    begin_fetch,
    end_upgrade,
    restart,
)
from obsdimg.smoke.inside import inside_script, judge_inside
from obsdimg.smoke.result import SmokeVerdict

if TYPE_CHECKING:
    from obsdimg.cli.upgrade import Options

FIRST_START_SECONDS = 900.0
INSIDE_SECONDS = 120.0
HYGIENE = ("no client's configuration is on the server",)
"""Questions of the smoke test whose answer says nothing about the upgrade."""


@dataclass
class UpgradeRun:
    """One server on its way; what is known of it so far."""

    options: Options
    ui: Ui
    access: ServerAccess
    """At the release that the server has, or had before."""
    said: str = ""
    """The release that the configuration says."""
    old: str = ""
    target: str = ""
    result: str = "failed"
    checks: list[UpgradeCheck] = field(default_factory=list)
    verified: list[UpgradeCheck] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    packages: bool | None = None
    missing: tuple[str, ...] | None = None

    def run(self) -> None:
        """All that is left to do.  Raises UpgradeError and what each step raises."""
        self.said = self.access.project.config.release.version
        self.memory = ServerMemory.load(self.access.project)
        self.keys = self.access.project.keys(make=False)
        self.console = UpgradeConsole(self.options, self.ui, self.access.project)
        report = self._first_look()
        if not self._goes_on(report):
            return
        if report is not None and report.release != self.target:
            with join_hub(self.access, self.options.timeout) as hub:
                ready = self._prepare(replace(self.access, via=hub.path), report)
            if not ready:
                return
            watch = self.console.watch(report.encrypted)
            self._restart(report, watch)
        elif report is None:
            encrypted = self.access.project.config.disk.encryption != "none"
            self._come_back(self.memory.booted, self.console.watch(encrypted, under_way=True))
        self._finish()

    def _goes_on(self, report: UpgradeReport | None) -> bool:
        """Whether an upgrade that was begun is to be ended now."""
        if report is not None and report.release != self.target:
            return True
        if self.options.check:
            self.result = "checked"
            self.ui.info(
                f"{self.access.name} is on its way to {self.target}: obsdimg upgrade ends it"
            )
            return False
        if self.memory.upgrading == self.target or self.options.yes:
            return True
        wanted = self.ui.confirm(
            f"{self.access.name} runs {self.target}: look at it, and bring its files and packages"
            " to that release?"
        )
        if not wanted:
            self.result = "declined"
        return wanted

    # -- where it is

    def _first_look(self) -> UpgradeReport | None:
        """How far the server is; None: restarted into the upgrade and not back.  Sets `old` and
        `target`.  Raises UpgradeError and what reaching the server raises."""
        said = self.said
        try:
            with (
                self.ui.progress().step(f"Asking {self.access.name}"),
                join_hub(self.access, self.options.timeout) as hub,
            ):
                here = replace(self.access, via=hub.path)
                report = ask_upgrade(here, next_version(said))
        except ObsdimgError:
            if self.memory.upgrading is None:
                raise
            self._between(previous_version(self.memory.upgrading), self.memory.upgrading)
            self.ui.info(
                f"{self.access.name} was restarted into {self.target} and does not answer: going on"
                " from there"
            )
            return None
        runs = report.release or ""
        if self.memory.upgrading == runs:
            self._between(previous_version(runs), runs)
        elif is_version(runs) and said in (runs, next_version(runs)):
            self._between(runs, next_release(runs).version)
        elif next_version(said) == runs:
            self._between(said, next_release(said).version)
            self.ui.info(f"{self.access.name} runs {runs} already: what is left is done now")
        else:
            raise UpgradeError(
                f"{self.access.name}: runs {printable(runs) or 'an unknown release'}, the project"
                f" says {said}",
                f'set release.version = "{printable(runs)}": an upgrade goes one release at a time',
            )
        if runs == self.old and self.memory.upgrading == self.target:
            self.ui.info(
                f"{self.access.name} was restarted for {self.target} and still runs {runs}:"
                " beginning anew"
            )
        return report

    def _between(self, old: str, target: str) -> None:
        self.old, self.target = old, target
        self.access = replace(self.access, project=with_release(self.access.project, old))

    # -- before

    def _prepare(self, access: ServerAccess, report: UpgradeReport) -> bool:
        """Check, ask, and have the release fetched; whether to go on.

        Raises UpgradeError: something is in the way, or it could not be fetched.
        """
        options, ui = self.options, self.ui
        if not report.fetching:
            self._check(access)
            if bad := failed(self.checks):
                self.result = "checked"
                raise UpgradeError(
                    f"{access.name}: {topics(bad)}: not ready for"
                    f" {self.target}; {_as_it_is(report)}",
                    bad[0].remedy or "mend what is marked FAILED",
                )
        if options.check:
            self.result = "checked"
            if report.fetching:
                ui.info(f"{access.name} is fetching {self.target}: obsdimg upgrade goes on with it")
            return False
        explain(
            access.name,
            self.old,
            self.target,
            access.project.config_path.name,
            self.console.typed(report.encrypted),
            ui,
        )
        if not options.yes and not ui.confirm(f"Upgrade {access.name} to {self.target} so?"):
            self.result = "declined"
            ui.info(_as_it_is(report))
            return False
        self.console.prove(report.encrypted)
        self.console.obtain(report.encrypted)
        if not report.fetched(self.target):
            begin_fetch(access, self.target, options.mirror or "")
        await_fetch(self.access, self.target, options.fetch_limit, ui.progress())
        return True

    def _check(self, access: ServerAccess) -> None:
        old, target = load_release(self.old), load_release(self.target)
        files = release_files(access.project, self.keys, self.old, self.target)
        asked = time.time()
        with self.ui.progress().step(f"Checking {access.name}, and its mirror for {self.target}"):
            state = ask_state(access, files.before, updates=False)
            answered = time.time()
            report = ask_upgrade(
                access, self.target, mirror=self.options.mirror or "", ask_mirror=True
            )
            change = find_change(access, self.keys, files.before, self.memory)
        seen = Beforehand(
            report=report,
            state=state,
            expected=expect(access, self.keys, files.before, self.memory),
            change=change,
            files=files,
            old=old,
            target=target,
            port=access.project.config.release.port,
            asked=asked,
            answered=answered,
            way=f"{access.endpoint} answers {access.client.name}; ssh as {access.user} works",
        )
        self.checks = [*check_beforehand(seen), self.console.check(report.encrypted)]
        self._show(self.checks)

    def _show(self, checks: list[UpgradeCheck]) -> None:
        if not self.options.json:
            show_checks(checks, self.ui)

    # -- the restarts

    def _restart(self, report: UpgradeReport, watch: ConsoleWatch | None) -> None:
        booted = report.booted
        asked = False
        if watch is not None:
            watch.attach()
        self._remember_restart(self.target, booted)
        try:
            with join_hub(self.access, self.options.timeout) as hub:
                asked = True
                restart(replace(self.access, via=hub.path), self.target)
        except ObsdimgError as error:
            if watch is not None:
                watch.close()
            if not asked or isinstance(error, UpgradeError):  # it certainly goes on as it was
                self._remember_restart(None, None)
            raise
        if watch is None and report.encrypted and self.console.asks:
            for line in RESTARTS:
                self.ui.tell(line)
        self._come_back(booted, watch)

    def _remember_restart(self, target: str | None, booted: int | None) -> None:
        self.memory = self.memory.with_upgrade(target, booted)
        self.memory.save(self.access.project)

    def _come_back(self, booted: int | None, watch: ConsoleWatch | None) -> None:
        look: Callable[[float], None] = time.sleep if watch is None else watch
        title = f"{self.access.name} restarts into the upgrade, and into {self.target}"
        try:
            with self.ui.progress().step(title):
                await_release(self.access, self.target, booted, self.options.limit, look)
        finally:
            if watch is not None:
                watch.close()

    # -- after

    def _finish(self) -> None:
        files = release_files(self.access.project, self.keys, self.old, self.target)
        report = await_first_start(
            self.access, self.target, FIRST_START_SECONDS, self.ui.progress()
        )
        with join_hub(self.access, self.options.timeout) as hub:
            here = replace(self.access, via=hub.path)
            state = self._verify(here, report, files)
            if bad := failed(self.verified):
                raise UpgradeError(
                    f"{here.name}: runs {report.release}, but {topics(bad)}: not as it should be",
                    bad[0].remedy or "look there: obsdimg ssh; then obsdimg upgrade again",
                )
            self._bring(here, files)
        with (
            self.ui.progress().step(f"Packages of {self.target}"),
            join_hub(self.access, self.options.timeout) as hub,
        ):
            here = replace(self.access, via=hub.path)
            ended = end_upgrade(here)
        self.packages = ended.packages
        if ended.renewed:
            self.ui.info(f"EFI System partition: {' and '.join(ended.renewed)} of {self.target}")
        self.left += undone(ended)
        self._remember(files, replace(state, boot_area=ended.boot_area or state.boot_area))

    def _verify(
        self, access: ServerAccess, report: UpgradeReport, files: ReleaseFiles
    ) -> ServerState:
        with self.ui.progress().step(f"Looking at {access.name} from inside"):
            kept = files.before
            asked = time.time()
            state = ask_state(access, kept, updates=True)
            if files.switches and state.peers is None:
                # The tunnel has moved into the kernel already.
                kept = files.after
                state = ask_state(access, kept, updates=True)
            answered = time.time()
            encrypted = access.project.config.disk.encryption != "none"
            output = run_script(access, inside_script(encrypted, ""), INSIDE_SECONDS)
        inside = judge_inside(encrypted, output.decode(errors="replace"))
        self.missing = state.missing
        seen = Afterwards(
            report=report,
            state=state,
            expected=expect(access, self.keys, kept, self.memory),
            target=self.target,
            inside={one.name: (one.verdict is SmokeVerdict.PASSED, one.detail) for one in inside},
            hygiene=HYGIENE,
            asked=asked,
            answered=answered,
        )
        self.verified = check_afterwards(seen)
        self._show(self.verified)
        return state

    def _bring(self, access: ServerAccess, files: ReleaseFiles) -> None:
        """The files that the new release wants, as `apply` brings them."""
        if files.same:
            return
        change, files, edited = find_release_change(access, self.keys, files, self.memory)
        self.left += [
            f"{path}: was edited there and is left as it is; {self.target} wants it otherwise"
            " (obsdimg check shows how)"
            for path in edited
        ]
        if change.empty:
            return
        if change.by_hand:
            raise UpgradeError(
                f"{access.name}: changed there, not by obsdimg: {', '.join(change.by_hand)}",
                "put them back as they were (obsdimg ssh), then obsdimg upgrade again",
            )
        if not self.options.json:
            for line in change.lines:
                self.ui.say(line)
        apply_change(access, self.access, change, files.after, self.ui.progress())
        if files.switches:
            state = ask_state(self.access, files.after, updates=False)
            if state.peers is None or files.after.tunnel.interface in state.failed:
                raise UpgradeError(
                    f"{access.name}: WireGuard is in the kernel now and tells nothing",
                    "obsdimg status shows it; obsdimg upgrade again takes it from here",
                )
        for path in change.at_restart:
            self.left.append(f"{path}: takes effect when the server is restarted")

    def _remember(self, files: ReleaseFiles, state: ServerState) -> None:
        """The project is at the new release from here on."""
        ours = self.memory.upgrading == self.target
        area, before = state.boot_area, self.memory.boot_area
        memory = self.memory.with_applied(files.after.hashes()).with_upgrade(None)
        if area is not None and area != before:
            if ours:
                memory = memory.with_boot_area(area)
                self.ui.info(
                    f"boot area: another one ({(before or 'not known')[:16]} -> {area[:16]}), since"
                    " the upgrade wrote a new boot loader; it is remembered"
                )
            else:
                self.left.append(
                    "boot area: another one; if it was the upgrade: obsdimg status"
                    " --accept-boot-area"
                )
        project = self.access.project
        path = project.config_path
        if self.said != self.target:
            set_release(path, self.target, project.server)
            self.ui.info(
                f'{path}: release.version = "{self.target}" (was "{self.said}"; the way back'
                " is a new installation from that release)"
            )
        memory.save(project)
        if self.missing:
            self.left.append(f"{len(self.missing)} patches are missing: obsdimg ssh doas syspatch")
        if files.switches:
            self.left.append(
                "wireguard-go is not needed any more: obsdimg ssh doas pkg_delete wireguard-go"
                " wireguard-tools"
            )
        self.result = "upgraded"

    # -- the result

    def end(self) -> None:
        if self.options.json:
            self.ui.json(self._document(None))
        elif self.result == "upgraded":
            self.ui.say(f"{self.access.name}: upgraded from {self.old} to {self.target}")
            for line in self.left:
                self.ui.say(f"  left: {line}")

    def failed(self, error: ObsdimgError) -> None:
        """The document of a failure that has one."""
        if self.options.json and (self.checks or self.verified):
            self.ui.json(self._document(error))

    def _document(self, error: ObsdimgError | None) -> dict[str, Any]:
        return {
            "name": self.access.name,
            "from": self.old,
            "to": self.target,
            "result": self.result,
            "checks": check_facts(self.checks),
            "verified": check_facts(self.verified),
            "packages_updated": self.packages,
            "patches_missing": None if self.missing is None else list(self.missing),
            "left": self.left,
            "error": None if error is None else error.message,
            "hint": None if error is None else error.hint,
        }


def _as_it_is(report: UpgradeReport) -> str:
    """What the next start of a server will be that is left as it is."""
    if report.fetching:
        return "it is being fetched there all the same, and the next start will be the upgrade"
    if report.pending:
        return "an upgrade waits there from before: the next start is it, unless /bsd.upgrade goes"
    return "nothing was changed"
