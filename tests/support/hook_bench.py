"""A bench for the ramdisk hook alone: mksh, a folder for /dev, and programs that take notes.

Every program the hook may call is a small script that writes `NAME ARGUMENTS` to a journal
and behaves as the real one where that matters; anything else is not found, as in the ramdisk.
The disks are sparse files.  The genuine installer with the hook in it is tested elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from obsdimg.core.secret import Secret
from obsdimg.response.hook import HookSettings, ramdisk_files

MB = 1 << 20


def shell() -> str:
    """The ksh to run scripts with: mksh, or what OBSDIMG_KSH names (an OpenBSD ksh, say)."""
    found = os.environ.get("OBSDIMG_KSH") or shutil.which("mksh")
    if found is None:
        pytest.skip("mksh is not installed")
    return found


_START = r"""
AI=true UU=false MODE=$1 AI_RESPFILE=$2 VERSION=66 OBSD="OpenBSD/amd64 6.6"
cd @T@
. @T@/obsdimg.sh
if [[ -z $AI_RESPFILE ]]; then
	print "OUTER CONTINUES"
	[[ -f @T@/only-outer ]] && exit
	print -r -- "$OBSDIMG_PASSPHRASE" >@T@/exported
	@ksh@ @T@/start.sh install @T@/tmp/ai/ai.install.conf </dev/null
	exit
