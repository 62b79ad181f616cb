"""`obsdimg client`, from the command line: files, keys, what it says, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from obsdimg.config import parse
from obsdimg.project.folder import Project
from obsdimg.tunnel.keys import WgPrivateKey
from obsdimg.tunnel.wgconf import load
from tunnel.test_qr import Grey, png_rows

HEAD = """\
# My server.
[release]
version = "6.6"
[access.admin]
name = "admin"  # me
keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example",
]

[tunnel]
# Where clients call.
endpoint = "vpn.example.net"
"""
PEERS = """
# The one I carry.
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"  # always this one

[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"

[upkeep]
time = "03:15"  # at night
"""
LOW_ORDER = base64.b64encode(bytes.fromhex(
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
)).decode()  # fmt: skip

Capture = pytest.CaptureFixture[str]


class Folder:
    """A project's folder, and `obsdimg client` in it."""

    def __init__(self, root: Path, capsys: Capture) -> None:
        self.root, self.capsys = root, capsys
        self.toml = root / "obsdimg.toml"
        self.toml.write_text(HEAD + PEERS)
        Project.open(self.toml).keys()

    def client(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run it; what it said on both channels."""
        got = main(["client", *words, "-c", str(self.toml)])
        out, err = self.capsys.readouterr()
        assert got == code, out + err
        assert "Traceback" not in err
        return out, err

    def edit(self, old: str, new: str) -> None:
        text = self.toml.read_text()
        assert old in text
        self.toml.write_text(text.replace(old, new, 1))

    def conf(self, name: str) -> str:
        return (self.root / f"clients/{name}.conf").read_text()

    def secrets(self) -> dict[str, str]:
        folder = self.root / "secrets"
        return {p.name: p.read_text() for p in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
def folder(tmp_path: Path, capsys: Capture) -> Folder:
    return Folder(tmp_path, capsys)


def archive(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content of the files in a tar archive."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            assert (member.uid, member.gid) == (0, 0)
            stream = tar.extractfile(member)
            if stream is not None:
                found["/" + member.name.removeprefix("./")] = (member.mode, stream.read())
    return found


class TestList:
    """Without a word: who there is."""

    def test_every_client_has_a_line_and_no_secret_is_in_it(self, folder: Folder) -> None:
        out, _ = folder.client()
        laptop, phone = out.splitlines()
        assert laptop.split()[:2] == ["laptop", "10.0.0.2"]
        assert phone.endswith("full tunnel")
        assert not any(s.strip() in out for n, s in folder.secrets().items() if n != "image.pub")
        assert folder.client("list")[0] == out

    def test_json_has_the_same_for_programs(self, folder: Folder) -> None:
        rows = json.loads(folder.client("list", "--json")[0])
        assert [row["name"] for row in rows] == ["laptop", "phone"]
        key = WgPrivateKey.parse(folder.secrets()["phone.key"])
        assert rows[1]["public_key"] == key.public().text()
        assert rows[1]["own_key"] is False

    def test_keys_are_made_once_and_private(self, folder: Folder) -> None:
        folder.client()
        before = folder.secrets()
        folder.client()
        assert folder.secrets() == before
        assert (folder.root / "secrets").stat().st_mode & 0o777 == 0o700
        for path in (folder.root / "secrets").iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path


class TestShow:
    """A client's configuration as text and as QR code."""

    def test_the_text_is_what_wg_quick_reads(self, folder: Folder) -> None:
        text = folder.client("laptop")[0]
        assert folder.client("show", "laptop")[0] == text
        path = folder.root / "laptop.conf"
        path.write_text(text)
        conf = load(path)
        assert [str(a) for a in conf.addresses] == ["10.0.0.2/32"]
        assert str(conf.peers[0].endpoint) == "vpn.example.net:53"
        assert conf.peers[0].keepalive == 25
        if shutil.which("wg-quick"):
            path.chmod(0o600)
            subprocess.run(["wg-quick", "strip", str(path)], check=True, capture_output=True)

    def test_qr_png_and_svg_hold_the_same_configuration(self, folder: Folder) -> None:
        text = folder.client("phone")[0]
        png, svg = folder.root / "p.png", folder.root / "p.svg"
        out, err = folder.client("phone", "--png", str(png), "--svg", str(svg), "--qr")
        assert "PrivateKey" not in out + err
        for path in (png, svg):
            assert path.stat().st_mode & 0o777 == 0o600
        assert svg.read_bytes().lstrip().startswith((b"<?xml", b"<svg"))
        assert any(sign in out for sign in "▀▄█")
        read = Grey(png_rows(png.read_bytes())).read()
        wanted = "\n".join(line for line in text.splitlines() if line and line[0] != "#")
        assert read.strip() == wanted.strip()

    def test_an_unknown_name_says_which_there_are(self, folder: Folder) -> None:
        _, err = folder.client("tablet", code=1)
        assert err == (
            "error: there is no client tablet\nhint: in the configuration: laptop, phone\n"
        )

    @pytest.mark.parametrize("words", [["add"], ["laptop", "phone"], ["list", "x"], ["show"]])
    def test_wrong_words_say_what_is_expected(self, folder: Folder, words: list[str]) -> None:
        assert "one name is expected" in folder.client(*words, code=2)[1]

    def test_a_picture_that_cannot_be_written_is_one_line(self, folder: Folder) -> None:
        _, err = folder.client("phone", "--png", str(folder.root / "no/such/p.png"), code=1)
        assert err.startswith("error: ")
        assert "cannot be written" in err


class TestAdd:
    """A new client: the next address, keys, a file, and word of what to do."""

    def test_it_gets_the_next_address_and_the_file_keeps_its_comments(self, folder: Folder) -> None:
        before = folder.toml.read_text()
        out, err = folder.client("add", "tablet")
        after = folder.toml.read_text()
        for line in before.splitlines():
            assert line in after.splitlines()
        for comment in ("# My server.", "# me", "# always this one", "# at night"):
            assert after.count(comment) == 1
        peers = parse(after.encode()).tunnel.peers
        assert [(p.name, str(p.ipv4)) for p in peers][-1] == ("tablet", "10.0.0.4")
        assert "client tablet added" in out
        assert "obsdimg build" in out
        assert "clients/tablet.conf" in err
        conf = folder.root / "clients/tablet.conf"
        assert conf.stat().st_mode & 0o777 == 0o600
        secrets = folder.secrets()
        assert load(conf).private_key == WgPrivateKey.parse(secrets["tablet.key"])

    def test_addresses_of_both_families_and_gaps_are_used(self, folder: Folder) -> None:
        folder.edit("[tunnel]\n", '[tunnel]\nipv6 = "fd00:66::1/64"\n')
        folder.edit('"10.0.0.2"', '"10.0.0.2"\nipv6 = "fd00:66::2"')
        folder.edit('"10.0.0.3"', '"10.0.0.4"\nipv6 = "fd00:66::4"')
        folder.client("add", "tablet")
        peer = parse(folder.toml.read_bytes()).tunnel.peers[-1]
        assert (str(peer.ipv4), str(peer.ipv6)) == ("10.0.0.3", "fd00:66::3")

    def test_the_first_client_of_an_empty_tunnel(self, folder: Folder) -> None:
        folder.toml.write_text(HEAD)
        folder.client("add", "laptop")
        assert str(parse(folder.toml.read_bytes()).tunnel.peers[0].ipv4) == "10.0.0.2"

    def test_split_tunnel_and_a_private_network(self, folder: Folder) -> None:
        folder.client("add", "tablet", "--split", "--reach", "172.16.1.0/24")
        assert "AllowedIPs = 10.0.0.0/24, 172.16.1.0/24\n" in folder.conf("tablet")

    def test_a_client_with_its_own_key_never_has_its_private_key_here(self, folder: Folder) -> None:
        own = WgPrivateKey.generate()
        folder.client("add", "tablet", "--public-key", own.public().text())
        assert "tablet.key" not in folder.secrets()
        assert "tablet.psk" in folder.secrets()
        assert "PrivateKey = PUT-YOUR-PRIVATE-KEY-HERE\n" in folder.conf("tablet")
        _, err = folder.client("tablet")
        assert "still missing: the client's own private key" in err

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["laptop"], "tunnel.peers[2].name: is the same as that of peer laptop"),
            (["Tablet!"], "tunnel.peers[2].name: 'Tablet!' is not a peer's name"),
            (["../x"], "tunnel.peers[2].name: '../x' is not a peer's name"),
            (["list"], "list: is a word of this command"),
            (["rotate"], "rotate: is a word of this command"),
            (["t", "--public-key", "abc"], "tunnel.peers[2].public_key: not a WireGuard public"),
            (["t", "--public-key", "A" * 43 + "="], "the public key is all zero"),
            (["t", "--public-key", LOW_ORDER], "a point of low order"),
            (["t", "--public-key", "A" * 42 + "B="], "cannot end a key"),
            (["t", "--reach", "172.16.1.9/24"], "tunnel.peers[2].reach"),
            (["t", "--reach", "10.0.0.0/8"], "10.0.0.0/8 overlaps the tunnel"),
            (["t", "--reach", "0.0.0.0/0"], "tunnel.peers[2].reach"),
        ],
    )
    def test_what_cannot_be_is_refused_and_nothing_changes(
        self, folder: Folder, words: Sequence[str], complaint: str
    ) -> None:
        folder.client()
        before, secrets = folder.toml.read_bytes(), folder.secrets()
        _, err = folder.client("add", *words, code=2 if "word of this" in complaint else 1)
        assert complaint in err
        assert folder.toml.read_bytes() == before
        assert folder.secrets() == secrets
        assert not (folder.root / "clients").exists()

    def test_a_full_network_says_so(self, folder: Folder) -> None:
        folder.edit("[tunnel]\n", '[tunnel]\nipv4 = "10.0.0.1/30"\n')
        folder.edit('[[tunnel.peers]]\nname = "phone"\nipv4 = "10.0.0.3"\n', "")
        _, err = folder.client("add", "tablet", code=1)
        assert "no address is free in 10.0.0.0/30" in err


