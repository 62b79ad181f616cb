"""Run the installer of a ramdisk against stand-ins, and say what it did.

`rehearse_tree` takes the ramdisk as a tree of nodes, `rehearse_iso` an ISO.  Both leave nothing
behind.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import obsdimg.rehearsal.programs  # noqa: F401  # registers the stand-ins
from obsdimg.ffs import FileSystem
from obsdimg.iso import Iso
from obsdimg.rehearsal import ramdisk, transcript
from obsdimg.rehearsal.host import RehearsalHost, find_host
from obsdimg.rehearsal.inside import lstat_inside, read_inside
from obsdimg.rehearsal.limits import MAX_TEXT, RehearsalLimits
from obsdimg.rehearsal.machine import (
    Known,
    MachineChanges,
    Operator,
    RehearsalMachine,
    likely_machine,
)
from obsdimg.rehearsal.ramdisk import RamdiskNode
from obsdimg.rehearsal.result import Landed, Rehearsal
from obsdimg.rehearsal.root import ramdisk_sandbox
from obsdimg.rehearsal.server import End, Server
from obsdimg.rehearsal.verdict import Evidence, judge
from obsdimg.rehearsal.world import Action, Cd, World
from obsdimg.response.matching import Line, parse, read_lines

RESPONSE = "/auto_install.conf"
_ARTEFACT = re.compile(r"^E: /\S+: ulimit: .*\n", re.MULTILINE)
"""What mksh says of limits that an unprivileged process cannot raise; ksh as root has no cause."""


class FilesCd:
    """A CD from a mapping of absolute paths to bytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def paths(self) -> Iterable[str]:
        return self.files.keys()

    def size(self, path: str) -> int:
        return len(self.files[path])

    def mode(self, path: str) -> int:
        return 0o444

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.files[path])


class IsoCd:
    """A CD that is an open ISO."""

    def __init__(self, iso: Iso) -> None:
        self.iso = iso
        self.entries = {e.path: e for e in iso.entries() if e.kind == "file"}

    def paths(self) -> Iterable[str]:
        return self.entries.keys()

    def size(self, path: str) -> int:
        return self.entries[path].size

    def mode(self, path: str) -> int:
        return self.entries[path].mode & 0o777

    def open(self, path: str) -> BinaryIO:
        return self.iso.open_file(path)


class LayeredCd:
    """A CD as it would be with the files of `upper` added or replaced."""

    def __init__(self, upper: Cd, lower: Cd) -> None:
        self.upper = upper
        self.lower = lower
        self._new = frozenset(upper.paths())

    def paths(self) -> Iterable[str]:
        return sorted(self._new.union(self.lower.paths()))

    def size(self, path: str) -> int:
        return self._of(path).size(path)

    def mode(self, path: str) -> int:
        return self._of(path).mode(path)

    def open(self, path: str) -> BinaryIO:
        return self._of(path).open(path)

    def _of(self, path: str) -> Cd:
        return self.upper if path in self._new else self.lower


def rehearse_iso(
    path: Path,
    machine: RehearsalMachine | MachineChanges | None = None,
    operator: Operator | None = None,
    *,
    known: Known | None = None,
    limits: RehearsalLimits | None = None,
    expect_site: bool = True,
    secrets: Iterable[str] = (),
) -> Rehearsal:
    """Rehearse the boot kernel that /etc/boot.conf of the ISO at `path` starts.

    `machine` None: one that fits the response file, or that with changes.  `known` says what
    the release asks; `secrets` are masked in what is reported.  Raises SandboxError,
    UnreadableRamdiskError, and what reading the ISO raises.
    """
    host = find_host()
    with Iso.open(path) as iso:
        _, tree = ramdisk.read_ramdisk(iso)
        version, arch = ramdisk.medium_release(iso)
        if not isinstance(machine, RehearsalMachine):
            response = tree[RESPONSE].data if RESPONSE in tree else b""
            changes = machine or MachineChanges()
            machine = changes.applied(likely_machine(response, RehearsalMachine()))
        return rehearse_tree(
            tree,
            IsoCd(iso),
            replace(machine, version=version, arch=arch),
            operator,
            known=known,
            limits=limits,
            expect_site=expect_site,
            secrets=secrets,
            host=host,
        )