fi
print "INNER CONTINUES"
newfs $obsdimg_disk
chroot /mnt /install.site
chroot /mnt /bin/true
"""

# `note` first; then what the real program does, as far as the hook sees it.
_PROGRAMS = {
    "sysctl": 'cat "$T/disknames"',
    "dmesg": 'cat "$T/dmesg"',
    "stty": ":",
    "sh": r"""
        [[ $1 == MAKEDEV ]] || exit 99
        [[ -f $T/image/$2 ]] || { print "MAKEDEV: $2: unknown device"; exit 1; }
        for p in a c; do ln -f "$T/image/$2" "$T/dev/r$2$p"; done""",
    "fdisk": r"""
        for d; do :; done
        if [[ $1 == -* ]]; then
            [[ -f $T/fail/fdisk ]] && { print -u2 "fdisk: $d: I/O error"; exit 1; }
            [[ -f $T/fail/old-label ]] || rm -f "$T/state/$d.label"
            print "Signature: 0xAA55\n*3: A6  0 1 2 - 7 [  64:  16321 ] OpenBSD" >"$T/state/$d.mbr"
            # What the kernel makes up from a GPT with an EFI System partition.
            [[ $1 == -*g* || $2 == -g ]] &&
                print "  i:      532480        64    MSDOS" >"$T/state/$d.label"
            exit 0
        fi
        print "Disk: $d\tgeometry: 2/255/63 [16384 Sectors]"
        cat "$T/state/$d.mbr" 2>/dev/null || print "Offset: 0\tSignature: 0x0"
        exit 0""",
    "disklabel": r"""
        for d; do :; done
        if [[ $1 == -E ]]; then
            cat >"$T/stdin.disklabel"
            [[ -f $T/fail/disklabel ]] && { print -u2 "disklabel: Can't write"; exit 1; }
            [[ -f $T/fail/disklabel-silently ]] && exit 0
            i=$(cat "$T/state/$d.label" 2>/dev/null)
            at=64 size=16321 new=
            # Letter, offset, size and type of each `a` follow it, a line each.
            while IFS= read -r line; do
                [[ $line == 'a '* ]] || continue
                read -r offset; read -r wish; read -r type
                [[ -n $wish ]] && size=$wish
                new="$new  ${line#a }:  $size  $at    $type                    \n"
                at=$((at + size)) size=$((16385 - at))
            done <"$T/stdin.disklabel"
            print "$new$i" >"$T/state/$d.label"
            exit
        fi
        s=$(stat -c %s "$T/image/$d")
        print "# /dev/r${d}c:\nbytes/sector: 512\ntotal sectors: $((s / 512))\n\n16 partitions:"
        print "#                size           offset  fstype [fsize bsize   cpg]"
        [[ -f $T/state/$d.label ]] && cat "$T/state/$d.label"
        print "  c:            16384                0  unused                    "
        exit 0""",
    "bioctl": r"""
        if [[ $1 == softraid0 ]]; then cat "$T/state/volumes" 2>/dev/null; exit 0; fi
        if [[ $1 == -d ]]; then
            [[ -e $T/dev/r$2c ]] || { print "bioctl: Can't locate $2 via /dev/bio"; exit 1; }
            [[ -f $T/fail/detach ]] && { print "bioctl: $2: Device busy"; exit 1; }
            rm -f "$T/state/volumes"; exit 0
        fi
        cat >"$T/stdin.bioctl"
        print -r -- "${OBSDIMG_PASSPHRASE-unset}" >"$T/bioctl.environment"
        [[ -f $T/fail/bioctl ]] && { print -u2 "bioctl: BIOCCREATERAID: Device busy"; exit 1; }
        [[ -f $T/fail/bioctl-silently ]] && exit 0
        v=$(<"$T/next-volume") chunk=
        for a; do [[ $chunk == -l ]] && { chunk=$a; break; }; chunk=$a; done
        print "Deriving key using bcrypt PBKDF with 123 rounds..."
        print "softraid0: CRYPTO volume attached as $v"
        print "  softraid0 0 Online    8000000 $v     CRYPTO" >"$T/state/volumes"
        print "          0 Online    8000000 0:0.0   noencl <$chunk>" >>"$T/state/volumes" """,
    "dd": r"""
        for a; do
            case $a in
            of=*/dev/r*) [[ -f $T/fail/dd ]] && { print -u2 "dd: Input/output error"; exit 1; };;
            bs=1m) a=bs=1M;;
            esac
            set -A args -- "${args[@]}" "$a"
        done
        exec @dd@ conv=notrunc iflag=fullblock "${args[@]}" """,
    "chroot": 'print -r -- "$2 ${OBSDIMG_PASSPHRASE-unset}" >>"$T/chroot.environment"',
    "sha256": "exec @sha256sum@",
    "mount": r"""
        [[ -f $T/fail/mount ]] && { print -u2 "mount_ffs: $3: Invalid argument"; exit 1; }
        exit 0""",
    "umount": r"""cp "$1/etc/boot.conf" "$T/state/plain.boot.conf"; rm -r "$1/etc" """,
    "newfs": r"""
        [[ -f $T/fail/newfs && $1 == -q ]] && { print -u2 "newfs: wtfs: write error"; exit 1; }
        print -r -- "${OBSDIMG_PASSPHRASE-unset}" >"$T/newfs.environment" """,
}
_REAL = ("cat", "chmod", "cp", "grep", "ln", "mkdir", "mv", "rm", "sed", "sleep")
_BENCH_ONLY = ("stat",)


@dataclass
class Run:
    """What a start of the installer said and did."""

    code: int
    output: str
    journal: list[str]
    bench: Bench

    @property
    def writes(self) -> list[str]:
        """The calls that change a disk."""
        return [
            call
            for call in self.journal
            if call.startswith(
                ("newfs", "mount", "bioctl -d", "bioctl -v -C", "disklabel -E", "fdisk -")
            )
            or (call.startswith("dd ") and " of=/dev/r" in call)
        ]

    @property
    def answers(self) -> list[str]:
        """The lines of the response file, which the test gives a first line."""
        return (self.bench.root / "tmp/ai/ai.install.conf").read_text().splitlines()


@dataclass
class Bench:
    """A ramdisk of our own under `root`."""

    root: Path
    disks: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, root: Path) -> Bench:
        bench = cls(root)
        for name in ("bin", "dev", "image", "state", "fail", "sbin", "tmp/ai", "mnt2"):
            (root / name).mkdir(parents=True)
        (root / "tmp/ai/ai.install.conf").write_text("System hostname = vpn\n")
        (root / "dmesg").write_text("")
        (root / "next-volume").write_text("sd1\n")
        (root / "dev/urandom").symlink_to("/dev/urandom")
        (root / "dev/zero").symlink_to("/dev/zero")
        (root / "sbin/reboot").write_text("the real reboot\n")
        for name, body in _PROGRAMS.items():
            bench._program(name, body)
        for name in (*_REAL, *_BENCH_ONLY):
            (root / "bin" / name).symlink_to(str(shutil.which(name)))
        bench.add_disk("sd1", 8, listed=False)
        bench.add_disk("sd2", 8, listed=False)
        bench.add_disk("sd9", 8, listed=False)
        return bench

    def _program(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        note = f'T={self.root}\nprint -r -- "{name} $*" >>$T/journal\n'
        body = body.replace("@dd@", str(shutil.which("dd")))
        body = body.replace("@sha256sum@", str(shutil.which("sha256sum")))
        path.write_text(f"#!{shell()}\n{note}{body}\n")
        path.chmod(0o755)

    def add_disk(self, name: str, megabytes: int, listed: bool = True) -> Path:
        """A blank disk; with `listed` the kernel knows it from the start."""
        path = self.root / "image" / name
        with path.open("wb") as stream:
            stream.truncate(megabytes * MB)
        if listed:
            self.disks.append(name)
            with (self.root / "dmesg").open("a") as messages:
                messages.write(f"{name} at scsibus1 targ 0 lun 0: <VirtIO, Block Device, >\n")
        names = ",".join(f"{n}:" for n in ["cd0", "rd0", *self.disks])
        (self.root / "disknames").write_text(names + "\n")
        return path

    def fail(self, what: str) -> None:
        (self.root / "fail" / what).touch()

    def state(self, name: str, text: str) -> None:
        (self.root / "state" / name).write_text(text)

    def text(self, name: str) -> str:
        return (self.root / name).read_text()

    def run(self, settings: HookSettings, typed: str = "", embedded: str | None = None) -> Run:
        """Start the outer process, `typed` at its console; it starts the inner one."""
        t = str(self.root)
        key = Secret(embedded) if embedded is not None else None
        for entry in ramdisk_files(settings, key):
            path, text = entry.path, entry.data.decode()
            if path.endswith(".sh"):
                text = text.replace("/dev/r", f"{t}/dev/r").replace("cd /dev ", f"cd {t}/dev ")
                text = text.replace("/dev/urandom", f"{t}/dev/urandom").replace(
                    "/mnt2", f"{t}/mnt2"
                )
                text = text.replace("/tmp/obsdimg", f"{t}/tmp/obsdimg").replace(
                    "/sbin/reboot >", f"{t}/sbin/reboot >"
                )
                for name in (" /sbin/reboot", ">/sbin/reboot"):
                    text = text.replace(name, name[0] + t + name[1:])
                for name in ("/obsdimg.conf", "/obsdimg.key"):
                    text = text.replace(f" {name}", f" {t}{name}").replace(
                        f"<{name}", f"<{t}{name}"
                    )
            (self.root / path.lstrip("/")).write_text(text)
        (self.root / "start.sh").write_text(_START.replace("@T@", t).replace("@ksh@", shell()))
        return self.again("", typed)

    def again(self, mode: str, typed: str = "") -> Run:
        """Start install.sub once more with the files that are there; `mode` is its MODE."""
        (self.root / "journal").write_text("")
        done = subprocess.run(
            [shell(), f"{self.root}/start.sh", mode, ""],
            input=typed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": f"{self.root}/bin", "LC_ALL": "C"},
            timeout=60,
        )
        journal = (self.root / "journal").read_text()
        calls = journal.replace(f"{self.root}/dev/", "/dev/").splitlines()
        return Run(done.returncode, done.stdout.decode(), calls, self)


def random_data(path: Path) -> None:
    """Fill a disk with random bytes that have no boot signature."""
    data = bytearray(os.urandom(path.stat().st_size))
    data[510:512] = b"\0\0"
    data[1080:1082] = b"\0\0"
    path.write_bytes(data)
