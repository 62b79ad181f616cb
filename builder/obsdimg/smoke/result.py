"""What a smoke test found: stages with their checks, pictures and times; the whole verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from obsdimg.smoke.console import ConsoleLine


class SmokeVerdict(StrEnum):
    """How a stage, or the whole test, ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class SmokeCheck:
    """One thing that was looked at; `verdict` says whether it is as it should be.

    `source`: where that is known from (docs/openbsd.md), for readers of the code; never shown.
    """

    name: str
    verdict: SmokeVerdict
    detail: str = ""
    source: str = ""

    @classmethod
    def of(cls, name: str, good: bool, detail: str = "", source: str = "") -> SmokeCheck:
        return cls(name, SmokeVerdict.PASSED if good else SmokeVerdict.FAILED, detail, source)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "detail": self.detail,
        }


@dataclass(frozen=True)
class Screenshot:
    """The screen at one moment, as the bytes of a PNG file; `at` in seconds of the test."""

    title: str
    at: float
    png: bytes


@dataclass
class Stage:
    """A part of the scenario; times in seconds, `start` since the beginning of the test."""

    name: str
    title: str
    start: float = 0.0
    seconds: float = 0.0
    verdict: SmokeVerdict = SmokeVerdict.SKIPPED
    checks: list[SmokeCheck] = field(default_factory=list)
    screenshots: list[Screenshot] = field(default_factory=list)
    error: str = ""
    hint: str = ""
    evidence: tuple[str, ...] = ()
    """The last lines of the console, where the stage failed."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "verdict": self.verdict.value,
            "start": round(self.start, 1),
            "seconds": round(self.seconds, 1),
            "checks": [check.as_dict() for check in self.checks],
            "error": self.error,
            "hint": self.hint,
            "evidence": list(self.evidence),
            "screenshots": [s.title for s in self.screenshots],
        }


@dataclass
class SmokeResult:
    """The whole test; `versions` names what was used, `transcript` is the serial line."""

    iso: str
    release: str
    stages: list[Stage] = field(default_factory=list)
    transcript: list[ConsoleLine] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    succeeds: str = "this ISO gives you your server"
    fails: str = "this ISO does not give you your server"

    @property
    def failed(self) -> Stage | None:
        """The first stage that failed."""
        return next((s for s in self.stages if s.verdict is SmokeVerdict.FAILED), None)

    @property
    def verdict(self) -> SmokeVerdict:
        """Passed if no stage failed and one passed at least."""
        if self.failed:
            return SmokeVerdict.FAILED
        passed = any(s.verdict is SmokeVerdict.PASSED for s in self.stages)
        return SmokeVerdict.PASSED if passed else SmokeVerdict.FAILED

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if (stage := self.failed) is not None:
            bad = next((c for c in stage.checks if c.verdict is SmokeVerdict.FAILED), None)
            reason = stage.error or (f"{bad.name}: {bad.detail}" if bad else "a check failed")
            return f"{self.fails}: {stage.title}: {reason}"
        if self.verdict is SmokeVerdict.FAILED:
            return "nothing was tried"
        return self.succeeds

    def as_dict(self) -> dict[str, Any]:
        """For report.json: plain values, no pictures, no secrets."""
        value: Mapping[str, Any] = {
            "format": 1,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "iso": self.iso,
            "release": self.release,
            "seconds": round(self.seconds, 1),
            "versions": self.versions,
            "notes": self.notes,
            "stages": [stage.as_dict() for stage in self.stages],
            "transcript": [[round(line.at, 2), line.text] for line in self.transcript],
        }
        return dict(value)
