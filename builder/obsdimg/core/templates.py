"""jinja2 as every template of the tool is rendered: undefined names and values are errors."""

from __future__ import annotations

import os
import pickle
import shlex
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.compiler
from jinja2.bccache import Bucket

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.resources import resource


class TemplateError(ObsdimgError):
    """A template of the tool (or its values) is broken; names template and line."""


_COMPILED = Path(__file__).parent / "__pycache__"
"""Compiled templates lie with Python's own compiled modules, and are no more trusted than these:
who may write there may change the modules.  Compiling them anew is a third of a build's plan."""


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Files of compiled templates; one that is damaged or cannot be written does not matter."""

    def load_bytecode(self, bucket: Bucket) -> None:
        try:
            super().load_bytecode(bucket)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().dump_bytecode(bucket)


def _compiled() -> _Compiled | None:
    """None where Python keeps no compiled modules, or this user may not write them.

    Their names change with this module and with jinja2, which compile them.
    """
    if sys.dont_write_bytecode or not os.access(_COMPILED, os.W_OK):
        return None
    made_by = [Path(file).stat().st_mtime_ns for file in (__file__, jinja2.compiler.__file__)]
    return _Compiled(str(_COMPILED), f"template-{made_by[0]:x}-{made_by[1]:x}-%s.cache")


@cache
def _environment(folder: Path, *, html: bool = False) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        bytecode_cache=_compiled(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=html,  # noqa: S701  (most of the output is no HTML)
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
    return _filled(_environment(resource(folder)), name, f"{folder}/{name}", values)


def render_html(path: Path, **values: Any) -> bytes:
    """The template in the file `path` with `values`, each escaped, as UTF-8.

    Raises TemplateError, without the values.
    """
    return _filled(_environment(path.parent, html=True), path.name, path.name, values)


def _filled(environment: jinja2.Environment, name: str, what: str, values: dict[str, Any]) -> bytes:
    try:
        return environment.get_template(name).render(values).encode()
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        kind = type(error).__name__ if line is None else f"line {line}: {type(error).__name__}"
        detail = error.message if isinstance(error, jinja2.UndefinedError) else ""
        raise TemplateError(f"{what}: {kind} {detail}".rstrip()) from None
