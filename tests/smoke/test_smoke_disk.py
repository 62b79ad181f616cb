"""The search of the disk: what is planted is found, and fails its check; the rest passes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from obsdimg.core.process import run
from obsdimg.smoke.disk_search import (
    MUST_BE_THERE,
    PLAIN_TEXTS,
    STEP,
    check_disk,
    plain_areas,
    search,
)
from obsdimg.smoke.result import SmokeCheck, SmokeVerdict
from support import scripted_guest

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None, reason="qemu-img is not installed"
)

SIZE = 16 << 20
SECRETS = [(name, os.urandom(24).hex().encode()) for name in (
    "the disk's passphrase", "the sealing passphrase", "the private key of phone",
    "the pre-shared key of phone", "the server's private key",
)]  # fmt: skip


def encrypted_disk() -> bytearray:
    """Loader and metadata at the start, then noise."""
    data = bytearray(os.urandom(SIZE))
    data[: 4 << 20] = bytes(4 << 20)
    data[1 << 20 : (1 << 20) + 8] = MUST_BE_THERE[0][1]
    data[1200000 : 1200000 + len(scripted_guest.LOADER_TEXT)] = scripted_guest.LOADER_TEXT
    return data


def checks(folder: Path, data: bytes) -> dict[str, SmokeCheck]:
    """The checks of a disk with these bytes, by name."""
    raw, image = folder / "raw", folder / "disk.qcow2"
    raw.write_bytes(data)
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], timeout=60)
    findings = search(image, [*SECRETS, *MUST_BE_THERE, *PLAIN_TEXTS])
    names = [name for name, _ in SECRETS]
    made = check_disk(findings, names, True, plain_areas(image))
    return {check.name: check for check in made}


def bad(made: dict[str, SmokeCheck]) -> set[str]:
    return {name for name, check in made.items() if check.verdict is SmokeVerdict.FAILED}


def test_an_encrypted_disk_passes_and_every_check_of_it_fails_where_it_should(
    tmp_path: Path,
) -> None:
    data = encrypted_disk()
    made = checks(tmp_path, data)
    assert bad(made) == set()
    # Everything that must not be there, each across a border of reads or in the noise.
    for number, (_, needle) in enumerate([*SECRETS, *PLAIN_TEXTS]):
        at = 2 * STEP + number * 4096 - (7 if number == 0 else 0)
        data[at : at + len(needle)] = needle
    data[1 << 20 : (1 << 20) + 8] = bytes(8)
    data[1200000 : 1200000 + len(scripted_guest.LOADER_TEXT)] = bytes(
        len(scripted_guest.LOADER_TEXT)
    )
    at = 12 << 20
    data[at : at + 131072] = b"some page of a plain file system" * 4096
    spoilt = checks(tmp_path, data)
    assert set(spoilt) == set(made)
    assert bad(spoilt) == set(made)
    assert f"byte {2 * STEP - 7}" in spoilt[f"{SECRETS[0][0]} is not on the disk in clear"].detail


@pytest.mark.parametrize("plain", [False, True])
def test_with_a_gpt_the_efi_partition_and_the_tables_may_be_read(
    tmp_path: Path, plain: bool
) -> None:
    data = encrypted_disk()
    scripted_guest.write_gpt(data, plain=plain)
    made = checks(tmp_path, data)
    expected = {"everything beyond the boot area looks random"} if plain else set()
    assert bad(made) == expected


def test_without_a_gpt_the_same_bytes_are_plain_text(tmp_path: Path) -> None:
    data = encrypted_disk()
    scripted_guest.write_gpt(data, plain=False)
    data[512:520] = bytes(8)
    assert bad(checks(tmp_path, data)) == {"everything beyond the boot area looks random"}


@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is not installed")
def test_what_an_overlay_holds_is_found_once_and_where_it_is(tmp_path: Path) -> None:
    """qemu-img tells of the image below without its name: its offsets are none of the overlay's."""
    data = bytearray(8 << 20)
    data[: 4 << 20] = os.urandom(4 << 20)
    (tmp_path / "raw").write_bytes(data)
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "raw", base], timeout=60)
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top], timeout=60)
    needle = os.urandom(32)
    (tmp_path / "piece").write_bytes(needle)
    run(["qemu-io", "-f", "qcow2", "-c", f"write -q -s piece 532480 {len(needle)}", "top.qcow2"],
        cwd=tmp_path, timeout=60)  # fmt: skip
    findings = search(top, [("the needle", needle)])
    assert findings.found == {"the needle": [532480]}
