"""The loader that UEFI starts on a disk for both kinds of firmware: renewed whole, or not at all.

The script runs under a ksh; what it calls is played by stand-ins: a mount is a link.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from obsdimg.cli.upgrade_words import undone
from obsdimg.server.asking import remote_script
from obsdimg.server.upgrading import UpgradeEnd, parse_end

pytestmark = pytest.mark.skipif(shutil.which("mksh") is None, reason="mksh is missing")

PROGRAMS = {
    "bioctl": "cat $T/volumes",
    "disklabel": """[ "$1" = sd0 ] && cat $T/label""",
    "fsck_msdos": "",
    "mktemp": "mkdir -p $T/at && echo $T/at",
    "mount": """[ "$*" = "-t msdos /dev/sd0i $T/at" ] && rmdir $T/at && ln -s $T/esp $T/at""",
    "umount": "/bin/rm $T/at && mkdir $T/at",
    "sync": "",
    "cp": """[ -e $T/full ] && { echo half >"$2"; exit 1; }
/bin/cp "$@"
[ -e $T/flips ] && echo x >>"$2"
exit 0""",
    "mv": '/bin/mv "$@"',
    "rm": '/bin/rm "$@"',
}
CHANGES = {"mount", "umount", "cp", "mv", "rm"}
"""Are counted; the call with the number in `cut` never comes about: the power fails."""
VOLUMES = "softraid0 0 Online 10 sd1 CRYPTO\n          0 Online 10 0:0.0   noencl <sd0a>\n"
LABEL = """\
16 partitions:
#                size           offset  fstype [fsize bsize   cpg]
  a:         20969408               64    RAID
  c:         20973568                0  unused
  i:             2048         20971520   MSDOS
"""


class Server:
    """The files of one, in a folder."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.esp, self.mdec = top / "esp/efi/boot", top / "mdec"
        for folder in (self.esp, self.mdec, top / "bin"):
            folder.mkdir(parents=True)
        for name, body in PROGRAMS.items():
            counted = "" if name not in CHANGES else (
                f"[ -n \"$*\" ] || exec cat $T/mounted\necho {name} >>$T/calls\n"
                "[ $(($(wc -l <$T/calls))) = $(cat $T/cut) ] && kill -9 $(cat $T/pid) && exit 1\n"
            )  # fmt: skip
            self.put(f"bin/{name}", f"#!/bin/sh\nT={top}\n{counted}{body}").chmod(0o755)
        self.put("volumes", VOLUMES)
        self.put("mounted", "/dev/sd1a on / type ffs (local)")
        self.put("label", LABEL)
        for name in ("BOOTX64", "BOOTIA32"):
            self.put(f"esp/efi/boot/{name}.EFI", f"old {name}")
            self.put(f"mdec/{name}.EFI", f"new {name}")

    def put(self, name: str, text: str) -> Path:
        path = self.top / name
        path.write_text(f"{text}\n")
        return path

    def run(self, cut: int = 0) -> list[str]:
        """What the script says; killed at its call number `cut`."""
        self.put("calls", "").write_text("")
        self.put("cut", str(cut))
        text = remote_script("bootarea.sh", "efi-loader.sh").replace("/usr/mdec", str(self.mdec))
        done = subprocess.run(
            ["mksh", "-s"], input=f"echo $$ >{self.top}/pid\n{text}\nefi_loaders\n",
            capture_output=True, text=True,
            env={"PATH": f"{self.top}/bin:/usr/bin:/bin"}, timeout=60,
        )  # fmt: skip
        assert done.stderr == "" and (done.returncode == -9 if cut else True), done
        return done.stdout.splitlines()

    @property
    def calls(self) -> int:
        return len((self.top / "calls").read_text().splitlines())

    def loader(self, name: str = "BOOTX64") -> str:
        return (self.esp / f"{name}.EFI").read_text().strip()

    def restarted(self) -> None:
        """What the power failure left mounted is not."""
        at = self.top / "at"
        if at.is_symlink():
            at.unlink()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_both_loaders_become_those_of_the_system_and_then_nothing_is_written(
    server: Server,
) -> None:
    assert server.run() == ["@ renewed BOOTX64.EFI", "@ renewed BOOTIA32.EFI"]
    assert (server.loader(), server.loader("BOOTIA32")) == ("new BOOTX64", "new BOOTIA32")
    assert {p.name for p in server.esp.iterdir()} == {"BOOTX64.EFI", "BOOTIA32.EFI"}
    assert not (server.top / "at").exists()
    assert server.run() == ["@ same BOOTX64.EFI", "@ same BOOTIA32.EFI"]
    assert set((server.top / "calls").read_text().split()) == {"mount", "umount"}


