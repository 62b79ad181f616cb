"""`obsdimg verify`: what `signify -V` and `signify -C` do, for people who have no signify."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import argument, flag, option
from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError, UsageError
from obsdimg.core.files import FileError, read_file
from obsdimg.releases.release import load_release
from obsdimg.signify.archive import verify_archive
from obsdimg.signify.errors import (
    MalformedListError,
    MalformedSignatureError,
    TruncatedError,
    VerificationError,
)
from obsdimg.signify.message import (
    Signature,
    SignifyPublicKey,
    split_embedded,
    verify_detached,
    verify_embedded,
)
from obsdimg.signify.sha256list import VerifiedList, verified_list, verify_file

LARGEST_ARCHIVE = 512 << 20
"""Bytes of a package, or of a file with a signature beside it: they are read whole."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    key: str = option(
        "--key",
        metavar="PUB",
        required=True,
        help="the public key: a file, or a release and kind that obsdimg knows, like 6.6-base"
        " or 6.6-pkg",
    )
    file: Path = argument(
        metavar="FILE.sig",
        type=Path,
        help="SHA256.sig (its files beside it), FILE.sig of a FILE, or a signed .tgz",
    )
    files: tuple[Path, ...] = argument(
        metavar="FILE",
        type=Path,
        nargs="*",
        help="of a list: verify only these; of a detached signature: the signed file",
    )
    json: bool = flag("--json", help="print the result as JSON")


class VerifyError(ObsdimgError):
    """Something did not verify; what, was said before."""


def run(options: Options, ui: Ui) -> int:
    key = _key(options.key)
    data = read_file(options.file, "signature")
    where = str(options.file)
    if data.startswith(b"\x1f\x8b"):
        return _archive(options, key, data, ui)
    _, message = split_embedded(data, where)
    if not message:
        return _detached(options, key, data, ui)

    verified = verify_embedded(data, key, where)
    try:
        listed = verified_list(verified, where)
    except (MalformedListError, TruncatedError) as error:
        if options.files:
            raise MalformedSignatureError(
                f"{where}: signed, but no checksum list: {error.message}",
                "give the signature alone to verify it",
            ) from error
        return _report(options, ui, key, [(where, "ok")])
    return _list(options, key, listed, ui)


def _key(text: str) -> SignifyPublicKey:
    """The key in the file `text`, or of the release that `text` names.  Raises MalformedKey."""
    named = re.fullmatch(r"(\d\.\d)-(base|pkg|fw)", text)
    if named and not Path(text).exists():
        return load_release(named[1]).key(named[2])  # type: ignore[arg-type]
    data = read_file(Path(text), "public key", "a .pub file, or for example 6.6-base")
    return SignifyPublicKey.parse(data, text)


def _archive(options: Options, key: SignifyPublicKey, data: bytes, ui: Ui) -> int:
    verify_archive(data, key, str(options.file))
    results = [(str(options.file), "ok")]
    for path in options.files:
        verify_archive(read_file(path, "archive", largest=LARGEST_ARCHIVE), key, str(path))
        results.append((str(path), "ok"))
    return _report(options, ui, key, results)


def _detached(options: Options, key: SignifyPublicKey, data: bytes, ui: Ui) -> int:
    path = options.files[0] if options.files else options.file.with_suffix("")
    if len(options.files) > 1:
        raise UsageError(
            f"{options.file}: signs one file, not {len(options.files)}", "give one file with it"
        )
    signature = Signature.parse(data, str(options.file))
    verify_detached(
        read_file(path, "signed file", largest=LARGEST_ARCHIVE), signature, key, str(options.file)
    )
    return _report(options, ui, key, [(str(path), "ok")])


def _list(options: Options, key: SignifyPublicKey, listed: VerifiedList, ui: Ui) -> int:
    """Verify the listed files beside the list, or those given; all of them, then judge."""
    paths = options.files or [options.file.parent / name for name in listed]
    results = []
    for path in paths:
        try:
            verify_file(path, listed, progress=ui.progress())
            results.append((str(path), "ok"))
        except (VerificationError, FileError) as error:
            results.append((str(path), error.message))
    return _report(options, ui, key, results)


def _report(options: Options, ui: Ui, key: SignifyPublicKey, results: list[tuple[str, str]]) -> int:
    """Say what verified and what did not.  Raises VerifyError if anything did not."""
    bad = [text for _, text in results if text != "ok"]
    if options.json:
        ui.json(
            {
                "signature": str(options.file),
                "key": {"comment": key.comment, "number": key.number.hex()},
                "files": [{"path": path, "result": text} for path, text in results],
            }
        )
    else:
        ui.info(f"{options.file}: signed with {key}")
        for path, text in results:
            ui.say(f"{path}: ok" if text == "ok" else f"{text}")
    if bad:
        raise VerifyError(f"{options.file}: {len(bad)} of {len(results)} files did not verify")
    return 0
