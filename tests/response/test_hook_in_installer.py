"""The hook inside the genuine 6.6 installer: what was done to which disk, and what was not.

Every case asserts the journal of the stand-in disks.  A program that the ramdisk lacks ends a
rehearsal, so every case proves that too.  Slow: each runs the whole installer (seconds).
"""

from __future__ import annotations

import pytest

from obsdimg.rehearsal import MachineDisk, Operator, Rehearsal, RehearsalVerdict
from obsdimg.response.hook import After, HookSettings, Mode
from support.installer_bench import (
    DISK,
    PASS,
    RESPONSE,
    SERVER_KEY,
    Site,
    install,
    type_in,
)

pytestmark = [pytest.mark.media, pytest.mark.slow]

DEFAULT = HookSettings(random_fill=False)
TYPED = type_in(PASS, PASS)
ENCRYPTED = MachineDisk(contents="encrypted")


def disk_actions(run: Rehearsal) -> list[tuple[str, str]]:
    """(program, target) of everything that changed a disk, in order."""
    changing = {"fdisk", "disklabel", "bioctl", "newfs", "dd", "installboot"}
    return [(a.program, a.target) for a in run.actions if a.program in changing]


def untouched(run: Rehearsal) -> bool:
    return disk_actions(run) == []


def continues(run: Rehearsal) -> bool:
    """Whether anything of the installation itself happened."""
    return "CONGRATULATIONS" in run.transcript or "System hostname" in run.transcript


def test_everything_right() -> None:
    run = install(HookSettings(), TYPED)
    assert run.verdict is RehearsalVerdict.INSTALLED, run.transcript
    actions = disk_actions(run)
    wiped = actions.index(("fdisk", "sd0"))
    assert actions[wiped : wiped + 4] == [
        ("fdisk", "sd0"),
        ("disklabel", "sd0"),
        ("bioctl", "sd0a"),
        ("dd", "sd1"),
    ]
    assert all(program == "dd" and target == "sd0" for program, target in actions[:wiped])
    # After the volume is made, only the volume is written, and the boot blocks.
    later = [a for a in actions[wiped + 4 :] if a[0] != "installboot"]
    assert later
    assert all(target.startswith("sd1") for _, target in later)
    root = next(q for q in run.questions if q.text.startswith("Which disk is the root disk"))
    assert root.answer == "sd1"


def test_the_passphrase_is_seen_by_bioctl_and_nobody_else() -> None:
    run = install(DEFAULT, TYPED)
    assert run.passed, run.transcript
    assert [a.stdin for a in run.actions if a.program == "bioctl"] == ["<passphrase>"]
    assert "horse" not in run.transcript
    assert "horse" not in repr(run.actions)


def test_the_sealed_secrets_are_opened_on_the_volume_and_no_trace_is_left() -> None:
    run = install(DEFAULT, TYPED)
    assert run.passed, run.transcript
    assert "the sealed secrets are in place" in run.site_output
    gone = {file.path for file in run.files if file.gone}
    assert gone == {"/obsdimg.sealed", "/obsdimg.steps", "/install.site"}
    assert "the steps run" in run.site_output


def test_another_sealing_passphrase_is_asked_for_on_the_console() -> None:
    other = "given when it was built"
    operator = type_in(PASS, PASS, sealed=("wrong again", other))
    run = install(DEFAULT, operator, site=Site(other))
    assert run.passed, run.transcript
    assert run.transcript.count("This passphrase does not open the sealed secrets.") == 2
    assert "the sealed secrets are in place" in run.transcript


def test_damaged_secrets_end_the_installation() -> None:
    run = install(DEFAULT, TYPED, site=Site(damaged=True))
    assert not run.passed
    assert "STOPPED: The sealed secrets are damaged" in run.transcript
    assert "install.site failed" in run.transcript
    assert "CONGRATULATIONS" not in run.transcript


def test_of_two_disks_the_named_one_is_used_and_the_volume_is_sd2() -> None:
    disks = (MachineDisk(contents="foreign"), DISK)
    run = install(HookSettings(disk="sd1", random_fill=False), TYPED, disks)
    assert run.passed, run.transcript
    assert not [a for a in disk_actions(run) if a[1].startswith("sd0")]
    assert ("bioctl", "sd1a") in disk_actions(run)
    root = next(q for q in run.questions if q.text.startswith("Which disk is the root disk"))
    assert root.answer == "sd2"


def test_two_disks_and_none_named() -> None:
    run = install(DEFAULT, TYPED, (DISK, DISK))
    assert "STOPPED: There is more than one disk: sd0 sd1." in run.transcript
    assert untouched(run)
    assert not continues(run)


def test_passphrases_that_differ_and_empty_ones_are_asked_for_again() -> None:
    run = install(DEFAULT, type_in(PASS, "something else", "", "short", PASS, PASS))
    assert run.passed, run.transcript
    for said in ("The two differ.", "Empty.", "Shorter than 8"):
        assert said in run.transcript


def test_nobody_at_the_console() -> None:
    run = install(DEFAULT, Operator(()))
    assert not run.passed
    assert run.transcript.rstrip().endswith("New passphrase:")
    assert untouched(run)


