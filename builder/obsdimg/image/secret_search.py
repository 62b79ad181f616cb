"""Search a finished ISO for secrets: every byte of it, and every file in it decompressed.

The image is read once as it lies (system area, slack between files, everything stored plain),
then each file once more through what packs it: gzip, tar, a kernel's ramdisk, and these in
each other.  Each stream is searched for every secret in the forms that a careless program
would leave: as it is, in hexadecimal, in base64 at any alignment, in UTF-16, escaped.

What is encrypted is opaque, which is the point of it.
"""

from __future__ import annotations

import io
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from obsdimg.core.errors import ObsdimgError
from obsdimg.core.unpack import ArchiveError, ArchiveLimits, read_tar
from obsdimg.ffs import FileSystem
from obsdimg.image.secret_forms import Needle, Scanner, needles
from obsdimg.iso import Iso
from obsdimg.kernel.bootkernel import BootKernel

CHUNK = 1 << 20
MAX_DEPTH = 6
MAX_MEMBERS = 200_000
MOST_TIMES = 16
SMALLEST_MOST = 256 << 20
"""All streams together may unpack to this many bytes more than MOST_TIMES the ISO; a full install
ISO to about four times its size."""
MAX_KERNEL = 48 << 20
FFS_MAGIC = (0x011954).to_bytes(4, "little")


class SecretSearchError(ObsdimgError):
    """The search cannot be done, or not completely."""


@dataclass(frozen=True)
class SecretFinding:
    """A secret, or half of one, in an ISO: its name (never its value), the form it was found
    in, the file (`/6.6/amd64/site66.tgz > etc/x`, or `between the files`), and the byte offset
    in that file as unpacked (in the image, for bytes between files).
    """

    secret: str
    form: str
    where: str
    offset: int

    def __str__(self) -> str:
        return f"{self.secret} ({self.form}) in {self.where} at byte {self.offset}"


@dataclass
class SecretSearch:
    """What was found; `streams` and `size` say how much was searched, `unread` what was packed
    and could not be unpacked (its packed bytes were searched all the same)."""

    findings: list[SecretFinding] = field(default_factory=list)
    streams: int = 0
    size: int = 0
    unread: list[str] = field(default_factory=list)


def search(iso_path: Path, secrets: Mapping[str, bytes]) -> SecretSearch:
    """Look for `secrets` (name -> value) in the ISO.  Memory stays bounded; a secret found twice
    in one stream by two forms gives two findings.

    Raises SecretSearchError for a secret too short to look for, IsoError for an unreadable image.
    """
    short = [name for name, value in secrets.items() if len(value) < 8]
    if short:
        raise SecretSearchError(f"{short[0]}: shorter than 8 bytes, it would be found everywhere")
    with Iso.open(iso_path) as iso:
        walker = _Walker(needles(secrets), SMALLEST_MOST + iso.size * MOST_TIMES)
        walker.raw(iso)
        places: set[tuple[int, int]] = set()  # many names may lie at one place
        unpacked = 0
        for entry in iso.entries():
            place = (entry.extent, entry.size)
            if entry.kind == "file" and place not in places:
                places.add(place)
                unpacked += entry.size
                if unpacked > iso.size:
                    raise SecretSearchError(f"{iso_path}: its files overlap")
                with iso.open_file(entry.path) as stream:
                    walker.unpack(stream, entry.path, 0)
    found = walker.result
    found.findings = sorted(
        set(found.findings), key=lambda f: (f.where, f.offset, f.secret, f.form)
    )
    return found


