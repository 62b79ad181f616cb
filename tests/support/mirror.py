"""A real HTTP mirror on loopback that can fail in every way a mirror fails.

`Mirror.files` maps a path to bytes; `Mirror.faults` maps a path to a list of faults, one used up
by each request for it (the last one stays if it is marked `always`).  `Mirror.log` holds what was
asked for.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

STAMP = "Sat, 12 Oct 2019 17:00:00 GMT"


@dataclass
class Fault:
    """How one request goes wrong.

    kind: `status` (value: code), `cut` (value: bytes sent before the connection is cut), `short`
    (Content-Length says value bytes, and no more are sent), `long` (Content-Length says value
    bytes more than there are), `wrong` (same length, other bytes), `slow` (value: seconds between
    pieces of 1000 bytes), `stall` (value: seconds of silence), `redirect` (value: URL),
    `norange` (ranges are ignored), `badrange` (206 with another start).
    """

    kind: str
    value: float | str = 0
    always: bool = False


@dataclass
class Mirror:
    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    log: list[tuple[str, str | None, int]] = field(default_factory=list)
    etags: bool = True

    def asked(self, name: str) -> list[str | None]:
        """The Range headers of the requests for paths that end in `name`, in order."""
        return [r for path, r, _ in self.log if path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def log_message(self, format: str, *args: object) -> None:
        return None

    def do_GET(self) -> None:
        path, mirror = self.path, self.mirror
        wanted = self.headers.get("Range")
        queue = mirror.faults.get(path, [])
        fault = queue[0] if queue else Fault("none")
        if queue and not fault.always:
            queue.pop(0)
        data = mirror.files.get(path)
        if fault.kind == "status":
            self._plain(int(fault.value), wanted)
        elif fault.kind == "redirect":
            mirror.log.append((path, wanted, 302))
            self.send_response(302)
            self.send_header("Location", str(fault.value))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif data is None:
            self._plain(404, wanted)
        else:
            self._file(path, data, wanted, fault)

    def _plain(self, code: int, wanted: str | None) -> None:
        self.mirror.log.append((self.path, wanted, code))
        self.send_response(code)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"sorry")

    def _file(self, path: str, data: bytes, wanted: str | None, fault: Fault) -> None:
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"' if self.mirror.etags else None
        if fault.kind == "wrong":
            data = bytes(b ^ 0x55 for b in data)
        start, code = 0, 200
        if wanted and fault.kind not in ("norange", "short"):
            condition = self.headers.get("If-Range")
            if condition in (None, etag, STAMP):
                start, code = int(wanted.removeprefix("bytes=").split("-")[0]), 206
        if code == 206 and start >= len(data):
            self.mirror.log.append((path, wanted, 416))
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = data[start:]
        declared = len(body)
        if fault.kind == "long":
            declared += int(fault.value)
        if fault.kind == "short":
            declared = int(fault.value)
            body = body[:declared]
        self.mirror.log.append((path, wanted, code))
        self.send_response(code)
        self.send_header("Content-Length", str(declared))
        self.send_header("Last-Modified", STAMP)
        if etag:
            self.send_header("ETag", etag)
        if code == 206:
            first = start + (1 if fault.kind == "badrange" else 0)
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault) -> None:
        try:
            if fault.kind == "stall":
                self.wfile.flush()
                time.sleep(float(fault.value))
                self.close_connection = True
                return
            if fault.kind == "slow":
                for at in range(0, len(body), 1000):
                    self.wfile.write(body[at : at + 1000])
                    self.wfile.flush()
                    time.sleep(float(fault.value))
                return
            if fault.kind == "cut":
                body = body[: int(fault.value)]
            self.wfile.write(body)
            if fault.kind in ("cut", "long"):
                self.wfile.flush()
                self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that break off are what the tests are about: no traceback."""


@contextmanager
def serve(certificate: Path | None = None) -> Iterator[Mirror]:
    """A mirror on a free port of 127.0.0.1; with `certificate` (PEM, key and cert) over https."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    mirror = Mirror(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    handler.mirror = mirror
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@contextmanager
def raw_answers(answer: bytes) -> Iterator[str]:
    """The URL of a server that answers every request with exactly `answer`, and hangs up."""

    class Raw(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            with contextlib.suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Raw) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)


def certificate(path: Path) -> Path:
    """Write a fresh self-signed certificate for 127.0.0.1, and its key, to `path` (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror.test")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    return path


def closed_port() -> str:
    """A URL on loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
