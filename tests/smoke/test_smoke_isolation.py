"""A guest reaches neither this host's loopback nor a network; its forwarded ports are reached.

The guest is iPXE, which QEMU brings along: it fetches a script from QEMU's own TFTP server, and
the script calls a server on this host's loopback.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from obsdimg.core import bubblewrap
from obsdimg.smoke import isolation, machine, relay
from obsdimg.smoke.isolation import Enclosure, Isolation, IsolationError, find_isolation
from obsdimg.smoke.machine import Forward, MachineSpec, VirtualMachine
from obsdimg.smoke.outside import knock
from obsdimg.smoke.plan import EmulatedNetwork
from obsdimg.smoke.play import reach_check
from obsdimg.smoke.result import SmokeVerdict

ROM = Path("/usr/lib/ipxe/qemu/pxe-virtio.rom")
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
)


@pytest.fixture
def isolated() -> Isolation:
    found = find_isolation()
    if not found.words:
        pytest.skip(found.missing)
    return found


class Listener:
    """An HTTP server on the host's loopback that counts its callers."""

    def __init__(self) -> None:
        self.callers = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self.socket.accept()
            except OSError:
                return
            self.callers += 1
            with caller:
                caller.recv(4096)
                caller.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.socket.close()


class WithScript(EmulatedNetwork):
    """Whose DHCP gives out `script`, by QEMU's own TFTP server."""

    script = Path()

    @property
    def option(self) -> str:
        return f"{super().option},tftp={self.script.parent},bootfile={self.script.name}"


SCRIPT = """#!ipxe
imgfetch http://{gateway}:{port}/x && echo the host is -open- || echo the host is -shut-
:wait
sleep 60
goto wait
"""


def _answer(guest: VirtualMachine) -> str:
    """What the script found, from the serial line."""
    guest.serial.settimeout(120)
    said = ""
    while not (found := re.search(r"the host is -(open|shut)-", said)):
        piece = guest.serial.recv(4096)
        assert piece, said
        said += piece.decode("latin-1")
    return found[1]


@pytest.mark.qemu
@needs_qemu
@pytest.mark.skipif(not ROM.exists(), reason="the package ipxe-qemu is not installed")
def test_a_guest_does_not_reach_what_listens_on_the_hosts_loopback(
    isolated: Isolation, listener: Listener, tmp_path: Path
) -> None:
    """The same guest with --online does: the test can fail."""
    network = WithScript()
    network.__class__.script = tmp_path / "try.ipxe"
    network.script.write_text(SCRIPT.format(gateway=network.gateway, port=listener.port))
    ssh = Forward("tcp", 22)
    extra = ("-option-rom", str(ROM), "-boot", "n")
    specs = [
        MachineSpec(memory_mib=64, network=network, online=online, forwards=(ssh,), extra=extra)
        for online in (False, True)
    ]
    with ExitStack() as stack:
        cut_off, online = (stack.enter_context(VirtualMachine(spec)) for spec in specs)
        assert (cut_off.isolated, online.isolated) == (True, False)
        assert (_answer(cut_off), _answer(online)) == ("shut", "open")
        assert listener.callers == 1
        # The forwarded port does lead to the guest: the call was seen on its cable.
        assert knock(cut_off, [22], 0.5)[0] == {22: "silent"}


WITHIN = """
import socket, sys
tcp = socket.create_server(("127.0.0.1", 20000))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 20001))
tries = [(socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))), (socket.AF_INET, ("192.0.2.1", 80)),
         (socket.AF_UNIX, "\\0" + sys.argv[2])]
for family, address in tries:
    with socket.socket(family) as sock:
        try: sock.connect(address); print("reached", address, flush=True)
        except OSError: pass
print(open("/proc/net/dev").read().count(":"), "interface", flush=True)
for _ in range(3):
    data, caller = udp.recvfrom(2000)
    udp.sendto(data[::-1], caller)
while True:
    caller, _ = tcp.accept()
    said = b""
    while data := caller.recv(65536): said += data
    caller.sendall(said[::-1]); caller.close()
"""


