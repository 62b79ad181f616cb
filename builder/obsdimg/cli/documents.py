"""What `--json` prints, as types: one document for each command, or an error in its place.

docs/json.md is made from this (`reference`), and in the tests every document is held against it.
Times are seconds and sizes bytes unless a name says otherwise.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Text = Annotated[str, Field(min_length=1)]


class Document(BaseModel):
    """Base: no field is missing, none is unknown, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


def about(text: str, **more: Any) -> Any:
    """A field with its meaning."""
    return Field(description=text, **more)


class ErrorFacts(Document):
    """What went wrong."""

    message: str = about("one line that names the place")
    hint: str | None = about("one line that says what to do")
    exit_code: int = about("1: an error; 2: wrong usage; others as the command says")


class ErrorDocument(Document):
    """Instead of any other document, where a command fails before it has a result."""

    error: ErrorFacts = about("what went wrong")


class AnsweredQuestion(Document):
    """A question of the installer, and its answer."""

    question: str = about("as the installer asks it")
    answer: str = about("what it is answered; secrets are hidden")
    from_: str = about(
        "the line of install.conf, `default`, or `the encryption step`", alias="from"
    )


class ElsewhereQuestion(AnsweredQuestion):
    """A question that only some machines are asked."""

    where: str = about("which machines")


class PlannedFile(Document):
    """A file of the site set."""

    path: str = about("in the installed system")
    kind: Literal["file", "dir", "link"] = about("what it is")
    mode: str = about("permission bits, octal")
    origin: str = about("where it comes from")


class CheckDocument(Document):
    """`check`: what the configuration means."""

    questions: list[AnsweredQuestion] = about("in the order in which they are asked")
    questions_elsewhere: list[ElsewhereQuestion] = about("asked on some machines only")
    site_set: list[PlannedFile] = about("files in clear")
    sealed: list[PlannedFile] = about("files sealed with the passphrase")
    packages: list[str] = about("packages to install, by stem")
    packages_carried: bool = about("whether the ISO carries them")
    ways_in: list[str] = about("how one gets into the finished server; the last: a dead tunnel")
    warnings: list[str] = about("what to think about")


class BuiltIso(Document):
    """The ISO that was built."""

    name: str = about("file name")
    size: int = about("bytes")
    sha256: str = about("hexadecimal")


class UpstreamIso(BuiltIso):
    """The ISO that it was built from."""

    verified: Literal["signed-list", "pinned-hash", "unverified"] = about("by what")
    evidence: str = about("the same in words")


class EncryptionFacts(Document):
    """The encryption step of the ISO."""

    mode: str = about("passphrase, keydisk, none or embedded")
    disk: str = about("the disk that is erased, or `auto`")
    rounds: int | str = about("of the disk's key derivation, or `auto`")
    random_fill: bool = about("whether the disk is filled with random data first")
    overwrite: bool = about("whether a disk with data is erased without a question")
    keydisk: str | None = about("partition with the key")
    table: str = about("auto, mbr or gpt")
    after: str = about("reboot or halt")
    needed_mb: int = about("megabytes that the disk must have")
    passphrase_in_iso: bool = about("true: whoever has the ISO has the passphrase")


class BuildFile(Document):
    """Something that the build put in."""

    path: str = about("where")
    kind: Literal["file", "dir", "link"] = about("what it is")
    mode: str = about("permission bits, octal")
    origin: str = about("where it comes from")
    size: int | None = about("of a file: bytes", default=None)
    sha256: str | None = about("of a file that is no secret: hexadecimal", default=None)
    target: str | None = about("of a link", default=None)


class IsoBuildFile(BuildFile):
    """A file on the ISO."""

    replaced: bool = about("whether the upstream ISO has one of that name")


class ManifestDocument(Document):
    """`build`: the manifest, as it stands beside the ISO."""

    format: int = about("of the manifest")
    tool: str = about("obsdimg and its version")
    iso: BuiltIso = about("what was built")
    release: str = about("of OpenBSD")
    port: str = about("machine architecture")
    configuration_sha256: str = about("of obsdimg.toml")
    upstream: UpstreamIso = about("what it was built from")
    image_key: str = about("public signify key of the project, base64")
    encryption: EncryptionFacts = about("what happens to the disk")
    secrets_in_clear: bool = about("whether the ISO holds a secret that anybody can read")
    warnings: list[str] = about("what to think about")
    files: list[IsoBuildFile] = about("put on the ISO")
    ramdisk: list[BuildFile] = about("put into the ramdisk")
    site_set: list[BuildFile] = about("in the site set")
    sealed: list[str] = about("paths of the sealed files")


