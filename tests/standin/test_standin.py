"""The stand-in medium: the layout of install66.iso, and nobody takes it for OpenBSD."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from obsdimg.core.files import FileError
from obsdimg.ffs import FileSystem
from obsdimg.iso import Iso
from obsdimg.kernel.bootkernel import BootKernel
from obsdimg.signify.keys import SignifyPublicKey, SignifySecretKey
from obsdimg.signify.sha256list import parse, read_signed_list
from obsdimg.standin import NOT_OPENBSD, build_iso, copy_scripts

SETS = "/6.6/amd64"


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("standin") / "standin66.iso"
    build_iso(path)
    return path


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def test_it_has_the_files_of_install66_iso(standin: Path) -> None:
    names = "base66 comp66 game66 man66 xbase66 xfont66 xshare66 xserv66"
    expected = {f"{SETS}/{name}.tgz" for name in names.split()}
    others = "bsd bsd.rd bsd.mp INSTALL.amd64 SHA256 cdbr cdboot boot.catalog TRANS.TBL"
    expected |= {f"{SETS}/{name}" for name in others.split()}
    expected |= {"/etc/boot.conf", "/etc/TRANS.TBL", "/TRANS.TBL", "/6.6/TRANS.TBL"}
    with Iso.open(standin) as iso:
        assert {e.path for e in iso.entries() if e.kind == "file"} == expected
        assert iso.read("/etc/boot.conf") == b"set image /6.6/amd64/bsd.rd\n"
        assert iso.volume_id == "OpenBSD/amd64   6.6 Install CD"
        assert iso.application_id == "OpenBSD 6.6 amd64 Install CD"
        (boot,) = iso.boot_entries
        assert (boot.platform, boot.media, boot.path) == ("bios", "none", f"{SETS}/cdbr")
        assert not iso.exists(f"{SETS}/SHA256.sig")
        assert 3 << 20 < iso.size < 6 << 20


def test_it_says_everywhere_that_it_is_not_openbsd(standin: Path) -> None:
    with Iso.open(standin) as iso:
        assert b"not OpenBSD" in iso.read_extent(16, 318, 128, "publisher")
        for name in ("bsd", "bsd.mp", "bsd.rd", "INSTALL.amd64", "cdboot", "cdbr"):
            assert NOT_OPENBSD.encode() in iso.read(f"{SETS}/{name}")
        for entry in iso.entries():
            if entry.path.endswith(".tgz"):
                with tarfile.open(fileobj=io.BytesIO(iso.read(entry.path))) as tar:
                    (member,) = tar.getmembers()
                    stream = tar.extractfile(member)
                    assert stream is not None and NOT_OPENBSD.encode() in stream.read()
        ramdisk = ramdisk_of(iso)
        for path in ("/.profile", "/install.sub", "/install.md", "/README"):
            assert b"not OpenBSD" in ramdisk.read_file(path)
        key = ramdisk.read_file("/etc/signify/openbsd-66-base.pub")
        assert SignifyPublicKey.parse(key).comment == "obsdimg 6.6 stand-in, not a key of OpenBSD"


def ramdisk_of(iso: Iso) -> FileSystem:
    kernel = BootKernel.parse(iso.read(f"{SETS}/bsd.rd"))
    assert (kernel.located_by, kernel.machine, kernel.gzipped) == ("symbols", "x86-64", False)
    return FileSystem(kernel.ramdisk)


def test_its_ramdisk_has_the_size_and_the_room_of_a_genuine_one(standin: Path) -> None:
    with Iso.open(standin) as iso:
        ramdisk = ramdisk_of(iso)
    assert len(ramdisk.image()) == 7360 * 512
    assert 225 << 10 < ramdisk.free().bytes <= 235 << 10
    assert 700 < ramdisk.free().inodes < 920
    for name in ("autoinstall", "install", "upgrade"):
        assert ramdisk.readlink(f"/{name}") == "install.sub"


def test_its_scripts_run_and_install_nothing(standin: Path, tmp_path: Path) -> None:
    need("mksh")
    with Iso.open(standin) as iso:
        ramdisk = ramdisk_of(iso)
    for name in ("install.sub", "install.md"):
        (tmp_path / name).write_bytes(ramdisk.read_file(f"/{name}").replace(b". /", b". ./"))
    (tmp_path / "autoinstall").symlink_to("install.sub")
    done = subprocess.run(
        ["mksh", "./autoinstall", "-x"], cwd=tmp_path, capture_output=True, timeout=10, check=False
    )
    assert done.returncode == 1
    assert done.stdout.decode() == f"autoinstall: {NOT_OPENBSD.replace('This', 'this', 1)}\n"


def test_readelf_finds_the_symbols_and_no_fault(standin: Path, tmp_path: Path) -> None:
    need("readelf")
    with Iso.open(standin) as iso:
        (tmp_path / "bsd.rd").write_bytes(iso.read(f"{SETS}/bsd.rd"))
        (tmp_path / "bsd").write_bytes(iso.read(f"{SETS}/bsd"))
    for name in ("bsd.rd", "bsd"):
        done = subprocess.run(
            ["readelf", "-aW", tmp_path / name], capture_output=True, timeout=30, check=True
        )
        assert done.stderr == b""
        assert (b" rd_root_image\n" in done.stdout) == (name == "bsd.rd")


@pytest.mark.parametrize(
    "options", [["-g", "-x", "-K", "rd_root_size", "-K", "rd_root_image"], ["--strip-all"]]
)
def test_the_kernel_survives_what_releases_do_to_theirs(
    standin: Path, tmp_path: Path, options: list[str]
) -> None:
    """Later releases keep two symbols, the miniroot's kernel none; both come gzip-compressed."""
    need("objcopy")
    with Iso.open(standin) as iso:
        whole = iso.read(f"{SETS}/bsd.rd")
    (tmp_path / "bsd.rd").write_bytes(whole)
    subprocess.run(
        ["objcopy", *options, tmp_path / "bsd.rd", tmp_path / "bsd"], check=True, timeout=30
    )
    kernel = BootKernel.parse((tmp_path / "bsd").read_bytes())
    assert kernel.located_by == ("superblock" if "--strip-all" in options else "symbols")
    assert kernel.ramdisk == BootKernel.parse(whole).ramdisk


