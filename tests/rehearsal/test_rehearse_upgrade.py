"""The upgrade half of the installer's script: genuine 6.6, and 7.7 and 7.8 from source trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from obsdimg.cli.main import main
from obsdimg.rehearsal import Rehearsal, RehearsalLimits, RehearsalVerdict
from obsdimg.rehearsal.upgrade import UpgradeQuestions, auto_upgrade, rehearse_upgrade_tree
from support.rehearsal_stage import (
    Stage,
    dotted,
    make_source_stage,
    make_stage,
    make_standin_stage,
)


@pytest.fixture(params=["66", "77", "78"])
def stage(request: pytest.FixtureRequest) -> Stage:
    made = make_stage() if request.param == "66" else make_source_stage(request.param)
    # bsd.rd of a mirror is pristine.
    del made.tree["/auto_install.conf"]
    return made


def play(stage: Stage) -> Rehearsal:
    machine = replace(stage.machine, version=dotted(stage.digits))
    return rehearse_upgrade_tree(
        stage.tree, stage.cd(), machine, limits=RehearsalLimits(90.0, 15.0)
    )


def test_every_question_of_the_upgrade_has_its_answer(stage: Stage) -> None:
    result = play(stage)
    assert result.verdict is RehearsalVerdict.INSTALLED, result.transcript
    assert "Performing non-interactive upgrade..." in result.transcript
    assert "Your OpenBSD upgrade has been successfully completed!" in result.transcript
    assert result.transcript.count("CONGRATULATIONS!") == 1
    asked = {q.text.partition("?")[0]: (q.answer, q.line) for q in result.questions}
    assert asked["Location of sets"][0] in ("disk", "done")
    assert asked["Pathname to the sets"] == ("/home/_sysupgrade/", 2)
    assert asked["Directory does not contain SHA256.sig. Continue without verification"][0] == "yes"
    assert asked["Which disk is the root disk"][0] == "sd1", "the unlocked volume, not its chunk"
    assert not result.unused
    installed = {one.name for one in result.sets if one.installed}
    assert {"bsd", f"base{stage.digits}.tgz", f"comp{stage.digits}.tgz"} <= installed
    assert not any(name.startswith("site") for name in installed), "a mirror has none"
    assert [(a.program, a.target) for a in result.actions if a.program == "installboot"] == [
        ("installboot", "sd1")
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda stage: stage.sets.pop(f"base{stage.digits}.tgz"),
            "your upgrade is complete without 'base66.tgz'?",
        ),
        (
            lambda stage: stage.edit(
                "/install.sub", "check_fs() {\n", 'check_fs() {\n\task "Which way now?" left\n'
            ),
            "Which way now? (taken: left)",
        ),
    ],
)
def test_what_an_upgrade_would_stop_at_is_found(
    change: Callable[[Stage], object], says: str
) -> None:
    stage = make_stage()
    del stage.tree["/auto_install.conf"]
    change(stage)
    result = play(stage)
    assert result.verdict is RehearsalVerdict.UNKNOWN_QUESTION, result.transcript
    assert says in result.message
    assert not result.passed


PROFILE = """\
echo "Performing non-interactive upgrade..."
mount -t ffs -r /dev/sd0a /mnt || echo "sd0a is no file system"
mount -t ffs -r /dev/sd1a /mnt
ls -d /mnt/bsd.upgrade /mnt/etc/fstab /mnt/bin
cat /mnt/auto_upgrade.conf
umount /mnt
ls /mnt | grep -q . && echo "something stays behind"
mount -t ffs -o rw /dev/sd1a /mnt
ls /mnt/home/_sysupgrade | sed 's/^/set /'
ftp -D Installing -Vmo - file:///mnt//home/_sysupgrade/base66.tgz | tar -zxpf - -C /mnt
cat /mnt/usr/share/base
installboot -r /mnt sd1
exec reboot
"""
"""What the genuine script does with the disk, for where that is not at hand."""


def test_the_disk_holds_what_sysupgrade_leaves() -> None:
    stage = make_standin_stage()
    stage.tree.pop("/auto_install.conf")
    stage.put("/.profile", PROFILE)
    machine = replace(stage.machine, version="6.6")
    result = rehearse_upgrade_tree(
        stage.tree, stage.cd(), machine, limits=RehearsalLimits(60.0, 15.0)
    )
    said = result.transcript
    assert "sd0a is no file system" in said, "the encrypted disk itself"
    assert "/mnt/bsd.upgrade" in said
    assert "Pathname to the sets = /home/_sysupgrade/" in said
    assert "something stays behind" not in said
    listed = {line.removeprefix("set ") for line in said.splitlines() if line.startswith("set ")}
    assert {"SHA256", "base66.tgz", "bsd.rd", "comp66.tgz"} <= listed
    assert not {"SHA256.sig", "site66.tgz"} & listed
    assert said.rstrip().endswith("syncing disks... done")
    assert [one.name for one in result.sets if one.installed] == ["base66.tgz"]


def test_the_response_file_is_that_of_the_release_before() -> None:
    assert b"Set name(s) = done" in auto_upgrade("6.7")
    assert b"Set name(s)" not in auto_upgrade("7.8")
    assert UpgradeQuestions().asks("Which disk is the root disk? ('?' for details)")
    assert not UpgradeQuestions().asks("Which way now?")


def test_words_that_make_no_sense_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["rehearse", "none.iso", "--upgrade", "--wipe"]) == 2
    assert "--upgrade goes without" in capsys.readouterr().err
