"""The whole way with an ISO that `obsdimg demo` really built: the page's transcript, and QEMU."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from obsdimg.project.folder import Project
from obsdimg.smoke import machine as smoke
from obsdimg.standin import NOT_OPENBSD
from support import fake_vultr
from support.deploy_bench import Bench, free_port
from support.fake_vultr import FakeVultr, Machine, WireGuardMachine
from support.real import taken_for_real
from support.responder import ResponderCore, ResponderPeer

pytestmark = pytest.mark.slow  # builds an ISO

PAGE = Path(__file__).parents[2] / "docs" / "vultr.md"

SETTINGS = """\
deploy.region = "ams"
deploy.api = "{api}"
tunnel.port = {port}
"""

COMMANDS = [
    "obsdimg upload --serve 127.0.0.1:8080",
    "obsdimg deploy --yes",
    "obsdimg deploy status",
    "obsdimg deploy destroy --confirm demo",
]


class Demo(Bench):
    """A project that `obsdimg demo` made."""

    @property
    def state_path(self) -> Path:
        return self.root / "deploy" / "demo.json"


@contextmanager
def demo(root: Path, wrap: Callable[[Machine], Machine] = lambda m: m) -> Iterator[Demo]:
    port = free_port()
    project: Project

    def core() -> ResponderCore:
        keys = project.keys()
        inside = project.config.tunnel.ipv4
        assert keys.server is not None and inside is not None
        peers = tuple(ResponderPeer(k.public, k.preshared) for k in keys.peers.values())
        return ResponderCore(keys.server, (inside.ip,), peers)

    fake = FakeVultr(lambda: wrap(WireGuardMachine(core, port)))
    with fake_vultr.serve(fake):
        b = Demo(root, fake, port)
        b.env["XDG_CACHE_HOME"] = str(root / "cache")
        assert b.run("demo", ".").returncode == 0
        config = root / "obsdimg.toml"
        taken_for_real(root / "images/demo-66-amd64.iso", config)
        settings = SETTINGS.format(api=fake.url, port=port)
        config.write_text(settings + config.read_text())
        project = Project.open(config)
        yield b


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    for pattern, word in (
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
        (r"data=[0-9a-f]+", "data=KEY"),
        (r"[0-9a-f]{16}…", "HASH…"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"\d+(\.\d+)? (ms|s)\b", "N \\2"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"\d+/udp", "PORT/udp"),
        (r"\S*/(images|clients)/", "\\1/"),
    ):
        text = re.sub(pattern, word, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def transcript(b: Bench) -> str:
    """What a user types and sees."""
    lines: list[str] = []
    for command in COMMANDS:
        words = command.split()[1:]
        if "--serve" in words:
            words[-1] = b.serving()[-1]
        pause = [] if "status" in words else ["--pause", "0.2"]
        result = b.run(*words, *pause)
        assert result.returncode == 0, result.stderr
        lines += [f"$ {command}", *result.stderr.splitlines(), *result.stdout.splitlines()]
    return "\n".join(lines).replace(f"{b.root}/", "")


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    with demo(tmp_path) as b:
        seen = transcript(b)
    (tmp_path / "transcript").write_text(seen)
    shown = PAGE.read_text().partition("```console\n")[2].partition("```")[0]
    assert normal(shown) == normal(seen)


class BootedFromIso:
    """An instance that is a QEMU machine: it serves once the downloaded ISO has started in it."""

    def __init__(self, inner: Machine) -> None:
        self._inner, self._qemu = inner, threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.said = b""

    def start(self, iso: bytes | None) -> None:
        if iso is None:  # from the disk, which this stand-in does not have
            self._inner.start(None)
            return
        self._thread = threading.Thread(target=self._boot, args=(iso,), daemon=True)
        self._thread.start()

    def _boot(self, iso: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cd.iso"
            path.write_bytes(iso)
            spec = smoke.MachineSpec(memory_mib=64, cdrom=path)
            with smoke.VirtualMachine(spec) as machine:
                machine.serial.settimeout(1.0)
                while not self._stop.is_set():
                    try:
                        self.said += machine.serial.recv(4096)
                    except TimeoutError:
                        continue
                    if NOT_OPENBSD.split("\n")[0].encode() in self.said:
                        self._inner.start(None)
                        self._stop.wait()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(20)
            self._thread = None
        self._inner.stop()


@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")
def test_the_iso_that_the_provider_fetched_starts_a_machine_and_the_tunnel_proves_it(
    tmp_path: Path,
) -> None:
    machines: list[BootedFromIso] = []

    def wrap(inner: Machine) -> Machine:
        machines.append(BootedFromIso(inner))
        return machines[-1]

    with demo(tmp_path, wrap) as b:
        result = b.deploy()
        assert result.returncode == 0, result.stderr
        assert NOT_OPENBSD.split("\n")[0].encode() in machines[0].said
        assert "answers as laptop" in result.stdout
        assert b.state()["handshake_before"] is not None
        assert b.run("deploy", "destroy", "--confirm", "demo").returncode == 0
