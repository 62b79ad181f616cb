"""A shell on the genuine OpenBSD 5.1 install floppy, booted in QEMU, for judging images.

with Floppy(image=floppy, disks=[path]) as shell:
    print(shell.run("fsck_ffs -n /dev/rwd0c"))
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pexpect
import pytest

PROMPT = "obsdimg-ready# "
BOOT_SECONDS = 180  # without acceleration, on a busy machine


class Floppy:
    """The booted floppy; ends with its `with` block.  Disks are wd0, wd1, …

    What the guest writes to a disk is lost, except for those in `keep`.
    """

    def __init__(self, image: Path, disks: Sequence[Path] = (), keep: Sequence[Path] = ()) -> None:
        if shutil.which("qemu-system-i386") is None:
            pytest.skip("qemu-system-i386 is not installed")
        drives = [f"file={image},format=raw,if=floppy,snapshot=on"]
        drives += [
            f"file={d},format=raw,if=ide,index={n},snapshot={'off' if d in keep else 'on'}"
            for n, d in enumerate(disks)
        ]
        self.argv = ["-m", "64", "-nographic", "-boot", "a", "-nic", "none"]
        for drive in drives:
            self.argv += ["-drive", drive]

    def __enter__(self) -> Floppy:
        self.child = pexpect.spawn(
            "qemu-system-i386", self.argv, encoding="latin-1", timeout=BOOT_SECONDS
        )
        try:
            self.child.expect_exact("boot>")
            self.child.send("set tty com0\r")
            self.child.expect_exact("boot>")
            self.child.send("\r")
            self.child.expect_exact("(S)hell?")
            self.child.send("s\r")
            self.child.expect("# ")
            self.child.send(f"PS1='{PROMPT}'\r")
            self.child.expect_exact("\n" + PROMPT)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.child.close(force=True)

    def run(self, command: str, seconds: float = 60) -> str:
        """What `command` writes, without its echo; it ends within `seconds`."""
        self.child.send(command + "; echo '<'end'>'\r")
        self.child.expect_exact("<end>", timeout=seconds)
        output = self.child.before or ""
        self.child.expect_exact(PROMPT, timeout=seconds)
        return re.sub(r"\r", "", output).partition("\n")[2]
