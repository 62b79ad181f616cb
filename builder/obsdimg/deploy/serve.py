"""One file over HTTP, under a path that nobody guesses: for a provider that fetches from here.

GET and HEAD, with single ranges (RFC 9110, section 14); everything else is 404 or 405.  The file
is open for as long as the server runs, so that a rebuild meanwhile changes nothing.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Self

from obsdimg.core.files import FileError, describe
from obsdimg.deploy.provider import DeployError

BLOCK = 1 << 20
"""Bytes sent at a time."""
IDLE_SECONDS = 60.0
"""A connection that takes nothing for so long is given up."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class FileServer:
    """Serves `path` at `/SECRET/NAME`, from a thread, by `with`.

    `sent` is called with counts of bytes as they leave (from other threads).
    """

    def __init__(
        self,
        path: Path,
        secret: str,
        name: str,
        listen: tuple[str, int],
        sent: Callable[[int], None] | None = None,
    ) -> None:
        """Raises FileError for the file, DeployError for the address."""
        self._path, self._target = path, f"/{secret}/{name}"
        self._sent = sent or (lambda count: None)
        self._listen = listen
        self.requests = 0
        """GETs of the file so far, ranges counted one by one."""

    def __enter__(self) -> Self:
        host, port = self._listen
        try:
            self._file = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise FileError(f"{self._path}: cannot be read: {describe(error)}") from error
        self._size = os.fstat(self._file).st_size
        handler = type("Handler", (_Handler,), {"files": self})
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = type("Server", (_Server,), {"address_family": family})
        try:
            self._server: _Server = kind((host, port), handler)
        except OSError as error:
            os.close(self._file)
            raise DeployError(
                f"{host}:{port}: cannot listen there: {describe(error)}",
                "give an address of this machine, or the one to listen on with --listen",
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        os.close(self._file)

    def answer(self, request: _Handler, body: bool) -> None:
        """Answer one GET (`body`) or HEAD."""
        if request.path != self._target:
            request.send_error(404)
            return
        part = byte_range(request.headers.get("Range"), self._size)
        if part is None:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{self._size}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start, end = part
        whole = request.headers.get("Range") is None
        request.send_response(200 if whole else 206)
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("Content-Length", str(end - start))
        request.send_header("Accept-Ranges", "bytes")
        if not whole:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{self._size}")
        request.end_headers()
        if body:
            self.requests += 1
            self._send(request.wfile, start, end)

    def _send(self, out: BufferedIOBase, start: int, end: int) -> None:
        while start < end:
            block = os.pread(self._file, min(BLOCK, end - start), start)
            if not block:
                return  # the file was cut; the provider's checksum will not fit
            out.write(block)
            start += len(block)
            self._sent(len(block))


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """`(start, end)`, end exclusive, in bytes, for a Range header; None: not satisfiable.

    No header, another unit or several ranges mean the whole file.
    """
    if header is None or (found := _RANGE.fullmatch(header.strip())) is None:
        return 0, size
    first, last = found.groups()
    if not first and not last:
        return 0, size
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start = int(first)
    end = size if not last else min(int(last) + 1, size)
    return (start, end) if start < end else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a connection that broke is the client's affair


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server_version = "obsdimg"
    sys_version = ""
    files: FileServer

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self.files.answer(self, body=True)

    def do_HEAD(self) -> None:
        self.files.answer(self, body=False)