def test_its_checksum_list_is_true(standin: Path) -> None:
    with Iso.open(standin) as iso:
        listed = parse(iso.read(f"{SETS}/SHA256"))
        assert {"base66.tgz", "bsd.rd", "cdboot", "INSTALL.amd64"} <= set(listed)
        for name, digest in listed.items():
            assert hashlib.sha256(iso.read(f"{SETS}/{name}")).hexdigest() == digest


def test_with_a_key_the_ramdisk_holds_its_public_half_and_the_list_is_signed(
    tmp_path: Path,
) -> None:
    key = SignifySecretKey.generate()
    result = build_iso(tmp_path / "x.iso", signify_key=key)
    with Iso.open(tmp_path / "x.iso") as iso:
        public = ramdisk_of(iso).read_file("/etc/signify/openbsd-66-base.pub")
        assert iso.read(f"{SETS}/SHA256") == result.sha256
    assert result.sha256_sig is not None
    verified = read_signed_list(result.sha256_sig, SignifyPublicKey.parse(public))
    assert verified == parse(result.sha256)


def test_the_same_arguments_give_the_same_bytes_in_any_time_zone(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        build_iso(tmp_path / "again.iso")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (tmp_path / "again.iso").read_bytes() == standin.read_bytes()


def test_it_is_made_in_less_than_two_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    build_iso(tmp_path / "x.iso")
    assert time.process_time() - start < 2


def test_sets_and_release_can_be_chosen(tmp_path: Path) -> None:
    build_iso(
        tmp_path / "x.iso",
        version="7.8",
        sets={"base78.tgz": b"my base", "SHA256.sig": b"mine"},
        kernel=b"my kernel",
        efi=True,
    )
    with Iso.open(tmp_path / "x.iso") as iso:
        assert iso.read("/7.8/amd64/base78.tgz") == b"my base"
        assert iso.read("/7.8/amd64/SHA256.sig") == b"mine"
        assert iso.read("/7.8/amd64/bsd.rd") == b"my kernel"
        assert [boot.platform for boot in iso.boot_entries] == ["bios", "efi"]


def test_padding_makes_it_as_long_as_wanted_and_stays_valid(tmp_path: Path) -> None:
    build_iso(tmp_path / "x.iso", iso_size_padding=5_000_001)
    with Iso.open(tmp_path / "x.iso") as iso, iso.open_file(f"{SETS}/base66.tgz") as stream:
        assert iso.size > 8_000_000
        with tarfile.open(fileobj=stream) as tar:
            (member,) = tar.getmembers()
            assert member.size == 5_000_001
            content = tar.extractfile(member)
            assert content is not None and len(content.read()) == member.size
    assert [p.name for p in tmp_path.iterdir()] == ["x.iso"]


def test_a_missing_folder_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    for padding in (0, 100):
        with pytest.raises(FileError, match="cannot be written"):
            build_iso(tmp_path / "none" / "x.iso", iso_size_padding=padding)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.media
def test_genuine_scripts_can_be_put_into_its_ramdisk(tmp_path: Path) -> None:
    media = os.environ.get("OBSDIMG_MEDIA")
    if not media:
        pytest.skip("OBSDIMG_MEDIA is not set: no genuine media")
    with Iso.open(Path(media) / "cd66-alpha.iso") as iso:
        genuine = FileSystem(BootKernel.parse(iso.read("/bsd.rd")).ramdisk)
    replaced = {"/install.md": b"MDSETS=bsd\n"}
    build_iso(tmp_path / "x.iso", ramdisk_files=copy_scripts(genuine, replaced))
    with Iso.open(tmp_path / "x.iso") as iso:
        ramdisk = ramdisk_of(iso)
    assert ramdisk.read_file("/install.md") == replaced["/install.md"]
    for path in ("/.profile", "/install.sub", "/dev/MAKEDEV", "/var/tzlist", "/etc/services"):
        assert ramdisk.read_file(path) == genuine.read_file(path)
        assert ramdisk.stat(path).mode == genuine.stat(path).mode
    assert ramdisk.readlink("/etc/fstab") == genuine.readlink("/etc/fstab")
    assert b"stand-in" in ramdisk.read_file("/bin/ksh")


@pytest.mark.qemu
@pytest.mark.slow
def test_firmware_boots_it_and_prints_what_it_is_not(standin: Path) -> None:
    """Slow: SeaBIOS under QEMU tries the disk first and takes a few seconds."""
    need("qemu-system-x86_64")
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-m", "64", "-nographic", "-net", "none", "-cdrom", standin],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seen = b""
    try:
        assert machine.stdout is not None
        os.set_blocking(machine.stdout.fileno(), False)
        deadline = time.monotonic() + 60
        while NOT_OPENBSD.encode() not in seen and time.monotonic() < deadline:
            seen += machine.stdout.read() or b""
            time.sleep(0.1)
    finally:
        machine.kill()
        machine.wait()
    assert NOT_OPENBSD.encode() in seen, seen[-500:]
