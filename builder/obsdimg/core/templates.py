"""jinja2 as every template of the tool is rendered: undefined names and values are errors."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.resources import resource


class TemplateError(ObsdimgError):
    """A template of the tool (or its values) is broken; names template and line."""


@cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (the output is no HTML)
    )
    environment.filters["sh"] = shlex.quote
    return environment


def render(folder: str, name: str, **values: Any) -> bytes:
    """The template `name` in the shipped folder (`siteXX`, `response`) with `values`, as UTF-8.

    A file without `.j2` is given as it is.  Raises TemplateError, without the values: some are
    secret.
    """
    if not name.endswith(".j2"):
        return resource(folder, name).read_bytes()
    try:
        return _environment(resource(folder)).get_template(name).render(values).encode()
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        what = type(error).__name__ if line is None else f"line {line}: {type(error).__name__}"
        detail = error.message if isinstance(error, jinja2.UndefinedError) else ""
        raise TemplateError(f"{folder}/{name}: {what} {detail}".rstrip()) from None