class TestRemoveAndRotate:
    """Keys go, or are replaced; the rest of the project stays."""

    def test_a_removed_client_leaves_no_key_and_the_comments_stay(self, folder: Folder) -> None:
        folder.client("rotate", "phone")
        folder.client()
        out, _ = folder.client("remove", "phone")
        assert "client phone removed, with its keys" in out
        assert not {"phone.key", "phone.psk"} & folder.secrets().keys()
        assert not (folder.root / "clients/phone.conf").exists()
        text = folder.toml.read_text()
        assert "# always this one" in text
        assert "# at night" in text
        assert [p.name for p in parse(text.encode()).tunnel.peers] == ["laptop"]

    def test_the_last_client_may_go(self, folder: Folder) -> None:
        folder.client("remove", "phone")
        folder.client("remove", "laptop")
        assert parse(folder.toml.read_bytes()).tunnel.peers == []
        assert folder.client()[0] == ""

    def test_nobody_is_removed_by_a_wrong_name(self, folder: Folder) -> None:
        before = folder.toml.read_bytes()
        assert "there is no client tablet" in folder.client("remove", "tablet", code=1)[1]
        assert folder.toml.read_bytes() == before

    def test_rotation_replaces_both_keys_of_one_client_only(self, folder: Folder) -> None:
        folder.client()
        before = folder.secrets()
        folder.client("rotate", "phone")
        after = folder.secrets()
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {"phone.key", "phone.psk"}
        assert after["phone.key"].strip() in folder.conf("phone")

    def test_rotation_of_a_client_with_its_own_key_changes_the_preshared_one(
        self, folder: Folder
    ) -> None:
        own = WgPrivateKey.generate().public().text()
        folder.client("add", "tablet", "--public-key", own)
        before = folder.secrets()
        out, _ = folder.client("rotate", "tablet")
        changed = {n for n, v in folder.secrets().items() if before[n] != v}
        assert changed == {"tablet.psk"}
        assert "pre-shared key" in out


