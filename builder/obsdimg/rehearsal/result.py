"""The result of a rehearsal, typed; and the verdict, one for each way it can end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from obsdimg.rehearsal.transcript import TranscriptQuestion
from obsdimg.rehearsal.world import Action, SetState


class RehearsalVerdict(Enum):
    """How it ended.  Everything but INSTALLED is a failure."""

    INSTALLED = "installed"
    NO_AUTOINSTALL = "no-autoinstall"
    NO_ANSWER = "no-answer"
    BAD_ANSWER = "bad-answer"
    UNTERMINATED_LINE = "unterminated-line"
    UNUSED_LINE = "unused-line"
    UNKNOWN_QUESTION = "unknown-question"
    BAD_SIGNATURE = "bad-signature"
    BAD_CHECKSUM = "bad-checksum"
    BAD_SET = "bad-set"
    NO_SETS = "no-sets"
    NO_SITE_SET = "no-site-set"
    DISK_FULL = "disk-full"
    DISK_LAYOUT = "disk-layout"
    HOOK_FAILED = "hook-failed"
    SITE_SCRIPT_FAILED = "site-script-failed"
    MISSING_PROGRAM = "missing-program"
    REFUSED = "refused"
    WAITING = "waiting"
    TIME_LIMIT = "time-limit"
    TOO_MUCH = "too-much"
    FAILED = "failed"


@dataclass(frozen=True)
class Landed:
    """A file of the site set as it is at the end: path in the new system, kind, permission
    bits, owner and group as the archive (or a later chown) says, bytes.  `gone`: removed again,
    as install.site does with itself."""

    path: str
    kind: str
    mode: int
    owner: str
    size: int
    gone: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """Everything that is reported; secrets are masked already.

    `unused` are lines (number, text) that answered nothing, `transcript` is the console.
    """

    verdict: RehearsalVerdict
    message: str
    hint: str
    questions: tuple[TranscriptQuestion, ...]
    unused: tuple[tuple[int, str], ...]
    actions: tuple[Action, ...]
    sets: tuple[SetState, ...]
    signature: str
    files: tuple[Landed, ...]
    services: tuple[str, ...]
    site_output: str
    transcript: str
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    snapshots: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        return self.verdict is RehearsalVerdict.INSTALLED

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: plain values only, the transcript left out."""
        return {
            "verdict": self.verdict.value,
            "passed": self.passed,
            "message": self.message,
            "hint": self.hint,
            "questions": [asdict(q) for q in self.questions],
            "unused_lines": [{"line": n, "text": t} for n, t in self.unused],
            "disk_actions": [asdict(a) for a in self.actions],
            "signature": self.signature,
            "sets": [asdict(s) for s in self.sets],
            "site_files": [{**asdict(f), "mode": f"{f.mode:04o}"} for f in self.files],
            "services": list(self.services),
            "install_site": self.site_output.splitlines(),
            "problems": list(self.problems),
            "seconds": round(self.seconds, 2),
        }
