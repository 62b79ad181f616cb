"""The accounts that the sealed steps make: run under ksh in a folder that looks like a new system.

What the installer would have written for the same answers is known (install.sub of 6.6 and 7.7).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.hook_bench import shell
from support.site_fixtures import content, planned

HASH = "$2b$08$" + "a" * 50 + "./Z"
OTHER = "$2a$10$" + "b" * 53
KEYS = [
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f {name}"
    for name in ("one one", "two")
]
MASTER = """\
root:*************:0:0:daemon:0:0:Charlie &:/root:/bin/ksh
daemon:*:1:1::0:0:The devil himself:/root:/sbin/nologin
rooty:*:9:9::0:0:root:root:/sbin/nologin
"""
GROUP = "wheel:*:0:root\nwheelers:*:7:\nstaff:*:20:\n"
MAIL = "From: x\nTo: root\nSubject: Welcome\n\nTo: root\n  \\n %s\n"
PROGRAMS = {
    "pwd_mkdb": '[[ $1 == -p && $# == 2 ]] || exit 1; print "$(<$2)" >@/etc/seen-by-pwd_mkdb',
    "pax": '[[ $1 == -rw && $2 == -k && $3 == -pe && $4 == . ]] || exit 1; cp -Rnp . "$5"',
    "chown": 'print -r -- "$*" >>@/owners',
}


class NewSystem:
    """What the installer leaves behind, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (
            "etc/ssh",
            "etc/wireguard/good",
            "etc/skel/.ssh",
            "home",
            "root/.ssh",
            "var/mail",
            "bin",
        ):
            (root / folder).mkdir(parents=True)
        for path, text in {
            "etc/master.passwd": MASTER,
            "etc/group": GROUP,
            "etc/ssh/sshd_config": "#PermitRootLogin no\n",
            "etc/skel/.profile": "PATH=x\n",
            "etc/skel/.ssh/authorized_keys": "",
            "etc/rc.conf.local": "pkg_scripts=obsdimg_wg\n",
            "root/.ssh/authorized_keys": "",
            "var/mail/root": MAIL,
        }.items():
            (root / path).write_text(text)
        for name, body in PROGRAMS.items():
            path = root / "bin" / name
            path.write_text(f"#!{shell()}\n{body.replace('@', str(root))}\n")
            path.chmod(0o755)

    def run(self, settings: str) -> subprocess.CompletedProcess[str]:
        steps = content(planned(settings), "/obsdimg.steps")
        for path in ("/etc/", "/home/", "/root/", "/var/mail/", "/obsdimg."):
            for before in " <>=(":
                steps = steps.replace(before + path, f"{before}{self.root}{path}")
        front = 'obsdimg_say() { print "$1"; }\nobsdimg_die() { print "STOPPED: $1"; exit 1; }\n'
        return subprocess.run(
            [shell(), "-c", front + steps],
            cwd=self.root,
            env={"PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def new(tmp_path: Path) -> NewSystem:
    if shutil.which("mksh") is None:
        pytest.skip("mksh is not installed")
    return NewSystem(tmp_path)


ADMIN = f"""
[access.admin]
name = "ada"
full_name = "Ada O'Hara"
password = "{HASH}"
keys = {KEYS}
"""


def test_the_administrator_is_what_the_installer_would_have_made(new: NewSystem) -> None:
    done = new.run(ADMIN)
    assert (done.returncode, done.stderr) == (0, ""), done
    line = f"ada:{HASH}:1000:1000:staff:0:0:Ada O'Hara:/home/ada:/bin/ksh\n"
    assert new.text("etc/master.passwd") == MASTER + line
    assert new.text("etc/seen-by-pwd_mkdb") == MASTER + line
    assert (new.root / "etc/master.passwd").stat().st_mode & 0o777 == 0o600
    assert new.text("etc/group") == (
        "wheel:*:0:root,ada\nwheelers:*:7:\nstaff:*:20:\nada:*:1000:\n"
    )
    assert (new.root / "etc/group").stat().st_mode & 0o777 == 0o644
    keys = new.root / "home/ada/.ssh/authorized_keys"
    assert keys.read_text() == "".join(f"{key}\n" for key in KEYS)
    assert new.text("home/ada/.profile") == "PATH=x\n"
    assert new.text("root/.forward") == "ada\n"
    mail = MAIL.replace("To: root", "To: Ada O'Hara <ada>")
    assert new.text("var/mail/ada") == mail
    assert (new.root / "var/mail/ada").stat().st_mode & 0o777 == 0o600
    assert new.text("owners").splitlines() == [
        f"1000:1000 {new.root}/var/mail/ada",
        f"-R 1000:1000 {new.root}/home/ada",
    ]
    assert new.text("root/.ssh/authorized_keys") == ""


def test_root_gets_its_hash_and_keys_and_nobody_else(new: NewSystem) -> None:
    done = new.run(f'[access]\nroot_password = "{OTHER}"\nroot_keys = {KEYS}\n')
    assert (done.returncode, done.stderr) == (0, ""), done
    assert new.text("etc/master.passwd") == MASTER.replace("root:*************", f"root:{OTHER}", 1)
    assert new.text("root/.ssh/authorized_keys") == "".join(f"{key}\n" for key in KEYS)
    assert new.text("etc/group") == GROUP
    assert not (new.root / "root/.forward").exists()
    assert "PermitRootLogin prohibit-password" in new.text("etc/ssh/sshd_config")


def test_a_disabled_password_is_thirteen_asterisks_and_the_files_of_the_overlay_stay(
    new: NewSystem,
) -> None:
    (new.root / "home/ada").mkdir()
    (new.root / "home/ada/.profile").write_text("PATH=mine\n")
    done = new.run(ADMIN.replace(f'password = "{HASH}"\n', ""))
    assert done.returncode == 0, done
    assert "\nada:*************:1000:" in new.text("etc/master.passwd")
    assert new.text("home/ada/.profile") == "PATH=mine\n"


@pytest.mark.parametrize("missing", ["pwd_mkdb", "pax", "chown"])
def test_what_fails_ends_the_installation_and_says_what(new: NewSystem, missing: str) -> None:
    (new.root / "bin" / missing).write_text(f"#!{shell()}\nexit 1\n")
    done = new.run(ADMIN)
    assert done.returncode == 1
    assert done.stdout.startswith("STOPPED: ")
    assert done.stdout.count("\n") == 1


def test_without_sshd_the_line_is_there_whatever_the_overlay_brought(new: NewSystem) -> None:
    text = "[access]\nsshd = false\n"
    assert new.run(text).returncode == 0
    assert new.text("etc/rc.conf.local") == "pkg_scripts=obsdimg_wg\nsshd_flags=NO\n"
    assert new.run(text).returncode == 0
    assert new.text("etc/rc.conf.local").count("sshd_flags") == 1
    assert "sshd_flags=NO\n" in content(planned(text), "/etc/rc.conf.local")


def test_the_overlays_first_steps_come_before_the_installers_and_ours(new: NewSystem) -> None:
    (new.root / "etc/rc.firsttime").write_text("fw_update\n")
    # It ends by exit, and its last line does not end: neither may stop what follows.
    (new.root / "obsdimg.firsttime").write_text("print mine\nexit 3")
    assert new.run("").returncode == 0
    assert not (new.root / "obsdimg.firsttime").exists()
    text = new.text("etc/rc.firsttime")
    assert text.splitlines()[-1].endswith("/usr/local/sbin/obsdimg-firsttime")
    text = f"fw_update() {{ print theirs; }}\n{text.rpartition('/')[0].rpartition(chr(10))[0]}\n"
    text += "print ours\n"
    done = subprocess.run([shell(), "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["mine", "theirs", "ours"]
    # What rc(8) has moved away by then is there again, with ours alone, should the power fail now.
    assert new.text("etc/rc.firsttime").strip().endswith("/usr/local/sbin/obsdimg-firsttime")
    assert new.text("etc/rc.firsttime").count("\n") == 1


def test_without_a_welcome_the_installation_goes_on(new: NewSystem) -> None:
    (new.root / "var/mail/root").unlink()
    done = new.run(ADMIN)
    assert (done.returncode, done.stdout) == (0, ""), done
    assert not (new.root / "var/mail/ada").exists()
    assert new.text("root/.forward") == "ada\n"
