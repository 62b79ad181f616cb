"""install.site opens the sealed secrets: run under mksh with a real openssl and a terminal."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pexpect
import pytest

from obsdimg.core.entry import Entry
from obsdimg.core.secret import Secret
from obsdimg.core.templates import render
from obsdimg.site.opensshkey import SEED_AT
from obsdimg.site.sealing import seal
from support.hook_bench import shell

ROUNDS = 16
PASS = r"it's 100% $HOME \n horse"
KEY = "/etc/wireguard/server.conf"
PROMPT = "Passphrase of the sealed secrets: "

_PROGRAMS = {
    "sha256": 'for f; do :; done; [[ $1 == -q ]] && sha256sum "$f" | sed "s/ .*//" '
    '|| sha256sum | sed "s/ .*//"',
    "rm": "[[ $1 == -P ]] && { shift; for f; do [[ -f $f ]] && dd if=/dev/zero of=$f "
    'bs=$(stat -c %s $f) count=1 conv=notrunc 2>/dev/null; done; }; exec @rm@ "$@"',
    "openssl": 'exec @openssl@ "$@"',
}


class Site:
    """A new system in a folder, with install.site and a sealed file in its root."""

    def __init__(self, root: Path) -> None:
        for tool in ("openssl", "tar", "ssh-keygen"):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed")
        self.root = root
        for name in ("bin", "root", "etc"):
            (root / name).mkdir()
        for name, body in _PROGRAMS.items():
            path = root / "bin" / name
            body = body.replace(f"@{name}@", str(shutil.which(name)))
            path.write_text(f'#!{shell()}\nprint -r -- "{name} $*" >>{root}/journal\n{body}\n')
            path.chmod(0o755)
        self.sealed = root / "obsdimg.sealed"
        self.put(["print PARTS RUN"])

    def put(self, parts: list[str], steps: str = "/obsdimg.steps") -> None:
        """The sealed file, with these steps in it."""
        body = render("siteXX", "common/obsdimg.steps.j2", parts=parts)
        files = [Entry(KEY, b"PrivateKey = top secret\n", 0o600), Entry(steps, body, 0o600)]
        self.sealed.write_bytes(seal(files, Secret(PASS), salt_key=bytes(16), rounds=ROUNDS))
        self.sha256 = hashlib.sha256(self.sealed.read_bytes()).hexdigest()

    def write(self) -> Path:
        about = {"sha256": self.sha256, "seed_at": SEED_AT}
        text = render("siteXX", "common/install.site.j2", sealed=about).decode()
        for path in ("/root/.obsdimg", "/obsdimg.sealed", "/obsdimg.steps", "/install.site"):
            text = text.replace(path, f"{self.root}{path}")
        text = text.replace("#!/bin/ksh", f"#!{shell()}")
        text = text.replace("-C / ", f"-C {self.root} ").replace("PATH=", f"PATH={self.root}/bin:")
        script = self.root / "install.site"
        script.write_text(text)
        return script

    def start(self, passphrase: str | None) -> pexpect.spawn[str]:
        """As the installer does: stdin is /dev/null, the terminal is there all the same."""
        script = self.write()
        env = {"PATH": "/usr/bin:/bin", "TERM": "vt220"}
        if passphrase is not None:
            env["OBSDIMG_PASSPHRASE"] = passphrase
        return pexpect.spawn(
            "sh", ["-c", f"{shell()} {script} </dev/null"], env=env, encoding="utf-8", timeout=20
        )

    def end(self, child: pexpect.spawn[str]) -> tuple[int | None, str]:
        child.expect(pexpect.EOF)
        child.close()
        return child.exitstatus, child.before or ""

    def leftovers(self) -> list[str]:
        return [str(p.relative_to(self.root)) for p in (self.root / "root").rglob("*")]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_right_passphrase_puts_the_files_in_place_and_leaves_no_trace(site: Site) -> None:
    code, output = site.end(site.start(PASS))
    assert code == 0, output
    placed = site.root / KEY.lstrip("/")
    assert placed.read_text() == "PrivateKey = top secret\n"
    assert placed.stat().st_mode & 0o777 == 0o600
    assert "PARTS RUN" in output
    assert not site.sealed.exists()
    assert not (site.root / "install.site").exists()
    assert not (site.root / "obsdimg.steps").exists()
    assert site.leftovers() == []


def test_a_wrong_passphrase_is_asked_for_again_on_the_console(site: Site) -> None:
    child = site.start("the disk's own one")
    for wrong in ("no", "", "  ", PASS + " "):
        child.expect_exact(PROMPT)
        child.sendline(wrong)
    child.expect_exact(PROMPT)
    child.sendline(PASS)
    code, output = site.end(child)
    assert code == 0, output
    assert (site.root / KEY.lstrip("/")).exists()
    assert site.leftovers() == []


def test_without_a_passphrase_it_is_asked_for(site: Site) -> None:
    child = site.start(None)
    child.expect_exact(PROMPT)
    child.sendline(PASS)
    assert site.end(child)[0] == 0


def test_the_passphrase_is_no_argument_and_not_shown(site: Site) -> None:
    child = site.start(None)
    child.expect_exact(PROMPT)
    child.sendline(PASS)
    _, output = site.end(child)
    assert "horse" not in output
    assert "horse" not in (site.root / "journal").read_text()


def test_the_parts_do_not_get_the_passphrase(site: Site) -> None:
    site.put(['print "<$OBSDIMG_PASSPHRASE$obsdimg_pass$obsdimg_under>"'])
    code, output = site.end(site.start(PASS))
    assert code == 0
    assert "<>" in output


@pytest.mark.parametrize("at", [0, 9, 40, 2000, -1])
def test_a_damaged_sealed_file_fails_and_asks_nobody(site: Site, at: int) -> None:
    data = bytearray(site.sealed.read_bytes())
    data[at] ^= 1
    site.sealed.write_bytes(data)
    code, output = site.end(site.start(PASS))
    assert code == 1
    assert "STOPPED: The sealed secrets are damaged" in output
    assert PROMPT not in output
    assert "PARTS RUN" not in output
    assert site.leftovers() == []


def test_a_missing_sealed_file_fails(site: Site) -> None:
    site.sealed.unlink()
    code, output = site.end(site.start(PASS))
    assert (code, "damaged" in output) == (1, True)


def test_where_nobody_can_be_asked_it_fails_and_forgets(site: Site) -> None:
    child = site.start("wrong one")
    child.expect_exact(PROMPT)
    child.sendeof()
    code, output = site.end(child)
    assert code == 1
    assert "Nobody can be asked" in output
    assert not (site.root / KEY.lstrip("/")).exists()
    assert site.leftovers() == []


def test_a_part_that_fails_ends_the_installation(site: Site) -> None:
    site.put(['obsdimg_die "no room."', "print LATER"])
    code, output = site.end(site.start(PASS))
    assert code == 1
    assert "STOPPED: no room." in output
    assert "LATER" not in output


def test_an_archive_that_was_not_unpacked_to_its_end_fails(site: Site) -> None:
    """The steps come last: where they are missing, something before them may be missing, too."""
    site.put(["print PARTS RUN"], steps="/etc/else")
    code, output = site.end(site.start(PASS))
    assert (code, "could not be unpacked" in output, "PARTS" in output) == (1, True, False)
    assert site.leftovers() == []


def test_without_sealed_files_the_steps_run_and_see_no_passphrase(site: Site) -> None:
    text = render("siteXX", "common/install.site.j2", sealed=None)
    assert b"openssl" not in text
    assert text.index(b"unset OBSDIMG_PASSPHRASE") < text.index(b". /obsdimg.steps")
    assert text.index(b". /obsdimg.steps") < text.index(b"rm -f /obsdimg.steps /install.site")
