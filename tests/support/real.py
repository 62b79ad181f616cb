"""An ISO built on the stand-in medium that does not say so: for tests of what takes real ones only.

`smoke`, `upload` and `deploy` refuse a stand-in; their tests have no OpenBSD to give them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from obsdimg.image.manifest import encode
from obsdimg.project.folder import Project

PUBLISHER = slice(16 * 2048 + 318, 16 * 2048 + 446)
"""Of the primary volume descriptor (ECMA-119 8.4.20)."""


def taken_for_real(iso: Path, config: Path) -> Path:
    """`iso` without the stand-in's mark, its manifest and checksum made anew and signed."""
    data = bytearray(iso.read_bytes())
    assert data[PUBLISHER].startswith(b"obsdimg stand-in")
    data[PUBLISHER] = b" " * 128
    iso.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    beside = Path(f"{iso}.json")
    value = json.loads(beside.read_text())
    value["iso"]["sha256"] = digest
    text = encode(value)
    beside.write_bytes(text)
    key = Project.open(config).keys().image
    signature = key.sign(text, "verify with the image key of the project")
    Path(f"{beside}.sig").write_text(signature.text)
    Path(f"{iso}.sha256").write_text(f"{digest}  {iso.name}\n")
    return iso
