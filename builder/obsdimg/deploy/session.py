"""From what the user chose to a provider, a host for the ISO, and the instance wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from obsdimg.config import Config
from obsdimg.config.rules import asks_on_com0
from obsdimg.core.errors import UsageError
from obsdimg.deploy.credentials import find_s3_keys
from obsdimg.deploy.hosting import Direct, FromHere, Hosted, Hosting, InBucket
from obsdimg.deploy.image import Image
from obsdimg.deploy.provider import DeployError, Provider
from obsdimg.deploy.registry import opener
from obsdimg.deploy.s3 import Bucket
from obsdimg.deploy.state import State, Store
from obsdimg.deploy.steps import WantedInstance
from obsdimg.deploy.work import Waits
from obsdimg.disk.content import Form
from obsdimg.disk.manifest import DiskManifest
from obsdimg.project.folder import Project


class HostingUsageError(DeployError, UsageError):
    """The options do not say, or not rightly, where the provider gets the ISO from."""


_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})")

SMALLEST_DISK = 4
"""Gigabytes.  The sets without games and X take about 1.2 GB (6.6 amd64); swap, /var and room for
patches come on top."""


@contextmanager
def open_provider(
    project: Project,
    token_file: Path | None,
    kind: Literal["iso", "disk"] = "iso",
    *,
    uefi: bool = False,
) -> Iterator[Provider]:
    """The configured provider, for machines made from an ISO, or from the image of a disk that
    `uefi` or the BIOS starts.  Raises DeployError: unknown, or not to be reached."""
    if kind == "disk":
        with _open_for_disks(project.config, token_file, uefi) as provider:
            yield provider
        return
    opened = opener(project.config.deploy.provider)
    with opened(project.config, token_file) as provider:
        yield provider


def at_region(project: Project, begun: State | None, region: str | None = None) -> Project:
    """The project in the region where `begun` is, or else in `region` (None: as configured).

    Raises DeployError: with libvirt it is a storage pool, and what was begun lies in another.
    """
    settings = project.config.deploy
    if begun is not None and begun.region:
        fixed = begun.instance.lives or settings.provider == "libvirt"
        if fixed and region not in (None, begun.region):
            raise DeployError(
                f"--region {region}: this deployment was begun in {begun.region}",
                "leave --region out; obsdimg deploy destroy gives it up",
            )
        region = begun.region if fixed else region
    if region is None:
        return project
    deploy = settings.model_copy(update={"region": region})
    config = project.config.model_copy(update={"deploy": deploy})
    return Project(project.config_path, config, project.server)


def disk_forms(project: Project) -> tuple[Form, ...]:
    """The forms in which the provider takes a disk, the best first."""
    return ("qcow2", "raw") if project.config.deploy.provider == "libvirt" else ("raw",)


def require_screen(config: Config) -> None:
    """Raise DeployError where the encryption step of an ISO would ask on the serial line: of
    libvirt's machines `deploy` sees the screen."""
    if (
        config.deploy.provider == "libvirt"
        and config.host.console == "com0"
        and config.disk.encryption == "passphrase"
    ):
        raise DeployError(
            "host.console = com0: the installation asks for the passphrase on the serial line, and"
            " deploy types on the machine's screen",
            'set host.console = "vga" and build again; or `obsdimg disk`, then deploy --disk',
        )


def require_screen_for_disk(config: Config, manifest: DiskManifest) -> None:
    """Raise DeployError where the boot loader of a disk would ask on the serial line at every
    start: `deploy` sees the machine's screen only."""
    if asks_on_com0(config) and manifest.firmware != "uefi":
        raise DeployError(
            "host.console = com0: the disk's boot loader asks for the passphrase on the serial"
            " line, and deploy types on the machine's screen",
            'set disk.loader = "firmware", then build and make the disk again; or name the serial'
            " line with --console",
        )


def uefi_for(project: Project, manifest: DiskManifest) -> bool:
    """Whether the machine is to be one with UEFI: as its disk needs it; with one for both, as
    `deploy.firmware` says, which is libvirt's."""
    settings = project.config.deploy
    if manifest.firmware == "both":
        return settings.provider == "libvirt" and settings.firmware == "uefi"
    return manifest.firmware == "uefi"


def _open_for_disks(
    config: Config, token_file: Path | None, uefi: bool
) -> AbstractContextManager[Provider]:
    if config.deploy.provider == "libvirt":
        from obsdimg.deploy.libvirt_volumes import open_volumes

        return open_volumes(config, uefi)
    from obsdimg.deploy.vultr_snapshots import open_snapshots

    return open_snapshots(config, token_file, uefi)


def call_at(config: Config, provider: Provider) -> str | None:
    """Where the server is called, if not at the address of the instance.

    Raises DeployError: nothing says where, and that address cannot be reached from here.
    """
    if not provider.hides():
        return None
    endpoint, port = config.tunnel.endpoint, config.tunnel.port
    if endpoint is None:
        raise DeployError(
            f"deploy.network: only {config.deploy.uri} itself reaches addresses in"
            f" {config.deploy.network!r} (NAT)",
            f"forward port {port}/udp to it there (docs/providers.md) and set tunnel.endpoint to"
            " that host; or choose a network with forward mode route or open",
        )
    return str(endpoint)


def store_of(project: Project) -> Store:
    """The folder with the deployments of `project`."""
    return Store(project.root / "deploy")


