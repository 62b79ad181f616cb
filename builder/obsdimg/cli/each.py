"""One command for several servers: a process each, some at a time, with one display of them all.

Each process is the ordinary command for one server, without a terminal: what it would ask has to
be answered by options.  Its output is shown when all have ended, in the order of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from obsdimg.cli.options import WithServers, specs
from obsdimg.cli.servers import ServersUsageError, for_one
from obsdimg.cli.ui import Ui
from obsdimg.core.crowd import Crowd, Member
from obsdimg.core.relaunch import own_command, own_environment

_WAITING: Final = {"apply": 16, "deploy": 8, "status": 16, "smoke": 1}
"""Commands that mostly wait for others, or need a machine of their own; else: a processor each."""
_CHILD: Final = "OBSDIMG_ONE_OF_SEVERAL"
DIFFERENT: Final = 3
"""Exit code of `apply --check`: there is a difference."""


def run_each(command: str, words: Sequence[str], names: Sequence[str], options: Any, ui: Ui) -> int:
    """Run `command` for each of `names`; `words`: what stood behind it.  The exit code: 1 if one
    failed, else the largest.  Raises ServersUsageError."""
    if os.environ.get(_CHILD):
        raise ServersUsageError("a command for several servers within another", "write --all out")
    _refuse_shared_files(options)
    jobs = _jobs(command, options)
    rest = for_one(words)
    if command == "apply" and not (options.yes or options.check):
        return _apply(rest, names, jobs, options, ui)
    members = _run(command, rest, names, jobs, ui)
    _show(members, ui, as_json=getattr(options, "json", False))
    return _exit_code(members)


def _jobs(command: str, options: WithServers) -> int:
    if options.jobs is None:
        return _WAITING.get(command) or os.cpu_count() or 1
    if not 1 <= options.jobs <= 200:
        raise ServersUsageError(f"--jobs {options.jobs}: is not between 1 and 200")
    return options.jobs


def _refuse_shared_files(options: Any) -> None:
    """Servers do not write one file after the other."""
    for name, spec in specs(type(options)):
        value = getattr(options, name)
        if spec.own and value is not None and "{server}" not in str(value) and str(value) != "-":
            word = spec.words[-1] if spec.words else spec.how["metavar"]
            raise ServersUsageError(
                f"{word} {value}: is one file for several servers",
                "write {server} where the server's name belongs in it",
            )


def _run(
    command: str, rest: Sequence[str], names: Sequence[str], jobs: int, ui: Ui
) -> list[Member]:
    environment = {**own_environment(), _CHILD: "1"}
    commands = {
        name: [
            *own_command(), command, "--server", name,
            *(word.replace("{server}", name) for word in rest),
        ]
        for name in names
    }  # fmt: skip
    return Crowd(jobs, environment, ui.crowd_display()).run(commands)


def _apply(rest: Sequence[str], names: Sequence[str], jobs: int, options: Any, ui: Ui) -> int:
    """The difference of all first, one question, then the change where there is one."""
    looked = _run("apply", [*rest, "--check"], names, jobs, ui)
    _show(looked, ui)
    different = [m.name for m in looked if m.code == DIFFERENT]
    failed = [m.name for m in looked if m.code not in (0, DIFFERENT)]
    if failed:
        ui.warn(f"not compared, and left as they are: {', '.join(failed)}")
    if different and not ui.confirm(f"Change {', '.join(different)} so?"):
        ui.say("nothing was changed")
        return 1 if failed else 0
    changed = _run("apply", [*rest, "--yes"], different, jobs, ui) if different else []
    _show(changed, ui)
    return 1 if failed else _exit_code(changed)


def _show(members: Sequence[Member], ui: Ui, *, as_json: bool = False) -> None:
    """What each said, and what became of them."""
    if as_json:
        show_documents({m.name: (m.code, _json(m.output)) for m in members}, ui)
    else:
        for member in members:
            text = member.output.decode("utf-8", "replace").rstrip()
            if text:
                ui.say(f"== {member.name}")
                ui.say(text)
    failed = [f"{m.name} ({m.code})" for m in members if m.code != 0]
    if members:
        done = f"{len(members) - len(failed)} of {len(members)} servers: done"
        ui.info(f"{done}; exit codes: {', '.join(failed)}" if failed else done)


def show_documents(found: Mapping[str, tuple[int | None, Any]], ui: Ui) -> None:
    """Exit code and document of each server, as one document."""
    value = {name: {"exit_code": code, "result": result} for name, (code, result) in found.items()}
    replace(ui, command="").json(value)  # it is none of the command's own


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _exit_code(members: Sequence[Member]) -> int:
    codes = [1 if member.code is None else member.code for member in members]
    return 1 if any(code == 1 or code < 0 for code in codes) else max(codes, default=0)