class TestApplying:
    """What goes to a server that runs already: by `apply` and by nothing else."""

    @pytest.mark.parametrize("words", [("add", "tablet"), ("rotate", "phone"), ("remove", "phone")])
    def test_one_way_is_named_and_nothing_is_left_for_another(
        self, folder: Folder, words: tuple[str, str]
    ) -> None:
        out, _ = folder.client(*words)
        assert "obsdimg apply" in out
        assert "ssh " not in out
        assert {p.suffix for p in folder.root.glob("clients/*")} <= {".conf"}

    def test_where_nobody_can_log_in_no_way_is_named(self, folder: Folder) -> None:
        before, _, after = HEAD.partition("[access.admin]")
        tunnel = after[after.index("[tunnel]") :]
        folder.toml.write_text(f"{before}[access]\nsshd = false\n{tunnel}")
        out, _ = folder.client("add", "tablet")
        assert "obsdimg apply" not in out


class TestServerKey:
    """A server that made its key at first boot tells it by its console."""

    def first_boot(self, folder: Folder) -> None:
        folder.edit("[tunnel]\n", '[tunnel]\nkeys = "first-boot"\n')

    def test_before_it_is_known_the_file_says_what_to_do(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.first_boot(folder)
        folder.client("add", "tablet")
        assert "PublicKey = SHOWN-ON-THE-SERVERS-CONSOLE\n" in folder.conf("tablet")
        _, err = folder.client("tablet")
        assert "still missing: the server's key, which it shows on its console" in err
        assert main(["probe", "tablet", "-c", str(folder.toml)]) == 1
        err = folder.capsys.readouterr().err
        assert "client tablet: not complete yet, it lacks the server's key" in err
        assert "hint: obsdimg client --server-key KEY" in err

    def test_it_is_remembered_and_written_into_every_file(self, folder: Folder) -> None:
        self.first_boot(folder)
        key = WgPrivateKey.generate().public().text()
        _, err = folder.client("--server-key", key)
        assert "still missing" not in err
        for name in ("laptop", "phone"):
            assert f"PublicKey = {key}\n" in folder.conf(name)
            assert "still missing" not in folder.client(name)[1]

    @pytest.mark.parametrize("key", ["", "abc", "A" * 43 + "=", LOW_ORDER])
    def test_what_is_no_key_is_refused_by_its_option(self, folder: Folder, key: str) -> None:
        self.first_boot(folder)
        _, err = folder.client("--server-key", key or " ", code=1)
        assert err.startswith("error: --server-key: ")
        assert "server.pub" not in folder.secrets()

    def test_where_the_key_is_made_here_it_is_refused(self, folder: Folder) -> None:
        key = WgPrivateKey.generate().public().text()
        assert "this server's key is made here" in folder.client("--server-key", key, code=1)[1]


class TestBadInput:
    """What issue 8 lists, each with the key or file at fault."""

    @pytest.mark.parametrize(
        ("old", "new", "complaint"),
        [
            ('"10.0.0.3"', '"10.0.0.2"', "tunnel.peers[1].ipv4: 10.0.0.2 belongs to laptop"),
            ('"10.0.0.3"', '"10.0.0.1"', "tunnel.peers[1].ipv4: 10.0.0.1 belongs to the server"),
            ('"10.0.0.3"', '"10.0.1.3"', "10.0.1.3 is not in 10.0.0.0/24"),
            ('"10.0.0.3"', '"10.0.0.255"', "10.0.0.255 is the network's own address"),
            ('"10.0.0.3"', '"10.0.0"', "tunnel.peers[1].ipv4"),
            ('"phone"', '"laptop"', "tunnel.peers[1].name: is the same as that of peer laptop"),
            ('"phone"', '"phone"\npublic_key = "x"', "tunnel.peers[1].public_key: not a Wire"),
            ('"phone"', f'"phone"\npublic_key = "{LOW_ORDER}"', "public_key: not a WireGuard"),
            ('"vpn.example.net"', '"vpn example"', "tunnel.endpoint"),
            ("[tunnel]\n", '[tunnel]\nipv4 = "10.0.0.1/31"\n', "tunnel.ipv4: 10.0.0.1/31 leaves"),
            (
                "[tunnel]\n",
                '[[network.interfaces]]\nname = "vio1"\nipv4 = "10.0.0.9/16"\n[tunnel]\n',
                "10.0.0.0/24 overlaps network.interfaces[0].ipv4",
            ),
        ],
    )
    def test_the_configuration_names_the_key(
        self, folder: Folder, old: str, new: str, complaint: str
    ) -> None:
        folder.edit(old, new)
        _, err = folder.client(code=1)
        assert complaint in err
        assert "LOW" not in err
        assert LOW_ORDER not in err

    def test_two_clients_with_one_public_key(self, folder: Folder) -> None:
        line = f'\npublic_key = "{WgPrivateKey.generate().public()}"'
        folder.edit('"laptop"', '"laptop"' + line)
        folder.edit('"phone"', '"phone"' + line)
        assert "is the same as that of peer laptop" in folder.client(code=1)[1]

    def test_two_clients_with_one_key_file(self, folder: Folder) -> None:
        folder.client()
        text = folder.secrets()["laptop.key"]
        (folder.root / "secrets/phone.key").write_text(text)
        _, err = folder.client(code=1)
        assert "peer phone: its key is the same as that of laptop" in err
        assert text.strip() not in err

    @pytest.mark.parametrize("name", ["laptop.key", "phone.psk", "server.key", "seal.key"])
    @pytest.mark.parametrize("content", ["", "junk\n", "A" * 43 + "=\n", "\xff\x00" * 40])
    def test_a_secret_that_is_none_is_named_and_not_shown(
        self, folder: Folder, name: str, content: str
    ) -> None:
        folder.client()
        (folder.root / "secrets" / name).write_text(content, "latin-1")
        _, err = folder.client(code=1)
        assert f"secrets/{name}" in err
        assert not content.strip() or content.strip() not in err

    @pytest.mark.parametrize(("path", "mode"), [("secrets", 0o755), ("secrets/phone.key", 0o644)])
    def test_loose_modes_are_refused_with_the_command_that_mends_them(
        self, folder: Folder, path: str, mode: int
    ) -> None:
        folder.client()
        place = folder.root / path
        place.chmod(mode)
        _, err = folder.client(code=1)
        assert f"{place}: others may read it (mode {mode:04o})" in err
        assert f"hint: chmod {0o700 if place.is_dir() else 0o600:o} {place}" in err

    def test_a_missing_secret_is_an_error_and_rotate_makes_it_anew(self, folder: Folder) -> None:
        before = folder.secrets()
        (folder.root / "secrets/phone.key").unlink()
        for words in ((), ("phone",)):
            _, err = folder.client(*words, code=1)
            assert "secrets/phone.key: there is no such key" in err
        assert "phone.key" not in folder.secrets()
        folder.client("rotate", "phone")
        after = folder.secrets()
        assert {n for n in before if before[n] != after[n]} == {"phone.key", "phone.psk"}

    @pytest.mark.parametrize(
        "words", [(), ("phone",), ("add", "desk"), ("remove", "phone"), ("rotate", "phone")]
    )
    def test_lost_secrets_are_not_made_anew(self, folder: Folder, words: tuple[str, ...]) -> None:
        folder.client("rotate", "phone")
        shutil.rmtree(folder.root / "secrets")
        before = folder.toml.read_bytes(), folder.conf("phone")
        _, err = folder.client(*words, code=1)
        assert "clients/ hold what was made with this project's keys" in err
        assert "hint: put secrets/ back (obsdimg restore FILE" in err
        assert not (folder.root / "secrets").exists()
        assert (folder.toml.read_bytes(), folder.conf("phone")) == before

    def test_a_secret_that_is_a_folder_is_one_line(self, folder: Folder) -> None:
        folder.client()
        path = folder.root / "secrets/phone.key"
        path.unlink()
        path.mkdir(mode=0o600)
        assert folder.client(code=1)[1].startswith("error: ")

    def test_no_project_here(self, tmp_path: Path, capsys: Capture) -> None:
        assert main(["client", "-c", str(tmp_path / "none.toml")]) == 1
        assert "no configuration here" in capsys.readouterr().err


def test_options_of_a_new_client_are_refused_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "obsdimg.toml"
    assert main(["init", str(tmp_path), "-q"]) == 0
    assert main(["client", "-c", str(config), "laptop", "--split"]) == 2
    assert "--split describes a new client" in capsys.readouterr().err