def test_inside_there_is_nothing_and_the_forwarded_ports_lead_in(
    isolated: Isolation, listener: Listener
) -> None:
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0obsdimg-test-{os.getpid()}")
    abstract.listen()
    forwards = (Forward("tcp", 22), Forward("udp", 51820))
    with Enclosure(isolated, forwards) as enclosure:
        name = f"obsdimg-test-{os.getpid()}"
        words = [sys.executable, "-c", WITHIN, str(listener.port), name]
        child = subprocess.Popen(
            enclosure.wrap(words, [1]), pass_fds=enclosure.fds, stdout=subprocess.PIPE
        )
        enclosure.release()
        assert child.stdout is not None
        try:
            assert enclosure.process() > 0
            assert child.stdout.readline() == b"1 interface\n"
            tcp, udp = (enclosure.ports[forward] for forward in forwards)
            callers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
            for number, caller in enumerate(callers):
                caller.settimeout(60)
                caller.sendto(b"%d abc" % number, ("127.0.0.1", udp))
            assert [c.recv(100) for c in callers] == [b"cba 0", b"cba 1", b"cba 2"]
            data = bytes(range(256)) * 4096
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", tcp), 60) as call:
                    call.sendall(data)
                    call.shutdown(socket.SHUT_WR)
                    said = b""
                    while piece := call.recv(65536):
                        said += piece
                assert said == data[::-1]
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
            for sock in (abstract, *callers):
                sock.close()
    assert listener.callers == 0


def test_a_port_remembers_a_limited_number_of_callers(isolated: Isolation) -> None:
    import asyncio

    async def flood() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outer:
            outer.bind(("127.0.0.1", 0))
            datagrams = relay.Datagrams(asyncio.get_running_loop(), outer, 9)
            for number in range(relay.CALLERS + 20):
                datagrams._inner(("127.0.0.1", number))
            kept = list(datagrams.callers)
            for sock in datagrams.callers.values():
                datagrams.loop.remove_reader(sock)
                sock.close()
            datagrams.loop.remove_reader(outer)
        assert kept[0] == ("127.0.0.1", 20)
        return len(kept)

    assert asyncio.run(flood()) == relay.CALLERS


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("how", ["the end", "QEMU is killed", "kill -9 of the supervisor"])
def test_the_relay_does_not_outlive_the_machine(isolated: Isolation, how: str) -> None:
    with VirtualMachine(MachineSpec(memory_mib=64, forwards=(Forward("tcp", 22),))) as guest:
        children = Path(f"/proc/{guest.pid}/task/{guest.pid}/children").read_text()
        (pid,) = map(int, children.split())
        assert relay.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        if how != "the end":
            assert guest._supervisor is not None
            victim = guest.pid if how == "QEMU is killed" else guest._supervisor.pid
            os.kill(victim, signal.SIGKILL)
            end = time.monotonic() + 60
            while _alive(pid) or _alive(guest.pid):
                assert time.monotonic() < end
                time.sleep(0.02)
    assert not _alive(pid) and not _alive(guest.pid)


def _bwrap(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_why_a_guest_cannot_be_cut_off_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = find_isolation.__wrapped__
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert find() == Isolation(missing="only Linux has network namespaces")
    monkeypatch.setattr(isolation, "find_bubblewrap", lambda: None)
    if sys.platform == "linux":
        assert "package bubblewrap" in find().hint
    refuses = _bwrap(tmp_path / "bwrap", "echo 'bwrap: setting up uid map: denied' >&2; exit 1")
    monkeypatch.setattr(isolation, "find_bubblewrap", lambda: refuses)
    if sys.platform == "linux":
        assert find().missing == "bwrap makes no namespace: bwrap: setting up uid map: denied"
        assert find().hint == bubblewrap.forbidden_by()


@pytest.mark.qemu
@needs_qemu
def test_a_bubblewrap_that_leaves_the_guest_in_the_hosts_network_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'
    lies = Isolation((_bwrap(tmp_path / "bwrap", script), "--unshare-net", "--"))
    monkeypatch.setattr(machine, "find_isolation", lambda: lies)
    with (
        pytest.raises(IsolationError, match="in this host's network"),
        VirtualMachine(MachineSpec(memory_mib=64)),
    ):
        pass


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize(
    ("spec", "verdict", "detail"),
    [
        (MachineSpec(memory_mib=64), SmokeVerdict.SKIPPED, "not isolated: there is no bwrap"),
        (MachineSpec(memory_mib=64, online=True), SmokeVerdict.SKIPPED, "--online: it reaches"),
        (MachineSpec(memory_mib=64, offline=True), SmokeVerdict.PASSED, "--offline: QEMU passes"),
    ],
)
def test_the_report_says_what_the_guest_reaches(
    monkeypatch: pytest.MonkeyPatch, spec: MachineSpec, verdict: SmokeVerdict, detail: str
) -> None:
    missing = Isolation(missing="there is no bwrap")
    monkeypatch.setattr(machine, "find_isolation", lambda: missing)
    with VirtualMachine(spec) as guest:
        found = reach_check(guest)
        assert found.verdict is verdict and found.detail.startswith(detail)