class _Walker:
    """Goes through an image; `result` grows."""

    def __init__(self, wanted: list[Needle], most: int) -> None:
        self.wanted = wanted
        self.most = most
        self.result = SecretSearch()

    def raw(self, iso: Iso) -> None:
        """The image as it lies."""
        extents = sorted(
            (e.extent * 2048, e.extent * 2048 + e.size, e.path)
            for e in iso.entries()
            if e.kind == "file" and e.size
        )
        starts = [start for start, _, _ in extents]

        def place(offset: int) -> tuple[str, int]:
            at = bisect_right(starts, offset) - 1
            if at >= 0 and offset < extents[at][1]:
                return extents[at][2], offset - extents[at][0]
            return "between the files", offset

        scanner = self.scanner(place)
        for start in range(0, iso.size, CHUNK):
            scanner.feed(iso.pread(start, CHUNK))

    def unpack(self, stream: BinaryIO, where: str, depth: int) -> None:
        """Search what `stream` unpacks to, if it is packed.  Its own bytes are searched by the
        caller; it is read to its end, so that the caller sees them all.
        """
        buffered = _Peek(stream)
        head = buffered.peek(512)
        try:
            if head[:3] == b"\x1f\x8b\x08":
                self.gzip(buffered, where, depth)
            elif head[257:262] == b"ustar":
                self.tar(buffered, where, depth)
            elif head[:4] == b"\x7fELF":
                self.kernel(buffered.read(MAX_KERNEL), where, depth)
        except (zlib.error, ArchiveError, EOFError) as error:
            self.result.unread.append(f"{where}: {type(error).__name__}")
        while buffered.read(CHUNK):
            pass

    def gzip(self, stream: _Peek, where: str, depth: int) -> None:
        if depth >= MAX_DEPTH:
            self.result.unread.append(f"{where}: nested too deeply")
            return
        scanner = self.scanner(lambda offset: (f"{where} (unpacked)", offset))
        tap = _Tap(_gunzip(stream), scanner, self)
        self.unpack(cast(BinaryIO, tap), where, depth + 1)

    def tar(self, stream: _Peek, where: str, depth: int) -> None:
        # The archive's bytes are being searched already; members only if they are packed.
        limits = ArchiveLimits(self.most, MAX_MEMBERS)
        for member, data in read_tar(cast(BinaryIO, stream), limits):
            if member.isreg() and member.size:
                self.unpack(cast(BinaryIO, data), f"{where} > {member.name}", depth)

    def kernel(self, data: bytes, where: str, depth: int) -> None:
        """The files of a kernel's ramdisk: their blocks need not lie side by side."""
        if FFS_MAGIC not in data:
            return
        try:
            system = FileSystem(BootKernel.parse(data).ramdisk)
            files = [path for path, stat in system.walk() if stat.kind == "file"]
        except ObsdimgError:
            return
        for path in files:
            content = system.read_file(path)
            name = f"{where} > ramdisk{path}"
            scanner = self.scanner(lambda offset, name=name: (name, offset))  # type: ignore[misc]
            scanner.feed(content)
            self.count(len(content))
            self.unpack(io.BytesIO(content), name, depth + 1)

    def scanner(self, place: Callable[[int], tuple[str, int]]) -> Scanner:
        self.result.streams += 1

        def hit(needle: Needle, offset: int) -> None:
            where, at = place(offset)
            self.result.findings.append(SecretFinding(needle.secret, needle.form, where, at))

        return Scanner(self.wanted, hit)

    def count(self, size: int) -> None:
        self.result.size += size
        if self.result.size > self.most:
            raise SecretSearchError(f"the ISO unpacks to more than {self.most >> 20} MB")


class _Peek:
    """A stream that can be looked at before it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end only, still to be read."""
        while len(self._held) < size:
            more = self._stream.read(size - len(self._held))
            if not more:
                break
            self._held += more
        return self._held[:size]

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        held, self._held = self._held[:size], self._held[size:]
        parts, left = [held], size - len(held)
        while left > 0:
            more = self._stream.read(min(left, CHUNK))
            if not more:
                break
            parts.append(more)
            left -= len(more)
        return b"".join(parts)


class _Tap:
    """The unpacked bytes of a stream, searched as they are read."""

    def __init__(self, parts: Iterable[bytes], scanner: Scanner, walker: _Walker) -> None:
        self._parts = iter(parts)
        self._scanner = scanner
        self._walker = walker
        self._held = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while not self._held:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._scanner.feed(part)
            self._walker.count(len(part))
            self._held = part
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def _gunzip(stream: _Peek) -> Iterable[bytes]:
    """The content of all gzip members; zeros and other bytes behind the last end it."""
    packed = stream.read(CHUNK)
    while packed[:2] == b"\x1f\x8b":
        inflate = zlib.decompressobj(wbits=31)
        while not inflate.eof:
            if not packed and not (packed := stream.read(CHUNK)):
                raise EOFError
            part = inflate.decompress(packed, CHUNK)
            packed = inflate.unconsumed_tail
            if part:
                yield part
        packed = inflate.unused_data
        if len(packed) < 2:
            packed += stream.read(CHUNK)