def waits(
    pause: float | None = None,
    upload_minutes: float | None = None,
    install_minutes: float | None = None,
) -> Waits:
    """Limits; `pause` is the longest between two looks, in seconds.  Raises DeployError."""
    given: dict[str, float] = {}
    if pause is not None:
        if not 0.05 <= pause <= 600:
            raise HostingUsageError("--pause: between 0.05 and 600 seconds", "20 is usual")
        given["longest_pause"] = pause
        given["first_pause"] = min(pause, Waits.first_pause)
    if upload_minutes is not None:
        given["download"] = 60 * upload_minutes
    if install_minutes is not None:
        given["install"] = given["unlock"] = 60 * install_minutes
    return Waits(**given)  # type: ignore[arg-type]


def image_path(project: Project, given: Path | None) -> Path:
    """The ISO to upload."""
    return given.expanduser() if given else project.images / project.image_name()


@dataclass(frozen=True)
class HostingChoice:
    """What the user says about where the provider gets the ISO from; at most one of the first
    two."""

    url: str | None = None
    serve: str | None = None
    """HOST:PORT at which the provider reaches this machine."""
    listen: str | None = None
    """ADDR:PORT to listen on, where that is not `serve`."""
    s3_keys: Path | None = None


def hosting_of(project: Project, choice: HostingChoice, state: State | None) -> Hosting:
    """How the provider gets the ISO.  Raises DeployError where nothing says it."""
    if choice.listen and not choice.serve:
        raise HostingUsageError(
            "--listen goes with --serve",
            "--serve HOST:PORT: where the provider reaches this machine",
        )
    if project.config.deploy.provider == "libvirt":
        if choice.url or choice.serve:
            raise HostingUsageError(
                "libvirt takes the file from this host: leave --url and --serve away"
            )
        return Direct()
    if choice.url:
        parts = urlsplit(choice.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HostingUsageError(
                f"--url: {choice.url!r} is not a URL for http or https",
                "such as https://www.example.org/vpn.iso",
            )
        return Hosted(choice.url)
    if choice.serve:
        public = _place(choice.serve, "--serve")
        return FromHere(public, _place(choice.listen, "--listen") if choice.listen else public)
    if (bucket := bucket_of(project, choice.s3_keys)) is not None:
        return bucket
    if state is not None and state.iso_verified:
        return Hosted(None)  # nothing is left to host
    raise HostingUsageError(
        "the provider fetches the ISO from a URL, and there is none",
        "give --url URL or --serve HOST:PORT, or configure an object store in [deploy.s3]",
    )


def bucket_of(project: Project, keys: Path | None) -> InBucket | None:
    """The configured object store; its keys are looked for when it is used."""
    settings = project.config.deploy.s3
    if settings is None:
        return None
    where = f"{settings.endpoint.rstrip('/')}/{settings.bucket}"
    return InBucket(
        lambda: Bucket(settings.endpoint, settings.region, settings.bucket, find_s3_keys(keys)),
        where,
        settings.prefix,
        settings.hours * 3600,
    )


def begin(
    project: Project,
    store: Store,
    name: str,
    label: str,
    image: Image,
    kind: Literal["iso", "disk"] = "iso",
) -> State:
    """The state to go on from, or a fresh one.  Raises DeployError: begun with another ISO."""
    state = store.load(name)
    if state is None:
        return State.begin(
            name, project.config.deploy.provider, label, image.sha256, image.sha512, image.size,
            kind,
        )  # fmt: skip
    if state.removing:
        raise DeployError(
            f"{store.path(name)}: this deployment is being destroyed",
            "obsdimg deploy destroy goes on with it",
        )
    if state.iso_sha256 != image.sha256:
        raise DeployError(
            f"{store.path(name)}: this deployment was begun with another {state.medium}"
            f" (sha256 {state.iso_sha256[:16]}…, now {image.sha256[:16]}…)",
            "obsdimg deploy destroy, or give the new one another --name",
        )
    return state


def region_of(config: Config) -> str:
    """Where machines are made; libvirt's usual storage pool is `default`."""
    settings = config.deploy
    return settings.region or ("default" if settings.provider == "libvirt" else "")


def wanted_instance(config: Config, plan: str | None) -> WantedInstance:
    """What the configuration asks for.  Raises DeployError for a network without a subnet."""
    settings = config.deploy
    network, subnet = settings.private_network, ""
    if network == "create":
        given = [i.ipv4 for i in config.network.interfaces if isinstance(i.ipv4, IPv4Interface)]
        if not given:
            raise DeployError(
                "deploy.private_network = create: no interface has an address in it",
                'add [[network.interfaces]] with name = "vio1" and ipv4 = "172.16.1.3/24"',
            )
        subnet = str(given[0].network)
    # Behind libvirt's NAT nobody gets in from outside, and pf filters on the server.
    filtered = settings.firewall and settings.provider != "libvirt"
    ports = (config.tunnel.port, *config.tunnel.also_ports) if filtered else ()
    return WantedInstance(
        region=region_of(config),
        plan=plan or settings.plan,
        hostname=config.host.name,
        ipv6=config.network.ipv6 == "autoconf",
        firewall_ports=ports,
        network=network,
        subnet=subnet,
    )


def _place(text: str, option: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise HostingUsageError(
            f"{option}: {text!r} is not HOST:PORT", "for instance 203.0.113.7:8080"
        )
    return str(urlsplit(f"//{text}").hostname), int(found[2])
