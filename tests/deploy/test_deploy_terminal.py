"""`obsdimg deploy` on a terminal: what it asks, and Enter as the operator's word."""

from __future__ import annotations

import sys

import pexpect

from support.deploy_bench import Bench


def spawn(b: Bench, *words: str) -> pexpect.spawn:
    env = {**b.env, "TERM": "dumb"}
    return pexpect.spawn(
        sys.executable, ["-m", "obsdimg", "deploy", *words],
        env=env, cwd=str(b.root), timeout=40, encoding="utf-8",
    )  # fmt: skip


def test_no_means_that_nothing_is_made(b: Bench) -> None:
    child = spawn(b, *b.serving())
    child.expect("5.00 USD a month")
    child.expect(r"Make it\? \[y/N\] ")
    child.sendline("n")
    child.expect("error: nothing was made")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, b.fake.created) == (1, [])


def test_enter_takes_the_iso_out_of_a_machine_that_starts_from_it_again(b: Bench) -> None:
    b.fake.starts_from_cd = True
    child = spawn(b, "--pause", "0.1", *b.serving())
    child.expect(r"Make it\? \[y/N\] ")
    child.sendline("y")
    child.expect("and the ISO is taken out")
    child.sendline("")
    child.expect(r"Is the installation over\? \[y/N\] ")
    child.sendline("n")
    child.sendline("")
    child.expect(r"Is the installation over\? \[y/N\] ")
    child.sendline("y")
    child.expect("answers as laptop")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert b.state()["handshake_before"] is None


def test_destroy_asks_for_the_name(b: Bench) -> None:
    assert b.run("upload", "--pause", "0.1", *b.serving()).returncode == 0
    for typed, code, left in (("no", 1, 1), ("vpn", 0, 0)):
        child = spawn(b, "destroy")
        child.expect("Type its name to destroy it: ")
        child.sendline(typed)
        child.expect(pexpect.EOF)
        child.close()
        assert (child.exitstatus, b.fake.left()["isos"]) == (code, left)
