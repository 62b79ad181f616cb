"""Re-signed sets, judged by the genuine installer's own verification and the real signify.

`install_files` of the 6.6 installer runs under mksh with its absolute paths moved to a temporary
folder; only programs are stood in for (ftp by cat, sha256 by sha256sum).
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from obsdimg.releases.release import load_release
from obsdimg.signify.errors import MalformedListError
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.sha256list import parse, read_signed_list
from obsdimg.signify.signing import ramdisk_key, sign_list
from support.genuine_installer import genuine_function

SIGNIFY = shutil.which("signify-openbsd") or shutil.which("signify")
MKSH = shutil.which("mksh")
SETS = ["bsd", "bsd.rd", "base66.tgz", "comp66.tgz", "site66.tgz"]


def test_the_list_is_sorted_and_verifies_with_the_ramdisk_s_key() -> None:
    key = SignifySecretKey.generate("project")
    hashes = {"site66.tgz": "1" * 64, "base66.tgz": "2" * 64}
    made = sign_list(hashes, key, "6.6")
    assert dict(read_signed_list(made.sha256_sig, ramdisk_key(key, "6.6"))) == hashes
    assert list(parse(made.sha256)) == ["base66.tgz", "site66.tgz"]
    assert made.sha256_sig.endswith(made.sha256)
    assert made.sha256_sig.startswith(b"untrusted comment: verify with openbsd-66-base.pub\n")


def test_the_same_input_gives_the_same_bytes() -> None:
    key = SignifySecretKey.generate("project")
    one = sign_list({"a": "1" * 64, "b": "2" * 64}, key, "7.8")
    assert one == sign_list({"b": "2" * 64, "a": "1" * 64}, key, "7.8")


def test_the_ramdisk_s_key_is_as_long_as_the_genuine_one() -> None:
    key = SignifySecretKey.generate("project")
    ours = ramdisk_key(key, "6.6").text
    assert len(ours) == len(load_release("6.6").base_key.text) == 104
    assert "obsdimg 6.6 base public key" in ours


@pytest.mark.parametrize("name", ["../bsd", "a b", "", "x\n"])
def test_a_name_that_the_installer_could_not_read_is_refused(name: str) -> None:
    with pytest.raises(MalformedListError):
        sign_list({name: "1" * 64}, SignifySecretKey.generate("x"), "6.6")


# The genuine installer


@dataclass
class Medium:
    """A folder of sets as on the ISO, and the installer that will look at it."""

    root: Path
    key: SignifySecretKey

    @property
    def sets(self) -> Path:
        return self.root / "cd/6.6/amd64"

    def sign(self, names: list[str], key: SignifySecretKey | None = None) -> None:
        hashes = {n: hashlib.sha256((self.sets / n).read_bytes()).hexdigest() for n in names}
        made = sign_list(hashes, key or self.key, "6.6")
        (self.sets / "SHA256").write_bytes(made.sha256)
        (self.sets / "SHA256.sig").write_bytes(made.sha256_sig)

    def install(self) -> subprocess.CompletedProcess[str]:
        """Run the genuine install_files in unattended mode: unanswered questions take defaults."""
        functions = "\n".join(
            genuine_function(n) for n in ("isin", "addel", "rmel", "ask_yn", "install_files")
        )
        for place in ("/tmp/", "/mnt"):
            functions = functions.replace(place, f"{self.root}{place}")
        script = self.root / "run.ksh"
        script.write_text(
            f"""
