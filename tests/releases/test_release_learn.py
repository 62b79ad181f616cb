"""`release learn`: a release taken out of images/ is learnt from its verified predecessor, and a
wrong or unsigned ISO teaches nothing."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from obsdimg.cli import trial
from obsdimg.cli.main import main
from obsdimg.core.archive import gzip
from obsdimg.core.resources import resource
from obsdimg.ffs import FileSystem
from obsdimg.releases import release as module
from obsdimg.releases.release import load_release
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import sign_list
from obsdimg.standin import build_iso
from obsdimg.standin.medium import EPOCH
from obsdimg.standin.ramdisk import FillRamdisk, nobodys_key, standin_files
from support.rehearsal_stage import needs_sandbox


@dataclass
class World:
    """A folder images/ that ends with 7.9, signed by test keys, and the ISOs of 7.9 and 8.0."""

    root: Path
    old: SignifySecretKey
    new: SignifySecretKey
    pkg: SignifySecretKey

    @property
    def iso79(self) -> Path:
        return self.root / "79" / "install79.iso"

    @property
    def iso80(self) -> Path:
        return self.root / "80" / "install80.iso"

    def words(self) -> list[str]:
        return [
            "release", "learn", "--iso", str(self.iso80), "--from", str(self.iso79), "--offline",
        ]  # fmt: skip


def base_set(keys: dict[str, SignifySecretKey]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, key in keys.items():
            text = key.public().text.encode()
            member = tarfile.TarInfo(f"./etc/signify/{name}.pub")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return gzip(data.getvalue())


OF_79 = (("(IPv4 address or none)", "(IPv4 address or 'none')"),)
"""What the stand-in's installer still asks as 6.6 does."""
CHANGED = (
    (
        "\task \"System hostname? (short form, e.g. 'foo')\"",
        '\task_yn "Shall the server brew tea?" yes\n\task "What is this host called?"',
    ),
)


def installer(version: str, changes: tuple[tuple[str, str], ...]) -> FillRamdisk:
    """The stand-in's ramdisk with a changed install.sub."""

    def fill(system: FileSystem) -> None:
        standin_files(nobodys_key("not a key of OpenBSD"), version, EPOCH)(system)
        script = system.read_file("/install.sub").decode()
        for old, new in changes:
            assert old in script
            script = script.replace(old, new)
        system.write_file("/install.sub", script.encode(), mode=0o755, mtime=EPOCH)

    return fill


def put_iso(
    path: Path,
    version: str,
    key: SignifySecretKey,
    sets: dict[str, bytes],
    changes: tuple[tuple[str, str], ...] = (),
) -> None:
    path.parent.mkdir(exist_ok=True)
    ramdisk = installer(version, OF_79 + changes)
    build_iso(path, version=version, sets=sets, efi=True, ramdisk_files=ramdisk)
    listed = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    (path.parent / "SHA256.sig").write_bytes(sign_list(listed, key, version).sha256_sig)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = [SignifySecretKey.generate(f"{name} secret key") for name in ("old", "new", "pkg")]
    found = World(tmp_path, *made)
    images = tmp_path / "images"
    images.mkdir()
    for path in resource("images").glob("??.toml"):
        if path.stem < "79":
            (images / path.name).write_bytes(path.read_bytes())
    genuine = load_release("7.9")
    text = resource("images", "79.toml").read_text()
    text = text.replace(genuine.keys.base.key, found.old.public().base64)
    start = text.index("[ports.iso_hash]")
    text = text[:start] + text[text.index("[[mirrors]]") :]
    (images / "79.toml").write_text(text)
    real = module.resource
    monkeypatch.setattr(
        module, "resource",
        lambda *parts: images.joinpath(*parts[1:]) if parts[0] == "images" else real(*parts),
    )  # fmt: skip
    monkeypatch.setenv("OBSDIMG_RELEASES", str(tmp_path / "own"))
    monkeypatch.setenv("OBSDIMG_CACHE", str(tmp_path / "cache"))
    keys = {"openbsd-80-base": found.new, "openbsd-80-pkg": found.pkg}
    put_iso(found.iso79, "7.9", found.old, {"base79.tgz": base_set(keys)})
    put_iso(found.iso80, "8.0", found.new, {"xtra80.tgz": b"a set that is new"})
    text, machines = trial._SAMPLES[0]  # one machine: the others are what a user waits for
    monkeypatch.setattr(trial, "_SAMPLES", ((text, dict([next(iter(machines.items()))])),))
    return found


