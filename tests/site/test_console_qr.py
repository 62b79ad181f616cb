"""The QR code that a server shows on its console, against segno's."""

from __future__ import annotations

import random
import re
import shutil
import string
import subprocess

import pytest
import segno

from obsdimg.core.templates import render

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")


def modules(output: str) -> list[list[int]]:
    """The dark modules (1) of what was printed: dark is normal, light is reverse video."""
    rows = []
    for line in output.splitlines():
        reverse, cells = False, []
        for match in re.finditer(r"\033\[(7|0)m|  ", line):
            if match[1]:
                reverse = match[1] == "7"
            else:
                cells.append(0 if reverse else 1)
        rows.append(cells)
    return rows


def run(text: str) -> subprocess.CompletedProcess[str]:
    script = render("siteXX", "common/usr/local/sbin/obsdimg-qr").decode()
    return subprocess.run(
        ["perl", "-", text], input=script, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_full_code_has_the_modules_that_segno_computes(seed: int) -> None:
    # 53 bytes leave no padding, in which segno differs from the standard (it adds a zero byte).
    text = "".join(random.Random(seed).choices(string.ascii_letters + "+/=", k=53))
    rows = modules(run(text).stdout)
    assert all(not any(row) for row in rows[:4] + rows[-4:]), "the quiet zone is light"
    code = [row[4:-4] for row in rows[4:-4]]
    expected = segno.make(text, error="l", version=3, mask=0, boost_error=False, mode="byte")
    assert code == [[int(c) for c in row] for row in expected.matrix]


def test_a_shorter_text_is_padded_as_the_standard_says() -> None:
    key = "W2qfaT2eY2S8mcmmzQVCkFz4jSXFpwdgFMfjC2xTZV0="
    rows = modules(run(key).stdout)
    assert len(rows) == len(rows[0]) == 29 + 8
    assert run(key).stderr == ""


def test_a_text_that_does_not_fit_is_refused() -> None:
    done = run("x" * 54)
    assert done.returncode != 0
    assert "53 bytes at most" in done.stderr
