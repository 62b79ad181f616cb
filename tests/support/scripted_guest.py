"""A stand-in for QEMU with an OpenBSD guest in it, for tests of the scenario.

    scripted_guest.py BRANCH QEMU-OPTIONS...

Takes QEMU's command line, speaks QMP and a serial line on the given file descriptors, and
says what the facts sheet says a 6.6 amd64 guest says (marks E66, R66, OURS).  BRANCH names
the one thing that goes wrong, or `good`.  It is no OpenBSD and contains none of it.
"""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from obsdimg.smoke.disk_search import EFI_SYSTEM
from obsdimg.smoke.keys import keys

try:
    from support import screens
except ImportError:  # run as a program
    import screens  # type: ignore[no-redef]

PASSPHRASE = os.environ.get("SCRIPTED_PASSPHRASE", "correct horse battery")
SEALING = "another staple entirely"
LOADER_TEXT = b">> OpenBSD/amd64 %s %s\0"

MENU = "(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? "
INSTALL_TROUBLE = {
    "no-answer": 'Question has no answer in response file: "System hostname?"',
    "bad-choice": "'dcph' is not a valid choice.",
    "response-required": "A response is required.",
    "autopartition": "Autopartitioning failed.",
    "no-template": "No autopartitioning template found.",
    "no-root": "'/' must be configured!",
    "no-sets": "Looked at 6.6/amd64 on cd0a and found no OpenBSD/amd64 6.6 sets.",
    "bootblocks": "Failed to install bootblocks.",
    "install-site": "/install.site failed: install.site failed",
    "no-filesystems": "No filesystems found on sd1.",
    "mount-conflict": "/dev/sd1a and /dev/sd1d can't both be mounted at /.",
    "no-such-disk": "sd7: no such disk.",
    "unverified": "Checksum test for base66.tgz failed. Continue anyway? [no] no",
    "bioctl": "softraid0: incorrect key or passphrase",
    "halted": "The operating system has halted.",
    "stopped": "obsdimg: STOPPED: bioctl could not make the encrypted volume on sd0a:",
    "panic": "panic: softraid0: out of everything",
    "ddb": "ddb> ",
    "ai-failed": "failed; check /tmp/ai/ai.log",
}
BOOT_TROUBLE = {
    "single-user": "Enter pathname of shell or RETURN for sh: ",
    "root-device": "root device: ",
    "pf": "pfctl: Syntax error in config file: pf rules not loaded",
    "panic-at-boot": "fatal page fault in supervisor mode",
}


FIRST_TIME_TROUBLE = {
    "no-packages": "obsdimg: packages FAILED; by hand: pkg_add wireguard-go",
    "no-patches": "obsdimg: patches FAILED; by hand: syspatch",
    "no-key": "obsdimg: the server's key FAILED to be made; mend what is said above, then:",
    "no-window": "obsdimg: the safety window FAILED to open: ssh is not reached from outside",
    "cut-off": "obsdimg-tunnel: /etc/pf.conf was cut off or empty: the last good one holds again",
}
IDLE_TROUBLE = {
    "panics-later": "panic: kernel diagnostic assertion failed",
    "starts-anew": "OpenBSD 6.6 (GENERIC) #0: Sat Oct 12 10:56:32 MDT 2019",
    "mended-later": "obsdimg-tunnel: /etc/wireguard/server.conf was refused: the last good one"
    " holds again (see /etc/wireguard/server.conf.refused)",
}
UNENCRYPTED = ("unencrypted", "unencrypted-wrong-root")


class ResetError(Exception):
    """The machine was reset: start over from the BIOS."""


