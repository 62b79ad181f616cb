"""Files: what needs more than the host's own tool.

cat, cp, rm, ls, ln, mkdir, chmod, sed, grep, tee, gzip and sleep never come here: the client in
the sandbox checks their options against the manual pages of 6.6 and runs the host's tool.
"""

from __future__ import annotations

from obsdimg.rehearsal.call import (
    BOTH,
    Call,
    Done,
    Exec,
    ReadFile,
    Shell,
    Steps,
    fail,
    getopt,
    refuse,
    standin,
    text,
)
from obsdimg.rehearsal.world import World

RESPONSE = "/tmp/ai/ai.conf"  # noqa: S108  # in the sandbox
"""The copy of the response file that install.sub eats; it moves it before every question."""

MAX_QUESTIONS = 400
"""An installer that asks more goes round in circles."""


@standin("mv", phases=BOTH)
def mv(call: Call, world: World) -> Steps:
    """mv(1).  A move of the response file is a question being asked: its lines are kept."""
    if call.args[:1] == (RESPONSE,):
        world.snapshots.append((yield ReadFile(RESPONSE)) or b"")
        if len(world.snapshots) > MAX_QUESTIONS:
            raise refuse(call, f"more than {MAX_QUESTIONS} questions")
    getopt(call, "fi")
    return Exec("mv", call.args)


@standin("ls")
def ls(call: Call, world: World) -> Steps:
    """ls(1) `-1dF` of the time zones, which install.sub lists when it asks for one late."""
    if call.args[:1] != ("-1dF",) or call.cwd != "/mnt/usr/share/zoneinfo":
        raise refuse(call)
    asked = set(call.args[1:])
    return Done(0, text([zone for zone in world.zones if zone.rstrip("/") in asked]))
    yield Shell("")


@standin("mknod")
def mknod(call: Call, world: World) -> Steps:
    """mknod(8): an empty file stands for the node; several nodes in one call (MAKEDEV)."""
    words = list(call.args)
    names = []
    mode = "600"
    while words:
        if words[0] == "-m" and len(words) > 1:
            mode, words = words[1], words[2:]
            continue
        if len(words) < 2 or words[1] not in ("b", "c", "p"):
            raise refuse(call)
        names += [mode, words[0]]
        words = words[2:] if words[1] == "p" else words[4:]
    script = (
        'while (($#)); do [[ -e $2 ]] && exit 1; : >"$2" && $H/chmod $1 "$2" || exit 1; '
        "shift 2; done"
    )
    if (yield Shell(script, tuple(names))) is None:
        return fail("mknod: File exists")
    return Done()


@standin("chown", "chgrp", phases=BOTH)
def chown(call: Call, world: World) -> Steps:
    """chown(8), chgrp(1): remembered, not done (an unprivileged sandbox knows one user)."""
    _, operands = getopt(call, "RHLPhf")
    if len(operands) < 2:
        raise refuse(call)
    script = 'for p; do [[ -e $p || -L $p ]] || { print -r -- "$p"; exit; }; done'
    missing = yield Shell(script, tuple(operands[1:]))
    if missing:
        return fail(f"{call.name}: {missing.decode().strip()}: No such file or directory")
    for path in operands[1:]:
        at = path if path.startswith("/") else f"{call.cwd.rstrip('/')}/{path}"
        world.owners[f"/mnt{at}" if call.phase == "installed" else at] = operands[0]
    return Done()


@standin("pax", phases=BOTH)
def pax(call: Call, world: World) -> Steps:
    """pax(1) as the installer copies /etc/skel: `-rw -k -pe . DIRECTORY`."""
    if call.args[:4] != ("-rw", "-k", "-pe", ".") or len(call.args) != 5:
        raise refuse(call)
    if (yield Shell('$H/cp -RnpP . "$1"', (call.args[4],))) is None:
        return fail("pax: copy failed")
    return Done()


@standin("mount_ext2fs", "mount_msdos", "mount_nfs", "mount_udf", "newfs_msdos", "fsck_msdos")
@standin("ed", "restore", "growfs", "mt", "eject", phases=BOTH)
def unknown(call: Call, world: World) -> Steps:
    """In the ramdisk, but not used by an unattended installation."""
    raise refuse(call)
    yield Shell("")
