"""The look from inside, over a stand-in for ssh that runs its script here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from obsdimg.smoke.inside import check_inside
from obsdimg.smoke.plan import Login
from obsdimg.smoke.result import SmokeCheck, SmokeVerdict

# A folder stands for the guest's root; the programs are OpenBSD's, as far as they are asked.
SSH = """#!/bin/sh
[ -e "$T/no-login" ] && { echo "admin@127.0.0.1: Permission denied (publickey)." >&2; exit 255; }
sed "s,/install.site,$T/install.site,; s,/obsdimg\\.,$T/obsdimg.,g;
	s,find /etc /root /home /var /tmp,find $T/etc,; s,find /etc/w,find $T/etc/w,;
	s,/etc/hostname,$T/etc/hostname," | PATH=$T/bin:$PATH sh
"""
PROGRAMS = {
    "ssh": SSH,
    "doas": """#!/bin/sh
[ -e "$T/no-doas" ] && { echo "doas: Operation not permitted" >&2; exit 1; }
shift; exec "$@"
""",
    "sysctl": "#!/bin/sh\ncat $T/forwarding\n",
    "pfctl": "#!/bin/sh\ncat $T/rules\n",
    "rcctl": "#!/bin/sh\ncat $T/failed\n",
    "bioctl": "#!/bin/sh\ncat $T/bioctl\n",
}
FILES = {
    "forwarding": "1\n",
    "rules": "block drop all\nmatch out on egress inet from 10.0.0.0/24 nat-to (egress:0)\n",
    "failed": "",
    "bioctl": "Volume      Status               Size Device\n"
    "softraid0 0 Online         4286578176 sd1     CRYPTO\n",
    "etc/wireguard/server.conf": "[Interface]\n",
    "etc/hostname.tun0": "inet 10.0.0.1\n",
}
SPOIL: list[tuple[str, Callable[[Path], object], str]] = [
    ("forwarding off", lambda t: (t / "forwarding").write_text("0\n"), "packets are forwarded"),
    ("pf passes", lambda t: (t / "rules").write_text("nat-to\npass all\n"), "pf blocks by"),
    ("no NAT", lambda t: (t / "rules").write_text("block drop all\n"), "pf translates"),
    ("service", lambda t: (t / "failed").write_text("smtpd\n"), "no service has failed"),
    ("left over", lambda t: (t / "obsdimg.sealed").touch(), "install.site and the sealed"),
    ("install.site", lambda t: (t / "install.site").touch(), "install.site and the sealed"),
    (
        "client's file",
        lambda t: (t / "etc/laptop.conf").write_text("[Interface]\n DNS = 9.9.9.9\n"),
        "no client's configuration",
    ),
    ("mode", lambda t: (t / "etc/hostname.tun0").chmod(0o644), "for root only"),
    (
        "no volume",
        lambda t: (t / "bioctl").write_text("bioctl: softraid0: no volumes\n"),
        "the disk is encrypted",
    ),
    ("no login", lambda t: (t / "no-login").touch(), "login over ssh"),
]


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PROGRAMS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("$T", str(tmp_path)))
        path.chmod(0o755)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o640)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def look(guest: Path) -> list[SmokeCheck]:
    return check_inside(Login("admin", guest / "id"), 2222, True, 60)


def bad(checks: list[SmokeCheck]) -> list[str]:
    return [c.name for c in checks if c.verdict is SmokeVerdict.FAILED]


def test_a_good_guest_passes_every_check_and_each_has_a_guest_that_fails_it(guest: Path) -> None:
    checks = look(guest)
    assert bad(checks) == []
    names = [check.name for check in checks]
    assert [n for n in names if not any(words in n for _, _, words in SPOIL)] == []


@pytest.mark.parametrize(("spoil", "words"), [s[1:] for s in SPOIL], ids=[s[0] for s in SPOIL])
def test_what_is_wrong_inside_is_seen(
    guest: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(guest)
    (name,) = bad(look(guest))
    assert words in name


def test_a_guest_that_does_not_let_us_look_passes_nothing_that_needs_root(guest: Path) -> None:
    (guest / "no-doas").touch()
    passed = {c.name for c in look(guest) if c.verdict is SmokeVerdict.PASSED}
    assert passed == {
        "login over ssh",
        "packets are forwarded",
        "install.site and the sealed secrets are gone",
    }
