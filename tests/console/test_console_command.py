"""The commands `console` and `unlock` as a user meets them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsdimg.cli.main import main
from support import hostile_vnc as hostile
from support.console_machine import Qemu, qemu
from support.loader_guest import make_disk
from support.screens import draw, font

TOP = Path(__file__).resolve().parents[2]
PASSPHRASE = "Correct h0rse? Battery~staple"
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("OBSDIMG_")},
    "PYTHONPATH": str(TOP / "builder"),
    "LANG": "C.UTF-8",
}


def obsdimg(
    folder: Path, *words: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "obsdimg", *map(str, words)],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text + "\n")
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Qemu]:
    make_disk(tmp_path / "disk", PASSPHRASE)
    with qemu(tmp_path / "q", "-drive", f"file={tmp_path / 'disk'},format=raw") as running:
        yield running


def showing(tmp_path: Path, text: str | None) -> hostile.Play:
    """A console that shows `text`, or a picture without text."""
    face = font("vga-9x16")
    picture = draw((text or "").split("\n"), face, 720, 400)
    pixels = picture.pixels if text is not None else bytes(range(256)) * (720 * 400 // 64)

    def play(sock: object) -> None:
        hostile.logged_in(sock, 720, 400)  # type: ignore[arg-type]
        sock.sendall(hostile.update(hostile.rectangle(0, 0, 720, 400, 0, pixels)))  # type: ignore[attr-defined]
        hostile.pause(sock, 60)  # type: ignore[arg-type]

    return play


@pytest.mark.qemu
def test_the_whole_way_on_a_machine(tmp_path: Path, machine: Qemu) -> None:
    right = private(tmp_path / "right", PASSPHRASE)
    wrong = private(tmp_path / "wrong", "not this one")
    end = time.monotonic() + 180
    while (
        "Passphrase:" not in (shown := obsdimg(tmp_path, "console", machine.vnc, "--text")).stdout
    ):
        assert time.monotonic() < end, shown
    assert shown.stdout.startswith(">> OpenBSD/amd64 BOOT 3.67\nPassphrase:")

    facts = json.loads(obsdimg(tmp_path, "console", machine.vnc, "--text", "--json").stdout)
    assert facts["shows"] == "passphrase-prompt"
    assert facts["font"] == "vga-9x16"
    assert facts["lines"][1] == "Passphrase:"

    done = obsdimg(tmp_path, "console", machine.vnc, "--screenshot", "shot.png")
    assert done.returncode == 0, done
    shot = tmp_path / "shot.png"
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_mode & 0o777 == 0o600

    refused = obsdimg(
        tmp_path, "unlock", machine.vnc, "--no-probe", "--json", "--passphrase-file", wrong
    )
    assert refused.returncode == 4, refused
    told = json.loads(refused.stdout)
    assert told["result"] == "refused"
    assert told["tries"] == 2
    assert told["screen"][-1] == "Passphrase:"
    assert "error: " in refused.stderr

    done = obsdimg(
        tmp_path, "unlock", machine.vnc, "--no-probe", OBSDIMG_PASSPHRASE_FILE=str(right)
    )
    assert done.returncode == 0, done
    assert done.stdout == "unlocked\n"
    for secret in (PASSPHRASE, "not this one"):
        for run in (refused, done):
            assert secret not in run.stdout + run.stderr

    again = obsdimg(tmp_path, "unlock", machine.vnc, "--no-probe", "--passphrase-file", right)
    assert again.returncode == 0
    assert again.stdout == "it runs already\n"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("SeaBIOS (version 1.16)\n\nBooting from Hard Disk...", 3, "no passphrase was asked for"),
        ("panic: uvm_fault\nStopped at x\nddb> ", 5, "the kernel has crashed: panic: uvm_fault"),
        ("obsdimg: sd0 is NOT EMPTY. It holds:\nAnswer: ", 7, "the machine started from the ISO"),
        (None, 8, "no text that can be read"),
        ("OpenBSD/amd64 (mail.example.org) (ttyC0)\n\nlogin: ", 1,
         "this is the console of mail.example.org, not of vpn"),
    ],
)  # fmt: skip
def test_exit_codes_tell_a_monitor_what_is_wrong(
    tmp_path: Path, text: str | None, code: int, says: str
) -> None:
    passphrase = private(tmp_path / "p", PASSPHRASE)
    if code == 1:
        assert obsdimg(tmp_path, "init", ".").returncode == 0
        config = tmp_path / "obsdimg.toml"
        assert 'name = "vpn"' in config.read_text()
    with hostile.server(tmp_path, showing(tmp_path, text)) as url:
        run = obsdimg(
            tmp_path, "unlock", url, "--no-probe", "--prompt-limit", "2",
            "--passphrase-file", passphrase,
        )  # fmt: skip
    assert run.returncode == code, run
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "hint: " in run.stderr
    assert PASSPHRASE not in run.stdout + run.stderr


def test_bad_input_is_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    url = f"vnc+unix://{tmp_path}/none"
    open_file = private(tmp_path / "open", PASSPHRASE)
    open_file.chmod(0o644)
    umlaut = private(tmp_path / "umlaut", "Grüße aus Köln")
    good = private(tmp_path / "good", PASSPHRASE)
    unlock = ("unlock", url, "--no-probe", "--passphrase-file")
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("console", url, "--text"), "no console there: no such file"),
        (("console", "vnc://127.0.0.1:1", "--text"), "no console there: connection refused"),
        (("console", "https://panel.example/novnc", "--text"), "web page, not a console"),
        (("console", "gopher://x", "--text"), "is no address of a console"),
        (("console", "--text"), "there is no such configuration"),
        (("console", url), "needs a terminal"),
        (("console", url, "--json"), "--json goes with --text"),
        ((*unlock, open_file), "others may read it (mode 0644)"),
        ((*unlock, umlaut), "is not on a US keyboard"),
        ((*unlock, tmp_path / "missing"), "cannot read the passphrase: no such file"),
        ((*unlock, good), "no console there: no such file"),
        (("unlock", url), "nothing says whose handshake to wait for"),
        ((*unlock, good, "--wake"), "--wake is for serial lines; a screen shows what was asked"),
        ((*unlock, good, "--wake", "--wait", "9"), "--wake is for a machine that waits already"),
        (("unlock", url, "--no-probe"), "there is no terminal to ask on"),
        (("console", "wss://127.0.0.1:1/?t=TICKET", "--text", "--ca", good), "no certificates"),
    ]
    for words, says in cases:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        usage = says == "--json goes with --text"
        assert code == (2 if usage else 1), (words, err)
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (words, err)
        assert says in errors[0], (words, errors)
        assert "TICKET" not in err
        assert PASSPHRASE not in out + err


@pytest.mark.parametrize(
    ("text", "says"), [(None, "no text on the screen (720x400 pixels"), ("", "the screen is blank")]
)
def test_a_screen_without_text_says_so(tmp_path: Path, text: str | None, says: str) -> None:
    with hostile.server(tmp_path, showing(tmp_path, text)) as url:
        run = obsdimg(tmp_path, "console", url, "--text")
        assert run.returncode == 1
        assert says in run.stderr


def test_a_name_without_a_deployment_says_what_to_give(tmp_path: Path) -> None:
    assert obsdimg(tmp_path, "init", ".").returncode == 0
    run = obsdimg(tmp_path, "console", "--text")
    assert run.returncode == 1
    assert "nothing is deployed under this name" in run.stderr
    assert "vnc://HOST:PORT" in run.stderr


@pytest.mark.qemu
def test_live_in_a_terminal(tmp_path: Path, machine: Qemu) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    server = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def tmux(*words: str) -> str:
        run = subprocess.run([*server, *words], capture_output=True, text=True, timeout=30)
        return run.stdout

    def until(text: str, seconds: float = 180) -> str:
        end = time.monotonic() + seconds
        while text not in (shown := tmux("capture-pane", "-p")):
            assert time.monotonic() < end, shown
            time.sleep(0.2)
        return shown

    command = f"{sys.executable} -m obsdimg console {machine.vnc}; echo left with $?; cat"
    subprocess.run(
        [*server, "new-session", "-d", "-x", "90", "-y", "30", command],
        env={**ENVIRONMENT, "TERM": "xterm-256color"},
        cwd=tmp_path,
        check=True,
        timeout=30,
    )
    try:
        until("Passphrase:")
        until("Ctrl-] leaves")
        tmux("send-keys", "-l", "wrong")
        tmux("send-keys", "Enter")
        until("incorrect passphrase")
        # Narrower than the console's address: how to leave stands there all the same.
        tmux("resize-window", "-x", "30", "-y", "12")
        until("\nCtrl-] leaves   vnc+unix://")
        tmux("resize-window", "-x", "60", "-y", "12")
        tmux("send-keys", "-l", "oops")
        for _ in range(4):
            tmux("send-keys", "BSpace")
        tmux("send-keys", "-l", PASSPHRASE)
        tmux("send-keys", "Enter")
        until("booting sr0a:/bsd")
        tmux("send-keys", "C-]")
        until("left with 0")
    finally:
        tmux("kill-server")


@pytest.mark.qemu
def test_live_says_when_the_machine_goes_away(tmp_path: Path) -> None:
    import pty

    make_disk(tmp_path / "disk", PASSPHRASE)
    with qemu(tmp_path / "q", "-drive", f"file={tmp_path / 'disk'},format=raw") as machine:
        outer, inner = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-m", "obsdimg", "console", machine.vnc],
            stdin=inner,
            stdout=inner,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, "TERM": "xterm"},
            text=True,
        )
        os.close(inner)
        data = b""
        while b"Passphrase" not in data:
            data += os.read(outer, 4096)
    _, errors = child.communicate(timeout=60)
    os.close(outer)
    assert child.returncode == 1
    assert "closed the connection" in errors or "connection lost" in errors
    assert "Traceback" not in errors
