"""A provider on loopback that behaves like Vultr's API v2, and can fail in every way it may.

It really downloads the ISO from where it is told, goes through the states over time, and its
"instance" is a WireGuard server in this process (or whatever `machine` starts).  Field names,
status codes and states are those that docs/vultr.md cites.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from support.responder import Responder, ResponderCore

TOKEN = "TESTTOKEN0123456789ABCDEFGHIJKLMNOPQ"


class Machine(Protocol):
    """What an instance runs."""

    def start(self, iso: bytes | None) -> None: ...
    def stop(self) -> None: ...


class WireGuardMachine:
    """A server that answers handshakes once it is installed."""

    def __init__(self, core: Callable[[], ResponderCore], port: int) -> None:
        self._core, self._port = core, port
        self._running: Responder | None = None

    def start(self, iso: bytes | None) -> None:
        if self._running is None:
            self._running = Responder(self._core(), "127.0.0.1", self._port)
            self._running.__enter__()

    def stop(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None


@dataclass
class Fault:
    """How requests whose "METHOD /path" matches `where` (a regular expression) go wrong.

    kind: `status` (value: code; `body`, `headers`), `cut` (processed, then the connection is
    cut), `cut-before` (cut, nothing processed), `stall` (value: seconds of silence before),
    `garbage` (processed, answered with no JSON), `kill` (processed, then process `value` is
    killed), `kill-before`.  `times`: so many requests; `skip`: so many are let through first.
    """

    where: str
    kind: str
    value: float = 0
    times: int = 1
    skip: int = 0
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeVultr:
    """The account.  Times in seconds."""

    machine: Callable[[], Machine]
    pending_seconds: float = 0.2
    install_seconds: float = 0.3
    restart_seconds: float = 2.5
    rate: float = 0
    """Bytes a second of the ISO's download; 0: as fast as it goes."""
    starts_from_cd: bool = False
    """With the ISO in the drive the machine starts from it, also after the installation."""
    iso_limit: int = 10
    instance_limit: int = 10
    keeps_failed: bool = False
    """An ISO that could not be downloaded stays, pending."""
    tamper: bool = False
    """The ISO is damaged on its way."""
    stuck: bool = False
    """Instances stay pending."""
    list_lag: float = 0.0
    """So long after its creation an object is in no list."""
    size_unit: int = 1
    """1: `size` in bytes, 1024: in KB."""
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    isos: dict[str, dict[str, Any]] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    firmware: list[str] = field(default_factory=list)
    """`uefi` of each snapshot that was asked for."""
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    firewalls: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    vpcs: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    """`iso`, `instance`, ... in the order of creation, also of what is gone again."""
    log: list[str] = field(default_factory=list)
    plans: list[dict[str, Any]] = field(
        default_factory=lambda: [
            _plan("vc2-1c-1gb", 1024, 25, 5.0, ["ams", "fra"]),
            _plan("vc2-1c-0.5gb-v6", 512, 10, 2.5, ["fra"]),
            _plan("tiny", 512, 2, 1.0, ["ams"]),
            _plan("sold-out", 1024, 25, 5.0, ["ams"]),
        ]
    )

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._data: dict[str, bytes] = {}
        self._machines: dict[str, Machine] = {}
        self._born: dict[str, float] = {}
        self._timers: list[threading.Timer] = []

    # -- requests

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lock:
            for pattern, kind, act in _ROUTES:
                if kind == method and (found := re.fullmatch(pattern, path)):
                    return act(self, *found.groups(), query=query, body=body)
        return 404, _error("Not found", 404)

    def _listed(self, things: dict[str, Any], query: dict[str, str], key: str) -> tuple[int, Any]:
        old = time.monotonic() - self.list_lag
        shown = [v for k, v in things.items() if self._born[k] <= old]
        if "label" in query:
            shown = [v for v in shown if v["label"] == query["label"]]
        size, start = 2, int(query.get("cursor") or 0)  # small pages: paging is used
        following = str(start + size) if start + size < len(shown) else ""
        meta = {"total": len(shown), "links": {"next": following, "prev": ""}}
        return 200, {key: shown[start : start + size], "meta": meta}

    def _new(self, kind: str) -> str:
        key = str(uuid.uuid4())
        self.created.append(kind)
        self._born[key] = time.monotonic()
        return key

    def list_regions(self, query: Any, body: Any) -> tuple[int, Any]:
        regions = [
            {"id": "ams", "city": "Amsterdam", "country": "NL", "continent": "Europe"},
            {"id": "fra", "city": "Frankfurt", "country": "DE", "continent": "Europe"},
        ]
        return 200, {"regions": regions, "meta": {"links": {"next": ""}}}

    def list_plans(self, query: Any, body: Any) -> tuple[int, Any]:
        return 200, {"plans": self.plans, "meta": {"links": {"next": ""}}}

    def availability(self, region: str, query: Any, body: Any) -> tuple[int, Any]:
        ids = [p["id"] for p in self.plans if region in p["locations"] and p["id"] != "sold-out"]
        return 200, {"available_plans": ids}

    def list_isos(self, query: Any, body: Any) -> tuple[int, Any]:
        return self._listed(self.isos, query, "isos")

    def create_iso(self, query: Any, body: Any) -> tuple[int, Any]:
        if len(self.isos) >= self.iso_limit:
            return 400, _error("You have reached the maximum number of ISOs", 400)
        key = self._new("iso")
        name = urlsplit(body["url"]).path.rpartition("/")[2]
        self.isos[key] = {
            "id": key,
            "date_created": "2026-11-22T12:00:00+00:00",
            "filename": name,
            "status": "pending",
        }
        threading.Thread(target=self._fetch, args=(key, body["url"]), daemon=True).start()
        return 201, {"iso": self.isos[key]}

    def _fetch(self, key: str, url: str) -> None:
        data = bytearray()
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                while piece := response.read(65536):
                    data += piece
                    if self.rate:
                        time.sleep(len(piece) / self.rate)
                if len(data) != int(response.headers["Content-Length"]):
                    raise OSError("short")
        except (OSError, urllib.error.URLError):
            if not self.keeps_failed:  # the real one's behaviour is not known
                with self.lock:
                    self.isos.pop(key, None)
            return
        if self.tamper:
            data[len(data) // 2] ^= 1
        with self.lock:
            if key in self.isos:
                self._data[key] = bytes(data)
                self.isos[key] |= {
                    "status": "complete",
                    "size": len(data) // self.size_unit,
                    "md5sum": hashlib.md5(data).hexdigest(),
                    "sha512sum": hashlib.sha512(data).hexdigest(),
                }

    def get_iso(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.isos:
            return 404, _error("Invalid iso", 404)
        return 200, {"iso": self.isos[key]}

    def delete_iso(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.isos:
            return 404, _error("Invalid iso", 404)
        for instance in self.instances.values():
            if instance["_iso"] == key:
                return 400, _error(f"ISO is still attached to {instance['main_ip']}", 400)
        del self.isos[key]
        return 204, None

    def list_snapshots(self, query: Any, body: Any) -> tuple[int, Any]:
        return self._listed(self.snapshots, query, "snapshots")

    def create_snapshot(self, query: Any, body: Any) -> tuple[int, Any]:
        if set(body) != {"url", "description", "uefi"}:
            return 400, _error("Invalid request", 400)
        key = self._new("snapshot")
        self.snapshots[key] = {
            "id": key,
            "date_created": "2026-11-26T12:00:00+00:00",
            "description": body["description"],
            "size": 0,
            "compressed_size": 0,
            "status": "pending",
            "os_id": 159,
            "app_id": 0,
        }
        self.firmware.append(body["uefi"])
        work = threading.Thread(target=self._fetch_disk, args=(key, body["url"]), daemon=True)
        work.start()
        return 201, {"snapshot": self.snapshots[key]}

    def _fetch_disk(self, key: str, url: str) -> None:
        with urllib.request.urlopen(url, timeout=10) as response:
            size = len(response.read())
        with self.lock:
            if key in self.snapshots:
                cut = 512 if self.tamper else 0
                self.snapshots[key] |= {"status": "complete", "size": size - cut}

    def get_snapshot(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.snapshots:
            return 404, _error("Invalid snapshot", 404)
        return 200, {"snapshot": self.snapshots[key]}

    def delete_snapshot(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if self.snapshots.pop(key, None) is None:
            return 404, _error("Invalid snapshot", 404)
        return 204, None

    def list_instances(self, query: Any, body: Any) -> tuple[int, Any]:
        return self._listed(self.instances, query, "instances")

    def create_instance(self, query: Any, body: Any) -> tuple[int, Any]:
        if len(self.instances) >= self.instance_limit:
            return 403, _error("You have reached the maximum monthly fee limit", 403)
        iso = body.get("iso_id")
        medium = self.isos if iso else self.snapshots
        source = medium.get(iso or body.get("snapshot_id", ""))
        if source is None or source["status"] != "complete":
            return 400, _error("Invalid ISO" if iso else "Invalid snapshot", 400)
        group = body.get("firewall_group_id", "")
        if group and group not in self.firewalls:
            return 400, _error("Invalid firewall group", 400)
        key = self._new("instance")
        self.instances[key] = {
            "id": key,
            "label": body["label"],
            "hostname": body["hostname"],
            "tags": body["tags"],
            "region": body["region"],
            "plan": body["plan"],
            "status": "pending",
            "power_status": "running",
            "server_status": "none",
            "main_ip": "0.0.0.0",
            "firewall_group_id": group,
            "default_password": "do-not-log-this-9Xv",
            "kvm": "",
            "_iso": iso,
            "_vpcs": body.get("attach_vpc", []),
        }
        self._machines[key] = self.machine()
        if not self.stuck:
            self._later(self.pending_seconds, lambda: self._activate(key))
        return 202, {"instance": self._shown(key)}

    def _shown(self, key: str) -> dict[str, Any]:
        return {k: v for k, v in self.instances[key].items() if not k.startswith("_")}

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _activate(self, key: str) -> None:
        with self.lock:
            if key not in self.instances:
                return
            self.instances[key] |= {
                "status": "active",
                "server_status": "ok",
                "main_ip": "127.0.0.1",
                "kvm": f"https://my.vultr.example/subs/novnc/api.php?data={key[:8]}",
            }
        self._later(self.install_seconds, lambda: self._installed(key))

    def _installed(self, key: str) -> None:
        with self.lock:
            if key not in self.instances:
                return
            self.instances[key]["_installed"] = True
            if not self.starts_from_cd:
                self._machines[key].start(self._data.get(self.instances[key]["_iso"] or ""))

    def get_instance(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.instances:
            return 404, _error("Invalid instance", 404)
        return 200, {"instance": self._shown(key)}

    def delete_instance(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.instances:
            return 404, _error("Invalid instance", 404)
        del self.instances[key]
        self._machines.pop(key).stop()
        return 204, None

    def iso_status(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.instances:
            return 404, _error("Invalid instance", 404)
        iso = self.instances[key]["_iso"]
        state = {"state": "isomounted", "iso_id": iso} if iso else {"state": "ready", "iso_id": ""}
        return 200, {"iso_status": state}

    def detach_iso(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.instances:
            return 404, _error("Invalid instance", 404)
        instance = self.instances[key]
        if not instance["_iso"]:
            return 400, _error("No ISO attached", 400)
        machine = self._machines[key]
        machine.stop()

        def restarted() -> None:
            with self.lock:
                if key in self.instances and instance.get("_installed"):
                    machine.start(None)

        def ejected() -> None:
            with self.lock:
                instance["_iso"] = None
            self._later(self.restart_seconds, restarted)

        self._later(0.1, ejected)
        return 202, {"iso_status": {"state": "isounmounting", "iso_id": instance["_iso"]}}

    def list_firewalls(self, query: Any, body: Any) -> tuple[int, Any]:
        return self._listed(self.firewalls, query, "firewall_groups")

    def create_firewall(self, query: Any, body: Any) -> tuple[int, Any]:
        key = self._new("firewall")
        self.firewalls[key] = {"id": key, "description": body["description"]}
        self.rules[key] = []
        return 201, {"firewall_group": self.firewalls[key]}

    def list_rules(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        return 200, {"firewall_rules": self.rules[key], "meta": {"links": {"next": ""}}}

    def create_rule(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        rule = {"id": len(self.rules[key]) + 1, "action": "accept", **body}
        self.rules[key].append(rule)
        return 201, {"firewall_rule": rule}

    def delete_firewall(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.firewalls:
            return 404, _error("Invalid group", 404)
        if any(i["firewall_group_id"] == key for i in self.instances.values()):
            return 400, _error("The firewall group is in use", 400)
        del self.firewalls[key], self.rules[key]
        return 204, None

    def list_vpcs(self, query: Any, body: Any) -> tuple[int, Any]:
        return self._listed(self.vpcs, query, "vpcs")

    def create_vpc(self, query: Any, body: Any) -> tuple[int, Any]:
        key = self._new("vpc")
        self.vpcs[key] = {"id": key, **body}
        return 201, {"vpc": self.vpcs[key]}

    def delete_vpc(self, key: str, query: Any, body: Any) -> tuple[int, Any]:
        if key not in self.vpcs:
            return 404, _error("Invalid VPC", 404)
        if any(key in i["_vpcs"] for i in self.instances.values()):
            return 400, _error("The VPC is attached to an instance", 400)
        del self.vpcs[key]
        return 204, None

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        with self.lock:
            for machine in self._machines.values():
                machine.stop()

    def left(self) -> dict[str, int]:
        """How many objects of each kind there are."""
        return {
            "isos": len(self.isos),
            "instances": len(self.instances),
            "firewalls": len(self.firewalls),
            "vpcs": len(self.vpcs),
        }


def _plan(key: str, ram: int, disk: int, cost: float, where: list[str]) -> dict[str, Any]:
    return {
        "id": key, "vcpu_count": 1, "ram": ram, "disk": disk, "disk_count": 1,
        "bandwidth": 1024, "monthly_cost": cost, "type": "vc2", "locations": where,
    }  # fmt: skip


def _error(text: str, status: int) -> dict[str, Any]:
    return {"error": text, "status": status}


_ID = r"([0-9a-f-]{36})"
_ROUTES: list[tuple[str, str, Callable[..., tuple[int, Any]]]] = [
    (r"/v2/regions", "GET", FakeVultr.list_regions),
    (r"/v2/regions/([a-z]+)/availability", "GET", FakeVultr.availability),
    (r"/v2/plans", "GET", FakeVultr.list_plans),
    (r"/v2/iso", "GET", FakeVultr.list_isos),
    (r"/v2/iso", "POST", FakeVultr.create_iso),
    (rf"/v2/iso/{_ID}", "GET", FakeVultr.get_iso),
    (rf"/v2/iso/{_ID}", "DELETE", FakeVultr.delete_iso),
    (r"/v2/snapshots", "GET", FakeVultr.list_snapshots),
    (r"/v2/snapshots/create-from-url", "POST", FakeVultr.create_snapshot),
    (rf"/v2/snapshots/{_ID}", "GET", FakeVultr.get_snapshot),
    (rf"/v2/snapshots/{_ID}", "DELETE", FakeVultr.delete_snapshot),
    (r"/v2/instances", "GET", FakeVultr.list_instances),
    (r"/v2/instances", "POST", FakeVultr.create_instance),
    (rf"/v2/instances/{_ID}", "GET", FakeVultr.get_instance),
    (rf"/v2/instances/{_ID}", "DELETE", FakeVultr.delete_instance),
    (rf"/v2/instances/{_ID}/iso", "GET", FakeVultr.iso_status),
    (rf"/v2/instances/{_ID}/iso/detach", "POST", FakeVultr.detach_iso),
    (r"/v2/firewalls", "GET", FakeVultr.list_firewalls),
    (r"/v2/firewalls", "POST", FakeVultr.create_firewall),
    (rf"/v2/firewalls/{_ID}/rules", "GET", FakeVultr.list_rules),
    (rf"/v2/firewalls/{_ID}/rules", "POST", FakeVultr.create_rule),
    (rf"/v2/firewalls/{_ID}", "DELETE", FakeVultr.delete_firewall),
    (r"/v2/vpcs", "GET", FakeVultr.list_vpcs),
    (r"/v2/vpcs", "POST", FakeVultr.create_vpc),
    (rf"/v2/vpcs/{_ID}", "DELETE", FakeVultr.delete_vpc),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeVultr

    def log_message(self, format: str, *args: object) -> None:
        return None

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        what = f"{self.command} {parts.path}"
        fault = self._fault(what)
        kind = fault.kind if fault else ""
        with self.fake.lock:
            self.fake.log.append(what)
        if kind == "stall":
            assert fault is not None
            time.sleep(fault.value)
        if kind == "kill-before":
            assert fault is not None
            os.kill(int(fault.value), signal.SIGKILL)
        if kind in ("cut-before", "kill-before"):
            self.close_connection = True
            return
        if kind == "status":
            assert fault is not None
            body = fault.body if fault.body is not None else _error("As asked", int(fault.value))
            self._reply(int(fault.value), body, fault.headers)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._reply(401, _error("Invalid API token.", 401), {})
            return
        query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        code, value = self.fake.answer(
            self.command, parts.path, query, json.loads(raw) if raw else {}
        )
        if kind == "kill":
            assert fault is not None
            os.kill(int(fault.value), signal.SIGKILL)
        if kind in ("cut", "kill"):
            self.close_connection = True
            return
        if kind == "garbage":
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")
            return
        self._reply(code, value, {})

    do_GET = do_POST = do_DELETE = do_PATCH = _handle

    def _fault(self, what: str) -> Fault | None:
        with self.fake.lock:
            for fault in self.fake.faults:
                if fault.times > 0 and re.fullmatch(fault.where, what):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def _reply(self, code: int, value: Any, headers: dict[str, str]) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        return None


@contextmanager
def serve(fake: FakeVultr, port: int = 0) -> Iterator[FakeVultr]:
    """Run `fake` on a free port; its `url` is what `deploy.api` wants."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v2"
    try:
        yield fake
    finally:
        fake.close()
        server.shutdown()
        server.server_close()
        thread.join()
