"""The manifest F.json: what was put into an ISO, from where, and how the inputs were verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from obsdimg import __version__
from obsdimg.core.entry import Entry
from obsdimg.fetch.install_iso import UnverifiedIso, VerifiedIso
from obsdimg.image.plan import BuildPlan
from obsdimg.iso import Remastered
from obsdimg.response import hook

FORMAT = 1


def manifest(
    plan: BuildPlan,
    upstream: VerifiedIso | UnverifiedIso,
    name: str,
    result: Remastered,
    *,
    changes: Sequence[Entry],
    ramdisk: Sequence[Entry],
    site: Sequence[Entry],
) -> dict[str, Any]:
    """The manifest of the ISO called `name`, as plain values.  Nothing of it is secret, nor a
    hash of a secret.

    `changes`, `ramdisk` and `site` are what was put on the ISO, into the ramdisk and into the
    site set.
    """
    inputs, encryption = plan.inputs, hook.describe(plan.hook)
    put = {file.path: file for file in result.files}
    return {
        "format": FORMAT,
        "tool": f"obsdimg {__version__}",
        "iso": {"name": name, "size": result.size, "sha256": result.sha256},
        "release": inputs.release.version,
        "port": inputs.port.name,
        "configuration_sha256": inputs.config_sha256,
        "upstream": {
            "name": upstream.path.name,
            "sha256": upstream.sha256,
            "size": upstream.size,
            "verified": upstream.how,
            "evidence": upstream.evidence,
        },
        "image_key": inputs.keys.image.public().base64,
        "encryption": dict(encryption),
        "secrets_in_clear": bool(encryption["passphrase_in_iso"]),
        "warnings": list(plan.warnings),
        "files": [
            _listed(entry) | {"replaced": put[entry.path].replaced}
            for entry in sorted(changes, key=lambda entry: entry.path)
        ],
        "ramdisk": [_listed(entry) for entry in ramdisk],
        "site_set": [_listed(entry) for entry in site],
        "sealed": sorted(plan.site.sealed),
    }


def encode(value: Mapping[str, Any]) -> bytes:
    """The manifest as JSON text; bytes of a file name that are not UTF-8 as `\\udcXX`."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def _listed(entry: Entry) -> dict[str, Any]:
    """One entry: path, kind, mode, origin; of a file size and hash, of a link its target."""
    shown: dict[str, Any] = {
        "path": entry.path,
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "origin": entry.origin,
    }
    if entry.kind == "file":
        digest = None if entry.secret else hashlib.sha256(entry.data).hexdigest()
        shown |= {"size": len(entry.data), "sha256": digest}
    if entry.kind == "link":
        shown["target"] = entry.target
    return shown
