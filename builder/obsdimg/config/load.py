"""From the bytes of obsdimg.toml to a Config, or to one error that names the key."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from obsdimg.config.errors import ConfigError as ConfigError
from obsdimg.config.hops import hop_addresses, with_next, with_previous
from obsdimg.config.keyfiles import KeyFileError, keys_in_file, names_a_file
from obsdimg.config.model import Config
from obsdimg.config.rules import first_conflict
from obsdimg.config.servers import (
    choose_server,
    next_server,
    previous_servers,
    refuse_twins,
    server_table,
)
from obsdimg.core.documents import from_toml
from obsdimg.core.files import read_file

TWICE = (
    "a section may stand once: write the setting where its section stands, or as one line like"
    " tunnel.port = 53 above the first [section]"
)

Location = tuple[str | int, ...]


def load(path: Path, server: str | None = None) -> Config:
    """Read and check the configuration at `path`, of `server` where it is about several.

    Raises ConfigError or FileError.
    """
    return parse(read_configuration(path), str(path), path.parent, server)


def read_configuration(path: Path) -> bytes:
    """The bytes of the configuration.  Raises ConfigError or FileError."""
    if not path.exists():
        raise ConfigError(
            f"{path}: no configuration here", "make one with `obsdimg init`, or name it with -c"
        )
    return read_file(path, "configuration")


def parse(
    data: bytes,
    name: str = "obsdimg.toml",
    folder: Path = Path(),
    server: str | None = None,
) -> Config:
    """Check the configuration `data`; `name` stands in errors, and files that it names are
    relative to `folder`.  `server`: which, where it has several.  Raises ConfigError."""
    table = parse_table(data, name)
    chosen = choose_server(table, server, name)
    if chosen is None:
        config = _checked(table, name, folder)
    else:
        refuse_twins(table, name)
        config = _one_of(table, chosen, name, folder)
        name = _place(name, chosen)
    conflict = first_conflict(config)
    if conflict:
        raise ConfigError(f"{name}: {conflict.key}: {_short(conflict.problem)}", conflict.hint)
    return config


def _place(name: str, server: str) -> str:
    return f"{name} [servers.{server}]"


def _one_of(table: dict[str, Any], server: str, name: str, folder: Path) -> Config:
    """One of several, with what the others make of it as hops."""
    where = _place(name, server)
    config = _checked(server_table(table, server), where, folder)
    previous = previous_servers(table, server, name)
    if previous:
        config = with_previous(config, hop_addresses(config, previous, where), where)
    if (following := next_server(table, server, name)) is not None:
        there = _checked(server_table(table, following), _place(name, following), folder)
        before = previous_servers(table, following, name)
        addresses = hop_addresses(there, before, _place(name, following))
        config = with_next(config, following, there, addresses[server], where)
    return config


def parse_table(data: bytes, name: str) -> dict[str, Any]:
    """The file as TOML has it.  Raises ConfigError."""
    try:
        return from_toml(data)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        twice = "declare" in str(error) or "overwrite" in str(error)
        raise ConfigError(
            f"{name}: not TOML: {_short(str(error))}", TWICE if twice else "see https://toml.io"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{name}: not TOML that can be read: {_short(str(error))}") from error


def _checked(table: dict[str, Any], name: str, folder: Path) -> Config:
    """The values, each by itself."""
    read_ssh_keys(table, name, folder)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise _first(error, table, name) from None


def read_ssh_keys(table: dict[str, Any], name: str, folder: Path) -> None:
    """Put the public keys in the place of the files that `table` names; ConfigError where one is
    none.  What is no list of texts is left for the types to refuse."""
    access = table.get("access")
    admin = access.get("admin") if isinstance(access, dict) else None
    for key, place, setting in (
        ("access.admin.keys", admin, "keys"),
        ("access.root_keys", access, "root_keys"),
    ):
        if not isinstance(place, dict) or not isinstance(given := place.get(setting), list):
            continue
        found: list[Any] = []
        for number, text in enumerate(given):
            if not isinstance(text, str) or not names_a_file(text):
                found.append(text)
                continue
            try:
                found += keys_in_file(text, folder)
            except KeyFileError as error:
                raise ConfigError(
                    f"{name}: {key}[{number}]: {error.message}", error.hint
                ) from error
        place[setting] = found


def _first(error: ValidationError, table: dict[str, Any], name: str) -> ConfigError:
    """The most telling of pydantic's complaints, in our words.

    An unknown key goes first: it is usually the misspelt name of one reported as missing.
    """
    details = error.errors(include_url=False)
    unknown = [d for d in details if d["type"] == "extra_forbidden"]
    detail = (unknown or details)[0]
    location = tuple(p for p in detail["loc"] if not _is_branch(p))
    key = key_path(location)
    if detail["type"] == "extra_forbidden":
        return _unknown_key(location, name)
    if detail["type"] == "missing":
        return ConfigError(f"{name}: {key}: is missing", f"add {location[-1]} = …")
    problem = detail["msg"].removeprefix("Value error, ")
    same = [d for d in details if d["loc"][: len(location)] == location and d is not detail]
    if same and detail["type"] in ("literal_error", "is_instance_of", "int_type"):
        words = [d["msg"].removeprefix("Value error, ") for d in (*same, detail)]
        problem = ", or ".join(dict.fromkeys(_lower(w) for w in words))
    value = _value_at(table, location)
    silent = repr(value) in problem or isinstance(value, dict | list) or _private(location)
    shown = "" if silent else f" (is {_short(repr(value))})"
    return ConfigError(f"{name}: {key}: {_lower(_short(problem))}{shown}")


_LONG = 400  # characters


def _short(text: str) -> str:
    """`text` with its middle left out if it is too long for a message."""
    return text if len(text) <= _LONG else f"{text[: _LONG // 2]} … {text[-_LONG // 4 :]}"


def _private(location: Location) -> bool:
    """Where a secret may stand by mistake: its value is never repeated."""
    return any("key" in str(p) or "password" in str(p) for p in location)


def _unknown_key(location: Location, name: str) -> ConfigError:
    known = list(section_at(location[:-1]).model_fields)
    near = difflib.get_close_matches(str(location[-1])[:_LONG], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    if elsewhere := _sections_with(str(location[-1])):
        within = [s for s in elsewhere if s.startswith(key_path(location[:-1]) + ".")]
        place = (within or elsewhere)[0]
        hint = f"it is a setting of [{place}], whose heading must stand (without #) above it"
    return ConfigError(f"{name}: {key_path(location)}: there is no such setting", hint)


def _sections_with(setting: str) -> list[str]:
    """The sections that have a setting called `setting`, by their whole names."""
    found: list[str] = []

    def look(model: type[BaseModel], path: str) -> None:
        if path and setting in model.model_fields:
            found.append(path)
        for name, field in model.model_fields.items():
            if "list[" not in str(field.annotation):
                for inner in _models(field.annotation):
                    look(inner, f"{path}.{name}" if path else name)

    look(Config, "")
    return found


def section_at(location: Location) -> type[BaseModel]:
    """The model of the section at `location` (names, and numbers of array tables)."""
    model: type[BaseModel] = Config
    for part in location:
        if isinstance(part, int):
            continue
        found = _models(model.model_fields[part].annotation)
        if found:
            model = found[0]
    return model


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [m for a in inner for m in _models(a)]


def key_path(location: Location) -> str:
    """`('tunnel', 'peers', 1, 'ipv4')` as `tunnel.peers[1].ipv4` (counted from 0)."""
    text = ""
    for part in location:
        name = _short(part) if isinstance(part, str) and part.isprintable() else repr(part)[:_LONG]
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text or "(top level)"


def _is_branch(part: str | int) -> bool:
    """pydantic adds the branch of a union to a location, like `literal['none']`."""
    return isinstance(part, str) and not part.isidentifier()


def _value_at(table: Any, location: Location) -> Any:
    for part in location:
        try:
            table = table[part]
        except (KeyError, IndexError, TypeError):
            return None
    return table


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text
