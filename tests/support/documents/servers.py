"""Documents about clients, providers and running servers, and about a project's backup."""

from __future__ import annotations

from typing import Literal

from support.documents.base import Document, about


class ClientFacts(Document):
    """A client of the tunnel."""

    name: str = about("as in the configuration")
    addresses: list[str] = about("in the tunnel")
    public_key: str = about("base64")
    own_key: bool = about("true: it made its key itself")
    internet: bool = about("true: all its traffic goes through the tunnel")
    reach: list[str] = about("networks behind the server that it may reach")
    networks: list[str] = about("networks behind the client")


class HandshakeFacts(Document):
    """A call for a WireGuard handshake."""

    ms: float | None = about("milliseconds; null: there was none")
    attempts: int = about("initiations sent")
    cookies: int = about("cookie replies: the server is under load")
    unreadable: int = about("answers that were no WireGuard for us")
    refused: int = about("times that the port was said to be closed")
    strange: int = about("packets from another address")


class RoundTrips(Document):
    """Milliseconds."""

    min: float = about("shortest")
    avg: float = about("mean")
    max: float = about("longest")


class PingedAddress(Document):
    """Pings to one address through the tunnel."""

    address: str = about("that was pinged")
    role: str = about("the server, or an address beyond it")
    sent: int = about("requests")
    received: int = about("answers")
    duplicates: int = about("answers too many")
    loss: float = about("0 to 1")
    rtt_ms: RoundTrips | None = about("null: no answer")
    error: str | None = about("the last ICMP error")


class ProbeDocument(Document):
    """`probe`: is the server there?  Also printed where it is not; the exit code is 1 then."""

    client: str = about("as whom it called")
    verdict: str = about("`works`, or what does not")
    works: bool = about("every address answered")
    message: str = about("the verdict in one line")
    hint: str | None = about("what to look at")
    endpoint: str = about("HOST:PORT")
    address: str | None = about("what HOST is")
    handshake: HandshakeFacts = about("with the server")
    targets: list[PingedAddress] = about("through the tunnel")


class UploadDocument(Document):
    """`upload`: the ISO at the provider."""

    name: str = about("of the deployment")
    iso: str | None = about("its id there")
    size: int = about("bytes")
    sha512: str = about("hexadecimal")


class EventFacts(Document):
    """A step that was done."""

    at: str = about("when (UTC)")
    step: str = about("what")


class ProviderSays(Document):
    """What the provider says now."""

    instance: str | None = about("its state")
    iso: str | None = about("its state")
    iso_attached: str | None = about("the id of the ISO in the drive")


class DeployDocument(Document):
    """`deploy` and `deploy status`: the server at the provider."""

    name: str = about("of the deployment")
    label: str = about("at the provider")
    provider: str = about("its name")
    region: str = about("where")
    plan: str = about("size of the machine")
    address: str | None = about("of the server")
    instance: str | None = about("id there")
    iso: str | None = about("id there; null: it is gone")
    firewall: str | None = about("id of the firewall group")
    network: str | None = about("id of the private network")
    handshake_ms: float | None = about("of the last handshake")
    done: bool = about("the server answers without the ISO")
    events: list[EventFacts] = about("in order")
    provider_says: ProviderSays | None = about("with `status` only", default=None)


class NotDeployedDocument(Document):
    """`deploy status` and `deploy destroy`: nothing of this name is at the provider."""

    name: str = about("of the deployment")
    deployed: bool = about("false")
    others: list[str] = about("deployments that there are")


class FindingFacts(Document):
    """One thing about a running server."""

    level: Literal["note", "warn", "bad"] = about("how bad it is")
    topic: str = about("what it is about")
    text: str = about("in one sentence")
    remedy: str = about("what to do; empty: nothing")


class RunningKernel(Document):
    """Its kernel."""

    running: str | None = about("what it calls itself")
    installed: str | None = about("what starts next")


class RunningPeer(Document):
    """A client, as the server sees it."""

    name: str = about("as in the project, else its key")
    public_key: str = about("base64")
    endpoint: str | None = about("where it called from")
    handshake_seconds_ago: int | float | None = about("null: never")
    received_bytes: int = about("from it")
    sent_bytes: int = about("to it")


class PatchFacts(Document):
    """Patches of the base system."""

    installed: list[str] = about("by name")
    missing: list[str] | None = about("null: not asked")


class PfFacts(Document):
    """The firewall."""

    enabled: bool | None = about("whether it works")
    states: int | None = about("connections")
    limit: int | None = about("at most")


