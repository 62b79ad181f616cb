"""A secret planted anywhere in an ISO is found; a clean ISO has none."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from obsdimg.ffs import FileSystem
from obsdimg.image.secret_search import SecretSearchError, search
from obsdimg.iso import Iso, remaster
from obsdimg.kernel.bootkernel import BootKernel
from obsdimg.standin import build_iso

SECRET = b"correct horse battery"
WANTED = {"passphrase": SECRET}
KERNEL = "/6.6/amd64/bsd.rd"
SITE = "/6.6/amd64/site66.tgz"


def tar(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("_", "/"))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def noise(size: int) -> bytes:
    return os.urandom(size)


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("iso") / "standin.iso"
    build_iso(path)
    return path


def put(source: Path, target: Path, path: str, data: bytes) -> Path:
    with target.open("w+b") as stream, Iso.open(source) as iso:
        remaster(iso, stream, {path: data}, epoch=1)
    return target


def ramdisk_with(path: str, data: bytes, packed: bool = False) -> Callable[[Path], bytes]:
    def make(standin: Path) -> bytes:
        with Iso.open(standin) as iso:
            kernel = BootKernel.parse(iso.read(KERNEL))
        system = FileSystem(kernel.ramdisk)
        system.write_file(path, data)
        changed = kernel.with_ramdisk(system.image())
        return gzip.compress(changed) if packed else changed

    return make


def scattered(standin: Path) -> bytes:
    """A ramdisk file whose blocks do not lie side by side, with the secret across the gap."""
    with Iso.open(standin) as iso:
        kernel = BootKernel.parse(iso.read(KERNEL))
    system = FileSystem(kernel.ramdisk)
    block = system.volume.sb.bsize
    data = b"." * (block - 10) + SECRET
    for place in ("/a", "/b", "/c"):
        system.write_file(place, b"-" * block)
    system.remove("/a")
    system.remove("/c")
    system.write_file("/split", data)
    image = system.image()
    if SECRET in image:
        pytest.skip("the allocator put the blocks side by side")
    return kernel.with_ramdisk(image)


PLACES: dict[str, tuple[str, bytes | Callable[[Path], bytes], str]] = {
    "a plain file": ("/etc/boot.conf", b"set tty com0\n" + SECRET, "/etc/boot.conf"),
    "a file name's folder": ("/notes/x", noise(5000) + SECRET, "/notes/x"),
    "a set's member": (SITE, gzip.compress(tar(etc_x=SECRET)), f"{SITE} (unpacked)"),
    "a member's name": (SITE, gzip.compress(tar(**{SECRET.decode(): b""})), f"{SITE} (unpacked)"),
    "behind the end of a set": (SITE, gzip.compress(tar(a=b"1") + SECRET), f"{SITE} (unpacked)"),
    "a second gzip member": (
        SITE,
        gzip.compress(tar(a=b"1")) + gzip.compress(b"--" + SECRET),
        f"{SITE} (unpacked)",
    ),
    "a packed file in a set": (
        SITE,
        gzip.compress(tar(a=b"1", etc_x_gz=gzip.compress(noise(3000) + SECRET))),
        f"{SITE} > etc/x/gz (unpacked)",
    ),
    "a set in a set": (
        SITE,
        gzip.compress(tar(a=gzip.compress(tar(b=gzip.compress(SECRET))))),
        f"{SITE} > a > b (unpacked)",
    ),
    "a set that is not packed": ("/x.tar", tar(b=gzip.compress(SECRET)), "/x.tar > b (unpacked)"),
    "the ramdisk": (KERNEL, ramdisk_with("/etc/x", SECRET), f"{KERNEL} > ramdisk/etc/x"),
    "a packed file in the ramdisk": (
        KERNEL,
        ramdisk_with("/etc/x.gz", gzip.compress(SECRET)),
        f"{KERNEL} > ramdisk/etc/x.gz (unpacked)",
    ),
    "the ramdisk of a packed kernel": (
        KERNEL,
        ramdisk_with("/etc/x", SECRET, packed=True),
        f"{KERNEL} > ramdisk/etc/x",
    ),
    "the slack of a packed kernel": (
        KERNEL,
        gzip.compress(b"\x7fELF" + noise(40000) + SECRET),
        f"{KERNEL} (unpacked)",
    ),
    "scattered blocks": (KERNEL, scattered, f"{KERNEL} > ramdisk/split"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_planted_secret_is_found(standin: Path, tmp_path: Path, place: str) -> None:
    path, made, where = PLACES[place]
    data = made if isinstance(made, bytes) else made(standin)
    result = search(put(standin, tmp_path / "out.iso", path, data), WANTED)
    assert where in {finding.where for finding in result.findings}


@pytest.mark.parametrize("at", [100, 16 * 2048 - 100, -30])
def test_the_system_area_and_the_end_are_searched(standin: Path, tmp_path: Path, at: int) -> None:
    image = bytearray(standin.read_bytes())
    at %= len(image)
    image[at : at + len(SECRET)] = SECRET
    (tmp_path / "out.iso").write_bytes(image)
    result = search(tmp_path / "out.iso", WANTED)
    assert [(f.where, f.offset) for f in result.findings] == [("between the files", at)]


def test_the_slack_behind_a_file_is_searched(standin: Path, tmp_path: Path) -> None:
    with Iso.open(standin) as iso:
        entry = next(e for e in iso.entries() if e.kind == "file" and 0 < e.size % 2048 < 1900)
    image = bytearray(standin.read_bytes())
    at = entry.extent * 2048 + entry.size + 5
    image[at : at + len(SECRET)] = SECRET
    (tmp_path / "out.iso").write_bytes(image)
    result = search(tmp_path / "out.iso", WANTED)
    assert [(f.where, f.offset) for f in result.findings] == [("between the files", at)]


def test_a_clean_iso_has_no_findings_and_was_read_whole(standin: Path) -> None:
    result = search(standin, WANTED)
    assert result.findings == []
    assert result.unread == []
    assert result.streams > 5
    assert result.size > standin.stat().st_size / 2


def test_a_finding_never_shows_the_secret(standin: Path, tmp_path: Path) -> None:
    out = put(standin, tmp_path / "out.iso", "/x", SECRET)
    result = search(out, WANTED)
    assert result.findings
    assert "horse" not in repr(result) + "".join(map(str, result.findings))


def test_damaged_packing_is_reported_and_its_bytes_are_searched(
    standin: Path, tmp_path: Path
) -> None:
    packed = bytearray(gzip.compress(noise(4000)))
    packed[2000:2100] = bytes(100)
    packed[1500 : 1500 + len(SECRET)] = SECRET
    result = search(put(standin, tmp_path / "out.iso", SITE, bytes(packed)), WANTED)
    assert result.unread
    assert result.unread[0].startswith(SITE)
    assert (SITE, 1500) in {(f.where, f.offset) for f in result.findings}


def test_a_secret_too_short_to_look_for_is_refused(standin: Path) -> None:
    with pytest.raises(SecretSearchError, match="pin: shorter than 8 bytes"):
        search(standin, {"pin": b"1234"})


def test_a_bomb_ends_with_an_error(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obsdimg.image.secret_search.SMALLEST_MOST", 20 << 20)
    monkeypatch.setattr("obsdimg.image.secret_search.MOST_TIMES", 1)
    bomb = gzip.compress(bytes(60 << 20))
    with pytest.raises(SecretSearchError, match="unpacks to more than"):
        search(put(standin, tmp_path / "out.iso", SITE, bomb), WANTED)
