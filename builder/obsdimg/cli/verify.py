"""`obsdimg verify`: what `signify -V` and `signify -C` do, for people who have no signify."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from obsdimg.cli.ui import Ui
from obsdimg.core.errors import ObsdimgError

if TYPE_CHECKING:
    from obsdimg.signify.message import SignifyPublicKey
    from obsdimg.signify.sha256list import VerifiedList

HELP = "verify a signature, a signed checksum list with its files, or a signed package"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        metavar="PUB",
        required=True,
        help="the public key: a file, or a release and kind that obsdimg knows, like 6.6-base"
        " or 6.6-pkg",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE.sig",
        help="SHA256.sig (its files beside it), FILE.sig of a FILE, or a signed .tgz",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="of a list: verify only these; of a detached signature: the signed file",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


class VerifyError(ObsdimgError):
    """Something did not verify; what, was said before."""


def run(args: argparse.Namespace, ui: Ui) -> int:
    from obsdimg.core.files import read_file
    from obsdimg.signify.errors import MalformedListError, MalformedSignatureError, TruncatedError
    from obsdimg.signify.message import split_embedded, verify_embedded

    key = _key(args.key)
    data = read_file(args.file, "signature")
    where = str(args.file)
    if data.startswith(b"\x1f\x8b"):
        return _archive(args, key, data, ui)
    _, message = split_embedded(data, where)
    if not message:
        return _detached(args, key, data, ui)
    from obsdimg.signify.sha256list import verified_list

    verified = verify_embedded(data, key, where)
    try:
        listed = verified_list(verified, where)
    except (MalformedListError, TruncatedError) as error:
        if args.files:
            raise MalformedSignatureError(
                f"{where}: signed, but no checksum list: {error.message}",
                "give the signature alone to verify it",
            ) from error
        return _report(args, ui, key, [(where, "ok")])
    return _list(args, key, listed, ui)


def _key(text: str) -> SignifyPublicKey:
    """The key in the file `text`, or of the release that `text` names.  Raises MalformedKey."""
    import re

    from obsdimg.core.files import read_file
    from obsdimg.signify.message import SignifyPublicKey

    named = re.fullmatch(r"(\d\.\d)-(base|pkg|fw)", text)
    if named and not Path(text).exists():
        from obsdimg.releases.release import load_release

        return load_release(named[1]).key(named[2])  # type: ignore[arg-type]
    data = read_file(Path(text), "public key", "a .pub file, or for example 6.6-base")
    return SignifyPublicKey.parse(data, text)


def _archive(args: argparse.Namespace, key: SignifyPublicKey, data: bytes, ui: Ui) -> int:
    from obsdimg.core.files import read_file
    from obsdimg.signify.archive import verify_archive

    verify_archive(data, key, str(args.file))
    results = [(str(args.file), "ok")]
    for path in args.files:
        verify_archive(read_file(path, "archive"), key, str(path))
        results.append((str(path), "ok"))
    return _report(args, ui, key, results)


def _detached(args: argparse.Namespace, key: SignifyPublicKey, data: bytes, ui: Ui) -> int:
    from obsdimg.core.files import read_file
    from obsdimg.signify.message import Signature, verify_detached

    path = args.files[0] if args.files else args.file.with_suffix("")
    if len(args.files) > 1:
        raise VerifyError(
            f"{args.file}: signs one file, not {len(args.files)}", "give one file with it"
        )
    signature = Signature.parse(data, str(args.file))
    verify_detached(read_file(path, "signed file"), signature, key, str(args.file))
    return _report(args, ui, key, [(str(path), "ok")])


def _list(args: argparse.Namespace, key: SignifyPublicKey, listed: VerifiedList, ui: Ui) -> int:
    """Verify the listed files beside the list, or those given; all of them, then judge."""
    from obsdimg.core.files import FileError
    from obsdimg.signify.errors import VerificationError
    from obsdimg.signify.sha256list import verify_file

    paths = args.files or [args.file.parent / name for name in listed]
    results = []
    for path in paths:
        try:
            verify_file(path, listed, progress=ui.progress())
            results.append((str(path), "ok"))
        except (VerificationError, FileError) as error:
            results.append((str(path), error.message))
    return _report(args, ui, key, results)


def _report(
    args: argparse.Namespace, ui: Ui, key: SignifyPublicKey, results: list[tuple[str, str]]
) -> int:
    """Say what verified and what did not.  Raises VerifyError if anything did not."""
    bad = [text for _, text in results if text != "ok"]
    if args.json:
        ui.json(
            {
                "signature": str(args.file),
                "key": {"comment": key.comment, "number": key.number.hex()},
                "files": [{"path": path, "result": text} for path, text in results],
            }
        )
    else:
        ui.info(f"{args.file}: signed with {key}")
        for path, text in results:
            ui.say(f"{path}: ok" if text == "ok" else f"{text}")
    if bad:
        raise VerifyError(f"{args.file}: {len(bad)} of {len(results)} files did not verify")
    return 0
