"""`obsdimg unlock`: type the passphrase at the boot loader's prompt, wait for the handshake."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from obsdimg.cli import values
from obsdimg.cli.console_options import (
    ConsoleTarget,
    ConsoleTargetError,
    UnlockOptions,
    WithConsole,
)
from obsdimg.cli.options import flag, option
from obsdimg.cli.ui import Ui
from obsdimg.console.address import is_serial
from obsdimg.console.states import Sight
from obsdimg.console.unlock import Outcome, Unlocking, UnlockLimits, UnlockReport
from obsdimg.core.errors import ObsdimgError
from obsdimg.core.passphrase import obtain_once
from obsdimg.deploy.handshake import first_caller
from obsdimg.site.clients import plan_clients
from obsdimg.tunnel.endpoint import Endpoint
from obsdimg.tunnel.identity import TunnelClient
from obsdimg.tunnel.probe import Target
from obsdimg.tunnel.report import ProbeResult, Role

EXIT_CODES = {
    "no-prompt": 3,
    "refused": 4,
    "crashed": 5,
    "no-handshake": 6,
    "installer": 7,
    "unreadable": 8,
}
"""Besides 0: the server answers; 1: an error (no console, no passphrase); 2: wrong usage."""

CALL = 5.0
"""Seconds of one call for a handshake; between two the screen is looked at."""


class UnlockError(ObsdimgError):
    """The machine is not unlocked, or does not answer; `exit_code` says which."""

    def __init__(self, result: str, message: str, hint: str | None) -> None:
        super().__init__(message, hint)
        self.result = result
        self.exit_code = EXIT_CODES[result]


@dataclass(frozen=True, kw_only=True)
class Options(UnlockOptions, WithConsole):
    """What the command line says."""

    wait: float | None = option(
        "--wait",
        type=values.seconds(0, 7 * 86400),
        metavar="S",
        help="wait up to S seconds for a restart that is still to come",
    )
    wake: bool = flag(
        "--wake",
        help="on a silent serial line type one letter and Enter: a loader that asked before we"
        " came refuses that and asks again",
    )
    prompt_limit: float = option(
        "--prompt-limit",
        type=values.seconds(0, 86400),
        default=90.0,
        metavar="S",
        help="without --wait: how long the prompt may take (default: 90)",
    )
    boot_limit: float = option(
        "--boot-limit",
        type=values.seconds(1, 86400),
        default=600.0,
        metavar="S",
        help="how long the handshake may take (default: 600)",
    )
    endpoint: str | None = option(
        "--endpoint", metavar="HOST:PORT", help="where the server answers (default: as deployed)"
    )
    no_probe: bool = flag("--no-probe", help="do not wait for a handshake: unlocked is enough")
    json: bool = flag("--json", help="the result as JSON")


def run(options: Options, ui: Ui) -> int:
    """0 when the server answers, or is unlocked with --no-probe.  Raises UnlockError."""

    target = ConsoleTarget(options, ui)
    if options.wake:
        _refuse_wake(target, options)
    call = None if options.no_probe else _call(target, options)
    secret = obtain_once(options.passphrase_file, ui.ask_secret)
    work = _unlocking(target, options, ui)
    found: ProbeResult | None = None
    result, failure = "unlocked", None
    try:
        report = work.run(secret)
        del secret
        failure = _failure(work, options)
        if failure is None and call is not None:
            found, failure = _await_handshake(call, work, options.boot_limit, ui)
        result = failure.result if failure else report.outcome.value
    finally:
        work.close()
    if options.json:
        ui.json(_facts(target, work.report, result, found, failure))
    if failure is not None:
        if not options.json:
            _evidence(work.report, ui)
        raise failure
    if not options.json:
        ui.say(_words(report, found))
    return 0


def _unlocking(target: ConsoleTarget, options: Options, ui: Ui) -> Unlocking:

    prompt = options.prompt_limit if options.wait is None else options.wait
    limits = UnlockLimits(prompt=prompt, answer=options.answer_limit)
    host = None if target.project is None else target.project.config.host.name
    return Unlocking(
        target.open,
        host=host,
        restart=options.wait is not None,
        wake=options.wake,
        limits=limits,
        tell=ui.info,
    )


def _refuse_wake(target: ConsoleTarget, options: Options) -> None:
    """Raises ConsoleTargetError where --wake makes no sense."""
    if options.wait is not None:
        raise ConsoleTargetError(
            "--wake is for a machine that waits already, --wait for one that is still to restart",
            "give one of them",
        )
    address = target.address()
    if not is_serial(address):
        raise ConsoleTargetError(
            f"{address.label}: --wake is for serial lines; a screen shows what was asked",
            "leave it out",
        )


def _call(target: ConsoleTarget, options: Options) -> tuple[TunnelClient, Endpoint]:
    """As whom to call, and where.  Raises ObsdimgError: nothing says it."""

    hint = "--endpoint HOST:PORT with a project (-c FILE), or --no-probe"
    if target.project is None:
        raise ConsoleTargetError("nothing says whose handshake to wait for", hint)
    config = target.project.config
    caller = first_caller(plan_clients(config, target.project.keys(make=False)))
    if caller is None:
        raise ConsoleTargetError("no client of this project can call the server from here", hint)
    if options.endpoint:
        return caller, Endpoint.parse(options.endpoint, "--endpoint")
    state = target.state
    host = (state.called if state is not None else None) or config.tunnel.endpoint
    if host is None:
        raise ConsoleTargetError("nothing says where the server answers", hint)
    return caller, Endpoint(str(host), caller.port)


def _failure(work: Unlocking, options: Options) -> UnlockError | None:
    """What the outcome means, if it is not good."""

    report = work.report
    label = "" if work.console is None else f"{work.console.label}: "
    if report.outcome is Outcome.REFUSED:
        return UnlockError(
            "refused",
            f"{label}the boot loader refused the passphrase, {report.tries} times",
            "is it the passphrase of this machine's disk?",
        )
    if report.outcome is Outcome.NO_PROMPT:
        limit = options.prompt_limit if options.wait is None else options.wait
        return UnlockError(
            "no-prompt",
            f"{label}no passphrase was asked for within {limit:g} s; {report.seen.words}",
            "restart the machine, and name its serial line as the console"
            if report.seen.sight is Sight.ON_SERIAL_LINE
            else "restart the machine, or --wait S for a restart that is still to come"
            + ("" if options.wake else "; on a serial line, --wake if it had asked before"),
        )
    if report.outcome is Outcome.CRASHED:
        return UnlockError(
            "crashed",
            f"{label}{report.seen.words}",
            "obsdimg console shows it and takes keys",
        )
    if report.outcome is Outcome.INSTALLER:
        return UnlockError(
            "installer",
            f"{label}{report.seen.words}",
            "nothing was typed; take the ISO out and restart the machine",
        )
    if report.outcome is Outcome.UNREADABLE:
        return UnlockError(
            "unreadable",
            f"{label}the screen shows no text that can be read; nothing was typed",
            "obsdimg console --screenshot F.png shows it",
        )
    return None


def _await_handshake(
    call: tuple[TunnelClient, Endpoint], work: Unlocking, limit: float, ui: Ui
) -> tuple[ProbeResult | None, UnlockError | None]:
    """Call until the server answers, the boot fails, or `limit` seconds have passed."""
    caller, endpoint = call
    end = time.monotonic() + limit
    with ui.progress().step(f"Waiting for the handshake with {endpoint}"):
        while True:
            found = caller.call(
                endpoint,
                [Target(caller.inside[0], Role.SERVER)],
                count=1,
                interval=0.1,
                timeout=max(1.0, min(CALL, end - time.monotonic())),
            )
            if found.handshake.seconds is not None:
                return found, None
            if work.crashed():
                return None, UnlockError(
                    "crashed", work.report.seen.words, "obsdimg console shows it and takes keys"
                )
            if time.monotonic() >= end:
                return None, UnlockError(
                    "no-handshake", f"no handshake within {limit:g} s: {found.message}", found.hint
                )
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))


def _evidence(report: UnlockReport, ui: Ui) -> None:
    if report.lines:
        ui.info("the last lines of the screen:")
        for line in report.lines:
            ui.info(f"  {line}")


def _words(report: UnlockReport, found: ProbeResult | None) -> str:

    done = "unlocked" if report.outcome is Outcome.UNLOCKED else "it runs already"
    if found is None or found.handshake.seconds is None:
        return done
    return f"{done}; handshake in {found.handshake.seconds * 1000:.1f} ms with {found.endpoint}"


def _facts(
    target: ConsoleTarget,
    report: UnlockReport,
    result: str,
    found: ProbeResult | None,
    failure: UnlockError | None,
) -> dict[str, Any]:
    return {
        "name": None if target.state is None else target.state.name,
        "result": result,
        "shows": report.seen.sight.value,
        "tries": report.tries,
        "handshake": None if found is None else found.as_dict()["handshake"],
        "error": None if failure is None else failure.message,
        "hint": None if failure is None else failure.hint,
        "events": [{"at": event.at, "what": event.what} for event in report.events],
        "screen": report.lines,
    }
