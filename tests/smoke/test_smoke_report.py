"""The report's four forms, judged by other people's programs: XML parser, Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from obsdimg.smoke.console import ConsoleLine
from obsdimg.smoke.report import as_html, as_junit, as_text, write_reports
from obsdimg.smoke.result import Screenshot, SmokeCheck, SmokeResult, SmokeVerdict, Stage
from support.scripted_guest import picture

EVIL = "<script>document.title = 'owned'</script> & \"quotes\""


def _result(*, failed: bool) -> SmokeResult:
    stages = [
        Stage("cd", "boots from the ISO", 0.0, 14.2, SmokeVerdict.PASSED,
              [SmokeCheck.of("boot loader", True, "3.45", "E66 13")],
              [Screenshot("loader", 3.0, picture())]),
        Stage("install", "installs", 14.2, 65.0, SmokeVerdict.PASSED,
              [SmokeCheck.of("the sets' signature was verified", True)]),
        Stage("inside", "looks from inside", 79.2, 0.0, SmokeVerdict.SKIPPED,
              [SmokeCheck("looks from inside", SmokeVerdict.SKIPPED, "no login was given")]),
    ]  # fmt: skip
    if failed:
        stages.append(
            Stage("unlock", "boots from the disk", 79.2, 9.0, SmokeVerdict.FAILED, [], [],
                  "waited 90 s for the boot loader's prompt", "use a better one",
                  ("probing: pc0 com0", EVIL, "bell \x07 and escape \x1b"))
        )  # fmt: skip
    return SmokeResult(
        "vpn.iso",
        "6.6",
        stages,
        [
            ConsoleLine(0.1, "SeaBIOS"),
            ConsoleLine(14.0, EVIL),
            ConsoleLine(20.0, "Installing base66.tgz"),
        ],
        {"QEMU": "7.2.0"},
        ["client phone: made its own key"],
        88.0,
    )


def test_the_text_begins_with_the_verdict_and_says_where_time_went() -> None:
    lines = as_text(_result(failed=False)).splitlines()
    assert lines[0] == "PASSED: this ISO gives you your server"
    assert any("installs 82 %" in line for line in lines)


def test_the_text_of_a_failure_has_error_hint_and_last_lines() -> None:
    text = as_text(_result(failed=True))
    assert text.startswith("FAILED: this ISO does not give you your server: boots from the disk")
    assert "hint: use a better one" in text
    assert "| probing: pc0 com0" in text


@pytest.mark.parametrize("failed", [False, True])
def test_junit_is_xml_with_a_case_for_every_stage(failed: bool) -> None:
    root = ET.fromstring(as_junit(_result(failed=failed)))
    suite = root.find("testsuite")
    assert suite is not None
    assert len(suite.findall("testcase")) == int(suite.attrib["tests"]) == 3 + failed
    assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"]) == failed
    assert len(suite.findall("testcase/skipped")) == int(suite.attrib["skipped"]) == 1


@pytest.mark.skipif(shutil.which("xmllint") is None, reason="xmllint is not installed")
def test_xmllint_takes_the_junit_file(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes(as_junit(_result(failed=True)))
    subprocess.run(["xmllint", "--noout", str(path)], check=True, timeout=20)


def test_the_reports_are_written_with_the_pictures(tmp_path: Path) -> None:
    paths = write_reports(_result(failed=True), tmp_path / "r")
    names = sorted(p.name for p in paths)
    assert names == ["junit.xml", "report.html", "report.json", "report.txt", "screen-01.png"]
    data = json.loads((tmp_path / "r/report.json").read_text())
    assert data["verdict"] == "failed" and data["stages"][3]["evidence"][1] == EVIL
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o700


def test_no_report_shows_where_an_expectation_comes_from() -> None:
    result = _result(failed=True)
    assert result.stages[0].checks[0].source == "E66 13"
    shown = [as_text(result), as_html(result), as_junit(result).decode(), str(result.as_dict())]
    assert not [text for text in shown if "E66" in text or "R66" in text]


def test_the_page_needs_nothing_from_elsewhere_and_escapes_the_guest() -> None:
    html = as_html(_result(failed=True))
    for word in ("http://", "https://", 'src="/', "href=", "@import", "url("):
        assert word not in html
    assert EVIL not in html
    assert "&lt;script&gt;" in html


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_page_and_its_search_works(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    probe = """<script>
      field.value = "INSTALLING"; search();
      document.body.setAttribute("data-hits", count.textContent);
      document.body.setAttribute("data-broken",
        [...document.images].filter(i => !i.naturalWidth).length);
      document.body.setAttribute("data-wide",
        document.documentElement.scrollWidth > innerWidth);
    </script></body>"""
    page.write_text(as_html(_result(failed=True)).replace("</body>", probe))
    assert CHROMIUM is not None
    dom = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,800",
         "--virtual-time-budget=3000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=90,
    ).stdout  # fmt: skip
    assert 'data-hits="1 line"' in dom
    assert 'data-wide="false"' in dom
    assert "<title>obsdimg smoke: failed: vpn.iso</title>" in dom