class Guest:
    """The machine: QMP, keyboard, screen, serial line; `life` is what the guest does."""

    def __init__(self, branch: str, argv: list[str]) -> None:
        self.branch = branch
        words = " ".join(argv)
        self.qmp = self._socket(words, "qmp")
        self.serial = self._socket(words, "serial")
        self.mirror = "graphics=off" in words
        self.disk = next(
            (Path(json.loads(w)["filename"]) for w in argv if '"disk-file"' in w and "{" in w), None
        )
        self.cd = "drive=cd-medium" in words
        self.screen: list[str] = [""]
        self.on_serial = False  # loader and kernel have moved to the serial line
        self.typed: queue.Queue[str] = queue.Queue()
        self.resume = threading.Event()
        self.button = threading.Event()
        self.reset = False
        self.status = "running"
        self.writes = 0
        self.boots = 0
        self.forwards: list[tuple[str, int, int]] = []
        self.listeners: list[socket.socket] = []
        self.lock = threading.Lock()
        self._forward(words)

    @staticmethod
    def _socket(words: str, name: str) -> socket.socket:
        found = re.search(rf"socket,id={name},fd=(\d+)", words)
        assert found, words
        return socket.socket(fileno=int(found[1]))

    def _forward(self, words: str) -> None:
        rules = re.findall(r"hostfwd=(\w+):127\.0\.0\.1:(\d+)-[\d.]+:(\d+)", words)
        for protocol, host, guest in rules:
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            listener = socket.socket(socket.AF_INET, kind)
            listener.bind(("127.0.0.1", int(host)))
            if protocol == "tcp":
                listener.listen()
                threading.Thread(
                    target=self._accept, args=(listener, int(guest)), daemon=True
                ).start()
            self.listeners.append(listener)
            self.forwards.append((protocol, listener.getsockname()[1], int(guest)))

    def _accept(self, listener: socket.socket, guest: int) -> None:
        kept = []
        while True:
            connection, _ = listener.accept()
            kept.append(connection)
            if guest == 22 and self.branch in ("ssh-open", "good-ssh"):
                connection.sendall(b"SSH-2.0-OpenSSH_8.1\r\n")

    # -- QMP

    def serve(self) -> None:
        self._send({"QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 0},
                                        "package": "scripted"}, "capabilities": []}})  # fmt: skip
        text, decoder = "", json.JSONDecoder()
        while data := self.qmp.recv(65536):
            text += data.decode()
            while text.strip():
                try:
                    request, end = decoder.raw_decode(text.lstrip())
                except ValueError:
                    break  # not complete
                text = text.lstrip()[end:]
                self.answer(request)
        os._exit(0)

    def answer(self, request: dict[str, Any]) -> None:
        answer = {"return": self.obey(request["execute"], request.get("arguments") or {})}
        if "id" in request:
            answer["id"] = request["id"]
        self._send(answer)
        if request["execute"] == "quit":
            os._exit(0)

    def _send(self, message: dict[str, Any]) -> None:
        with self.lock:
            self.qmp.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: Any) -> None:
        stamp = {"seconds": int(time.time()), "microseconds": 0}
        self._send({"event": name, "data": data, "timestamp": stamp})

    def obey(self, command: str, arguments: dict[str, Any]) -> Any:
        if command == "query-status":
            return {"running": self.status == "running", "status": self.status}
        if command == "human-monitor-command":
            return "".join(
                f"  {p.upper()}[HOST_FORWARD]  9  127.0.0.1 {h}  198.51.100.15 {g} 0 0\r\n"
                for p, h, g in self.forwards
            )
        if command == "query-blockstats":
            return [{"node-name": "disk", "stats": {"wr_operations": self.writes}}]
        if command == "screendump":
            drawn = picture() if arguments.get("format") == "png" else self.ppm()
            Path(arguments["filename"]).write_bytes(drawn)
        if command == "pmemsave":
            lines = (self.screen + [""] * 25)[-25:] if len(self.screen) > 25 else self.screen
            cells = b"".join(
                bytes((c, 7))
                for row in (lines + [""] * 25)[:25]
                for c in row.ljust(80)[:80].encode("cp437")
            )
            Path(arguments["filename"]).write_bytes(cells)
        if command == "send-key":
            self._key(tuple(k["data"] for k in arguments["keys"]))
        if command == "blockdev-insert-medium":
            self.cd = True
        if command == "blockdev-remove-medium":
            self.cd = False
        if command == "object-add":
            Path(arguments["file"]).write_bytes(self.packets())
        if command == "system_reset":
            self.event("RESET", guest=False, reason="host-qmp-system-reset")
            self.reset = True
        if command == "cont":
            self.status = "running"
            self.resume.set()
        if command == "system_powerdown":
            self.button.set()
        return {}

    def _key(self, names: tuple[str, ...]) -> None:
        for code in (*range(32, 127), 10):
            if keys(chr(code)) == names:
                self.typed.put(chr(code))

    def ppm(self) -> bytes:
        """The screen in the VGA's text mode, as QEMU dumps it (P6)."""
        known = set(screens.font("vga-8x16").glyphs.values())
        rows = ["".join(c if c in known else " " for c in row)[:80] for row in self.screen[-25:]]
        drawn = screens.draw(rows, screens.font("vga-8x16"), 640, 400)
        pixels = bytearray(640 * 400 * 3)
        for channel in range(3):
            pixels[channel::3] = drawn.pixels[channel::4]
        return b"P6\n640 400\n255\n" + bytes(pixels)

    def packets(self) -> bytes:
        """Calls from outside and what the guest answers, as pcap."""
        opened = {
            "ssh-open": {22}, "good-ssh": {22}, "ssh-mute": {22}, "smtp-open": {25},
        }.get(self.branch, set())  # fmt: skip
        out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, 1)
        for port in sorted({guest for kind, _, guest in self.forwards if kind == "tcp"}):
            if self.branch == "blind-cable":
                break
            out += _packet(40000, port, 0x02)
            if port != 80:  # 80 is silent
                out += _packet(port, 40000, 0x12 if port in opened else 0x14)
        return out

    # -- the guest's two ways to talk

    def say(self, text: str = "", end: str = "\r\n") -> None:
        self._check()
        if self.on_serial or self.mirror:
            self.serial.sendall((text + end).encode())
        if not self.on_serial:
            self.screen[-1] += text
            if end:
                self.screen.append("")

    def ask(self, prompt: str, *, echo: bool = True, timeout: float | None = None) -> str | None:
        """Print `prompt` and read a line, from the serial line or the keyboard; None: silence."""
        self.say(prompt, end="")
        line = ""
        start = time.monotonic()
        while True:
            self._check()
            if not line and timeout is not None and time.monotonic() > start + timeout:
                return None
            character = self._read()
            if character in ("\r", "\n"):
                self.say()
                return line
            line += character
            if character and (echo or self.branch == "echoes"):
                self.say(character, end="")

    def _read(self) -> str:
        if self.mirror or self.on_serial:
            self.serial.settimeout(0.05)
            try:
                data = self.serial.recv(1)
            except TimeoutError:
                return ""
            if not data:
                os._exit(0)
            return data.decode("latin-1")
        try:
            return self.typed.get(timeout=0.05)
        except queue.Empty:
            return ""

    def _check(self) -> None:
        if self.reset:
            self.reset = False
            raise ResetError

    # -- power

    def run(self) -> None:
        threading.Thread(target=self.serve, daemon=True).start()
        if self.branch == "kvm-internal-error" and "accel=kvm" in " ".join(sys.argv):
            self.status = "internal-error"
            time.sleep(0.3)
            self.event("STOP")
            self.hang()
        while True:
            try:
                self.screen, self.on_serial = [""], False
                self.life()
            except ResetError:
                continue

    def hang(self) -> None:
        while True:
            self._check()
            time.sleep(0.05)

    def stop(self, reason: str) -> None:
        """A reset or power-off by the guest: paused until told to go on."""
        self.resume.clear()
        self.status = "shutdown"
        self.event("SHUTDOWN", guest=True, reason=reason)
        self.event("STOP")
        self.resume.wait()
        self.reset = False
        raise ResetError

    def trouble(self, branch: str) -> None:
        if self.branch == branch == "dies":
            os._exit(3)
        if self.branch == branch == "disk-full":
            self.event("BLOCK_IO_ERROR", device="", nospace=True, operation="write",
                       action="stop", reason="No space left on device")  # fmt: skip
            self.event("STOP")
            self.hang()
        if self.branch == branch == "hangs":
            self.hang()

    # -- what the guest does

    def life(self) -> None:
        if self.branch == "mute":
            self.hang()
        self.say("SeaBIOS (version 1.16.2)")
        if self.branch == "no-boot":
            self.say("Booting from DVD/CD...")
            self.say("Boot failed: Could not read from CDROM (code 0009)")
            self.say("No bootable device.")
            self.hang()
        installed = self.installed()
        if self.cd:
            self.boot_cd(installed)
        elif installed:
            self.boot_disk()
        else:
            self.say("No bootable device.")
            self.hang()

    def loader(self, banner: str, image: str) -> None:
        """From `boot>` to the booted kernel."""
        while True:
            line = self.ask("boot> ", timeout=5)
            if line and line.strip() == "set tty com0":
                self.to_com0(banner)
                continue
            break
        self.kernel(image)

    def to_com0(self, banner: str) -> None:
        self.say("switching console to com", end="")
        self.screen[-1] += "0"
        self.on_serial = True
        self.serial.sendall(f"{banner}\n\r".encode())

    def kernel(self, image: str) -> None:
        if self.branch == "loader-error":
            self.say(f"booting {image}: open {image}: No such file or directory")
            self.hang()
        self.serial.sendall(f"booting {image}: |\b/\b-\b3367832|\b/\b+404692\n\r".encode())
        self.say("Copyright (c) 1995-2019 OpenBSD. All rights reserved.  https://www.OpenBSD.org")

    def boot_cd(self, installed: bool) -> None:
        banner = ">> OpenBSD/amd64 CDBOOT 3.45"
        self.say(banner)
        self.loader(banner, "cd0a:/6.6/amd64/bsd.auto")
        self.say("OpenBSD 6.6 (RAMDISK_CD) #0: Sat Oct 12 10:56:32 MDT 2019")
        self.say("root on rd0a swap on rd0b dump on rd0b")
        self.say("Welcome to the OpenBSD/amd64 6.6 installation program.")
        if self.branch == "no-autoinstall":
            self.ask(MENU)
        self.say("Starting non-interactive mode in 5 seconds...")
        self.say(MENU)
        if self.branch == "no-hook":
            self.say("Performing non-interactive install...")
            self.say("Available disks are: sd0.")
            self.hang()
        self.hook(installed)
        self.install()

    def hook(self, installed: bool) -> None:
        self.say()
        self.say("obsdimg: this medium installs OpenBSD/amd64 6.6 by itself.")
        if self.branch == "no-disk":
            self.die("No disk was found.")
        if (installed and self.branch != "no-guard") or self.branch == "fresh-not-empty":
            self.say("obsdimg: sd0 is NOT EMPTY. It holds:")
            self.say("           label a: RAID (an encrypted volume, or part of one)")
            if self.branch == "guard-writes":
                self.writes += 3
            if self.branch == "guard-erases":
                self.say("obsdimg: It will be erased: the configuration says overwrite = true.")
            elif self.ask("Answer: ") != "wipe sd0" and self.branch != "guard-takes-yes":
                self.die("sd0 was left as it is. Nothing was changed.")
        else:
            self.say("obsdimg: sd0 holds no partition, no volume and no file system.")
        if self.branch == "guard-takes-yes" and installed:
            self.say("Performing non-interactive install...")
            self.hang()
        if self.branch == "unattended" or self.branch in UNENCRYPTED:
            return
        while True:
            first = self.ask("New passphrase: ", echo=False)
            again = self.ask("The same again: ", echo=False)
            if first == again or self.branch == "takes-anything":
                return
            self.say("obsdimg: The two differ. Once more.")

    def die(self, text: str) -> None:
        self.say()
        self.say(f"obsdimg: STOPPED: {text}")
        self.say()
        self.ask(MENU)
        self.hang()

    def install(self) -> None:
        self.say("Performing non-interactive install...")
        for tenth in range(1, 11):
            self.say(f"obsdimg: random data: {tenth} of 10 MB")
        for name in ("dies", "disk-full", "hangs"):
            self.trouble(name)
        if (text := INSTALL_TROUBLE.get(self.branch)) is not None:
            self.say(text)
            self.say("failed; check /tmp/ai/ai.log")
            self.ask(MENU)
            self.hang()
        self.say("obsdimg: Deriving key using bcrypt PBKDF with 123 rounds...")
        if self.branch != "no-volume":
            self.say("obsdimg: sd1 is the encrypted volume on sd0a")
        self.say("Available disks are: sd0 sd1.")
        if self.branch not in ("unsigned", "halts-unsigned"):
            self.say("Signature Verified")
        for name in ("bsd", "bsd.rd", "base66.tgz", "site66.tgz"):
            self.say(f"Installing {name}")
        self.say("Making all device nodes... done.")
        self.say("Relinking to create unique kernel... done.")
        if self.branch in ("sealed-other", "sealed-wrong"):
            while self.ask("Passphrase of the sealed secrets: ", echo=False) != SEALING or (
                self.branch == "sealed-wrong"
            ):
                pass
            self.say("obsdimg: the sealed secrets are in place")
        self.make_disk()
        self.say("CONGRATULATIONS! Your OpenBSD install has been successfully completed!")
        if self.branch == "no-reboot":
            self.hang()
        if self.branch == "halts-unsigned":
            self.say("The operating system has halted.")
            self.say("Please press any key to reboot.")
            self.hang()
        self.say("syncing disks... done")
        self.say("rebooting...")
        self.stop("guest-reset")

    def boot_disk(self) -> None:
        self.say("Using drive 0, partition 3.")
        self.say("probing: pc0 com0 mem[639K 1022M a20=on]")
        self.say("disk: hd0+ sr0*")
        banner = ">> OpenBSD/amd64 BOOT 3.45"
        self.say(banner)
        self.boots += 1
        if self.branch == "asks-on-com0":
            self.to_com0(banner)
        while self.branch not in UNENCRYPTED:
            given = self.ask("Passphrase: ", echo=False)
            time.sleep(0.3)  # the KDF; what was on the screen before stays there meanwhile
            if self.branch != "refuses-all" and (
                given == PASSPHRASE or self.branch == "unlocks-with-anything"
            ):
                break
            self.say("incorrect passphrase")
        if self.branch == "asks-on-com0":  # its boot.conf says `boot`
            self.kernel("sr0a:/bsd")
        else:
            self.loader(banner, "sr0a:/bsd")
        self.say("OpenBSD 6.6 (GENERIC) #0: Sat Oct 12 10:56:32 MDT 2019")
        root = "sd0a" if self.branch in ("plain-root", "unencrypted") else "sd1a"
        self.say(f"root on {root} (0123456789abcdef.a) swap on sd1b dump on sd1b")
        if (text := BOOT_TROUBLE.get(self.branch)) is not None:
            self.say(text)
            self.hang()
        if self.branch == "cut-off-again" and self.boots > 1:
            self.say("obsdimg-tunnel: /etc/pf.conf was cut off or empty: the last good one holds"
                     " again (see /etc/wireguard/pf.conf.refused)")  # fmt: skip
        if self.boots == 1:
            self.say("running rc.firsttime")
            if (text := FIRST_TIME_TROUBLE.get(self.branch)) is not None:
                self.say(text)
            self.say("obsdimg: the steps of the first boot have ended")
        failed = self.branch == "daemon-failed"
        failed = failed or (self.branch == "daemon-failed-again" and self.boots > 1)
        wg = "(failed)" if failed else ""
        self.say(f"starting package daemons: obsdimg_wg{wg}.")
        if self.branch == "boot-hangs":
            self.hang()
        self.say("starting local daemons: cron.")
        self.say("Sun Nov 22 10:00:00 UTC 2026")
        self.screen.append("login: ")
        if (text := IDLE_TROUBLE.get(self.branch)) is not None:
            time.sleep(0.5)  # the stage that waits for the boot has ended
            self.say(text)
        while not self.button.is_set() or self.branch == "no-button":
            self._check()
            time.sleep(0.02)
        self.button.clear()
        self.say("syncing disks... done")
        self.stop("guest-shutdown")

    # -- the disk

    def installed(self) -> bool:
        if self.disk is None:
            return False
        with tempfile.NamedTemporaryFile() as raw:
            subprocess.run(
                ["qemu-img", "convert", "-O", "raw", str(self.disk), raw.name], check=True
            )
            data = Path(raw.name).read_bytes()
            return b"marcCRAM" in data or b"another volume" in data

    def make_disk(self) -> None:
        """An encrypted disk: loader and metadata at its start, then nothing but noise."""
        assert self.disk is not None
        size = (15 if self.branch == "mbr" else 16) * 1024 * 1024
        data = bytearray(os.urandom(size))
        data[: 4 * 1024 * 1024] = bytes(4 * 1024 * 1024)
        if self.branch == "no-metadata":
            data[1024 * 1024 : 1024 * 1024 + 14] = b"another volume"
        else:
            data[1024 * 1024 : 1024 * 1024 + 8] = b"marcCRAM"
        if self.branch != "no-loader-text":
            data[1200000 : 1200000 + len(LOADER_TEXT)] = LOADER_TEXT
        if self.branch == "mbr":
            data[:HEAD] = installed_head(size // 512)
        if self.branch in ("gpt", "gpt-plain"):
            write_gpt(data, plain=self.branch == "gpt-plain")
        if self.branch == "plain-text":
            data[9000000:9000013] = b"root:*:0:0:da"
        if self.branch == "secret-on-disk":
            at = 8 * 1024 * 1024 - 5  # across a border of extents and reads
            data[at : at + len(PASSPHRASE)] = PASSPHRASE.encode()
        if self.branch == "not-encrypted":
            data[10000000:11000000] = b"some file of the system\n" * 41666 + bytes(16)
        with tempfile.NamedTemporaryFile() as raw:
            raw.write(data)
            raw.flush()
            subprocess.run(
                ["qemu-img", "convert", "-O", "qcow2", raw.name, str(self.disk)], check=True
            )
        self.writes += 100


HEAD = 66 * 512


def installed_head(sectors: int) -> bytes:
    """The first sectors of a disk as the installer leaves it for the BIOS: an MBR with the
    OpenBSD partition from sector 64, and behind that sector the disklabel with the RAID partition
    a (seen on a 7.7)."""
    head, label = bytearray(HEAD), bytearray(512)
    head[446 + 48 : 510] = bytes.fromhex("80010200a6feffff") + struct.pack("<II", 64, sectors - 64)
    head[510:512] = b"\x55\xaa"
    for at in (0, 132):
        label[at : at + 4] = bytes.fromhex("57455682")
    struct.pack_into("<H", label, 138, 16)
    struct.pack_into("<IIHHBBH", label, 148, sectors - 64, 64, 0, 0, 19, 0, 0)  # FS_RAID
    struct.pack_into("<IIHHBBH", label, 148 + 32, sectors, 0, 0, 0, 0, 0, 0)
    words = struct.unpack("<202H", label[:404])
    checksum = 0
    for word in words:
        checksum ^= word
    struct.pack_into("<H", label, 136, checksum)
    head[65 * 512 :] = label
    return bytes(head)


def write_gpt(data: bytearray, *, plain: bool) -> None:
    """A GPT with an EFI System partition at 1 MB and the volume's at 2 MB; readable: the former,
    the table and its copy at the end, and with `plain` a page in the middle of the volume."""
    last = len(data) // 512 - 1
    data[512:520] = b"EFI PART"
    data[512 + 32 : 512 + 40] = last.to_bytes(8, "little")
    efi = (5 * 2048, 7 * 2048 - 1)
    volume = (7 * 2048, last - 34)
    kinds = (EFI_SYSTEM, bytes.fromhex("14cc4d822e6ed5118fd500b0d0b33a1f"))
    for at, kind, (first, end) in zip((1024, 1152), kinds, (efi, volume), strict=True):
        data[at : at + 16] = kind
        data[at + 32 : at + 48] = first.to_bytes(8, "little") + end.to_bytes(8, "little")
    readable = b"EFI program " * 60000
    data[efi[0] * 512 : efi[0] * 512 + len(readable)] = readable
    data[(last - 32) * 512 : last * 512] = bytes(range(256)) * 64
    if plain:
        at = 12 * 1024 * 1024
        data[at : at + 131072] = b"some page of a plain file system" * 4096


def _packet(source: int, target: int, flags: int) -> bytes:
    """A record of a pcap file: TCP over IPv4 over Ethernet, without a checksum."""
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, bytes(4), bytes(4))
    tcp = struct.pack(">HHIIBBHHH", source, target, 0, 0, 0x50, flags, 0, 0, 0)
    frame = bytes(12) + b"\x08\x00" + ip + tcp
    return struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame


def picture() -> bytes:
    """A PNG of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + chunk(b"IEND", b"")
    )


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("QEMU emulator version 9.0.0 (scripted guest)")
        sys.exit(0)
    Guest(sys.argv[1], sys.argv[2:]).run()
