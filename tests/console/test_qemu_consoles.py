"""QEMU's own VNC and WebSocket servers, and what real firmware and a real OpenBSD show there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from obsdimg.console.address import parse
from obsdimg.console.errors import ConnectError, LoginError
from obsdimg.console.keys import QUICK
from obsdimg.console.remote import RemoteConsole, open_console, type_text
from obsdimg.console.screen import Kind, Screen
from obsdimg.core.secret import Secret
from support import tls_files
from support.console_machine import Qemu, qemu
from support.loader_guest import make_disk

pytestmark = pytest.mark.qemu
MEDIA = Path(os.environ.get("OBSDIMG_MEDIA", "/nonexistent"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def vnc_port() -> int:
    while (port := free_port()) < 5900:
        pass
    return port


def screen_when(
    console: RemoteConsole, wanted: Callable[[Screen], bool], seconds: float = 180.0
) -> Screen:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        screen = console.screen()
        if wanted(screen):
            return screen
        console.wait(console.changes, 0.5)
    raise AssertionError(f"not within {seconds:g} s; the screen shows: {screen.text}")


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    make_disk(disk, "correct horse")
    return disk


def prompt(screen: Screen) -> bool:
    return screen.text.endswith("Passphrase:")


def test_vnc_on_tcp_with_a_password(tmp_path: Path, guest: Path) -> None:
    port = vnc_port()
    with qemu(
        tmp_path / "q", "-drive", f"file={guest},format=raw",
        "-object", "secret,id=pw,data=sesame12",
        vnc=[f"127.0.0.1:{port - 5900},password-secret=pw"],
    ):  # fmt: skip
        address = parse(f"vnc://127.0.0.1:{port}")
        console = open_console(address, lambda: Secret("sesame12"))
        try:
            assert screen_when(console, prompt).font == "vga-9x16"
        finally:
            console.close()
        with pytest.raises(LoginError, match="does not accept the password") as caught:
            open_console(address, lambda: Secret("Sesame12"))
        assert "Sesame12" not in caught.value.message + str(caught.value.hint)
        with pytest.raises(LoginError, match="wants a password"):
            open_console(address)
    with pytest.raises(ConnectError, match="no console there: connection refused"):
        open_console(address)


def test_vnc_in_a_websocket(tmp_path: Path, guest: Path) -> None:
    port, web = vnc_port(), free_port()
    with qemu(
        tmp_path / "q", "-drive", f"file={guest},format=raw",
        vnc=[f"127.0.0.1:{port - 5900},websocket=127.0.0.1:{web}"],
    ):  # fmt: skip
        console = open_console(parse(f"ws://127.0.0.1:{web}/"))
        try:
            screen_when(console, prompt)
            type_text(console, "correct horse\n")
            screen_when(console, lambda s: "booting sr0a:/bsd" in s.text)
            assert console.png().startswith(b"\x89PNG")
        finally:
            console.close()
        with pytest.raises(ConnectError, match="no WebSocket there"):
            open_console(parse(f"ws://127.0.0.1:{port}/"), seconds=2)
        with pytest.raises(ConnectError, match=r"no console there|no WebSocket"):
            open_console(parse(f"wss://127.0.0.1:{web}/"), seconds=2)


@pytest.fixture
def secure(tmp_path: Path, guest: Path) -> Iterator[Callable[[str], tuple[str, Path]]]:
    """Starts QEMU with a certificate for a host; its address, and the authority's file."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def start(host: str) -> tuple[str, Path]:
            authority = tls_files.make(tmp_path / "tls", host)
            port, web = vnc_port(), free_port()
            stack.enter_context(
                qemu(
                    tmp_path / "q", "-drive", f"file={guest},format=raw",
                    "-object",
                    f"tls-creds-x509,id=tls,dir={tmp_path / 'tls'},endpoint=server,verify-peer=no",
                    vnc=[f"127.0.0.1:{port - 5900},websocket=127.0.0.1:{web},tls-creds=tls"],
                )
            )  # fmt: skip
            return f"wss://127.0.0.1:{web}/", authority

        yield start


def test_a_secure_websocket_with_a_trusted_certificate(
    secure: Callable[[str], tuple[str, Path]],
) -> None:
    url, authority = secure("127.0.0.1")
    console = open_console(parse(url), ca_file=authority)
    try:
        screen_when(console, prompt)
    finally:
        console.close()


def test_a_certificate_that_nobody_vouches_for(
    secure: Callable[[str], tuple[str, Path]],
) -> None:
    url, _ = secure("127.0.0.1")
    with pytest.raises(ConnectError, match="certificate is not valid") as caught:
        open_console(parse(url + "?ticket=TOPSECRET"))
    assert "TOPSECRET" not in caught.value.message + str(caught.value.hint)


def test_a_certificate_of_another_host(secure: Callable[[str], tuple[str, Path]]) -> None:
    url, authority = secure("other.example")
    with pytest.raises(ConnectError, match="certificate is not valid"):
        open_console(parse(url), ca_file=authority)