def test_it_is_learnt_and_used(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    needs_sandbox()
    assert main(world.words()) == 0
    said = capsys.readouterr()
    assert "OpenBSD 8.0: learnt from 7.9" in said.out
    assert re.search(r"^  ok      BIOS, encrypted: \d\d questions, installed$", said.out, re.M)
    assert "  new  " not in said.out and "  gone  " not in said.out
    assert "next: obsdimg init vpn80 --release 8.0" in said.err
    release = load_release("8.0")
    assert [line.partition(", ")[2] for line in release.proven] == [
        "its installer's own script rehearsed as 7.9's: BIOS, encrypted."
    ]
    assert len(release.traps) == 1
    assert release.base_key == world.new.public()
    assert release.key("pkg") == world.pkg.public()
    assert release.keys.fw is None
    port = release.port("amd64")
    assert (port.iso, port.directory, port.efi) == ("install80.iso", "8.0/amd64", True)
    assert port.sets[0] == "base80.tgz" and port.sets[-1] == "xtra80.tgz"
    assert port.iso_hash is not None
    assert port.iso_hash.sha256 == hashlib.sha256(world.iso80.read_bytes()).hexdigest()
    assert release.question_table == "79"
    assert release.installer.partitions == load_release("7.9").installer.partitions

    config = world.root / "project" / "obsdimg.toml"
    config.parent.mkdir()
    config.write_text(
        '[release]\nversion = "8.0"\n[[tunnel.peers]]\nname = "laptop"\nipv4 = "10.0.0.2"\n'
    )
    assert main(["check", "-c", str(config)]) == 0
    assert "The installer of 8.0 will ask" in capsys.readouterr().out
    assert main(["release", "--json"]) == 0
    rows = {row["version"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["8.0"]["learned"] and not rows["7.9"]["learned"]


def test_an_installer_that_asks_in_other_words_is_shown_to(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_sandbox()
    put_iso(world.iso80, "8.0", world.new, {}, CHANGED)
    assert main(world.words()) == 1
    said = capsys.readouterr()
    for line in (
        "  new     Shall the server brew tea?  (do_install, line ",
        "  new     What is this host called?  (do_install, line ",
        "  gone    System hostname? (short form, e.g. 'foo')  (do_install, line ",
        "  FAILED  BIOS, encrypted: no answer to: what is this host called?",
        "          not known before: Shall the server brew tea?",
    ):
        assert f"\n{line}" in said.out
    assert "error: OpenBSD 8.0: its installer does not go through as that of 7.9 does" in said.err
    assert "\nhint: " in said.err
    release = load_release("8.0")
    assert release.proven == ()
    assert release.traps[1:3] == (
        "Its installer asks in new words: Shall the server brew tea?",
        "Its installer asks in new words: What is this host called?",
    )


def test_where_nothing_can_be_rehearsed_the_words_are_compared_all_the_same(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "why_not", lambda: "no sandbox here")
    put_iso(world.iso80, "8.0", world.new, {}, CHANGED)
    assert main([*world.words(), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [(q["text"], q["default"]) for q in found["new_questions"]] == [
        ("Shall the server brew tea?", "yes"),
        ("What is this host called?", "{}"),
    ]
    assert [q["text"] for q in found["gone_questions"]] == [
        "System hostname? (short form, e.g. 'foo')"
    ]
    assert (found["not_rehearsed"], found["rehearsals"]) == ("no sandbox here", [])
    assert "its installer was not rehearsed (no sandbox here)" in said.err
    assert load_release("8.0").proven == ()


def test_it_is_learnt_once(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "why_not", lambda: "no sandbox here")
    assert main(world.words()) == 0
    capsys.readouterr()
    assert main(world.words()) == 1
    assert "OpenBSD 8.0 is known already" in capsys.readouterr().err


def unsigned(world: World) -> None:
    (world.iso80.parent / "SHA256.sig").unlink()


def another_signer(world: World) -> None:
    listed = {"install80.iso": hashlib.sha256(world.iso80.read_bytes()).hexdigest()}
    signed = sign_list(listed, SignifySecretKey.generate("a thief's secret key"), "8.0")
    (world.iso80.parent / "SHA256.sig").write_bytes(signed.sha256_sig)


def changed(world: World) -> None:
    data = bytearray(world.iso80.read_bytes())
    data[len(data) // 2] ^= 1
    world.iso80.write_bytes(data)


def another_file(world: World) -> None:
    world.iso80.write_bytes(world.iso79.read_bytes())


def predecessor_changed(world: World) -> None:
    data = bytearray(world.iso79.read_bytes())
    data[len(data) // 2] ^= 1
    world.iso79.write_bytes(data)


def predecessor_without_keys(world: World) -> None:
    world.iso79.unlink()
    (world.iso79.parent / "SHA256.sig").unlink()
    world.iso79.parent.rmdir()
    put_iso(world.iso79, "7.9", world.old, {"base79.tgz": base_set({})})


def two_ahead(world: World) -> None:
    listed = {"install80.iso": "0" * 64}
    signed = sign_list(listed, world.new, "8.1")
    (world.iso80.parent / "SHA256.sig").write_bytes(signed.sha256_sig)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unsigned, "there is no SHA256.sig beside it"),
        (another_signer, "signed by key number"),
        (changed, "the list signed by"),
        (another_file, "the list signed by"),
        (predecessor_changed, "install79.iso: not install79.iso"),
        (predecessor_without_keys, "holds no key of the next release"),
        (two_ahead, "can only be learnt from 8.0, which is not known either"),
    ],
)
def test_a_wrong_iso_teaches_nothing(
    world: World, spoil: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(spoil)
    spoil(world)
    assert main(world.words()) == 1
    said = capsys.readouterr().err
    assert words in said and "\nhint: " in said
    assert not list((world.root / "own").glob("*")) if (world.root / "own").exists() else True
    assert "8.0" not in module.known_releases()
