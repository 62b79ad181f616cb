"""The base of every error that a user may see: a message that names the place, and a hint.

The command line prints `error: MESSAGE` and `hint: HINT` and exits 1.  Each room of the
package derives its own exceptions from ObsdimgError; nothing else is caught for printing.
"""

from __future__ import annotations


class ObsdimgError(Exception):
    """Something the user can act on.

    `message` is one line that names file, key or offset; `hint`, if any, is one line that
    says what to do.  Neither ever holds a secret.  The command line exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ObsdimgError):
    """The words of the command line do not fit together, seen from them alone; exit code 2."""

    exit_code = 2


def printable(text: str) -> str:
    """`text` fit for a terminal and for one line: control characters and bytes of names that
    are not UTF-8 as escapes.  What comes from an ISO or a server may hold any."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
