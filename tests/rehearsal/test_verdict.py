"""What a rehearsal makes of the console's last words."""

from __future__ import annotations

import pytest

from obsdimg.rehearsal.result import RehearsalVerdict
from obsdimg.rehearsal.server import End
from obsdimg.rehearsal.verdict import Evidence, judge

ASKED = "Passphrase of the sealed secrets: "
SAID = "obsdimg: This passphrase does not open the sealed secrets.\n"
MORE = "obsdimg: Type the one that was given when the ISO was built.\n"


@pytest.mark.parametrize(
    "console", [f"{SAID}{MORE}{ASKED}", f"{ASKED}{SAID}{MORE}", f"{SAID}{ASKED}{MORE}"]
)
def test_a_wrong_passphrase_is_named_wherever_the_question_came_between(console: str) -> None:
    """The question goes to the terminal, what is said before it through a log."""
    evidence = Evidence(
        end=End.WAITING, console=f"opening\n{console}", questions=(), unused=(), unterminated="",
        sets=(), signature="", refused=(), exceeded="", unbootable="", limit=60.0, expect_site=True,
    )  # fmt: skip
    verdict, message, hint = judge(evidence)
    assert verdict is RehearsalVerdict.WAITING
    assert message == "This passphrase does not open the sealed secrets"
    assert "--passphrase-file" in hint
