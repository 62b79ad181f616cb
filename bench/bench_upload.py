"""What each way of bringing an ISO to a provider costs, next to reading the file.

    .venv/bin/python bench/bench_upload.py [MEGABYTES]

Prints seconds and MB/s (10^6 bytes): reading, hashing twice (as before every upload), serving the
file over loopback to curl or httpx, presigning, and the multipart upload to a server that takes
parts and throws them away (so that it is our side that is measured), whole and resumed.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "builder"))

from obsdimg.core.progress import Progress
from obsdimg.deploy.credentials import S3Keys, Token
from obsdimg.deploy.image import _hash
from obsdimg.deploy.s3 import PART_SIZE, Bucket
from obsdimg.deploy.s3sign import Signer
from obsdimg.deploy.serve import FileServer


def measure(title: str, size: int, action: Callable[[], object], rounds: int = 3) -> None:
    """Run `action` `rounds` times and print the best."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    print(f"{title:44} {best:8.3f} s {size / 1e6 / best:8.0f} MB/s")


class Sink(BaseHTTPRequestHandler):
    """Takes S3 requests; remembers the ETags of parts, and nothing else."""

    protocol_version = "HTTP/1.1"
    parts: ClassVar[dict[int, tuple[int, str]]] = {}
    whole = 0

    def log_message(self, format: str, *args: object) -> None:
        return None

    def _answer(self, body: str = "", code: int = 200, etag: str = "", length: int = -1) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def do_HEAD(self) -> None:
        self._answer(code=200 if Sink.whole else 404, length=Sink.whole)

    def do_GET(self) -> None:
        if "uploadId" not in self.path:
            key = self.path.partition("?")[0].partition("/bucket")[2].lstrip("/")
            upload = f"<Upload><Key>{key or 'k.iso'}</Key><UploadId>u</UploadId></Upload>"
            self._answer(f"<List>{upload if Sink.parts else ''}</List>")
            return
        lines = "".join(
            f"<Part><PartNumber>{n}</PartNumber><Size>{s}</Size><ETag>{e}</ETag></Part>"
            for n, (s, e) in Sink.parts.items()
        )
        self._answer(f"<List>{lines}<IsTruncated>false</IsTruncated></List>")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if "uploadId" in self.path:
            Sink.whole = sum(size for size, _ in Sink.parts.values())
        self._answer("<X><UploadId>u</UploadId></X>")

    def do_PUT(self) -> None:
        import base64

        left = size = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        etag = base64.b64decode(self.headers["Content-MD5"]).hex()
        number = int(self.path.partition("partNumber=")[2].partition("&")[0])
        Sink.parts[number] = (size, etag)
        self._answer(etag=etag)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 470
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vpn-66-amd64.iso"
        block = bytes(range(256)) * 3906
        with path.open("wb") as stream:
            for _ in range(megabytes):
                stream.write(block)
        size = path.stat().st_size
        print(f"{size} bytes, {-(-size // PART_SIZE)} parts of {PART_SIZE >> 20} MiB")

        def read() -> None:
            with path.open("rb", buffering=0) as stream:
                while stream.read(1 << 20):
                    pass

        measure("reading", size, read)
        measure("sha256 and sha512 (before every upload)", size, lambda: _hash(path, Progress()))
        serve(path, size)
        store(path, size)
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"largest memory of this process: {usage / 1024:.0f} MiB")


def serve(path: Path, size: int) -> None:
    """The file server, asked by curl."""
    if (curl := shutil.which("curl")) is None:
        print("curl is not installed: the file server is not measured")
        return
    with FileServer(path, "secret", "x.iso", ("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.port}/secret/x.iso"
        words = [curl, "-sS", "--noproxy", "*", "-o", "/dev/null", url]
        measure("--serve, fetched by curl", size, lambda: subprocess.run(words, check=True))


def store(path: Path, size: int) -> None:
    """Multipart upload to a sink."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keys = S3Keys("AKIDEXAMPLE", Token("secret"))
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    with Bucket(endpoint, "eu-test-1", "bucket", keys) as bucket:

        def whole() -> None:
            Sink.parts, Sink.whole = {}, 0
            bucket.upload(path, "k.iso", size)

        def resumed() -> None:
            Sink.whole = 0
            bucket.upload(path, "k.iso", size)

        measure("multipart upload to a sink", size, whole)
        measure("the same, every part there already", size, resumed)
    signer = Signer(keys, "eu-test-1")
    start = time.perf_counter()
    for _ in range(1000):
        signer.presigned("https://store.example/bucket/k.iso", 3600)
    print(f"{'presigning a URL':44} {(time.perf_counter() - start) * 1000:8.1f} µs")
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
