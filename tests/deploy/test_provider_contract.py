"""The contract of support/provider_contract.py, kept by the providers that need no hypervisor."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.test_deploy_second_provider import Memory
from obsdimg.core.retries import Pace
from obsdimg.core.secret import Secret
from obsdimg.deploy.api import Api
from obsdimg.deploy.vultr import Vultr
from support import fake_vultr
from support.deploy_bench import Bench
from support.provider_contract import TAG, Contract, walk

DATA = b"an ISO" * 1000


def test_a_provider_in_memory() -> None:
    walk(Memory(iter(())), Contract("here", "small", f"http://x/{TAG}.iso", 10, "b" * 128))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / f"{TAG}.iso").write_bytes(DATA)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{TAG}.iso"
    server.shutdown()
    server.server_close()


def test_vultr(b: Bench, url: str) -> None:
    pace = Pace(connect=5, read=5, tries=3, first_wait=0.01, longest_wait=0.02)
    contract = Contract("ams", "vc2-1c-1gb", url, len(DATA), hashlib.sha512(DATA).hexdigest())
    with Api("Vultr", b.fake.url, Secret(fake_vultr.TOKEN), pace) as api:
        walk(Vultr(api), contract)
