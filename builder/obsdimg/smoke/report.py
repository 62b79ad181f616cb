"""The report of a smoke test, as text, JSON, JUnit XML and one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jinja2

from obsdimg.core.files import PUBLIC_FILE, private_dir, write_file
from obsdimg.smoke.result import SmokeCheck, SmokeResult, SmokeVerdict, Stage

_SIGNS = {SmokeVerdict.PASSED: "ok  ", SmokeVerdict.FAILED: "FAIL", SmokeVerdict.SKIPPED: "--  "}


def write_reports(result: SmokeResult, folder: Path) -> list[Path]:
    """Write report.txt, report.json, junit.xml, report.html and the screenshots to `folder`.

    The folder is made with mode 0700: a console transcript is nobody else's.  Returns the
    paths.  Raises FileError.
    """
    private_dir(folder)
    files = {
        "report.txt": as_text(result).encode(),
        "report.json": (json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n").encode(),
        "junit.xml": as_junit(result),
        "report.html": as_html(result).encode(),
    }
    for number, shot in enumerate((s for st in result.stages for s in st.screenshots), 1):
        files[f"screen-{number:02d}.png"] = shot.png
    written = []
    for name, data in files.items():
        write_file(folder / name, data, PUBLIC_FILE)
        written.append(folder / name)
    return written


def as_text(result: SmokeResult) -> str:
    """The stages and their checks, a line each; where one failed, what the console said."""
    lines = [f"{result.verdict.upper()}: {result.sentence}", f"ISO: {result.iso}", ""]
    for stage in result.stages:
        lines.append(f"{_SIGNS[stage.verdict]} {stage.seconds:7.1f} s  {stage.title}")
        lines += [_check_line(check) for check in stage.checks]
        if stage.error:
            lines.append(f"                  error: {stage.error}")
        if stage.hint:
            lines.append(f"                  hint: {stage.hint}")
        if stage.evidence:
            lines.append("                  last lines of the console:")
            lines += [f"                  | {text}" for text in stage.evidence]
    lines += ["", f"total {result.seconds:.1f} s; {where_time_went(result)}"]
    lines += [f"{name}: {value}" for name, value in result.versions.items()]
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines) + "\n"


def _check_line(check: SmokeCheck) -> str:
    detail = f" ({check.detail})" if check.detail else ""
    return f"                  {_SIGNS[check.verdict]} {check.name}{detail}"


def where_time_went(result: SmokeResult) -> str:
    """The three longest stages and their share of the whole."""
    total = sum(stage.seconds for stage in result.stages) or 1.0
    longest = sorted(result.stages, key=lambda s: s.seconds, reverse=True)[:3]
    return ", ".join(f"{s.title} {100 * s.seconds / total:.0f} %" for s in longest)


def as_junit(result: SmokeResult) -> bytes:
    """JUnit XML: a test case for every stage, a failure with its checks and last lines.

    Schema: the one that Jenkins and GitLab read (`testsuites/testsuite/testcase`).
    """
    count = {v: sum(s.verdict is v for s in result.stages) for v in SmokeVerdict}
    numbers = {
        "tests": str(len(result.stages)),
        "failures": str(count[SmokeVerdict.FAILED]),
        "skipped": str(count[SmokeVerdict.SKIPPED]),
        "errors": "0",
        "time": f"{result.seconds:.1f}",
    }
    root = ET.Element("testsuites", numbers)
    suite = ET.SubElement(root, "testsuite", {"name": f"obsdimg smoke {result.iso}", **numbers})
    for stage in result.stages:
        case = ET.SubElement(
            suite,
            "testcase",
            {"classname": "obsdimg.smoke", "name": stage.title, "time": f"{stage.seconds:.1f}"},
        )
        checks = "\n".join(_check_line(c).strip() for c in stage.checks)
        if stage.verdict is SmokeVerdict.FAILED:
            failure = ET.SubElement(case, "failure", {"message": _xml(reason(stage))})
            failure.text = _xml("\n".join([checks, stage.hint, *stage.evidence]))
        elif stage.verdict is SmokeVerdict.SKIPPED:
            ET.SubElement(case, "skipped", {"message": _xml(checks)})
        ET.SubElement(case, "system-out").text = _xml(checks)
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root) + b"\n"


def _xml(text: str) -> str:
    """`text` without the characters that XML 1.0 cannot hold (control characters)."""
    return "".join(c if c in "\t\n" or ord(c) >= 32 else "\N{REPLACEMENT CHARACTER}" for c in text)


def reason(stage: Stage) -> str:
    """Why a stage failed, in one line."""
    if stage.error:
        return stage.error
    bad = [c for c in stage.checks if c.verdict is SmokeVerdict.FAILED]
    return "; ".join(f"{c.name}: {c.detail}" if c.detail else c.name for c in bad)


def as_html(result: SmokeResult) -> str:
    """One page that needs nothing else: style, script and pictures are inside.

    Everything that came from the guest is escaped by the template engine.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    total = max((s.start + s.seconds for s in result.stages), default=0.0) or 1.0
    return environment.get_template("report.html.j2").render(
        result=result,
        total=total,
        reason=reason,
        shots=[(stage, shot) for stage in result.stages for shot in stage.screenshots],
    )
