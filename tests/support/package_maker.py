"""Stand-in packages with the layout of OpenBSD's, signed by signify or by ourselves."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from obsdimg.signify.archive import _HEADER, BLOCK, UnsignedArchiveError, _sha512_256
from obsdimg.signify.message import SignifySecretKey, sign_embedded

SIGNIFY = shutil.which("signify-openbsd") or shutil.which("signify")


def package(
    name: str, depends: Sequence[str] = (), arch: str = "amd64", payload: bytes = b"hello\n"
) -> bytes:
    """An unsigned package: gzip of a tar that begins with +CONTENTS."""
    lines = [f"@name {name}", "@comment pkgpath=net/x ftp=yes", f"@arch {arch}", "+DESC"]
    lines += [f"@depend {depend}" for depend in depends]
    lines += ["@wantlib c.95.1", "@cwd /usr/local", f"share/{name}"]
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in (
            ("+CONTENTS", "".join(f"{line}\n" for line in lines).encode()),
            ("+DESC", b"a stand-in, not OpenBSD's\n"),
            (f"share/{name}", payload),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def sign_archive(data: bytes, key: SignifySecretKey, date: str, signer: str) -> bytes:
    """The gzip archive `data` with a signature in its header, as `signify -Sz` writes it.

    `data` must have a plain header (no name, no extra field).  Raises UnsignedArchiveError.
    """
    if data[:4] != bytes([0x1F, 0x8B, 8, 0]) or len(data) < len(_HEADER):
        raise UnsignedArchiveError("archive: not gzip with a plain header")
    body = data[len(_HEADER) :]
    message = f"date={date}\nkey={signer}\nalgorithm=SHA512/256\nblocksize={BLOCK}\n\n".encode()
    for at in range(0, len(body), BLOCK):
        message += _sha512_256(body[at : at + BLOCK]) + b"\n"
    header = _HEADER[:8] + data[8:9] + _HEADER[9:]
    return header + sign_embedded(message, key) + b"\0" + body


def signed(data: bytes, key: SignifySecretKey) -> bytes:
    """`data` signed by our own code."""
    return sign_archive(data, key, "2019-10-09T12:00:00Z", "/etc/signify/openbsd-66-pkg.sec")


def signed_by_signify(data: bytes, folder: Path, key: SignifySecretKey) -> bytes:
    """`data` signed by the real signify."""
    assert SIGNIFY
    (folder / "pkg.sec").write_text(key.text())
    (folder / "pkg.sec").chmod(0o600)
    (folder / "in.tgz").write_bytes(data)
    words = [SIGNIFY, "-Szs", "pkg.sec", "-m", "in.tgz", "-x", "out.tgz"]
    subprocess.run(words, cwd=folder, check=True, timeout=60, capture_output=True)
    return (folder / "out.tgz").read_bytes()
