"""A project with an ISO and a manifest, a fake provider, and the command line, for the tests."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsdimg.project.folder import Project
from obsdimg.signify.message import SignifySecretKey
from support import fake_vultr
from support.fake_vultr import FakeVultr, WireGuardMachine
from support.responder import ResponderCore, ResponderPeer

CONFIG = """
[release]
version = "6.6"
[host]
name = "vpn"
[network]
interfaces = [{{ name = "vio1", ipv4 = "172.16.1.3/24" }}]
[tunnel]
port = {port}
[[tunnel.peers]]
name = "laptop"
ipv4 = "10.0.0.2"
[[tunnel.peers]]
name = "phone"
ipv4 = "10.0.0.3"
[deploy]
region = "ams"
api = "{api}"
{more}
"""


def free_port(kind: int = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Bench:
    """A project in `root` and the fake provider that its configuration points to."""

    root: Path
    fake: FakeVultr
    port: int
    env: dict[str, str] = field(default_factory=dict)
    more: str = ""

    def __post_init__(self) -> None:
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
            "VULTR_API_KEY": fake_vultr.TOKEN,
            "PYTHONPATH": str(Path(__file__).parents[2] / "builder"),
            "HOME": str(self.root),
        }

    @property
    def iso(self) -> Path:
        return self.root / "images" / "vpn-66-amd64.iso"

    @property
    def state_path(self) -> Path:
        return self.root / "deploy" / "vpn.json"

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.state_path.read_bytes()))

    def configure(self, more: str = "") -> Project:
        config = self.root / "obsdimg.toml"
        config.write_text(CONFIG.format(port=self.port, api=self.fake.url, more=more))
        return Project.open(config)

    def make_iso(self, data: bytes, secrets: bool = False) -> None:
        self.iso.parent.mkdir(exist_ok=True)
        self.iso.write_bytes(data)
        manifest = {
            "format": 1,
            "tool": "obsdimg 0.1.0",
            "iso": {
                "name": self.iso.name,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            },
            "secrets_in_clear": secrets,
        }
        text = json.dumps(manifest).encode()
        beside = self.iso.with_name(self.iso.name + ".json")
        beside.write_bytes(text)
        key = self.root / "secrets" / "image.sec"
        if key.exists():
            signature = SignifySecretKey.parse(key.read_text()).sign(text)
            beside.with_name(beside.name + ".sig").write_bytes(signature.text.encode())

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "obsdimg", *words],
            env=self.env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        child = self.start(*words)
        try:
            out, err = child.communicate(timeout=300)
        finally:
            child.kill()
        assert "Traceback" not in err, err
        assert fake_vultr.TOKEN not in out + err
        assert "do-not-log-this" not in out + err
        return subprocess.CompletedProcess(words, child.returncode, out, err)

    def serving(self) -> tuple[str, ...]:
        return ("--serve", f"127.0.0.1:{free_port(socket.SOCK_STREAM)}")

    def deploy(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("deploy", "--yes", "--pause", "0.1", *self.serving(), *words)


@contextmanager
def bench(root: Path, size: int = 3_000_000, **settings: Any) -> Iterator[Bench]:
    """A bench whose ISO has `size` random bytes."""
    port = free_port()
    holder: list[Project] = []

    def core() -> ResponderCore:
        project = holder[0]
        keys = project.keys()
        assert keys.server is not None
        inside = project.config.tunnel.ipv4
        assert inside is not None
        return ResponderCore(
            keys.server,
            (inside.ip,),
            tuple(ResponderPeer(k.public, k.preshared) for k in keys.peers.values()),
        )

    fake = FakeVultr(lambda: WireGuardMachine(core, port), **settings)
    with fake_vultr.serve(fake):
        made = Bench(root, fake, port)
        holder.append(made.configure())
        holder[0].keys()  # made here, before two threads could make them at once
        made.make_iso(os.urandom(size))
        yield made


@dataclass
class S3Store:
    """moto's S3 server on loopback, with a bucket, and botocore's client for it as a judge."""

    endpoint: str
    bucket: str
    client: Any
    access: str = "AKIDEXAMPLE000000001"
    secret: str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

    @property
    def env(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret}

    def keys(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [entry["Key"] for entry in found]

    def uploads(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [entry["Key"] for entry in found]

    def table(self, more: str = "") -> str:
        return (
            f'[deploy.s3]\nendpoint = "{self.endpoint}"\nregion = "eu-test-1"\n'
            f'bucket = "{self.bucket}"\n{more}\n'
        )


@contextmanager
def s3_store() -> Iterator[S3Store]:
    import boto3
    from botocore.config import Config as BotoConfig
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    made = S3Store(endpoint, "my-isos", None)
    made.client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-test-1",
        aws_access_key_id=made.access,
        aws_secret_access_key=made.secret,
        config=BotoConfig(s3={"addressing_style": "path"}, proxies={}),
    )
    made.client.create_bucket(
        Bucket=made.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-test-1"}
    )
    try:
        yield made
    finally:
        server.stop()
