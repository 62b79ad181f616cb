"""A stand-in release on a loopback mirror, and obsdimg run as a user runs it.

The package is copied with another `images/66.toml`, whose keys are made by the test: nothing in
the program is patched.  Built-in mirrors are behind a proxy that is not there, so that nothing
leaves this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from obsdimg.core.resources import resource
from obsdimg.releases.release import load_release
from obsdimg.signify.message import SignifySecretKey
from obsdimg.signify.signing import sign_list
from support.mirror import Mirror, closed_port, serve
from support.package_maker import package, signed

DIRECTORY = "/pub/6.6/amd64"
PACKAGES = "/pub/6.6/packages/amd64"
DEPENDS = {
    "wireguard-go-0.0.20190908": (),
    "wireguard-tools-0.0.20190913": ("shells/bash:bash-*:bash-5.0.11",),
    "bash-5.0.11": (),
}


@dataclass
class StandInRelease:
    """The mirror, the copy of the program that knows its keys, and where the cache is."""

    mirror: Mirror
    cache: Path
    base: SignifySecretKey
    pkg: SignifySecretKey
    env: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.mirror.url}/pub"

    @property
    def iso(self) -> Path:
        return self.cache / "6.6/amd64/install66.iso"

    @property
    def part(self) -> Path:
        return self.cache / "6.6/amd64/.install66.iso.part"

    def publish(self, iso: bytes, sha256: str) -> None:
        """Put the ISO, its signed list and the packages on the mirror."""
        made = sign_list({"install66.iso": sha256}, self.base, "6.6")
        self.mirror.files[f"{DIRECTORY}/install66.iso"] = iso
        self.mirror.files[f"{DIRECTORY}/SHA256.sig"] = made.sha256_sig
        index = b""
        for name, depends in DEPENDS.items():
            data = signed(package(name, depends), self.pkg)
            self.mirror.files[f"{PACKAGES}/{name}.tgz"] = data
            index += f"-rw-r--r--  1 0  0  {len(data)} Oct 12 2019 {name}.tgz\n".encode()
        self.mirror.files[f"{PACKAGES}/index.txt"] = index

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "obsdimg", *map(str, words)],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cache.parent,
        )

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        child = self.start(*words)
        out, err = child.communicate(timeout=120)
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def fetch(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("fetch", "--release", "6.6", "--mirror", self.url, *words)


@contextmanager
def standin_release(folder: Path) -> Iterator[StandInRelease]:
    """A release with fresh keys and an empty mirror, below `folder`."""
    base = SignifySecretKey.generate("stand-in base")
    pkg = SignifySecretKey.generate("stand-in pkg")
    tree = folder / "tree"
    top = resource("images").parent
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("builder/obsdimg", "siteXX", "response"):
        shutil.copytree(top / part, tree / part, ignore=ignore)
    genuine = load_release("6.6")
    text = resource("images", "66.toml").read_text()
    for old, new in ((genuine.keys.base, base), (genuine.keys.pkg, pkg)):
        assert old is not None
        text = text.replace(old.key, new.public().base64)
    pinned = genuine.port("amd64").iso_hash
    assert pinned is not None
    text = text.replace(pinned.sha256, "0" * 64)
    (tree / "images").mkdir()
    (tree / "images/66.toml").write_text(text)
    with serve() as mirror:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(tree / "builder"),
            "OBSDIMG_CACHE": str(folder / "cache"),
            "https_proxy": closed_port(),
            "no_proxy": "127.0.0.1",
        }
        yield StandInRelease(mirror, folder / "cache", base, pkg, env)
