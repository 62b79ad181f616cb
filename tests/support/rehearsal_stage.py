"""A stage for rehearsals: the genuine 6.6 ramdisk with our amd64 part, a signed CD, answers.

Each test takes it and breaks one thing.
"""

from __future__ import annotations

import functools
import hashlib
import io
import shutil
import tarfile
from dataclasses import dataclass, field, replace

import pytest

from obsdimg.core.resources import resource
from obsdimg.ffs import FileSystem
from obsdimg.rehearsal import (
    Operator,
    RamdiskNode,
    Rehearsal,
    RehearsalLimits,
    RehearsalMachine,
    SandboxError,
    find_host,
    rehearse_tree,
    tree_of,
)
from obsdimg.rehearsal.ramdisk import amd64_programs
from obsdimg.response.known import KnownQuestions
from obsdimg.response.questions import load
from obsdimg.signify.message import SignifySecretKey, sign_embedded
from obsdimg.standin.ramdisk import make_ramdisk, standin_files
from support.genuine_installer import genuine_ramdisk
from support.source_tree import installer_tree

RESPONSE = """\
System hostname = gw
Which network interface do you wish to configure = vio0
IPv4 address for vio0 = dhcp
IPv6 address for vio0 = none
DNS domain name = example.com
Password for root account = *************
Setup a user = admin
Full name for user admin = The Administrator
Password for user admin = *************
Public ssh key for user admin = ssh-ed25519 AAAAC3Nza admin@example.com
What timezone are you in = Europe/Paris
Use (W)hole disk = whole
Location of sets = cd0
Set name(s) = -game* -x* -comp* -man* +site*
Set name(s) = done
"""

RESPONSE_7 = RESPONSE.replace(
    "Which network interface do you wish to configure", "Network interface to configure"
).replace("for vio0 = dhcp", "for vio0 = autoconf")
"""The same for the installer of 7.3 and later."""

INSTALL_SITE = b"""\
#!/bin/ksh
print "site: $(hostname) on $(uname -s)"
awk 'BEGIN { print "site: awk is here" }'
rm /install.site
"""


@functools.cache
def needs_sandbox() -> None:
    """Skip where a rehearsal cannot run."""
    if shutil.which("mksh") is None:
        pytest.skip("mksh is not installed")
    try:
        find_host()
    except SandboxError as error:
        pytest.skip(error.message)


def tgz(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A tar archive as obsdimg writes them: plain files, numeric owners."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for path, (mode, content) in files.items():
            member = tarfile.TarInfo(path)
            member.mode, member.size = mode, len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@functools.cache
def genuine_tree() -> dict[str, RamdiskNode]:
    """The genuine 6.6 ramdisk, with the programs of amd64 and our install.md."""
    tree = tree_of(FileSystem(genuine_ramdisk()))
    for path in amd64_programs():
        tree.setdefault(path, RamdiskNode("file", 0o755, b"", 2))
    install_md = resource("builder", "obsdimg", "standin", "ramdisk", "install.md")
    tree["/install.md"] = RamdiskNode("file", 0o644, install_md.read_bytes())
    return tree


@dataclass
class Stage:
    """What a rehearsal needs; change it, then `run`."""

    tree: dict[str, RamdiskNode]
    sets: dict[str, bytes]
    key: SignifySecretKey = field(default_factory=SignifySecretKey.generate)
    machine: RehearsalMachine = field(default_factory=lambda: RehearsalMachine(aperture=False))
    """RESPONSE has no answer about X."""
    operator: Operator = field(default_factory=Operator.default)
    signed: bool = True
    damaged: str = ""
    digits: str = "66"

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """A file of the ramdisk."""
        raw = data.encode() if isinstance(data, str) else data
        self.tree[path] = RamdiskNode("file", mode, raw)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file of the ramdisk."""
        text = self.tree[path].data.decode()
        assert old in text
        self.put(path, text.replace(old, new), self.tree[path].mode)

    def answer(self, text: str) -> None:
        self.put("/auto_install.conf", text, 0o600)

    def cd(self) -> dict[str, bytes]:
        """The CD's files, with a list that is signed by this stage's key."""
        files = dict(self.sets)
        listed = "".join(
            f"SHA256 ({name}) = {hashlib.sha256(data).hexdigest()}\n"
            for name, data in sorted(files.items())
        )
        files["SHA256"] = listed.encode()
        if self.signed:
            files["SHA256.sig"] = sign_embedded(listed.encode(), self.key)
        if self.damaged:
            data = bytearray(files[self.damaged])
            data[len(data) // 2] ^= 1
            files[self.damaged] = bytes(data)
        return {f"/{dotted(self.digits)}/amd64/{name}": data for name, data in files.items()}

    def run(self, **options: object) -> Rehearsal:
        tree = dict(self.tree)
        public = self.key.public().text.encode()
        key_file = f"/etc/signify/openbsd-{self.digits}-base.pub"
        tree.setdefault(key_file, RamdiskNode("file", 0o644, public))
        return rehearse_tree(
            tree,
            self.cd(),
            replace(self.machine, version=dotted(self.digits)),
            self.operator,
            known=KnownQuestions(load(self.digits)),
            **{"limits": RehearsalLimits(60.0), **options},  # type: ignore[arg-type]
        )


def make_stage() -> Stage:
    """A stage on which everything goes well.  Skips the test where it cannot be set up."""
    needs_sandbox()
    return _stage(dict(genuine_tree()))


def make_standin_stage() -> Stage:
    """The same with the stand-in medium's own ramdisk."""
    needs_sandbox()
    return _stage(tree_of(FileSystem(make_ramdisk(standin_files(b"", "6.6", 0), 0))))


def make_source_stage(digits: str) -> Stage:
    """The same with the installer of a source tree."""
    needs_sandbox()
    return _stage(installer_tree(digits), digits)


def dotted(digits: str) -> str:
    """`6.6` of `66`."""
    return f"{digits[:-1]}.{digits[-1]}"


def _stage(tree: dict[str, RamdiskNode], digits: str = "66") -> Stage:
    tree.pop(f"/etc/signify/openbsd-{digits}-base.pub", None)
    sets = {
        "bsd": b"a kernel",
        "bsd.rd": b"a ramdisk kernel",
        "INSTALL.amd64": b"notes",
        f"base{digits}.tgz": tgz({"./usr/share/base": (0o644, b"base")}),
        f"comp{digits}.tgz": tgz({"./usr/share/comp": (0o644, b"comp")}),
        f"site{digits}.tgz": tgz(
            {"install.site": (0o755, INSTALL_SITE), "etc/pf.conf": (0o600, b"block\n")}
        ),
    }
    stage = Stage(tree, sets, digits=digits)
    stage.answer(RESPONSE if digits == "66" else RESPONSE_7)
    return stage


def with_disks(machine: RehearsalMachine, *disks: object) -> RehearsalMachine:
    return replace(machine, disks=tuple(disks))  # type: ignore[arg-type]