def test_the_power_fails_before_any_of_its_steps(server: Server, tmp_path: Path) -> None:
    """There is the old loader or the new one, whole; the next run has the new one."""
    server.run()
    count = server.calls // 2  # the second loader goes as the first
    assert count == 9
    for cut in range(1, count + 1):
        own = Server(tmp_path / str(cut))
        own.run(cut)
        for name in ("BOOTX64", "BOOTIA32"):
            assert own.loader(name) in (f"old {name}", f"new {name}")
        own.restarted()
        own.run()
        assert (own.loader(), own.loader("BOOTIA32")) == ("new BOOTX64", "new BOOTIA32")
        assert {p.name for p in own.esp.iterdir()} == {"BOOTX64.EFI", "BOOTIA32.EFI"}


def test_a_loader_that_lost_its_name_gets_it_back(server: Server) -> None:
    """msdosfs removes the old name before it gives it to the new file."""
    (server.esp / "BOOTX64.EFI").unlink()
    server.put("esp/efi/boot/BOOTX64.NEW", "new BOOTX64")
    assert server.run()[0] == "@ renewed BOOTX64.EFI"
    assert "cp" not in (server.top / "calls").read_text().split("mv")[0].split()
    assert server.loader() == "new BOOTX64"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [("full", "there is no room for a second BOOTX64.EFI"),
     ("flips", "BOOTX64.EFI is not on the disk as it was written")],
)  # fmt: skip
def test_what_cannot_be_written_leaves_the_old_one(server: Server, spoil: str, says: str) -> None:
    server.put(spoil, "")
    assert server.run()[0] == f"@ failed {says}"
    assert server.loader() == "old BOOTX64"
    assert {p.name for p in server.esp.iterdir()} == {"BOOTX64.EFI", "BOOTIA32.EFI"}


def test_a_partition_that_somebody_has_mounted_is_left_alone(server: Server) -> None:
    server.put("mounted", "/dev/sd1a on / type ffs (local)\n/dev/sd0i on /mnt type msdos (local)")
    (server.top / "bin/fsck_msdos").write_text(f"#!/bin/sh\necho fsck >>{server.top}/calls\n")
    assert server.run() == ["@ failed /dev/sd0i is mounted"]
    assert server.calls == 0


def test_a_partition_that_cannot_be_mounted_is_named(server: Server) -> None:
    (server.top / "bin/mount").write_text("#!/bin/sh\nexit $((${#1} > 0))\n")
    assert server.run()[0] == "@ failed /dev/sd0i cannot be mounted"


@pytest.mark.parametrize("without", ["volume", "partition", "loader", "own"])
def test_where_there_is_nothing_to_renew_nothing_is_said(server: Server, without: str) -> None:
    match without:
        case "volume":
            server.put("volumes", "")
        case "partition":
            server.put("label", LABEL.replace("MSDOS", "unused"))
        case "loader":
            shutil.rmtree(server.esp)
        case "own":
            shutil.rmtree(server.mdec)
    assert server.run() == []


def test_what_the_server_said_is_read() -> None:
    text = (
        "@@packages\nquirks: ok\n@ known\n@@efi\n@ renewed BOOTX64.EFI\n@ same BOOTIA32.EFI\n"
        f"@@bootarea\n{'a' * 64}\n@@end\n"
    )
    assert parse_end(text) == UpgradeEnd(True, ("quirks: ok",), ("BOOTX64.EFI",), None, "a" * 64)
    failed = parse_end("@@packages\n@@efi\n@ failed /dev/sd0i \x1bcannot\n@@bootarea\n\n@@end\n")
    assert failed.loader_failed is not None and failed.loader_failed.isprintable()
    assert (failed.packages, failed.boot_area) == (False, None)
    packages, loader = undone(failed)
    assert packages.startswith("packages were not updated: obsdimg ssh doas pkg_add")
    assert loader.startswith("the loader that UEFI starts was not renewed: /dev/sd0i")
    assert undone(parse_end(text)) == []
