"""The scripts that begin an upgrade or a change on a server, and who works there already."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from obsdimg.core.templates import render
from obsdimg.server.asking import remote_script
from support.server_bench import SHELLS, ServerBench, program


@pytest.fixture(params=SHELLS)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> ServerBench:
    bench = ServerBench(tmp_path, request.param)
    (bench.root / "var/db/obsdimg").rmdir()
    return bench


def work(bench: ServerBench) -> Path:
    return bench.root / "var/db/obsdimg"


def run(bench: ServerBench, script: str, *words: str) -> str:
    """What the server's shell answered to `script`, as ssh gives it."""
    done = subprocess.run(
        [program(bench.shell), "-s", *words],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": f"{bench.root}/bin:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def upgrade(bench: ServerBench) -> str:
    script = remote_script(
        "working.sh",
        "upgrade-begin.sh",
        dir=str(work(bench) / "upgrade"),
        next="7.8",
        mirror="",
        job='exec sleep 30 >"$1/log"',
    )
    return run(bench, script.replace("/bsd.upgrade", f"{bench.root}/bsd.upgrade"))


def change(bench: ServerBench) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        data = b'echo checked >"$1/result"\n'
        info = tarfile.TarInfo("apply.sh")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    text = base64.encodebytes(buffer.getvalue()).decode().rstrip("\n")
    folder = str(work(bench) / "apply")
    return run(bench, remote_script("working.sh", "begin.sh", dir=folder, archive=text))


BEGIN = [(upgrade, "upgrade", "@ begun"), (change, "apply", "@ checked")]


@pytest.fixture(autouse=True)
def nobody_goes_on(bench: ServerBench) -> object:
    yield
    pid = bench.read("var/db/obsdimg/upgrade/pid").strip()
    if pid and int(pid) != os.getpid():
        os.kill(int(pid), 9)


@pytest.mark.parametrize(("begin", "folder", "begun"), BEGIN)
def test_of_two_at_the_same_instant_one_begins(
    bench: ServerBench, begin: object, folder: str, begun: str
) -> None:
    """The other comes between the folder and its pid, or between the pid's file and its digits."""
    assert callable(begin)
    (work(bench) / folder).mkdir(parents=True)
    assert begin(bench) == "@ busy"
    (work(bench) / folder / "pid").touch()
    assert begin(bench) == "@ busy"
    # A power failure at that instant must not hold it up for ever.
    long_ago = time.time() - 600
    os.utime(work(bench) / folder, (long_ago, long_ago))
    assert begin(bench) == begun


@pytest.mark.parametrize(("begin", "folder", "begun"), BEGIN)
def test_who_gets_on_while_it_is_looked_at_is_not_cut_off(
    bench: ServerBench, begin: object, folder: str, begun: str
) -> None:
    """Seen on a real 7.7, one time in eight, with three at once."""
    assert callable(begin)
    other = work(bench) / folder
    other.mkdir(parents=True)
    real = program("ls")
    bench.stand_in("ls", f'echo {os.getpid()} >{other}/pid; : >{other}/job.sh; exec {real} "$@"')
    assert begin(bench) == "@ busy"


@pytest.mark.parametrize(("begin", "folder", "begun"), BEGIN)
def test_who_handed_over_while_it_is_looked_at_is_not_cut_off(
    bench: ServerBench, begin: object, folder: str, begun: str
) -> None:
    """The script that began names the job and ends: its own pid, read before that, is nobody's."""
    assert callable(begin)
    other = work(bench) / folder
    other.mkdir(parents=True)
    (other / "job.sh").touch()
    (other / "pid").write_text("999999999\n")
    bench.stand_in(
        "cat",
        f'{program("cat")} "$@"; code=$?; case $1 in {other}/pid)'
        f" echo {os.getpid()} >{other}/pid ;; esac; exit $code",
    )
    assert begin(bench) == "@ busy"


@pytest.mark.parametrize(("begin", "folder", "begun"), BEGIN)
def test_what_was_cut_off_is_begun_anew(
    bench: ServerBench, begin: object, folder: str, begun: str
) -> None:
    assert callable(begin)
    (work(bench) / folder).mkdir(parents=True)
    (work(bench) / folder / "job.sh").write_text("half\n")
    (work(bench) / folder / "pid").write_text("999999999\n")
    assert begin(bench) == begun
    assert not (work(bench) / folder / "pid.new").exists()


@pytest.mark.parametrize(
    ("begin", "own", "other", "answer"),
    [
        (upgrade, "upgrade", "apply", "@ refused: a change is being applied there"),
        (change, "apply", "upgrade", "@ upgrading"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_change_and_an_upgrade_shut_each_other_out(
    bench: ServerBench, begin: object, own: str, other: str, answer: str, late: bool
) -> None:
    """`late`: the other one begins after this one has looked."""
    assert callable(begin)
    busy = f"mkdir -p {work(bench)}/{other}; echo {os.getpid()} >{work(bench)}/{other}/pid"
    if late:
        real = program("mkdir")
        bench.stand_in("mkdir", f'{real} "$@" || exit 1; {busy.replace("mkdir", real, 1)}')
    else:
        subprocess.run(["sh", "-c", busy], check=True)
    assert begin(bench) == answer
    assert not (work(bench) / own).exists(), "it leaves nothing that looks like its own work"


def test_nothing_restarts_while_a_change_begins(bench: ServerBench) -> None:
    (work(bench) / "apply").mkdir(parents=True)
    folder = str(work(bench) / "upgrade")
    script = remote_script("working.sh", "upgrade-restart.sh", dir=folder, next="7.8")
    assert run(bench, script) == "@ applying"


@pytest.mark.parametrize(("begin", "folder", "begun"), BEGIN)
def test_without_room_the_reason_is_said(
    bench: ServerBench, begin: object, folder: str, begun: str
) -> None:
    assert callable(begin)
    work(bench).touch()
    said = begin(bench)
    assert said.startswith("@ refused")
    assert f"{work(bench)}/{folder} could not be made" in said


def applied(bench: ServerBench, *names: str, gone: tuple[str, ...] = ()) -> str:
    """What became of a change of nothing; `names`: files in its folder."""
    text = render(
        "siteXX",
        "remote/apply.sh.j2",
        seconds=1,
        backend="wg",
        interface="wg0",
        key_file="/etc/hostname.wg0",
        was="tun0",
        gone=gone,
        group="wheel",
    ).decode()
    for name in ("logger", "sync", "sleep"):
        bench.stand_in(name)
    folder = work(bench) / "apply"
    folder.mkdir(parents=True)
    for name in ("files", "check.sh", "forward.sh", "back.sh", *names):
        (folder / name).touch()
    (bench.root / "etc/pf.conf").touch()
    run(bench, text.replace(" /etc/", f" {bench.root}/etc/"), str(folder))
    return (folder / "result").read_text()


def test_what_is_taken_back_is_what_ran(bench: ServerBench) -> None:
    """Where pf.conf has a mistake by hand, the good rules run in its place."""
    own, good = f"{bench.root}/etc/pf.conf", f"{bench.root}/etc/wireguard/good/pf.conf"
    bench.stand_in("pfctl", f'[ "$*" != "-f {own}" ]')
    assert applied(bench).startswith("taken back")
    loaded = [line.split()[-1] for line in bench.journal() if line.startswith("pfctl -f")]
    assert loaded[-2:] == [own, good]


@pytest.mark.parametrize("room", [True, False])
def test_what_belongs_to_the_release_before_is_moved_away_or_named(
    bench: ServerBench, room: bool
) -> None:
    """A hostname.tun0 that stays beside hostname.wg0 would be used at the next start, too."""
    gone = tuple(f"{bench.root}/etc/{name}" for name in ("hostname.tun0", "dhclient.conf"))
    for path in gone:
        Path(path).write_text("old\n")
    if not room:
        (bench.root / "etc/wireguard/before").touch()
    bench.stand_in("pfctl")
    said = applied(bench, "confirmed", gone=gone)
    if room:
        assert said == "applied\n"
        assert (bench.root / "etc/wireguard/before/hostname.tun0").read_text() == "old\n"
    else:
        assert said.startswith("broken: it works, and what belongs to the release before")
        assert said.endswith(f": {' '.join(gone)}\n")
    assert [Path(path).exists() for path in gone] == [not room] * 2