@pytest.mark.media
@pytest.mark.slow(reason="boots OpenBSD without acceleration, and types some hundred keys")
def test_a_genuine_openbsd_is_read_and_takes_keys(tmp_path: Path) -> None:
    floppy = MEDIA / "floppy51-i386.img"
    if not floppy.exists():
        pytest.skip("OBSDIMG_MEDIA has no floppy51-i386.img")
    with qemu(
        tmp_path / "q", "-drive", f"file={floppy},format=raw,if=floppy,snapshot=on", "-boot", "a"
    ) as machine:
        console = open_console(parse(machine.vnc))
        try:
            screen_when(console, lambda s: "boot>" in s.text)
            type_text(console, "\n")
            screen_when(console, lambda s: "(S)hell?" in s.text, 240)
            type_text(console, "s\n")
            screen_when(console, lambda s: s.text.endswith("\n#"))
            signs = r"""~`!@#$%^&*()_+-={}[]|\:;"'<>,.?/ aZ09"""
            type_text(console, "cat <<'END'\n" + signs + "\nEND\n", QUICK)
            screen = screen_when(console, lambda s: s.text.endswith("\n#"))
            assert signs in screen.lines
            assert screen.unknown == 0
            cells = [cell for row in screen.cells for cell in row if cell.char != " "]
            assert {cell.ink for cell in cells} <= {0xAAAAAA, 0xA8A8A8, 0xFFFFFF}
            # dmesg: hundreds of lines that scroll by, read at whatever moment.
            type_text(console, "dmesg; dmesg; dmesg; echo E\\ND\n")
            while not (screen := console.screen()).text.endswith("END\n#"):
                assert screen.unknown <= 1
                console.wait(console.changes, 5)
        finally:
            console.close()


LINES, PAGE = 1000, 20
"""Of a genuine OpenBSD's screen of 25 rows."""


@pytest.mark.media
@pytest.mark.slow(reason="a thousand lines, looked at page by page")
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("OBSDIMG_LONG"), reason="OBSDIMG_LONG")
def test_a_thousand_lines_of_a_genuine_openbsd_are_read_without_an_error(tmp_path: Path) -> None:
    """All signs of ASCII in every two lines, each time in other places."""
    floppy = MEDIA / "floppy51-i386.img"
    if not floppy.exists():
        pytest.skip("OBSDIMG_MEDIA has no floppy51-i386.img")
    signs = "".join(map(chr, range(0x21, 0x7F))).replace("'", "")
    halves = signs[:47], signs[47:]
    with qemu(
        tmp_path / "q", "-drive", f"file={floppy},format=raw,if=floppy,snapshot=on", "-boot", "a"
    ) as machine:
        console = open_console(parse(machine.vnc))
        try:
            screen_when(console, lambda s: "boot>" in s.text)
            type_text(console, "\n")
            screen_when(console, lambda s: "(S)hell?" in s.text, 600)
            type_text(console, "s\n")
            screen_when(console, lambda s: s.text.endswith("\n#"))
            type_text(console, f"n=0; s='{halves[0]}'; t='{halves[1]}'\n", QUICK)
            type_text(
                console,
                f'p() {{ i=0; while [ $i -lt {PAGE} ]; do print -r -- "$n $s"; i=$((i+1));'
                ' n=$((n+1)); r=${s#?}; u=$r${s%"$r"}; s=$t; t=$u; done; }\n',
                QUICK,
            )
            for first in range(0, LINES, PAGE):
                type_text(console, "p\n", QUICK)
                last = f"{first + PAGE - 1} "
                screen = screen_when(
                    console,
                    lambda s, last=last: (  # type: ignore[misc]
                        s.text.endswith("\n#") and any(x.startswith(last) for x in s.lines)
                    ),
                )
                expected = []
                for n in range(first, first + PAGE):
                    half = halves[n % 2]
                    turned = n // 2 % len(half)
                    expected.append(f"{n} {half[turned:]}{half[:turned]}")
                start = screen.lines.index(expected[0])
                assert screen.lines[start : start + PAGE] == expected
                assert screen.unknown == 0
        finally:
            console.close()


def test_uefi_firmware_is_read(tmp_path: Path) -> None:
    code = next(
        (p for p in (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_CODE.fd"))
         if p.exists()), None,
    )  # fmt: skip
    if code is None:
        pytest.skip("OVMF is not installed")
    with qemu(
        tmp_path / "q", "-machine", "q35", "-m", "256",
        "-drive", f"if=pflash,format=raw,readonly=on,file={code}",
        program="qemu-system-x86_64",
    ) as machine:  # fmt: skip
        console = open_console(parse(machine.vnc))
        try:
            screen = screen_when(console, lambda s: "Shell>" in s.text, 240)
            assert screen.font == "efi-8x19"
            assert screen.lines[0].startswith("UEFI Interactive Shell v2")
            assert screen.unknown == 0
        finally:
            console.close()


def test_a_restart_is_followed(tmp_path: Path, guest: Path) -> None:
    with qemu(tmp_path / "q", "-drive", f"file={guest},format=raw") as machine:
        console = open_console(parse(machine.vnc))
        try:
            screen_when(console, prompt)
            type_text(console, "wrong\n")
            screen_when(console, lambda s: "incorrect passphrase" in s.text and prompt(s))
            machine.reset()
            screen = screen_when(console, lambda s: prompt(s) and "incorrect" not in s.text)
            assert screen.kind is Kind.TEXT
        finally:
            console.close()


def test_a_machine_that_goes_away_is_told(tmp_path: Path, guest: Path) -> None:
    with qemu(tmp_path / "q", "-drive", f"file={guest},format=raw") as machine:
        console = open_console(parse(machine.vnc))
        _end(machine)
    with pytest.raises(Exception, match=r"closed the connection|connection lost"):
        screen_when(console, lambda s: False, 10)
    console.close()


def _end(machine: Qemu) -> None:
    machine.child.kill()
    machine.child.wait()
