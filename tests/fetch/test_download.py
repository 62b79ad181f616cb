"""Downloads against a real mirror on loopback that fails in every way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from obsdimg.core.files import FileError
from obsdimg.core.progress import Progress
from obsdimg.fetch.download import (
    Attempt,
    Downloader,
    DownloadError,
    ExpiredMirrorError,
    tried,
)
from obsdimg.fetch.http import Timeouts
from obsdimg.signify.errors import HashMismatchError
from support.mirror import Fault, Mirror, certificate, closed_port, raw_answers, serve

DATA = os.urandom(300_000)
QUICK = Timeouts(connect=2, read=0.5, tries=3, first_wait=0.01, longest_wait=0.05, patience=0.3)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serve() as server:
        server.files["/f"] = DATA
        yield server


@pytest.fixture
def second() -> Iterator[Mirror]:
    with serve() as server:
        server.files["/f"] = DATA
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "f"


def genuine(path: Path) -> None:
    if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(DATA).digest():
        raise HashMismatchError("not the genuine file")


def fetch(target: Path, *urls: str, check: Callable[[Path], None] = genuine) -> int:
    """Download and return the offset at which it was resumed."""
    with Downloader(QUICK) as net:
        found = net.download(urls, target, check)
    assert target.read_bytes() == DATA
    assert sorted(p.name for p in target.parent.iterdir()) == ["f"], "nothing else is left"
    return found.resumed_at


def test_a_file_arrives_whole(mirror: Mirror, target: Path) -> None:
    assert fetch(target, f"{mirror.url}/f") == 0
    assert mirror.asked("f") == [None]


FAULTS = [
    ([Fault("status", 500)], 2),
    ([Fault("status", 503), Fault("status", 429)], 3),
    ([Fault("cut", 0)], 2),
    ([Fault("cut", 100_000)], 2),
    ([Fault("cut", 100_000), Fault("cut", 1), Fault("cut", 1), Fault("cut", 1)], 5),
    ([Fault("long", 10)], 2),
    ([Fault("stall", 0.8)], 2),
    ([Fault("cut", 100_000), Fault("norange")], 2),
    ([Fault("cut", 100_000), Fault("badrange")], 3),
]


@pytest.mark.parametrize(("faults", "requests"), FAULTS)
def test_a_passing_fault_is_tried_again_on_the_same_mirror(
    mirror: Mirror, target: Path, faults: list[Fault], requests: int
) -> None:
    mirror.faults["/f"] = list(faults)
    fetch(target, f"{mirror.url}/f")
    assert len(mirror.asked("f")) == requests


def test_a_cut_download_goes_on_where_it_stopped(mirror: Mirror, target: Path) -> None:
    mirror.faults["/f"] = [Fault("cut", 100_000)]
    fetch(target, f"{mirror.url}/f")
    assert mirror.asked("f") == [None, "bytes=100000-"]


@pytest.mark.parametrize("etags", [True, False], ids=["etag", "last-modified"])
def test_another_run_goes_on_where_a_dead_one_stopped(
    mirror: Mirror, target: Path, etags: bool
) -> None:
    mirror.etags = etags
    mirror.faults["/f"] = [Fault("cut", 120_000), *[Fault("status", 500)] * 3]
    with pytest.raises(DownloadError):
        fetch(target, f"{mirror.url}/f")
    assert fetch(target, f"{mirror.url}/f") == 120_000
    assert mirror.asked("f")[-1] == "bytes=120000-"


def test_a_file_that_changed_on_the_mirror_is_fetched_from_the_start(
    mirror: Mirror, target: Path
) -> None:
    mirror.files["/f"] = bytes(300_000)
    mirror.faults["/f"] = [Fault("cut", 120_000), *[Fault("status", 500)] * 3]
    with pytest.raises(DownloadError):
        fetch(target, f"{mirror.url}/f")
    mirror.files["/f"] = DATA
    fetch(target, f"{mirror.url}/f")
    assert mirror.log[-1] == ("/f", "bytes=120000-", 200)


def test_another_mirror_continues_what_the_first_began(
    mirror: Mirror, second: Mirror, target: Path
) -> None:
    mirror.faults["/f"] = [Fault("cut", 200_000), Fault("status", 404, always=True)]
    fetch(target, f"{mirror.url}/f", f"{second.url}/f")
    assert second.asked("f") == ["bytes=200000-"]


def test_what_another_mirror_left_is_thrown_away_if_the_whole_is_wrong(
    mirror: Mirror, second: Mirror, target: Path
) -> None:
    mirror.files["/f"] = bytes(300_000)
    mirror.faults["/f"] = [Fault("cut", 200_000), Fault("status", 404, always=True)]
    fetch(target, f"{mirror.url}/f", f"{second.url}/f")
    assert second.asked("f") == ["bytes=200000-", None]


NEXT = [
    (Fault("status", 404, always=True), "404 not found"),
    (Fault("status", 403, always=True), "403 forbidden"),
    (Fault("status", 500, always=True), "500 internal server error"),
    (Fault("wrong", always=True), "not the genuine file"),
    (Fault("short", 1000, always=True), "not the genuine file"),
    (Fault("slow", 0.05, always=True), "too slow"),
    (Fault("redirect", "/f", always=True), "redirects without end"),
    (Fault("redirect", "ftp://127.0.0.1/f", always=True), "not a URL for http or https"),
    (Fault("stall", 0.8, always=True), "no answer in time"),
]


@pytest.mark.parametrize(("fault", "reason"), NEXT, ids=lambda v: getattr(v, "kind", v))
def test_a_mirror_that_stays_bad_is_left_for_the_next(
    mirror: Mirror, second: Mirror, target: Path, fault: Fault, reason: str
) -> None:
    mirror.faults["/f"] = [fault]
    quick = Timeouts(
        connect=2, read=0.5, tries=2, first_wait=0.01, patience=0.3, slowest=40_000, redirects=5
    )
    with Downloader(quick) as net:
        net.download([f"{mirror.url}/f", f"{second.url}/f"], target, genuine)
    assert target.read_bytes() == DATA
    target.unlink()
    with Downloader(quick) as net, pytest.raises(DownloadError) as caught:
        net.download([f"{mirror.url}/f"], target, genuine)
    assert reason in caught.value.attempts[0].reason
    assert not target.exists(), "what failed has no name"


def test_a_redirect_is_followed(mirror: Mirror, second: Mirror, target: Path) -> None:
    mirror.faults["/f"] = [Fault("redirect", f"{second.url}/f", always=True)]
    fetch(target, f"{mirror.url}/f")


def test_the_error_lists_everything_that_was_tried(mirror: Mirror, target: Path) -> None:
    closed = closed_port()
    urls = [f"{mirror.url}/gone", f"{closed}/f", "ftp://127.0.0.1/f"]
    with (
        Downloader(QUICK, hint="give the file with --iso F") as net,
        pytest.raises(DownloadError) as caught,
    ):
        net.download(urls, target, genuine)
    assert f"{mirror.url}/gone: 404 not found" in caught.value.message
    host = closed.removeprefix("http://")
    assert f"{host}: connection refused" in caught.value.message
    assert "ftp://127.0.0.1/f: not a URL" in caught.value.message
    assert caught.value.hint == "give the file with --iso F"
    assert not isinstance(caught.value, ExpiredMirrorError)


def test_many_mirrors_with_one_reason_stand_together() -> None:
    attempts = [
        Attempt(f"https://m{n}.example/f", "connection refused", unreachable=True) for n in range(9)
    ]
    attempts.append(Attempt("https://x.example/f", "404 not found"))
    assert tried(attempts) == (
        "m0.example, m1.example, m2.example, m3.example, m4.example, m5.example and 3 more:"
        " connection refused; https://x.example/f: 404 not found"
    )


class Notes(Progress):
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_every_mirror_is_named_once_and_a_host_without_an_answer_is_asked_once(
    target: Path,
) -> None:
    first, second = closed_port(), closed_port()
    progress = Notes()
    urls = [f"{first}/index.txt", f"{first}/", f"{second}/index.txt", f"{second}/"]
    with Downloader(QUICK, progress) as net, pytest.raises(DownloadError) as caught:
        net.get(urls, "list", 1000, len)
    said = "\n".join([*progress.said, caught.value.message])
    hosts = [url.removeprefix("http://") for url in (first, second)]
    assert [said.count(host) for host in hosts] == [1, 1], said
    assert f"{hosts[0]}, {hosts[1]}: connection refused" in said
    assert caught.value.unreachable


def test_where_a_later_mirror_helped_the_others_are_noted_once(
    mirror: Mirror, target: Path
) -> None:
    progress = Notes()
    closed = closed_port()
    with Downloader(QUICK, progress) as net:
        net.download([f"{closed}/f", f"{mirror.url}/f"], target, genuine)
    (said,) = [text for text in progress.said if "not to be had" in text]
    assert said.count(closed.removeprefix("http://")) == 1


def test_a_file_that_no_mirror_carries_any_more_is_said_so(
    mirror: Mirror, second: Mirror, target: Path
) -> None:
    second.faults["/g"] = [Fault("status", 410)]
    with Downloader(QUICK) as net, pytest.raises(ExpiredMirrorError, match="no mirror carries it"):
        net.download([f"{mirror.url}/g", f"{second.url}/g"], target, genuine)


def test_no_mirror_at_all_is_an_error(target: Path) -> None:
    with Downloader(QUICK) as net, pytest.raises(DownloadError, match="none is known"):
        net.download([], target, genuine)


def test_passwords_in_urls_are_not_shown(mirror: Mirror, target: Path) -> None:
    url = mirror.url.replace("http://", "http://me:hunter2@")
    with Downloader(QUICK) as net, pytest.raises(DownloadError) as caught:
        net.download([f"{url}/gone"], target, genuine)
    assert "hunter2" not in caught.value.message


def test_a_wrong_certificate_is_refused(tmp_path: Path, target: Path) -> None:
    with serve(certificate(tmp_path / "cert.pem")) as tls:
        tls.files["/f"] = DATA
        with Downloader(QUICK) as net, pytest.raises(DownloadError) as caught:
            net.download([f"{tls.url}/f"], target, genuine)
    assert "certificate does not verify" in caught.value.message
    assert tls.log == []


def test_a_certificate_that_ssl_cert_file_names_is_accepted(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path / "cert.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serve(path) as tls:
        tls.files["/f"] = DATA
        fetch(target, f"{tls.url}/f")


def test_a_redirect_from_https_to_http_is_refused(
    tmp_path: Path, mirror: Mirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path / "cert.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serve(path) as tls:
        tls.faults["/f"] = [Fault("redirect", f"{mirror.url}/f", always=True)]
        with Downloader(QUICK) as net, pytest.raises(DownloadError, match="plain http"):
            net.download([f"{tls.url}/f"], target, genuine)


def test_a_file_that_is_far_too_large_is_refused(mirror: Mirror, target: Path) -> None:
    with Downloader(Timeouts(largest=1000)) as net, pytest.raises(DownloadError, match="too many"):
        net.download([f"{mirror.url}/f"], target, genuine)


def test_the_usual_variables_name_a_proxy(
    mirror: Mirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy gets the whole URL in its request line; our mirror serves it from that name.
    mirror.files["http://openbsd.invalid/f"] = DATA
    monkeypatch.setenv("http_proxy", mirror.url)
    fetch(target, "http://openbsd.invalid/f")
    assert mirror.log[0][0] == "http://openbsd.invalid/f"


def test_a_part_that_cannot_be_written_is_an_error_with_its_name(
    mirror: Mirror, target: Path
) -> None:
    (target.parent / ".f.part").mkdir(parents=True)
    with Downloader(QUICK) as net, pytest.raises(FileError) as caught:
        net.download([f"{mirror.url}/f"], target, genuine)
    assert caught.value.message.startswith(f"{target}: cannot be written")


def test_small_files_are_limited_and_checked(mirror: Mirror, second: Mirror) -> None:
    def refuse(body: bytes) -> bytes:
        raise HashMismatchError("not signed")

    with Downloader(QUICK) as net:
        found, body, url = net.get([f"{mirror.url}/f"], "f", 300_000, len)
        assert (found, body, url) == (300_000, DATA, f"{mirror.url}/f")
        with pytest.raises(DownloadError, match="more than 1000 bytes"):
            net.get([f"{mirror.url}/f"], "f", 1000, len)
        with pytest.raises(DownloadError, match="not signed"):
            net.get([f"{mirror.url}/f", f"{second.url}/f"], "f", 300_000, refuse)


def test_spoiled_notes_of_an_earlier_run_start_it_anew(mirror: Mirror, target: Path) -> None:
    target.parent.mkdir()
    for notes in (b"", b"[]", b"{", b'{"url": 1}', b"\xff"):
        (target.parent / ".f.part").write_bytes(b"x" * 1000)
        (target.parent / ".f.part.json").write_bytes(notes)
        assert fetch(target, f"{mirror.url}/f") == 0


RAW = [
    (b"", "the connection was cut"),
    (b"garbage\r\n\r\n", "not proper HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc", "not proper HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", "not proper HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "not proper HTTP"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc", "not proper HTTP"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", "the connection was cut"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\nabc", "not proper HTTP"),
    (b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-2/3\r\nContent-Length: 3\r\n\r\nabc", "206"),
    (b"HTTP/1.1 302 F\r\nLocation: http://[::x\r\nContent-Length: 0\r\n\r\n", "not proper HTTP"),
    (b"HTTP/1.1 302 F\r\nLocation: file:///x\r\nContent-Length: 0\r\n\r\n", "not a URL"),
    (b"HTTP/1.1 503 Busy\r\nRetry-After: " + b"9" * 400 + b"\r\nContent-Length: 0\r\n\r\n", "503"),
]


@pytest.mark.parametrize(("answer", "reason"), RAW, ids=range(len(RAW)))
def test_nonsense_from_a_server_is_a_failed_attempt(
    target: Path, answer: bytes, reason: str
) -> None:
    with raw_answers(answer) as url, Downloader(QUICK) as net:
        with pytest.raises(DownloadError) as caught:
            net.download([f"{url}/f"], target, genuine)
        assert reason in caught.value.attempts[0].reason
        with pytest.raises(DownloadError):
            net.get([f"{url}/f"], "f", 1000, len)


@pytest.mark.parametrize(
    "url", ["", "x", "/etc/passwd", "http://", "http://[::x/f", "http://a b/f", "http://\udcff/f"]
)
def test_what_is_no_url_is_a_failed_attempt(target: Path, url: str) -> None:
    with Downloader(QUICK) as net, pytest.raises(DownloadError) as caught:
        net.download([url], target, genuine)
    assert len(caught.value.attempts) == 1