@pytest.mark.parametrize("contents", ["encrypted", "openbsd", "foreign"])
@pytest.mark.parametrize("mode", [Mode.PASSPHRASE, Mode.NONE])
def test_a_disk_in_use_is_left_alone(contents: str, mode: Mode) -> None:
    disk = MachineDisk(contents=contents)  # type: ignore[arg-type]
    run = install(HookSettings(mode=mode), type_in(PASS, PASS, answer="yes"), (disk,))
    assert "sd0 is NOT EMPTY" in run.transcript
    assert "STOPPED: sd0 was left as it is. Nothing was changed." in run.transcript
    # After a power failure in mid-installation nothing would start.
    assert "only what was installed to the end starts" in run.transcript
    assert untouched(run)
    assert not continues(run)
    assert run.transcript.rstrip().endswith("(S)hell?")


def test_wipe_and_the_disks_name_make_a_new_volume_of_an_old_one() -> None:
    run = install(DEFAULT, type_in(PASS, PASS, answer="wipe sd0"), (ENCRYPTED,))
    assert run.passed, run.transcript
    made = [a.detail for a in run.actions if a.program == "bioctl"]
    assert len(made) == 1
    assert made[0].startswith("new CRYPTO volume")


def test_overwrite_asks_nothing_about_the_old_volume() -> None:
    run = install(HookSettings(random_fill=False, overwrite=True), TYPED, (ENCRYPTED,))
    assert run.passed, run.transcript
    assert "will be erased: the configuration says overwrite = true" in run.transcript


def test_no_disk() -> None:
    run = install(DEFAULT, TYPED, ())
    assert "STOPPED: No disk was found." in run.transcript
    assert not continues(run)


def test_a_disk_that_cannot_be_written() -> None:
    run = install(DEFAULT, TYPED, (MachineDisk(writable=False),))
    assert "STOPPED" in run.transcript
    assert not continues(run)


FAILURES = {
    "bioctl": (
        'bioctl() { [[ $1 == -v ]] || return; print "softraid0: no"; return 1; }',
        "STOPPED: bioctl could not make the encrypted volume on sd0a:",
    ),
    "bioctl says nothing": (
        "bioctl() { :; }",
        "STOPPED: bioctl did not say which disk the volume became:",
    ),
    "disklabel": (
        'disklabel() { [[ $1 == -E ]] && return 1; command disklabel "$@"; }',
        "STOPPED: disklabel failed on sd0:",
    ),
    "disklabel does nothing": (
        'disklabel() { [[ $1 == -E ]] && return 0; command disklabel "$@"; }',
        "STOPPED: disklabel made no RAID partition on sd0:",
    ),
    "fdisk": (
        'fdisk() { [[ $1 == -* ]] && return 1; command fdisk "$@"; }',
        "STOPPED: fdisk could not write the partition table of sd0:",
    ),
    "dd": (
        'dd() { [[ $* == *of=/dev/r* ]] && return 1; command dd "$@"; }',
        "STOPPED: Writing to sd0 failed:",
    ),
}


@pytest.mark.parametrize("what", FAILURES)
def test_after_a_failure_nothing_continues(what: str) -> None:
    function, message = FAILURES[what]
    run = install(DEFAULT, TYPED, before_hook=function + "\n")
    assert message in run.transcript
    assert not continues(run)
    assert "failed; check /tmp/ai/ai.log" in run.transcript
    assert run.transcript.rstrip().endswith("(S)hell?")
    assert not [a for a in run.actions if a.program in ("newfs", "installboot")]


KEYDISK = HookSettings(mode=Mode.KEYDISK, disk="sd0", keydisk="sd1a", random_fill=False)


def test_a_missing_key_disk() -> None:
    run = install(KEYDISK, Operator(()))
    assert "STOPPED: The key disk sd1a is missing." in run.transcript
    assert untouched(run)
    assert not continues(run)


def test_a_key_disk_that_is_another_volume_is_left_alone() -> None:
    run = install(KEYDISK, type_in(answer="no"), (DISK, ENCRYPTED))
    assert "sd1a already holds a key, or part of a volume" in run.transcript
    assert untouched(run)
    assert not continues(run)


def test_an_embedded_passphrase_installs_without_anybody() -> None:
    settings = HookSettings(mode=Mode.EMBEDDED, random_fill=False)
    run = install(settings, Operator(()), embedded=PASS)
    assert run.passed, run.transcript
    assert "The passphrase is written in this ISO" in run.transcript


def test_without_encryption_the_disk_itself_is_used() -> None:
    settings = HookSettings(mode=Mode.NONE, random_fill=False)
    run = install(settings, Operator(()), site=Site(None))
    assert run.passed, run.transcript
    assert not [a for a in run.actions if a.program == "bioctl"]


def test_halt_instead_of_reboot() -> None:
    run = install(HookSettings(random_fill=False, after=After.HALT), TYPED)
    assert "obsdimg: installed. Detach the ISO" in run.transcript


def test_a_response_file_without_its_last_newline_still_gets_the_root_disk() -> None:
    run = install(DEFAULT, TYPED, response=RESPONSE.rstrip("\n"))
    root = next(q for q in run.questions if q.text.startswith("Which disk is the root disk"))
    assert root.answer == "sd1"


def test_the_opened_key_file_is_private() -> None:
    run = install(DEFAULT, TYPED)
    placed = next(file for file in run.files if file.path == SERVER_KEY)
    assert (placed.mode, placed.owner, placed.gone) == (0o600, "0:0", False)
