"""The genuine 6.6 installer with the hook in it, rehearsed: what the tests of that share.

install.sub and .profile are the genuine ones (OBSDIMG_MEDIA); the part for amd64, which the
genuine media at hand lack, is the stand-in medium's.  Disks and programs are stand-ins that
note what was done to which disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import obsdimg.standin
from obsdimg.core.entry import Entry
from obsdimg.core.secret import Secret
from obsdimg.core.templates import render
from obsdimg.ffs import FileSystem
from obsdimg.rehearsal import (
    MachineDisk,
    Operator,
    RamdiskNode,
    Rehearsal,
    RehearsalMachine,
    Reply,
    SandboxError,
    find_host,
    rehearse_tree,
    tree_of,
)
from obsdimg.rehearsal.ramdisk import amd64_programs
from obsdimg.response.hook import HookSettings, hooked, ramdisk_files
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import ramdisk_key, sign_list
from obsdimg.site.files import site_set
from obsdimg.site.opensshkey import SEED_AT
from obsdimg.site.sealing import seal
from support.genuine_installer import genuine_ramdisk

DISK = MachineDisk()
PASS = r"correct horse \n battery $HOME"
SERVER_KEY = "/etc/wireguard/server.conf"
STEPS = Entry("/obsdimg.steps", b"obsdimg_say 'the steps run'\n", 0o600)
RESPONSE = """\
System hostname = vpn
Password for root account = *************
Change the default console to com0 = no
What timezone are you in = UTC
Use (W)hole disk = whole
Location of sets = cd0
Pathname to the sets = 6.6/amd64
Set name(s) = -game* -x* -comp* -man* +site*
Set name(s) = done
"""


@dataclass(frozen=True)
class Site:
    """The site set of a test: sealed with this passphrase, or nothing sealed."""

    passphrase: str | None = PASS
    damaged: bool = False

    def data(self) -> bytes:
        files = []
        about = None
        if self.passphrase is not None:
            sealed = seal(
                [Entry(SERVER_KEY, b"PrivateKey = top secret\n", 0o600), STEPS],
                Secret(self.passphrase),
                salt_key=bytes(32),
                rounds=4,
            )
            sha256 = hashlib.sha256(sealed).hexdigest()
            about = {"sha256": sha256, "seed_at": SEED_AT}
            if self.damaged:
                sealed = sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:]
            files.append(Entry("/obsdimg.sealed", sealed, 0o600))
        else:
            files.append(STEPS)
        script = render("siteXX", "common/install.site.j2", sealed=about)
        files.append(Entry("/install.site", script, 0o700))
        return site_set(files, 1_570_838_400)


def type_in(*passphrases: str, answer: str | None = None, sealed: tuple[str, ...] = ()) -> Operator:
    """Somebody who types these at the hook's passphrase prompts in turn, `answer` at the guard's
    question, and `sealed` where install.site asks."""
    replies = [
        Reply(r"Passphrase of the sealed secrets: $", text, secret=True, times=1) for text in sealed
    ]
    replies += [
        Reply(r"(New passphrase|The same again): $", text, secret=bool(text), times=1)
        for text in passphrases
    ]
    if answer is not None:
        replies.append(Reply(r"Answer: $", answer, times=1))
    return Operator(tuple(replies))


def install(
    settings: HookSettings,
    operator: Operator,
    disks: tuple[MachineDisk, ...] = (DISK,),
    *,
    site: Site = Site(),  # frozen
    before_hook: str = "",
    embedded: str | None = None,
    response: str = RESPONSE,
) -> Rehearsal:
    """Rehearse an installation.  `before_hook` is shell text put into install.md before the
    hook's line: a function there takes the place of a program, to make it fail."""
    try:
        host = find_host()
    except SandboxError as error:
        pytest.skip(error.message)
    key = SignifySecretKey.generate("test")
    sets = {
        "bsd": b"kernel",
        "bsd.rd": b"ramdisk kernel",
        "base66.tgz": site_set([Entry("/etc/base", b"")], 1),
        "INSTALL.amd64": b"notes",
        "site66.tgz": site.data(),
    }
    signed = sign_list({n: hashlib.sha256(d).hexdigest() for n, d in sets.items()}, key, "6.6")
    cd = {f"/6.6/amd64/{n}": d for n, d in sets.items()}
    cd |= {"/6.6/amd64/SHA256": signed.sha256, "/6.6/amd64/SHA256.sig": signed.sha256_sig}
    tree = dict(tree_of(FileSystem(genuine_ramdisk())))
    for program in amd64_programs():
        tree.setdefault(program, RamdiskNode("file", 0o755, links=2))
    tree["/install.md"] = RamdiskNode("file", 0o644, hooked(_install_md() + before_hook.encode()))
    tree["/auto_install.conf"] = RamdiskNode("file", 0o600, response.encode())
    public = ramdisk_key(key, "6.6").text.encode()
    tree["/etc/signify/openbsd-66-base.pub"] = RamdiskNode("file", 0o644, public)
    secret = Secret(embedded) if embedded is not None else None
    for entry in ramdisk_files(settings, secret):
        tree[entry.path] = RamdiskNode("file", entry.mode, entry.data)
    secrets = (PASS, "horse", "top secret")
    return rehearse_tree(
        tree, cd, RehearsalMachine(disks=disks), operator, secrets=secrets, host=host
    )


def _install_md() -> bytes:
    return (Path(obsdimg.standin.__path__[0]) / "ramdisk/install.md").read_bytes()
