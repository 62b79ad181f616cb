"""obsdimg-loader: the plain partition from which the boot loader asks on the serial line."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.server_bench import SHELLS, ServerBench
from support.site_fixtures import RECIPE, content, planned

COM0 = RECIPE.replace("[host]\n", '[host]\nconsole = "com0"\nconsole_speed = 9600\n')
BOOT_CONF = "stty com0 9600\nset tty com0\nset device sr0a\nboot\n"
CHUNK = """  echo "  softraid0 0 Online 4293647360 sd1 CRYPTO"
echo "          0 Online 4293647360 0:0.0 noencl <$(cat $T/chunk)>" """
MOUNT = """
if [ $# = 0 ]; then echo "/dev/sd1a on / type ffs (local)"; exit; fi
for place; do :; done
[ -e $T/broken ] && { rm -f $T/broken; exit 1; }
cp -R $T/plain/. $place/
echo "$4" >$T/mode"""
UMOUNT = """
[ "$(cat $T/mode)" = ro ] || { rm -rf $T/plain; cp -R $1 $T/plain; }
rm -rf $1/*"""


@pytest.fixture(params=SHELLS)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> ServerBench:
    made = ServerBench(tmp_path, request.param)
    made.stand_in("logger")
    made.stand_in("fsck_ffs")
    made.stand_in("bioctl", CHUNK)
    made.stand_in("disklabel", "cat $T/label")
    made.stand_in("mount", MOUNT)
    made.stand_in("umount", UMOUNT)
    (tmp_path / "chunk").write_text("sd0d\n")
    (tmp_path / "label").write_text(
        "  a:  960  64  4.2BSD   1024  8192     1 \n  d:  8300000  1024    RAID  \n"
    )
    (tmp_path / "plain/etc").mkdir(parents=True)
    (tmp_path / "plain/etc/boot.conf").write_text(BOOT_CONF)
    return made


@pytest.fixture(params=["6.6", "7.5"])
def script(bench: ServerBench, request: pytest.FixtureRequest) -> Path:
    path = bench.install("/usr/local/sbin/obsdimg-loader", COM0, request.param)
    path.write_text(path.read_text().replace("-x /bsd.upgrade", f"-x {bench.root}/bsd.upgrade"))
    return path


def waiting(bench: ServerBench, mode: int = 0o700) -> Path:
    kernel = bench.root / "bsd.upgrade"
    kernel.write_text("kernel")
    kernel.chmod(mode)
    return kernel


def written(bench: ServerBench) -> bool:
    return any(line.startswith("mount -t ffs -o nodev") for line in bench.journal())


def test_what_is_right_is_only_read(bench: ServerBench, script: Path) -> None:
    assert bench.run(script) == ""
    assert "mount -t ffs -o ro /dev/sd0a" in " ".join(bench.journal())
    assert not written(bench) and not any("logger" in line for line in bench.journal())


def test_an_upgrade_that_waits_is_told_and_afterwards_forgotten(
    bench: ServerBench, script: Path
) -> None:
    kernel = waiting(bench)
    assert bench.run(script) == ""
    mark = bench.root / "plain/bsd.upgrade"
    assert mark.read_text() == "" and mark.stat().st_mode & 0o777 == 0o700
    bench.run(script)
    assert sum(line.startswith("mount -t ffs -o nodev") for line in bench.journal()) == 1
    kernel.unlink()
    assert bench.run(script) == "" and not mark.exists()
    assert bench.read("plain/etc/boot.conf") == BOOT_CONF


def test_an_upgrade_that_was_tried_already_is_not_told(bench: ServerBench, script: Path) -> None:
    waiting(bench, 0o600)  # what the loader of a plain disk makes of it
    bench.run(script)
    assert not (bench.root / "plain/bsd.upgrade").exists()


@pytest.mark.parametrize("spoilt", ["set tty com0\n", None])
def test_another_boot_conf_is_written_anew_and_that_is_logged(
    bench: ServerBench, script: Path, spoilt: str | None
) -> None:
    conf = bench.root / "plain/etc/boot.conf"
    if spoilt is None:
        conf.unlink()
    else:
        conf.write_text(spoilt)
    bench.run(script)
    assert conf.read_text() == BOOT_CONF
    assert any("was not as it should be; written anew" in line for line in bench.journal())


def test_a_file_system_that_does_not_mount_is_checked_first(
    bench: ServerBench, script: Path
) -> None:
    (bench.root / "broken").touch()
    waiting(bench)
    assert bench.run(script) == ""
    assert "fsck_ffs -y /dev/rsd0a" in bench.journal()
    assert (bench.root / "plain/bsd.upgrade").exists()


def test_what_cannot_be_written_is_an_error(bench: ServerBench, script: Path) -> None:
    bench.stand_in("mount", MOUNT.split("cp -R")[0] + "exit 1")
    waiting(bench)
    bench.run(script, code=1)
    assert any("daemon.err the plain partition sd0a" in line for line in bench.journal())


@pytest.mark.parametrize(
    ("chunk", "label"),
    [
        ("sd0a", "  a:  8300000  64    RAID  \n"),
        ("sd0d", "  d:  8300000  1024    RAID  \n"),
        ("", ""),
    ],
)
def test_nothing_is_done_where_there_is_no_such_partition(
    bench: ServerBench, script: Path, chunk: str, label: str
) -> None:
    """A machine that UEFI starts, or one that is not encrypted."""
    (bench.root / "chunk").write_text(f"{chunk}\n")
    (bench.root / "label").write_text(label)
    waiting(bench)
    assert bench.run(script) == ""
    assert [line for line in bench.journal() if line.startswith("mount -t")] == []


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (COM0, True),
        (RECIPE, False),
        (COM0 + '[disk]\nloader = "firmware"\n', False),
        (COM0 + '[disk]\nencryption = "none"\n', False),
    ],
)
def test_it_lands_where_the_loader_shall_ask_on_com0(settings: str, there: bool) -> None:
    plan = planned(settings, "7.5")
    paths = set(plan.sealed)
    assert ("/usr/local/sbin/obsdimg-loader" in paths) is there
    assert ("/usr/local/sbin/obsdimg-loader" in content(plan, "/obsdimg.steps")) is there
    assert ("obsdimg-loader" in content(plan, "/usr/local/sbin/obsdimg-watch")) is there
