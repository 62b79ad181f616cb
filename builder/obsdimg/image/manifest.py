"""The manifest F.json: what was put into an ISO, from where, and how the inputs were verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from obsdimg import __version__
from obsdimg.iso import Remastered
from obsdimg.site.files import SiteFile

FORMAT = 1


def manifest(
    *,
    name: str,
    config_digest: str,
    release: str,
    port: str,
    upstream: Mapping[str, Any],
    result: Remastered,
    ramdisk: Sequence[Mapping[str, Any]],
    site: Sequence[SiteFile],
    sealed: Sequence[str],
    hook: Mapping[str, Any],
    image_key: str,
    origins: Mapping[str, str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The manifest as plain values.  Nothing of it is secret, nor a hash of a secret."""
    return {
        "format": FORMAT,
        "tool": f"obsdimg {__version__}",
        "iso": {"name": name, "size": result.size, "sha256": result.sha256},
        "release": release,
        "port": port,
        "configuration_sha256": config_digest,
        "upstream": dict(upstream),
        "image_key": image_key,
        "encryption": dict(hook),
        "secrets_in_clear": bool(hook.get("passphrase_in_iso")),
        "warnings": list(warnings),
        "files": [
            {
                "path": put.path,
                "size": put.size,
                "mode": "0644",
                "sha256": put.sha256,
                "replaced": put.replaced,
                "origin": origins.get(put.path, "obsdimg"),
            }
            for put in result.files
        ],
        "ramdisk": list(ramdisk),
        "site_set": [_site_entry(entry) for entry in site],
        "sealed": sorted(sealed),
    }


def encode(value: Mapping[str, Any]) -> bytes:
    """The manifest as JSON text; bytes of a file name that are not UTF-8 as `\\udcXX`."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def _site_entry(entry: SiteFile) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "path": entry.path,
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "origin": entry.origin,
    }
    if entry.kind == "file":
        shown |= {"size": len(entry.data), "sha256": hashlib.sha256(entry.data).hexdigest()}
    if entry.kind == "link":
        shown["target"] = entry.target
    return shown
