"""obsdimg.toml(5), from the settings themselves."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from obsdimg.config.document import toml
from obsdimg.config.load import _models
from obsdimg.config.model import Config
from support import mdoc

DAY = "November 26, 2026"

_HEAD = """\
This file says what a server will be: which release of OpenBSD, which disk and how it is
encrypted, who may log in, and who are the clients of the tunnel.
It is TOML.
Unknown settings are errors; a setting that is not there has its default.
obsdimg init writes the file with every setting and its meaning; obsdimg check says what
becomes of it.
Below, a section in double brackets may be there several times, once for each thing that it
describes."""


def manual() -> bytes:
    """The page, in mdoc."""
    lines = [".Sh DESCRIPTION", *mdoc.prose(_HEAD)]
    lines += [".Sh SETTINGS", *_sections(Config, "")]
    lines += [
        ".Sh FILES",
        ".Bl -tag -width Ds",
        ".It Pa obsdimg.toml",
        "In the folder of the project; another one with",
        ".Fl c .",
        ".It Pa obsdimg.schema.json",
        "The same settings as a JSON schema, for editors.",
        ".El",
        ".Sh EXAMPLES",
        ".Bd -literal -offset indent",
        *_EXAMPLE.splitlines(),
        ".Ed",
        ".Sh SEE ALSO",
        ".Xr obsdimg 1",
    ]
    return mdoc.page("obsdimg.toml", 5, "settings of a server that installs itself", DAY, lines)


_EXAMPLE = """\
[network]
interface = "vio0"

[access.admin]
keys = ["ssh-ed25519 AAAA... you@example"]

[tunnel]
endpoint = "vpn.example.org"

[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
"""


def _sections(model: type[BaseModel], prefix: str) -> list[str]:
    items, tables = [], []
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        if not inner:
            items.append((f"Ic {name}", _meaning(field)))
            continue
        path = f"{prefix}{name}"
        heading = f"[[{path}]]" if "list[" in str(field.annotation) else f"[{path}]"
        doc = " ".join((inner[0].__doc__ or "").split("\n\n")[0].split())
        tables += [f".Ss {heading}\\&", *mdoc.prose(doc), *_sections(inner[0], f"{path}.")]
    return [*mdoc.tagged(items), *tables]


def _meaning(field: FieldInfo) -> list[str]:
    text = field.description or ""
    if not text.endswith("."):
        text += "."
    if field.is_required():
        return mdoc.prose(f"{text} It must be there.")
    value = field.get_default(call_default_factory=True)
    if value is not None:
        return [*mdoc.prose(text), f"Default: {mdoc.escape(toml(value))}"]
    example = [f"Example: {mdoc.escape(toml(one))}" for one in (field.examples or [])[:1]]
    return [*mdoc.prose(text), *example]
