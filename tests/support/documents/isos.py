"""Documents about media, ISOs and disks: fetch, verify, release, check, build, inspect, rehearse,
smoke, disk."""

from __future__ import annotations

from typing import Literal

from support.documents.base import Document, about


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
    loader: str = about("where a BIOS loader asks for the passphrase: com0 or firmware")
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
    support: str = about("what to know of its release; empty: it gets patches, or is not known")
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
    firmware: Literal["bios", "uefi", "both"] = about("what starts the disk")
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
