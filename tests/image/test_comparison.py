"""An ISO that was changed on the way does not pass: by the manifest, by the upstream ISO."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.core.progress import Progress
from obsdimg.ffs import FileSystem
from obsdimg.image import inspection
from obsdimg.image.comparison import image_key, standing
from obsdimg.iso import Iso, remaster
from obsdimg.kernel.bootkernel import BootKernel
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.sha256list import parse
from obsdimg.signify.signing import ramdisk_key, sign_list

AUTO = "/6.6/amd64/bsd.auto"


@dataclass
class Built:
    """A demo project: its folder, the ISO it built, and what it was built from."""

    folder: Path

    @property
    def iso(self) -> Path:
        return self.folder / "images" / "demo-66-amd64.iso"

    @property
    def upstream(self) -> Path:
        return self.folder / "upstream" / "install66.iso"

    def change(self, changes: dict[str, bytes]) -> None:
        """Put files on the ISO, as somebody on the way would."""
        with Iso.open(self.iso) as iso, (self.folder / "new.iso").open("w+b") as stream:
            remaster(iso, stream, changes, epoch=1570838400)
        (self.folder / "new.iso").replace(self.iso)

    def ramdisk(self, edit: Callable[[FileSystem], None]) -> bytes:
        """The boot kernel with its ramdisk edited."""
        with Iso.open(self.iso) as iso:
            kernel = BootKernel.parse(iso.read(AUTO))
        system = FileSystem(kernel.ramdisk)
        edit(system)
        return kernel.with_ramdisk(system.image())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built") / "demo"
    main(["demo", "-q", str(folder)])
    return Built(folder)


@pytest.fixture
def built(original: Built, tmp_path: Path) -> Built:
    import shutil

    shutil.copytree(original.folder, tmp_path / "demo")
    return Built(tmp_path / "demo")


def overwrite(path: str, data: bytes, mode: int = 0o644) -> Callable[[FileSystem], None]:
    def edit(system: FileSystem) -> None:
        system.write_file(path, data, mode=mode, mtime=1570838400)

    return edit


def hijack(built: Built) -> None:
    """The whole attack: another hook, another key, and every set signed again with it."""
    thief = SignifySecretKey.generate("a thief's secret key")

    def edit(system: FileSystem) -> None:
        script = system.read_file("/obsdimg.sh")
        overwrite("/obsdimg.sh", script + b"# and send it to the provider\n")(system)
        key = ramdisk_key(thief, "6.6").text.encode()
        overwrite("/etc/signify/openbsd-66-base.pub", key)(system)

    with Iso.open(built.iso) as iso:
        listed = dict(parse(iso.read("/6.6/amd64/SHA256")))
    signed = sign_list(listed, thief, "6.6")
    built.change({AUTO: built.ramdisk(edit), "/6.6/amd64/SHA256.sig": signed.sha256_sig})


def profile(built: Built) -> None:
    built.change({AUTO: built.ramdisk(overwrite("/.profile", b"echo mine\n"))})


def added_file(built: Built) -> None:
    built.change({AUTO: built.ramdisk(overwrite("/bin-helper", b"#!/bin/sh\n", 0o755))})


def kernel_byte(built: Built) -> None:
    with Iso.open(built.iso) as iso:
        kernel = BootKernel.parse(iso.read(AUTO))
    data = bytearray(kernel.kernel)
    data[kernel.ramdisk_offset + kernel.ramdisk_size + 8] ^= 1
    built.change({AUTO: BootKernel.parse(bytes(data)).with_ramdisk(kernel.ramdisk)})


def extra_file(built: Built) -> None:
    built.change({"/6.6/amd64/bsd.evil": b"a kernel"})


def boot_conf(built: Built) -> None:
    text = f"set image {AUTO}\nset device hd0a\n".encode()
    built.change({"/etc/boot.conf": text})


def other_set(built: Built) -> None:
    built.change({"/6.6/amd64/base66.tgz": b"not the set"})


def loader(built: Built) -> None:
    built.change({"/6.6/amd64/cdboot": b"another loader"})


CHANGES = {
    hijack: "the encryption step is this obsdimg's own",
    profile: "nothing else in the ramdisk was changed",
    added_file: "nothing else in the ramdisk was changed",
    kernel_byte: "the boot kernel is upstream's outside its ramdisk",
    extra_file: "nothing else is on the ISO",
    boot_conf: "boot.conf starts our kernel and says nothing else",
    other_set: "every file of upstream is there, unchanged",
    loader: "every file of upstream is there, unchanged",
}


def failed(out: str) -> list[str]:
    return [line.split("FAIL", 1)[1].strip() for line in out.splitlines() if " FAIL " in line]


def test_what_was_built_passes_everything(
    built: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built.folder)
    assert main(["inspect", "--upstream", str(built.upstream)]) == 0
    out = capsys.readouterr().out
    assert failed(out) == []
    assert "ok           the ISO is what its manifest says: signed with" in out


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_changed_iso_fails_by_its_manifest_and_by_upstream(
    built: Built, change: Callable[[Built], None], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    change(built)
    monkeypatch.chdir(built.folder)
    assert main(["inspect"]) == 1
    assert any(
        "the ISO is what its manifest says" in line for line in failed(capsys.readouterr().out)
    )
    lost = ["--manifest", "/nonexistent", "--upstream", str(built.upstream)]
    assert main(["inspect", *lost]) == 1
    assert any(CHANGES[change] in line for line in failed(capsys.readouterr().out))


def test_without_manifest_and_upstream_nothing_is_called_ok(
    built: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSDIMG_CACHE", str(built.folder / "empty"))
    hijack(built)
    assert main(["inspect", str(built.iso), "--manifest", "/nonexistent"]) == 0
    out = capsys.readouterr().out
    assert "not checked  every file against the ISO as OpenBSD made it" in out


def test_a_release_that_gets_no_patches_is_said_to(
    built: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["inspect", str(built.iso)]) == 0
    said = "OpenBSD 6.6 gets no patches since 2020-10-18: the newest release is "
    assert capsys.readouterr().out.splitlines()[2].startswith(said)
    assert main(["inspect", str(built.iso), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["support"].startswith(said)
    monkeypatch.setattr(inspection, "known_releases", lambda: ("7.9", "8.0"))
    assert main(["inspect", str(built.iso)]) == 0
    assert "gets no patches" not in capsys.readouterr().out


def test_a_manifest_of_somebody_else_is_noticed_where_the_project_is_at_hand(
    built: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hijack(built)
    beside = Path(f"{built.iso}.json")
    value = json.loads(beside.read_text())
    import hashlib

    value["iso"] = {
        "name": built.iso.name, "size": built.iso.stat().st_size,
        "sha256": hashlib.sha256(built.iso.read_bytes()).hexdigest(),
    }  # fmt: skip
    beside.write_text(json.dumps(value))
    thief = SignifySecretKey.generate("a thief's secret key")
    Path(f"{beside}.sig").write_text(thief.sign(beside.read_bytes()).text)
    key = image_key(built.folder)
    assert standing(built.iso, key, Progress()).state == "changed"
    assert standing(built.iso, None, Progress()).state == "matches"
    Path(f"{beside}.sig").unlink()
    found = standing(built.iso, key, Progress())
    assert found.state == "changed" and "which signs the manifest" in found.detail


def test_each_command_looks_first(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hijack(built)
    monkeypatch.chdir(built.folder)
    monkeypatch.setenv("VULTR_API_KEY", "T" * 36)
    phrase = tmp_path / "phrase"
    phrase.write_text("demo passphrase of no value\n")
    phrase.chmod(0o600)
    # A stand-in would be refused before anything is compared.
    monkeypatch.setattr("obsdimg.deploy.image.built_on_stand_in", lambda path: False)
    url = ["--url", "https://x.invalid/a.iso"]
    for words in (["upload", *url], ["deploy", "--yes", *url]):
        assert main([*words, "--iso", str(built.iso)]) == 1
        assert "changed since it was built" in capsys.readouterr().err
    assert main(["smoke", "--passphrase-file", str(phrase)]) == 1
    assert "is not the ISO that was built" in capsys.readouterr().err
    main(["rehearse", "--passphrase-file", str(phrase), "--transcript", str(tmp_path / "t")])
    said = capsys.readouterr().err
    assert "is not the ISO that was built" in said
    assert "a made-up passphrase is typed instead of yours" in said