class BootEntryFacts(Document):
    """An entry of the boot catalog."""

    platform: str = about("bios or efi")
    media: str = about("emulation")
    lba: int = about("sector")
    file: str | None = about("the file there, if it is one")


class KernelFacts(Document):
    """A kernel with a ramdisk."""

    path: str = about("on the ISO")
    machine: str = about("of its ELF header")
    gzip: bool = about("whether it is packed")
    ramdisk_located_by: str = about("symbols or superblock")
    ramdisk_bytes: int = about("size")
    ramdisk_free_bytes: int = about("free")
    ramdisk_free_inodes: int = about("free")


class SetFacts(Document):
    """A set on the ISO."""

    name: str = about("file name")
    size: int = about("bytes")
    state: Literal["verified", "unlisted", "MISMATCH"] = about("against the ISO's list")


class ChangedFile(Document):
    """A difference between two ramdisks."""

    change: str = about("added, changed or removed")
    path: str = about("in the ramdisk")
    size: int = about("bytes")
    about: str = about("kind, mode and owner")


class SiteFile(Document):
    """A file in the site set of an ISO."""

    path: str = about("in the installed system")
    kind: str = about("file, dir or link")
    mode: str = about("permission bits, octal")
    owner: str = about("uid:gid")
    size: int = about("bytes")


class CheckedThing(Document):
    """One thing that was checked."""

    name: str = about("what")
    passed: bool | None = about("null: could not be judged, or is only worth a note")
    detail: str = about("what was found")


class InspectDocument(Document):
    """`inspect`: what is in an ISO."""

    path: str = about("the ISO")
    size: int = about("bytes")
    sha256: str = about("hexadecimal; empty if it was not needed")
    volume_id: str = about("of the ISO")
    stand_in: bool = about("true: built on the stand-in medium, installs nothing")
    boot_entries: list[BootEntryFacts] = about("El Torito")
    boot_conf: str = about("/etc/boot.conf")
    boot_image: str = about("the kernel that it names")
    directory: str = about("of the sets")
    kernels: list[KernelFacts] = about("those with a ramdisk")
    sets: list[SetFacts] = about("and their state")
    ramdisk_changes: list[ChangedFile] = about("against that of bsd.rd")
    response: list[str] = about("lines of the response file, passwords hidden")
    hook: dict[str, str] = about("settings of the encryption step")
    site_set: list[SiteFile] = about("its files")
    in_clear: list[str] = about("what everybody who has the ISO learns of the server")
    checks: list[CheckedThing] = about("what was judged")
    passed: bool = about("no check failed")


class RehearsedQuestion(Document):
    """A question that was asked in a rehearsal."""

    text: str = about("what answers are matched against")
    default: str = about("the installer's own")
    answer: str = about("what was taken")
    line: int | None = about("of the response file; 0: added while installing; null: the default")
    known: bool = about("whether the release is known to ask this")


class UnusedLine(Document):
    """A line that answered nothing."""

    line: int = about("number")
    text: str = about("the line")


class DiskAction(Document):
    """Something done to a disk."""

    program: str = about("what did it")
    target: str = about("to which disk")
    detail: str = about("what")
    stdin: str = about("what it was told, secrets hidden")
    status: int = about("its exit code")


class RehearsedSet(Document):
    """A set on its way."""

    name: str = about("file name")
    size: int = about("bytes")
    sha256: str = about("as computed; empty: it was not")
    listed: str = about("as the signed list says")
    installed: bool = about("taken")
    unpacked: bool = about("also unpacked here")
    error: str = about("empty: none")


class LandedFile(Document):
    """A file of the site set at the end."""

    path: str = about("in the installed system")
    kind: str = about("file, dir or link")
    mode: str = about("permission bits, octal")
    owner: str = about("uid:gid")
    size: int = about("bytes")
    gone: bool = about("removed again")


class RehearseDocument(Document):
    """`rehearse`: what the ISO's installer did here."""

    verdict: str = about("`installed`, or what went wrong")
    passed: bool = about("true: installed")
    message: str = about("the verdict in one line")
    hint: str = about("what to do; empty: nothing")
    questions: list[RehearsedQuestion] = about("in order")
    unused_lines: list[UnusedLine] = about("of the response file")
    disk_actions: list[DiskAction] = about("in order")
    signature: str = about("what signify said")
    sets: list[RehearsedSet] = about("of the ISO")
    site_files: list[LandedFile] = about("as they landed")
    services: list[str] = about("turned on")
    install_site: list[str] = about("lines that install.site said")
    problems: list[str] = about("of the rehearsal itself")
    seconds: float = about("how long it took")


