"""The configuration as a document: the commented file of `init`, and the JSON schema."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from obsdimg.config.load import _models
from obsdimg.config.model import Config
from obsdimg.config.servers import NEXT, SERVERS

SCHEMA_FILE = "obsdimg.schema.json"

_HEAD = f"""\
#:schema ./{SCHEMA_FILE}
# obsdimg: the one file that says what the server will be; `obsdimg check` says what becomes of it.

# ---- What you must set ---------------------------------------------------------------------
"""

REST = """\

# ---- Everything else -----------------------------------------------------------------------
# A "#" without a blank hides a setting and shows the value that holds without it, or an example
# where there is none. Take the "#" away, in any line and in any order, to set it.
"""

_FIRST = ("release.version", "tunnel.endpoint", "tunnel.peers", "access.admin.keys")
"""What nobody can do without; stands in the first part, set or not."""


def schema() -> bytes:
    """The JSON schema of the configuration, for editors."""
    value = Config.model_json_schema()
    # A server's tables need not be whole: what they lack is in the shared ones.
    own = {name: {"description": f"As [{name}], of this server."} for name in value["properties"]}
    following = {"type": "string", "description": "The server that its clients' traffic leaves by."}
    value["properties"][SERVERS] = {
        "type": "object",
        "description": "Several servers: one [servers.NAME] table each (docs/fleet.md).",
        "additionalProperties": {
            "type": "object",
            "properties": {**own, NEXT: following},
            "additionalProperties": False,
        },
    }
    return (json.dumps(value, indent=1) + "\n").encode()


def commented(values: dict[str, Any] | None = None) -> str:
    """The configuration file with every setting, a line each: `values` (nested) in the first part,
    others hidden behind "#" below."""
    given = dict(_flat(Config, "", values or {}))
    first = [*_FIRST, *(path for path in given if path not in _FIRST)]
    parts = [_setting(path, *_described(path), given.get(path)) for path in first]
    return _HEAD + "\n".join(parts) + REST + "".join(_section(Config, "", frozenset(first)))


def _flat(model: type[BaseModel], prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings in `values` by their whole names, in the order of the models."""
    for name, field in model.model_fields.items():
        if name not in values:
            continue
        inner = _models(field.annotation)
        if inner and not _many(field):
            yield from _flat(inner[0], f"{prefix}{name}.", values[name])
        else:
            yield f"{prefix}{name}", values[name]


def _described(path: str) -> tuple[FieldInfo, type[BaseModel] | None]:
    """The field at `path`, and the model of its items where it is a list of tables."""
    model: type[BaseModel] = Config
    *above, name = path.split(".")
    for part in above:
        model = _models(model.model_fields[part].annotation)[0]
    field = model.model_fields[name]
    return field, next(iter(_models(field.annotation)), None)


def _section(model: type[BaseModel], prefix: str, left_out: frozenset[str]) -> Iterator[str]:
    """The settings of `model`, hidden, those of its sections behind them."""
    inside: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        path = f"{prefix}{name}"
        if inner and not _many(field):
            inside.append((path, inner[0]))
        elif inner:
            yield _items(path, inner[0])
        if path not in left_out and (not inner or _many(field)):
            yield _setting(path, field, inner[0] if inner else None, None)
    for path, part in inside:
        yield f"\n# -- {_about(part)}\n"
        yield from _section(part, f"{path}.", left_out)


def _setting(path: str, field: FieldInfo, model: type[BaseModel] | None, value: Any) -> str:
    """A setting below what it means; hidden where `value` is None."""
    off = "#" if value is None else ""
    if model is None:
        shown = toml(value if value is not None else _example(field))
        return _lines([*_comment(field.description or ""), f"{off}{path} = {shown}"])
    names = ", ".join(model.model_fields)
    if value is None:
        example = {n: _example(f) for n, f in model.model_fields.items() if f.is_required()}
        return _lines([f"#{path} = [{inline(example)}]"])
    about = _comment(f"{_about(model)} Each may have: {names} (below).")
    return _lines([*about, f"{path} = [", *(f"    {inline(one)}," for one in value), "]"])


def _items(path: str, model: type[BaseModel]) -> str:
    """What each item of the list `path` may have."""
    lines = _comment(f"Each of {path}: {_lower(_about(model))}")
    for name, field in model.model_fields.items():
        lines += _comment(f"  {name}: {_lower(field.description or '')}")
    return _lines(lines)


def _about(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").splitlines()[0]


def _many(field: FieldInfo) -> bool:
    return "list[" in str(field.annotation)


def _lower(text: str) -> str:
    word = text.split(" ")[0]
    return text if len(word) > 1 and word[:2].isupper() else text[:1].lower() + text[1:]


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _comment(text: str) -> list[str]:
    indent = len(text) - len(text.lstrip())
    return textwrap.wrap(
        text.strip(), 92, initial_indent="# " + " " * indent,
        subsequent_indent="# " + " " * (indent + 2 if indent else 0),
    )  # fmt: skip


def _example(field: FieldInfo) -> Any:
    """The value that holds without the setting, or an example where that says nothing."""
    return (field.examples or [""])[0] if _says_nothing(field) else _given(field)


def _given(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _says_nothing(field: FieldInfo) -> bool:
    value = _given(field)
    return value is None or (value == [] and bool(field.examples))


def inline(values: Mapping[str, Any]) -> str:
    """`{ name = "a", ipv4 = "10.0.0.2" }`."""
    return "{ " + ", ".join(f"{key} = {toml(value)}" for key, value in values.items()) + " }"


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
            heading = f"[[{path}]]" if _many(field) else f"[{path}]"
            doc = (inner[0].__doc__ or "").splitlines()[0]
            tables += ["", f"### `{heading}`", "", doc, "", *_reference(inner[0], f"{path}.")]
            continue
        shown = f"`{toml(_example(field))}`"
        default = f"(e.g. {shown})" if _says_nothing(field) else shown
        rows.append(f"| `{name}` | {default} | {field.description} |")
    head = ["| setting | default | |", "|---|---|---|"] if rows else []
    return [*head, *rows, *tables]
