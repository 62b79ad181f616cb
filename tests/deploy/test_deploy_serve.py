"""The file server behind `--serve`, asked by other people's HTTP clients."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.serve import FileServer, byte_range

DATA = os.urandom(3_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    path = tmp_path / "some.iso"
    path.write_bytes(DATA)
    with FileServer(path, "secret", "x.iso", ("127.0.0.1", 0)) as made:
        yield made


def url(server: FileServer, path: str = "/secret/x.iso") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=100-", None),
        ("bytes=20-10", None),
        ("bytes=-0", None),
        ("bytes=-", (0, 100)),
        ("bytes=0-1,5-6", (0, 100)),
        ("pages=1-2", (0, 100)),
    ],
)
def test_ranges_are_read_as_the_rfc_says(
    header: str | None, expected: tuple[int, int] | None
) -> None:
    assert byte_range(header, 100) == expected


def test_the_file_is_served_whole_and_in_part(server: FileServer) -> None:
    whole = httpx.get(url(server))
    assert (whole.status_code, whole.content) == (200, DATA)
    part = httpx.get(url(server), headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, DATA[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(DATA)}"
    beyond = httpx.get(url(server), headers={"Range": "bytes=3000000-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    head = httpx.head(url(server))
    assert (head.headers["content-length"], head.content) == (str(len(DATA)), b"")


@pytest.mark.parametrize(
    "path", ["/", "/x.iso", "/secret", "/secret/", "/secret/../secret/x.iso", "/other/x.iso"]
)
def test_nothing_else_is_there(server: FileServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 404")


def test_other_methods_are_refused(server: FileServer) -> None:
    assert httpx.put(url(server), content=b"x").status_code == 501
    assert httpx.delete(url(server)).status_code == 501


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_resumes_a_download(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "got"
    target.write_bytes(DATA[:1_234_567])
    subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-C", "-", "-o", str(target), url(server)],
        check=True, timeout=30,
    )  # fmt: skip
    assert target.read_bytes() == DATA


def test_a_client_that_goes_away_does_not_stop_the_others(server: FileServer) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"GET /secret/x.iso HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.recv(10)
    assert httpx.get(url(server)).content == DATA


def test_what_was_opened_is_served_though_the_file_is_replaced(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "new").write_bytes(b"other")
    (tmp_path / "new").replace(tmp_path / "some.iso")
    assert httpx.get(url(server)).content == DATA


def test_an_address_in_use_is_one_sentence(server: FileServer, tmp_path: Path) -> None:
    with (
        pytest.raises(DeployError, match=f"127.0.0.1:{server.port}: cannot listen there"),
        FileServer(tmp_path / "some.iso", "s", "n", ("127.0.0.1", server.port)),
    ):
        pass