AI=true MODE=install UU=false UPGRADE_BSDRD=false COLUMNS=80 VERSION=66 ARCH=amd64 OBSD=OpenBSD
DEFAULTSETS="bsd bsd.rd base66.tgz comp66.tgz" ALLSETS="{" ".join(SETS)}"
PUB_KEY={self.root}/etc/signify/openbsd-66-base.pub
hostname() {{ echo server; }}
select_sets() {{ resp="{" ".join(SETS)}"; }}
unpriv() {{ [[ $1 == -f ]] && shift 2; "$@"; }}
unpriv2() {{ unpriv "$@"; }}
signify() {{ {SIGNIFY} "$@"; }}
sha256() {{ sha256sum | sed 's/ .*//'; }}
ftp() {{ local _u; for _u; do :; done; echo "$2 ${{_u##*/}}" >&2; cat "${{_u#file://}}"; }}
ask() {{ echo "QUESTION: $1 [$2]"; resp=$2; }}
{functions}
install_files file://{self.sets} "$(ls {self.sets})"
echo INSTALLED
"""
        )
        assert MKSH
        return subprocess.run(
            [MKSH, script], capture_output=True, text=True, timeout=60, cwd=self.root
        )


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    if SIGNIFY is None or MKSH is None:
        pytest.skip("needs signify-openbsd and mksh")
    key = SignifySecretKey.generate("project")
    made = Medium(tmp_path, key)
    made.sets.mkdir(parents=True)
    for folder in ("tmp", "mnt/var/db", "etc/signify"):
        (tmp_path / folder).mkdir(parents=True)
    pub = ramdisk_key(key, "6.6").text
    (tmp_path / "etc/signify/openbsd-66-base.pub").write_text(pub)
    (made.sets / "INSTALL.amd64").write_text("notes\n")
    for name in SETS:
        (made.sets / name).write_bytes(_set(name) if name.endswith(".tgz") else name.encode() * 99)
    made.sign(SETS)
    return made


def _set(name: str) -> bytes:
    inner = _tar({"etc/motd": b"hello\n"})
    files = {f"share/{name}": b"x" * 5000}
    if name.startswith("base"):
        files["var/sysmerge/etc.tgz"] = inner
    return _tar(files)


def _tar(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def installed(medium: Medium) -> list[str]:
    return sorted(p.name for p in (medium.root / "mnt").rglob("*") if p.is_file())


@pytest.mark.media
def test_the_genuine_installer_verifies_every_set_and_asks_nothing(medium: Medium) -> None:
    done = medium.install()
    assert done.returncode == 0 and "INSTALLED" in done.stdout, done.stdout + done.stderr
    assert "Signature Verified" in done.stdout
    assert "QUESTION" not in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("Verifying")] == [
        f"Verifying  {name}" for name in ["SHA256.sig", *SETS]
    ]
    assert {"bsd", "bsd.rd", "site66.tgz", "motd", "installed.SHA256"} <= set(installed(medium))


@pytest.mark.media
@pytest.mark.parametrize("name", SETS)
def test_a_flipped_byte_in_any_set_stops_the_genuine_installer(medium: Medium, name: str) -> None:
    path = medium.sets / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = medium.install()
    assert done.returncode == 1 and "INSTALLED" not in done.stdout
    assert f"QUESTION: Checksum test for {name} failed. Continue anyway? [no]" in done.stdout
    assert installed(medium) == [], "nothing at all was extracted"


@pytest.mark.media
def test_a_flipped_byte_anywhere_in_the_signed_list_stops_it(medium: Medium) -> None:
    path = medium.sets / "SHA256.sig"
    good = path.read_bytes()
    for at in range(good.index(b"\n") + 1, len(good), 37):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        done = medium.install()
        assert done.returncode == 1 and "INSTALLED" not in done.stdout
        assert "Signature check of SHA256.sig failed. Continue without" in done.stdout
    assert installed(medium) == []


@pytest.mark.media
def test_a_list_by_another_key_stops_it(medium: Medium) -> None:
    medium.sign(SETS, SignifySecretKey.generate("project"))
    done = medium.install()
    assert done.returncode == 1
    assert "Signature check of SHA256.sig failed" in done.stdout


@pytest.mark.media
def test_a_site_set_that_is_not_listed_stops_it(medium: Medium) -> None:
    medium.sign(SETS[:-1])
    done = medium.install()
    assert done.returncode == 1
    assert "Checksum test for site66.tgz failed" in done.stdout


@pytest.mark.media
def test_without_the_signed_list_it_would_have_to_be_waived(medium: Medium) -> None:
    (medium.sets / "SHA256.sig").unlink()
    done = medium.install()
    assert done.returncode == 1
    assert "Directory does not contain SHA256.sig. Continue without" in done.stdout