class DiskFacts(Document):
    """A file system."""

    mounted: str = about("where")
    kib: int = about("size in KiB")
    used_kib: int = about("in use")


class StatusDocument(Document):
    """`status`: the running server."""

    name: str = about("of the server")
    level: Literal["ok", "note", "warn", "bad"] = about("the worst of the findings")
    findings: list[FindingFacts] = about("what wants attention")
    release: str | None = about("of OpenBSD")
    up_seconds: int | float | None = about("since the start")
    kernel: RunningKernel = about("running and installed")
    port: int | None = about("of the tunnel")
    peers: list[RunningPeer] = about("clients")
    patches: PatchFacts = about("of the base system")
    packages_to_update: list[str] | None = about("null: not asked")
    pf: PfFacts = about("the firewall")
    disks: list[DiskFacts] = about("file systems")
    services_failed: list[str] = about("that should run")
    boot_area_sha256: str | None = about("of the part of the disk in clear")
    support_ended: str | None = about("since when the release gets no patches")


class UpgradeCheckFacts(Document):
    """One thing that was looked at."""

    topic: str = about("what it is about")
    result: Literal["ok", "note", "failed"] = about("`failed`: it is in the way")
    text: str = about("what was found")
    remedy: str | None = about("what to do")


class UpgradeDocument(Document):
    """`upgrade`: also printed where it fails after the checks."""

    name: str = about("of the server")
    from_: str = about("the release that it has, or had", alias="from")
    to: str = about("the next one")
    result: Literal["checked", "declined", "upgraded", "failed"] = about(
        "`checked`: with --check, or where a check failed; `declined`: the question was not"
        " answered with yes; `failed`: run it again, it goes on from there"
    )
    checks: list[UpgradeCheckFacts] = about("beforehand; empty where it went on from the middle")
    verified: list[UpgradeCheckFacts] = about("afterwards")
    packages_updated: bool | None = about("null: not tried")
    patches_missing: list[str] | None = about("of the new release; null: not known")
    left: list[str] = about("what is left to do, in words")
    error: str | None = about("what went wrong")
    hint: str | None = about("what to do")


Shows = Literal[
    "blank", "unreadable", "passphrase-prompt", "passphrase-refused", "aborted", "loader",
    "booting", "login", "panic", "single-user", "root-device", "guard", "sealed-secrets",
    "installer", "install-failed", "installed", "no-system",
    "on-serial-line", "halted", "other",
]  # fmt: skip
"""What a screen shows: the values of console.states.Sight."""


class ConsoleDocument(Document):
    """`console --text`: what stands on the screen."""

    console: str = about("its address")
    kind: Literal["text", "blank", "graphics"] = about("whether there is text on it")
    shows: Shows = about("what it is")
    hostname: str | None = about("of a login prompt")
    font: str | None = about("that was read")
    pixels: tuple[int, int] | None = about("width and height")
    cursor: tuple[int, int] | None = about("line and column")
    unknown_cells: int = about("characters that could not be read")
    lines: list[str] = about("the text")


class UnlockEventFacts(Document):
    """Something that happened while unlocking."""

    at: float = about("seconds since the beginning")
    what: str = about("in words")


class UnlockDocument(Document):
    """`unlock`: also printed where it fails; the exit code says how."""

    name: str | None = about("of the deployment")
    result: Literal[
        "unlocked", "running", "no-prompt", "refused", "crashed", "no-handshake", "installer",
        "unreadable",
    ] = about("how it ended; `running`: no passphrase was asked for")  # fmt: skip
    shows: Shows = about("what the screen is")
    tries: int = about("how often the passphrase was typed")
    handshake: HandshakeFacts | None = about("null: not waited for")
    error: str | None = about("what went wrong")
    hint: str | None = about("what to do")
    events: list[UnlockEventFacts] = about("in order")
    screen: list[str] = about("its last lines")


class BackupDocument(Document):
    """`backup`: what was kept."""

    file: str = about("the backup")
    size: int = about("bytes")
    holds: list[str] = about("files, relative to the project")
    left_out: list[str] = about("files outside of the project that it uses")


class RestoreDocument(Document):
    """`restore`: what was put back."""

    folder: str = about("the project")
    written: list[str] = about("files that were missing")
    same: list[str] = about("files that were there")


class HoldsDocument(Document):
    """`restore --list`: what is in a backup."""

    holds: list[str] = about("files, relative to the project")