class SmokeCheckFacts(Document):
    """A check of a stage."""

    name: str = about("what")
    verdict: Literal["passed", "failed", "skipped"] = about("whether it is as it should be")
    detail: str = about("what was seen")


class StageFacts(Document):
    """A part of the smoke test."""

    name: str = about("short")
    title: str = about("for people")
    verdict: Literal["passed", "failed", "skipped"] = about("how it ended")
    start: float = about("since the beginning of the test")
    seconds: float = about("how long it took")
    checks: list[SmokeCheckFacts] = about("what was looked at")
    error: str = about("empty: none")
    hint: str = about("empty: none")
    evidence: list[str] = about("the last lines of the console, where it failed")
    screenshots: list[str] = about("titles; the pictures are in the report's folder")


class SmokeDocument(Document):
    """`smoke`: what QEMU showed; also report.json."""

    format: int = about("of the report")
    verdict: Literal["passed", "failed", "skipped"] = about("of the whole test")
    sentence: str = about("the verdict in one line")
    iso: str = about("file name")
    release: str = about("of OpenBSD")
    seconds: float = about("how long it took")
    versions: dict[str, str] = about("of the programs that were used")
    notes: list[str] = about("what could not be tried")
    stages: list[StageFacts] = about("in order")
    transcript: list[tuple[float, str]] = about("seconds and lines of the serial console")


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


class FetchedIso(Document):
    """The install ISO."""

    path: str = about("in the cache, or where it was given")
    size: int = about("bytes")
    sha256: str = about("hexadecimal")
    verified: Literal["signed-list", "pinned-hash", "unverified"] = about("by what")
    evidence: str = about("the same in words")


class FetchedPackage(Document):
    """A package file."""

    name: str = about("with its version")
    size: int = about("bytes")
    sha256: str = about("hexadecimal")
    signed_on: str = about("date in its signature")
    key: str = about("that signed it")
    origin: str = about("where it came from")


class FetchDocument(Document):
    """`fetch`: what is in the cache now, verified."""

    release: str = about("of OpenBSD")
    port: str = about("machine architecture")
    iso: FetchedIso = about("the install ISO")
    packages: list[FetchedPackage] = about("what the server needs")


class KeyFacts(Document):
    """A signify key."""

    comment: str = about("its first line")
    number: str = about("hexadecimal")


class JudgedFile(Document):
    """A file, and whether it verified."""

    path: str = about("that was looked at")
    result: str = about("`ok`, or what is wrong")


class VerifyDocument(Document):
    """`verify`: also printed where a file does not verify; the exit code is 1 then."""

    signature: str = about("the file that holds it")
    key: KeyFacts = about("that made it")
    files: list[JudgedFile] = about("what it signs")


class ReleaseFacts(Document):
    """What is known of a release."""

    version: str = about("N.N")
    released: str | None = about("date")
    supported: bool = about("gets patches today")
    ended: str | None = about("since when it gets none")
    newest: bool = about("the default of `init`")
    wireguard: str = about("wireguard-go or wg")
    learned: str | None = about("when `release learn` learnt it")
    file: str = about("where it stands")


class InstallerQuestion(Document):
    """A question as it stands in an installer's script; `{}` is what the shell fills in."""

    text: str = about("what answers are matched against")
    default: str = about("what is taken without an answer; empty: nothing, or a list's first")
    function: str = about("the shell function that asks")
    line: int = about("the line of the script")


class TrialFacts(Document):
    """The installer's script, rehearsed on one machine."""

    machine: str = about("its firmware, and what is installed")
    verdict: str = about("as of `rehearse`; installed: all went well")
    message: str = about("in one sentence")
    unknown_questions: list[str] = about("what it asked and is not known to ask")


class LearnedDocument(Document):
    """`release learn`: a release that is known now."""

    version: str = about("N.N")
    file: str = about("where it stands")
    base_key: str = about("its signify key, base64")
    new_questions: list[InstallerQuestion] = about("asked in words that its predecessor lacks")
    gone_questions: list[InstallerQuestion] = about("asked by its predecessor only")
    not_rehearsed: str | None = about("why nothing was rehearsed; null: it was")
    rehearsals: list[TrialFacts] = about("one a machine; exit 1 where one is not `installed`")


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