def rehearse_tree(
    tree: Mapping[str, RamdiskNode] | FileSystem,
    cd: Cd | Mapping[str, bytes],
    machine: RehearsalMachine | None = None,
    operator: Operator | None = None,
    *,
    known: Known | None = None,
    limits: RehearsalLimits | None = None,
    expect_site: bool = True,
    secrets: Iterable[str] = (),
    host: RehearsalHost | None = None,
    response: bytes | None = None,
) -> Rehearsal:
    """Rehearse the installer in `tree` with the install CD `cd`.

    `response`: what the installer will find as its response file, if that is not in the ramdisk.
    Raises SandboxError.
    """
    if isinstance(tree, FileSystem):
        tree = ramdisk.tree_of(tree)
    files: Cd = FilesCd(cd) if isinstance(cd, Mapping) else cd
    machine = machine or RehearsalMachine()
    operator = Operator.default() if operator is None else operator
    host = host or find_host()
    world = World(machine, files)
    if "/var/tzlist" in tree:
        world.zones = tuple(tree["/var/tzlist"].data.decode().split())
    world.secrets.update(secrets)
    world.secrets.update(reply.answer for reply in operator.answers if reply.secret)
    limits = limits or RehearsalLimits()
    started = time.monotonic()
    sandbox = ramdisk_sandbox(host, limits, tree, ramdisk.programs(tree), files, machine.version)
    try:
        server = Server(sandbox, world, operator, limits)
        try:
            sandbox.release()
            end = server.run()
        finally:
            sandbox.stop()
            server.close()
        run = _Run(sandbox.folder, world, server, end, limits, expect_site)
        if response is None:
            response = tree[RESPONSE].data if RESPONSE in tree else b""
        return _result(run, response, known, started)
    finally:
        sandbox.close()


@dataclass(frozen=True)
class _Run:
    """A rehearsal that has ended; `root` is a descriptor of the sandbox's root, nothing runs
    there any more."""

    root: int
    world: World
    server: Server
    end: End
    limits: RehearsalLimits
    expect_site: bool


def _result(run: _Run, original: bytes, known: Known | None, started: float) -> Rehearsal:
    """`original`: the response file."""
    world, server = run.world, run.server
    last = read_inside(run.root, "tmp/ai/ai.conf", MAX_TEXT)
    console = _ARTEFACT.sub("", transcript.clean(bytes(server.transcript)))
    found = transcript.events(world.snapshots, last, original)
    questions = transcript.questions(console, found)
    if known is not None:
        questions = [replace(q, known=known.asks(q.text)) for q in questions]
    used = {q.line for q in questions if q.line}
    unused = [ln for ln in read_lines(original) if parse(ln.text) and ln.number not in used]
    strays = [ln for ln in unused if known is None or not _fits(ln, known)]
    verdict, message, hint = judge(
        Evidence(
            run.end,
            console,
            questions,
            strays,
            original.rpartition(b"\n")[2].decode(errors="replace").strip(),
            tuple(world.sets.values()),
            world.signature,
            server.refused,
            server.exceeded,
            world.unbootable,
            run.limits.seconds,
            run.expect_site,
        )
    )
    mask = _Mask(world.secrets | _secret_answers(original))
    return Rehearsal(
        verdict,
        mask(message),
        mask(hint),
        tuple(replace(q, answer=mask(q.answer)) for q in questions),
        tuple((ln.number, mask(ln.text.strip())) for ln in unused),
        tuple(
            Action(a.program, a.target, mask(a.detail), mask(a.stdin), a.status)
            for a in world.actions
        ),
        tuple(sorted(world.sets.values(), key=lambda s: s.name)),
        world.signature,
        _landed(run.root, world),
        tuple(world.services),
        mask(_site_output(console)),
        mask(console),
        tuple(mask(text) for text in server.refused),
        time.monotonic() - started,
    )


def _fits(line: Line, known: Known) -> bool:
    entry = parse(line.text)
    return entry is not None and known.answers(entry.key)


class _Mask:
    """Replaces secrets; very short ones would tear up ordinary text and are left to be seen
    only where the installer shows them, which it does not."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "********")
        return text


def _secret_answers(response: bytes) -> set[str]:
    """Passwords in the response file that are no hashes."""
    found = set()
    for line in read_lines(response):
        entry = parse(line.text)
        if entry is None or not re.search("pass(word|phrase)", entry.key):
            continue
        if not entry.value.startswith(("$2", "****")):
            found.add(entry.value)
    return found


def _site_output(console: str) -> str:
    """What came between the installer's own last steps and its congratulations."""
    begin = max(console.rfind(mark) for mark in ("Relinking to create", "Making all device nodes"))
    if begin < 0:
        return ""
    rest = console[begin:].partition("\n")[2]
    for mark in ("\nCONGRATULATIONS!", "CONGRATULATIONS!", "install.site failed"):
        if mark in rest:
            return rest.partition(mark)[0].strip("\n")
    return rest.strip("\n")


def _landed(root: int, world: World) -> tuple[Landed, ...]:
    """The members of the site set, as they are in the new system at the end."""
    found = {}
    for member in world.landed:
        path = "/" + member.name.removeprefix("./").lstrip("/")
        kind = "dir" if member.isdir() else "link" if member.issym() else "file"
        owner = world.owners.get(f"/mnt{path}", f"{member.uid}:{member.gid}")
        if path == "/":
            continue
        state = lstat_inside(root, f"mnt{path}")
        if state is None:
            found[path] = Landed(path, kind, member.mode, owner, member.size, gone=True)
        else:
            size = state.st_size if kind == "file" else 0
            found[path] = Landed(path, kind, state.st_mode & 0o7777, owner, size)
    return tuple(found[path] for path in sorted(found))
