"""`obsdimg status`: the running server on one screen."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from obsdimg.cli.options import WithServers, flag, option
from obsdimg.cli.reaching import WithServer
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import UsageError
from obsdimg.core.files import write_file
from obsdimg.server.access import ServerAccess, join_hub
from obsdimg.server.asking import ask_state, expect
from obsdimg.server.findings import ExpectedServer, Finding, Level, judge
from obsdimg.server.kept import ServerMemory, kept_files
from obsdimg.server.screen import as_dict, prometheus, screen, worst
from obsdimg.server.state import ServerState

EXIT_WARN = 3
EXIT_BAD = 4
UPDATES_EVERY_SECONDS = 3600.0


class StatusUsageError(UsageError):
    """The options do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Options(WithServer, WithServers):
    """What the command line says."""

    watch: float | None = option(
        "--watch",
        type=float,
        nargs="?",
        const=10.0,
        metavar="S",
        help="look again every S seconds (default: 10)",
    )
    json: bool = flag("--json", help="as JSON")
    prometheus: Path | None = option(
        "--prometheus",
        type=Path,
        metavar="F",
        own=True,
        help="write it for a node exporter's textfile folder (`-`: to standard output)",
    )
    no_updates: bool = flag(
        "--no-updates", help="do not ask the server's mirror for patches and packages (quicker)"
    )
    accept_boot_area: bool = flag(
        "--accept-boot-area", help="remember the part of the disk in clear as it is now"
    )


def run(options: Options, ui: Ui) -> int:
    """0: nothing to do; 3: something wants attention soon; 4: now; 1: cannot be reached."""
    if options.watch is not None and not 1 <= options.watch <= 86400:
        raise StatusUsageError(f"--watch {options.watch:g}: is not between 1 and 86400 seconds")
    if options.json and options.watch is not None:
        raise StatusUsageError("--watch and --json do not go together", "run it again instead")
    if options.json and str(options.prometheus) == "-":
        raise StatusUsageError(
            "--json and --prometheus - both go to standard output", "give --prometheus a file"
        )
    access = options.access_now(options.access())
    asked = -UPDATES_EVERY_SECONDS
    before: ServerState | None = None
    with join_hub(access, options.timeout) as hub:
        access = replace(access, via=hub.path)
        while True:
            updates = not options.no_updates and time.monotonic() - asked >= UPDATES_EVERY_SECONDS
            if updates:
                asked = time.monotonic()
            with ui.progress().step(f"Asking {access.name}"):
                state, expected, findings = _look(access, options, ui, before, updates)
            before = state
            level = worst(findings)
            _show(access.name, state, expected, findings, options, ui)
            if options.watch is None:
                return {Level.BAD: EXIT_BAD, Level.WARN: EXIT_WARN}.get(level, 0)
            time.sleep(options.watch)


def _look(
    access: ServerAccess, options: Options, ui: Ui, before: ServerState | None, updates: bool
) -> tuple[ServerState, ExpectedServer, list[Finding]]:
    """The state, what the project expects, and what follows; remembers what it sees first."""
    project = access.project
    keys = project.keys(make=False)
    kept = kept_files(project, keys)
    memory = ServerMemory.load(project)
    asked = time.time()
    state = ask_state(access, kept, updates=updates)
    answered = time.time()
    if memory.port is None:
        memory = memory.with_port(access.endpoint.port)
        memory.save(project)
    if not updates and before is not None:
        state = replace(state, missing=before.missing, packages=before.packages)
    learn = options.accept_boot_area or memory.boot_area is None
    if state.boot_area and learn and state.boot_area != memory.boot_area:
        memory = memory.with_boot_area(state.boot_area)
        path = memory.save(project)
        ui.info(f"{path}: the boot area as it is now is what later ones are compared with")
    expected = expect(access, keys, kept, memory)
    return state, expected, judge(state, expected, asked, answered)


def _show(
    name: str,
    state: ServerState,
    expected: ExpectedServer,
    findings: list[Finding],
    options: Options,
    ui: Ui,
) -> None:
    if options.prometheus is not None:
        text = prometheus(name, state, expected, findings)
        if str(options.prometheus) == "-":
            ui.say(text.rstrip("\n"))
        else:
            write_file(options.prometheus, text.encode(), 0o644)
        if options.watch is not None:
            return
    if options.json:
        ui.json(as_dict(name, state, expected, findings))
    elif str(options.prometheus) != "-":
        if options.watch is not None:
            ui.say("\033[H\033[2J" + time.strftime("%H:%M:%S"))
        ui.say(screen(name, state, expected, findings))