Shows = Literal[
    "blank", "unreadable", "passphrase-prompt", "passphrase-refused", "aborted", "loader",
    "booting", "login", "panic", "single-user", "root-device", "guard", "sealed-secrets",
    "installer", "install-failed", "installed", "no-system", "halted", "other",
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


class DiskImageFacts(Document):
    """The image, and the disk in it."""

    name: str = about("file name")
    form: Literal["raw", "qcow2", "raw.zst"] = about("of the file")
    size: int = about("of the file, bytes")
    sha256: str = about("of the file")
    disk_size: int = about("bytes")
    disk_sha256: str = about("of the disk's bytes")
    stored: int = about("bytes of the disk that hold something")


class InstalledIso(Document):
    """The ISO that was installed."""

    name: str = about("file name")
    sha256: str = about("hexadecimal")


class CardNames(Document):
    """The network card that the server looks for."""

    interface: str = about("its name")
    also: list[str] = about("other names")


class DiskDocument(Document):
    """`disk`: the manifest, as it stands beside the image."""

    format: int = about("of the manifest")
    kind: Literal["disk"] = about("of manifest")
    tool: str = about("obsdimg and its version")
    image: DiskImageFacts = about("what was written")
    iso: InstalledIso = about("what it was made from")
    release: str = about("of OpenBSD")
    firmware: Literal["bios", "uefi"] = about("what starts the disk")
    random_fill: bool = about("whether the rest holds random data")
    kdf_rounds: int | None = about("of the disk's passphrase; null: not seen")
    network: CardNames | None = about("null: made without a project at hand")
    accelerator: str = about("of QEMU")
    checks: list[str] = about("what was looked at and found good")
    proven: bool = about("whether a copy was started and the tunnel used")


class DiskWrittenDocument(Document):
    """`disk --write`: what was done."""

    target: str = about("USER@HOST:/dev/DISK")
    disk_sha256: str = about("of what the disk holds now")
    gaps: str = about("what was done where the image has nothing")
    sent: int = about("bytes sent")
    kept: int = about("bytes that were there already")
    verified: int = about("bytes read back")
    again: int = about("pieces that had to be written twice")


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


DOCUMENTS: dict[str, tuple[Any, ...]] = {
    "check": (CheckDocument,),
    "fetch": (FetchDocument,),
    "release": (list[ReleaseFacts], LearnedDocument),
    "verify": (VerifyDocument,),
    "build": (ManifestDocument,),
    "inspect": (InspectDocument,),
    "rehearse": (RehearseDocument,),
    "smoke": (SmokeDocument,),
    "disk": (DiskDocument, DiskWrittenDocument),
    "client": (list[ClientFacts],),
    "probe": (ProbeDocument,),
    "upload": (UploadDocument,),
    "deploy": (DeployDocument, NotDeployedDocument),
    "status": (StatusDocument,),
    "console": (ConsoleDocument,),
    "unlock": (UnlockDocument,),
    "backup": (BackupDocument,),
    "restore": (RestoreDocument, HoldsDocument),
}
"""By command: each kind of document that it prints."""


def validate(command: str, text: str) -> None:
    """Raises pydantic's ValidationError unless `text` is a document of `command`, or an error."""
    _adapter(command).validate_json(text)


def _adapter(command: str) -> TypeAdapter[Any]:
    kinds: Any = Union[(*DOCUMENTS[command], ErrorDocument)]
    return TypeAdapter(kinds)


def schema() -> dict[str, Any]:
    """A JSON schema of all documents: `$defs` by name, `properties` by command."""
    found, definitions = TypeAdapter.json_schemas(
        [(command, "validation", _adapter(command)) for command in DOCUMENTS]
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What obsdimg COMMAND --json prints",
        "properties": {command: value for (command, _), value in found.items()},
        **definitions,
    }


def reference() -> str:
    """Every document as Markdown tables: the second half of docs/json.md."""
    lines: list[str] = []
    for kinds in ((ErrorDocument,), *DOCUMENTS.values()):
        for kind in kinds:
            many = get_origin(kind) is list
            model: type[BaseModel] = get_args(kind)[0] if many else kind
            heading = (model.__doc__ or "").splitlines()[0]
            command = next((c for c, k in DOCUMENTS.items() if kind in k), "any command")
            name = f"`{command}`" if command in DOCUMENTS else command
            lines += [f"### {name}{', a list' if many else ''}", "", heading, ""]
            lines += ["| field | | |", "|---|---|---|", *_rows(model, ""), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = _model_in(field.annotation)
        yield f"| `{path}` | {_kind(field.annotation)} | {field.description} |"
        if inner is not None:
            many = get_origin(field.annotation) is list
            yield from _rows(inner, f"{path}{'[]' if many else ''}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a))), None)


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in inside))
    if origin in (list, tuple):
        return "list" if _model_in(annotation) else f"list of {_kind(inside[0])}"
    if origin is dict:
        return "object of text"
    names = {str: "text", int: "number", float: "number", bool: "true, false"}
    return "null" if annotation is type(None) else names.get(annotation, "object")
