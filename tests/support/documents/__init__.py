"""What `--json` prints, as types: one document for each command, or an error in its place.

Every document that a test makes a command print is held against these (tests/conftest.py);
docs/json.md and docs/json.schema.json are made from them.  Times are seconds and sizes bytes unless
a name says otherwise.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter

from support.documents.base import ErrorDocument
from support.documents.isos import (
    CheckDocument,
    DiskDocument,
    DiskWrittenDocument,
    FetchDocument,
    InspectDocument,
    LearnedDocument,
    ManifestDocument,
    RehearseDocument,
    ReleaseFacts,
    SmokeDocument,
    VerifyDocument,
)
from support.documents.servers import (
    BackupDocument,
    ClientFacts,
    ConsoleDocument,
    DeployDocument,
    HoldsDocument,
    NotDeployedDocument,
    ProbeDocument,
    RestoreDocument,
    StatusDocument,
    UnlockDocument,
    UpgradeDocument,
    UploadDocument,
)

DOCUMENTS: dict[str, tuple[Any, ...]] = {
    "check": (CheckDocument,),
    "fetch": (FetchDocument,),
    "release": (list[ReleaseFacts], LearnedDocument),
    "verify": (VerifyDocument,),
    "build": (ManifestDocument,),
    "inspect": (InspectDocument,),
    "rehearse": (RehearseDocument,),
    "smoke": (SmokeDocument,),
    "disk": (DiskDocument, DiskWrittenDocument),
    "client": (list[ClientFacts],),
    "probe": (ProbeDocument,),
    "upload": (UploadDocument,),
    "deploy": (DeployDocument, NotDeployedDocument),
    "status": (StatusDocument,),
    "upgrade": (UpgradeDocument,),
    "console": (ConsoleDocument,),
    "unlock": (UnlockDocument,),
    "backup": (BackupDocument,),
    "restore": (RestoreDocument, HoldsDocument),
}
"""By command: each kind of document that it prints."""


def validate(command: str, text: str) -> None:
    """Raises pydantic's ValidationError unless `text` is a document of `command`, or an error."""
    _adapter(command).validate_json(text)


def _adapter(command: str) -> TypeAdapter[Any]:
    kinds: Any = Union[(*DOCUMENTS[command], ErrorDocument)]
    return TypeAdapter(kinds)


def schema() -> dict[str, Any]:
    """A JSON schema of all documents: `$defs` by name, `properties` by command."""
    found, definitions = TypeAdapter.json_schemas(
        [(command, "validation", _adapter(command)) for command in DOCUMENTS]
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What obsdimg COMMAND --json prints",
        "properties": {command: value for (command, _), value in found.items()},
        **definitions,
    }


def reference() -> str:
    """Every document as Markdown tables: the second half of docs/json.md."""
    lines: list[str] = []
    for kinds in ((ErrorDocument,), *DOCUMENTS.values()):
        for kind in kinds:
            many = get_origin(kind) is list
            model: type[BaseModel] = get_args(kind)[0] if many else kind
            heading = (model.__doc__ or "").splitlines()[0]
            command = next((c for c, k in DOCUMENTS.items() if kind in k), "any command")
            name = f"`{command}`" if command in DOCUMENTS else command
            lines += [f"### {name}{', a list' if many else ''}", "", heading, ""]
            lines += ["| field | | |", "|---|---|---|", *_rows(model, ""), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = _model_in(field.annotation)
        yield f"| `{path}` | {_kind(field.annotation)} | {field.description} |"
        if inner is not None:
            many = get_origin(field.annotation) is list
            yield from _rows(inner, f"{path}{'[]' if many else ''}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a))), None)


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in inside))
    if origin in (list, tuple):
        return "list" if _model_in(annotation) else f"list of {_kind(inside[0])}"
    if origin is dict:
        return "object of text"
    names = {str: "text", int: "number", float: "number", bool: "true, false"}
    return "null" if annotation is type(None) else names.get(annotation, "object")
