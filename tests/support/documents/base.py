"""What every document of `--json` is made of, and the one that says an error."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class Document(BaseModel):
    """Base: no field is missing, none is unknown, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


def about(text: str, **more: Any) -> Any:
    """A field with its meaning."""
    return Field(description=text, **more)


class ErrorFacts(Document):
    """What went wrong."""

    message: str = about("one line that names the place")
    hint: str | None = about("one line that says what to do")
    exit_code: int = about("1: an error; 2: wrong usage; others as the command says")


class ErrorDocument(Document):
    """Instead of any other document, where a command fails before it has a result."""

    error: ErrorFacts = about("what went wrong")
