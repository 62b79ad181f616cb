"""Rehearsals of the stand-in medium's own installer: no genuine medium is needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.core.resources import resource
from obsdimg.rehearsal import (
    MachineDisk,
    Operator,
    RehearsalLimits,
    RehearsalVerdict,
    rehearse_iso,
)
from obsdimg.rehearsal.programs.sets import _note_hash
from obsdimg.rehearsal.world import SetState, World
from obsdimg.response.check import simulate
from obsdimg.response.matching import NoAnswerError, answer, read_lines
from obsdimg.response.questions import Circumstances, expand, load
from obsdimg.signify.message import SignifySecretKey
from obsdimg.standin import build_iso
from support.rehearsal_stage import (
    RESPONSE,
    Stage,
    make_standin_stage,
    needs_sandbox,
    tgz,
    with_disks,
)


@pytest.fixture
def stage() -> Stage:
    return make_standin_stage()


def test_it_asks_what_the_table_says_and_answers_the_same(stage: Stage) -> None:
    result = stage.run()
    assert result.verdict is RehearsalVerdict.INSTALLED, result.transcript
    scenario = Circumstances(hostname="gw", user="admin", dhcp_nameservers=True)
    predicted = simulate(read_lines(RESPONSE.encode()), expand(load("66"), scenario))
    assert [(q.text, q.answer, q.line) for q in result.questions] == [
        (a.question.text, a.shown, a.line.number if a.line else None) for a in predicted.answers
    ]
    assert result.signature == "verified"
    assert [f.path for f in result.files] == ["/etc/pf.conf", "/install.site"]


def test_a_missing_answer_and_a_damaged_set_have_their_verdicts(stage: Stage) -> None:
    stage.answer(RESPONSE.replace("What timezone are you in = Europe/Paris\n", ""))
    assert stage.run().verdict is RehearsalVerdict.NO_ANSWER
    stage.answer(RESPONSE)
    stage.damaged = "site66.tgz"
    assert stage.run().verdict is RehearsalVerdict.BAD_CHECKSUM


def test_a_full_disk_has_its_verdict(stage: Stage) -> None:
    stage.sets["site66.tgz"] = tgz({"home/big": (0o644, bytes(30 << 20))})
    stage.machine = with_disks(stage.machine, MachineDisk(24 << 20))
    assert stage.run().verdict is RehearsalVerdict.DISK_FULL


def test_an_iso_is_rehearsed_by_its_boot_conf_and_large_sets_are_not_unpacked(
    tmp_path: Path,
) -> None:
    needs_sandbox()
    path = tmp_path / "install66.iso"
    build_iso(path, signify_key=SignifySecretKey.generate(), iso_size_padding=20 << 20)
    result = rehearse_iso(path, operator=Operator(), limits=RehearsalLimits(quiet=2.0))
    assert result.verdict is RehearsalVerdict.NO_AUTOINSTALL


def test_sets_of_one_length_are_told_apart_by_what_the_list_says() -> None:
    world = SimpleNamespace(
        sets={name: SetState(name, 3, listed=name * 64) for name in "abc"},
    )
    for value in "cab":
        _note_hash(cast(World, world), value * 64, 3)
    assert all(state.sha256 == state.listed for state in world.sets.values())
    changed = SimpleNamespace(sets={"a": SetState("a", 3, listed="a" * 64)})
    _note_hash(cast(World, changed), "x" * 64, 3)
    assert changed.sets["a"].sha256 == "x" * 64


GENUINE_LIKE = """
print() { builtin print "$@"; }
err_exit() { builtin print -r NONE; exit; }
cp response ai.conf
while IFS= read -r question && IFS= read -r default; do
	( respond "$question" "$default"; builtin print -r -- "=$resp" ) </dev/null
done <questions
"""

WORDS = st.sampled_from(
    ["disk", "root disk", "Which", "vio0", "vio0?", "(W)hole", "[a-z]*", "*", "?", "\\", "A", "-n"]
)
PHRASES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
LINES = st.one_of(
    st.tuples(PHRASES, st.sampled_from([" = ", "=", " ", "= ="]), PHRASES).map("".join),
    st.text("ab =#?\t'\\*[]!", max_size=10),
)


@pytest.mark.skipif(shutil.which("mksh") is None, reason="mksh is not installed")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(LINES, max_size=6),
    questions=st.lists(st.tuples(PHRASES, st.sampled_from(["", "none"])), min_size=1, max_size=4),
)
def test_its_matching_is_that_of_the_installer(
    tmp_path: Path, lines: list[str], questions: list[tuple[str, str]]
) -> None:
    script = resource("builder", "obsdimg", "standin", "ramdisk", "install.sub").read_text()
    start = script.index("\nrespond() {")
    function = script[start : script.index("\n}\n", start) + 3].replace("/tmp/ai/", "")
    response = "".join(f"{line}\n" for line in lines).encode()
    (tmp_path / "response").write_bytes(response)
    (tmp_path / "questions").write_text("".join(f"{q}\n{d}\n" for q, d in questions))
    done = subprocess.run(
        ["mksh", "-c", function + GENUINE_LIKE],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    theirs = [None if x == "NONE" else x[1:] for x in done.stdout.decode().split("\n")[:-1]]
    remaining = read_lines(response)
    ours: list[str | None] = []
    for question, default in questions:
        try:
            outcome = answer(question, remaining, default)
        except NoAnswerError:
            ours.append(None)
            continue
        remaining = outcome.remaining
        ours.append(outcome.value)
    assert ours == theirs


def test_an_installer_that_gave_up_and_shows_its_menu_again_was_started(stage: Stage) -> None:
    stage.edit("/auto_install.conf", "IPv4 address for vio0 = dhcp", "IPv4 address for vio0 = 1")
    result = stage.run()
    assert result.verdict is RehearsalVerdict.FAILED
    assert result.message == "the installation failed; the last line: ifconfig: 1: bad value"
