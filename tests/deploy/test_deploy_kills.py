"""SIGKILL at every request: the next run goes on, nothing is made twice, nothing is forgotten.

Each kill hits the command line in the middle of a request to the provider or to the object
store: before the server has done anything, or after it has done everything and before it
answers, which is the worst moment there is.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.deploy_bench import Bench, S3Store, bench
from support.fake_vultr import Fault

pytestmark = pytest.mark.slow  # two starts of the command line and a whole deployment each time

NOTHING = {"isos": 0, "instances": 0, "firewalls": 0, "vpcs": 0}
_ID = "[0-9a-f-]{36}"

REQUESTS = [
    ("GET /v2/regions", 0),
    ("GET /v2/instances", 0),
    ("GET /v2/iso", 0),
    ("POST /v2/iso", 0),
    (f"GET /v2/iso/{_ID}", 0),
    ("POST /v2/firewalls", 0),
    (f"POST /v2/firewalls/{_ID}/rules", 0),
    (f"POST /v2/firewalls/{_ID}/rules", 1),
    ("POST /v2/vpcs", 0),
    ("POST /v2/instances", 0),
    (f"GET /v2/instances/{_ID}", 0),
    (f"GET /v2/instances/{_ID}/iso", 0),
    (f"POST /v2/instances/{_ID}/iso/detach", 0),
    (f"DELETE /v2/iso/{_ID}", 0),
]


def killed(b: Bench, where: str, kind: str, skip: int, *words: str) -> None:
    """Run the command line until its request `where` (after `skip` of them) kills it."""
    child = b.start(*words)
    b.fake.faults.append(Fault(where, kind, child.pid, skip=skip))
    out, err = child.communicate(timeout=60)
    assert child.returncode == -9, (out, err)
    b.fake.faults.clear()


@pytest.mark.parametrize("kind", ["kill-before", "kill"])
@pytest.mark.parametrize(("where", "skip"), REQUESTS)
def test_a_killed_deployment_goes_on_and_makes_everything_once(
    b: Bench, where: str, skip: int, kind: str
) -> None:
    b.configure('private_network = "create"')
    b.fake.restart_seconds = 2.2
    words = ("deploy", "--yes", "--pause", "0.1", *b.serving())
    killed(b, where, kind, skip, *words)
    result = b.run(*words)
    assert result.returncode == 0, result.stderr
    assert b.fake.left() == {"isos": 0, "instances": 1, "firewalls": 1, "vpcs": 1}
    for what in ("instance", "firewall", "vpc"):
        assert b.fake.created.count(what) == 1
    # An ISO that the killed run was serving may have failed to arrive, and is then asked for anew.
    assert b.fake.created.count("iso") <= 2
    (rules,) = b.fake.rules.values()
    assert {(r["ip_type"], r["port"]) for r in rules} == {("v4", str(b.port)), ("v6", str(b.port))}


@pytest.mark.parametrize("keeps_failed", [False, True])
def test_a_download_that_broke_off_with_the_run_that_served_it_is_asked_for_anew(
    tmp_path: Path, keeps_failed: bool
) -> None:
    # More than fits into the buffers of a connection, or the killed run had served it all.
    with bench(tmp_path, 40_000_000, rate=2_000_000, keeps_failed=keeps_failed) as b:
        words = ("upload", "--pause", "0.1", *b.serving())
        killed(b, f"GET /v2/iso/{_ID}", "kill", 3, *words)
        b.fake.rate = 0
        time.sleep(0.5)  # the provider notices
        result = b.run(*words)
        assert result.returncode == 0, result.stderr
        assert (b.fake.left()["isos"], b.fake.created) == (1, ["iso", "iso"])


@pytest.mark.parametrize("kind", ["kill-before", "kill"])
@pytest.mark.parametrize(
    "where",
    [
        f"DELETE /v2/instances/{_ID}",
        f"DELETE /v2/iso/{_ID}",
        f"DELETE /v2/firewalls/{_ID}",
        f"DELETE /v2/vpcs/{_ID}",
    ],
)
def test_a_killed_removal_goes_on_and_leaves_nothing(tmp_path: Path, where: str, kind: str) -> None:
    with bench(tmp_path, 200_000, install_seconds=60) as b:
        b.configure('private_network = "create"')
        deploy = b.start("deploy", "--yes", "--pause", "0.1", *b.serving())
        wait_for(lambda: b.state_path.exists() and b.state()["address"] is not None)
        deploy.kill()
        deploy.communicate()
        words = ("deploy", "destroy", "--confirm", "vpn", "--pause", "0.1")
        killed(b, where, kind, 0, *words)
        assert b.run(*words).returncode == 0
        assert b.fake.left() == NOTHING
        assert not b.state_path.exists()


@pytest.mark.parametrize("where", ["POST /v2/iso", "POST /v2/firewalls", "POST /v2/instances"])
def test_what_a_killed_run_asked_for_is_found_and_removed(b: Bench, where: str) -> None:
    """No run ever learned the id of what was made."""
    killed(b, where, "kill", 0, "deploy", "--yes", "--pause", "0.1", *b.serving())
    result = b.run("deploy", "destroy", "--confirm", "vpn", "--pause", "0.1")
    assert result.returncode == 0, result.stderr
    time.sleep(0.5)
    assert b.fake.left() == NOTHING


class Killer:
    """A place between the command line and moto: counts requests, kills at the one asked for."""

    def __init__(self, store: S3Store) -> None:
        self.pid = 0
        self.at = re.compile("never")
        self.after = False
        self.log: list[str] = []
        self._target = store.endpoint
        import http.server

        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                return None

            def _handle(self) -> None:
                outer.relay(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                return None

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def relay(self, request: object) -> None:
        import os
        import signal

        import httpx

        command, path = request.command, request.path  # type: ignore[attr-defined]
        headers = request.headers  # type: ignore[attr-defined]
        body = request.rfile.read(int(headers.get("Content-Length") or 0))  # type: ignore[attr-defined]
        query = path.partition("?")[2]
        what = f"{command} {query.partition('=')[0]}"
        self.log.append(what)
        hit = self.pid and self.at.fullmatch(what) is not None
        if hit and not self.after:
            os.kill(self.pid, signal.SIGKILL)
            self.pid = 0
            return
        answer = httpx.request(
            command, self._target + path, content=body, timeout=30,
            headers={k: v for k, v in headers.items() if k.lower() != "connection"},
        )  # fmt: skip
        if hit:
            os.kill(self.pid, signal.SIGKILL)
            self.pid = 0
            return
        request.send_response(answer.status_code)  # type: ignore[attr-defined]
        for name, value in answer.headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                request.send_header(name, value)  # type: ignore[attr-defined]
        if "content-length" not in answer.headers:
            request.send_header("Content-Length", str(len(answer.content)))  # type: ignore[attr-defined]
        request.end_headers()  # type: ignore[attr-defined]
        request.wfile.write(answer.content)  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "at",
    [
        "HEAD ",
        "GET uploads|GET prefix",
        "POST uploads",
        "PUT partNumber",
        "POST uploadId",
        "DELETE ",
    ],
)
def test_a_killed_upload_to_a_store_forgets_nothing_there(
    b: Bench, store: S3Store, at: str, after: bool
) -> None:
    killer = Killer(store)
    b.env |= store.env
    b.configure(store.table().replace(store.endpoint, killer.endpoint))
    killer.at, killer.after = re.compile(at), after
    child = b.start("upload", "--pause", "0.1")
    killer.pid = child.pid
    out, err = child.communicate(timeout=60)
    assert child.returncode == -9, (out, err, killer.log)
    result = b.run("upload", "--pause", "0.1")
    assert result.returncode == 0, result.stderr
    assert (store.keys(), store.uploads()) == ([], [])
    assert b.fake.created == ["iso"]
    killer.server.shutdown()
    killer.server.server_close()


@pytest.mark.parametrize("at", ["POST uploads", "PUT partNumber", "POST uploadId"])
def test_a_killed_upload_can_be_given_up_without_a_trace(b: Bench, store: S3Store, at: str) -> None:
    killer = Killer(store)
    b.env |= store.env
    b.configure(store.table().replace(store.endpoint, killer.endpoint))
    killer.at, killer.after = re.compile(at), True
    child = b.start("upload", "--pause", "0.1")
    killer.pid = child.pid
    assert child.wait(timeout=60) == -9
    child.communicate()
    assert store.keys() or store.uploads()
    assert b.run("deploy", "destroy", "--confirm", "vpn").returncode == 0
    assert (store.keys(), store.uploads()) == ([], [])
    killer.server.shutdown()
    killer.server.server_close()


def wait_for(true: Callable[[], bool], limit: float = 30.0) -> None:
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
