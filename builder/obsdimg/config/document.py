"""The configuration as a document: the commented file of `init`, and the JSON schema."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from obsdimg.config.load import _models
from obsdimg.config.model import Config

SCHEMA_FILE = "obsdimg.schema.json"

_HEAD = f"""\
#:schema ./{SCHEMA_FILE}
# obsdimg: the one file that says what the server will be.
# Every setting stands here. A line behind "#" shows the value that holds without it, or an
# example where there is none; sections behind "#" are not there until you uncomment them.
# `obsdimg check` says what becomes of it.
"""


def schema() -> bytes:
    """The JSON schema of the configuration, for editors."""
    return (json.dumps(Config.model_json_schema(), indent=1) + "\n").encode()


def commented(values: dict[str, Any] | None = None) -> str:
    """The configuration file with every setting; `values` (nested) are set, others commented out.

    An empty table in `values` shows the section's heading and nothing set in it.
    """
    return _HEAD + _section(Config, "", values or {}, active=True)


def _section(model: type[BaseModel], prefix: str, values: dict[str, Any], active: bool) -> str:
    lines: list[str] = []
    tables: list[str] = []
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        if inner:
            tables.append(_table(name, field, inner[0], prefix, values.get(name)))
            continue
        lines += _comment(field.description or "")
        if name in values:
            lines.append(f"{name} = {toml(values[name])}")
        else:
            lines.append(f"# {name} = {_default(field)}")
    return "\n".join(lines) + ("\n" if lines else "") + "".join(tables)


def _table(name: str, field: FieldInfo, model: type[BaseModel], prefix: str, given: Any) -> str:
    path = f"{prefix}{name}"
    doc = (model.__doc__ or "").splitlines()[0]
    many = "list[" in str(field.annotation)
    if many:
        if given:
            return "".join(
                f"\n# {doc}\n[[{path}]]\n" + _section(model, path + ".", v, True) for v in given
            )
        return f"\n# {doc}\n# [[{path}]]\n" + _off(_section(model, path + ".", {}, False))
    optional = field.default is None and not field.default_factory
    if optional and given is None:
        return f"\n# {doc}\n# [{path}]\n" + _off(_section(model, path + ".", {}, False))
    return f"\n# {doc}\n[{path}]\n" + _section(model, path + ".", given or {}, True)


def _off(text: str) -> str:
    """Comment out what is not a comment yet."""
    return "".join(
        line if not line.strip() or line.startswith("#") else f"# {line}"
        for line in text.splitlines(keepends=True)
    )


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 92, initial_indent="## ", subsequent_indent="## ")


def _default(field: FieldInfo) -> str:
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    return toml((field.examples or [""])[0] if value is None else value)


def toml(value: Any) -> str:
    """`value` (text, number, bool, address, list of these) as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)


def reference() -> str:
    """Every setting as Markdown tables: the second half of docs/configuration.md."""
    return "\n".join(_reference(Config, "")).rstrip("\n") + "\n"


def _reference(model: type[BaseModel], prefix: str) -> list[str]:
    rows: list[str] = []
    tables: list[str] = []
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        if inner:
            path = f"{prefix}{name}"
            many = "list[" in str(field.annotation)
            heading = f"[[{path}]]" if many else f"[{path}]"
            doc = (inner[0].__doc__ or "").splitlines()[0]
            tables += ["", f"### `{heading}`", "", doc, "", *_reference(inner[0], f"{path}.")]
            continue
        example = field.is_required() or field.get_default(call_default_factory=True) is None
        default = f"(e.g. `{_default(field)}`)" if example else f"`{_default(field)}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    head = ["| setting | default | |", "|---|---|---|"] if rows else []
    return [*head, *rows, *tables]
