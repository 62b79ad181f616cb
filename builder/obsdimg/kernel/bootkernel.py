"""The boot kernel: an ELF file, perhaps gzip-compressed, with an FFS1 ramdisk inside.

Takes the bytes of `bsd.rd` and gives them back with another ramdisk of the same size.
Symbols locate the ramdisk; in a stripped kernel the file system's superblock does.
Sources: rd(4), rdsetroot(8) of OpenBSD 6.6, RFC 1952 (gzip).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from obsdimg.core.archive import LEVEL, gzip_pieces
from obsdimg.core.errors import ObsdimgError
from obsdimg.ffs.errors import FfsError, UnsupportedError
from obsdimg.ffs.layout import (
    FS_MAGIC_OFFSET,
    FS_UFS1_MAGIC,
    FS_UFS2_MAGIC,
    SBLOCK_UFS1,
    SBLOCK_UFS2,
    SBSIZE,
)
from obsdimg.ffs.superblock import FIELDS, Superblock
from obsdimg.kernel.elf import Elf, ElfError

GZIP_MAGIC = b"\x1f\x8b"
MAX_KERNEL = 48 << 20
"""Bytes; genuine boot kernels have 4 to 12 MB, a decompression bomb more."""
MAX_CANDIDATES = 1000
"""Places with a file system's magic number that are looked at."""
EMPTY_RAMDISK = b"|This is the root ramdisk!\n"

HINT = "take bsd.rd of an install medium, unchanged"


class BootKernelError(ObsdimgError):
    """Not a kernel with a ramdisk that can be edited."""


@dataclass(frozen=True)
class BootKernel:
    """A kernel and its ramdisk.

    `kernel`: the ELF file, decompressed; `ramdisk_offset`, `ramdisk_size`: bytes in it.
    `machine`: as in `x86-64`, `i386`, `alpha`.
    """

    kernel: bytes
    gzipped: bool
    located_by: Literal["symbols", "superblock"]
    machine: str
    ramdisk_offset: int
    ramdisk_size: int

    @classmethod
    def parse(cls, data: bytes) -> BootKernel:
        """Raises BootKernelError; FfsError where the ramdisk is FFS2 or big-endian."""
        gzipped = data[:2] == GZIP_MAGIC
        if len(data) > MAX_KERNEL:
            raise BootKernelError(f"boot kernel: more than {MAX_KERNEL} bytes", HINT)
        kernel = gunzip(data) if gzipped else bytes(data)
        try:
            elf = Elf.parse(kernel)
        except ElfError as error:
            raise BootKernelError(f"boot kernel: {error.message}", error.hint or HINT) from error
        place = by_symbols(kernel, elf)
        if place is not None:
            return cls(kernel, gzipped, "symbols", elf.machine, *place)
        return cls(kernel, gzipped, "superblock", elf.machine, *by_superblock(kernel))

    @property
    def ramdisk(self) -> bytes:
        """The image, as long as rd_root_size says."""
        return self.kernel[self.ramdisk_offset : self.ramdisk_offset + self.ramdisk_size]

    def with_ramdisk(self, image: bytes, level: int = LEVEL) -> bytes:
        """The whole file with `image` in place of the ramdisk; gzip-compressed (`level`) if it was.

        Decompressed, it is as long as before; the same image gives the same bytes.
        Raises BootKernelError unless `image` is as long as the ramdisk.
        """
        if len(image) != self.ramdisk_size:
            raise BootKernelError(
                f"a ramdisk of {len(image)} bytes does not replace one of {self.ramdisk_size}"
            )
        end = self.ramdisk_offset + self.ramdisk_size
        whole = memoryview(self.kernel)
        pieces = (whole[: self.ramdisk_offset], image, whole[end:])
        return b"".join(gzip_pieces(pieces, level) if self.gzipped else pieces)


def gunzip(data: bytes) -> bytes:
    """The content of one gzip member.  Raises BootKernelError."""
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(data, MAX_KERNEL)
    except zlib.error as error:
        raise BootKernelError("boot kernel: damaged gzip data", HINT) from error
    if not stream.eof:
        short = not stream.unconsumed_tail
        what = "gzip data end too early" if short else f"more than {MAX_KERNEL} bytes"
        raise BootKernelError(f"boot kernel: {what}", HINT)
    if stream.unused_data.strip(b"\0"):
        raise BootKernelError("boot kernel: something follows the gzip data", HINT)
    return content


def by_symbols(kernel: bytes, elf: Elf) -> tuple[int, int] | None:
    """(offset, size) from rd_root_image and rd_root_size; None where they are stripped.

    Raises BootKernelError where they lead nowhere, FfsError where there is no FFS1.
    """
    at, count = elf.symbols.get("rd_root_image"), elf.symbols.get("rd_root_size")
    if at is None or count is None:
        return None
    size_offset = elf.file_offset(count, 4)
    if size_offset is None or size_offset + 4 > len(kernel):
        raise BootKernelError("boot kernel: rd_root_size is not in the file", HINT)
    (size,) = struct.unpack_from("<I", kernel, size_offset)
    offset = elf.file_offset(at, size)
    if offset is None or offset + size > len(kernel):
        raise BootKernelError(f"boot kernel: a ramdisk of {size} bytes is not in the file", HINT)
    if kernel[offset : offset + len(EMPTY_RAMDISK)] == EMPTY_RAMDISK:
        raise BootKernelError("boot kernel: its ramdisk was never filled in", HINT)
    sb = Superblock.parse(memoryview(kernel)[offset : offset + size])
    if sb.size * sb.fsize > size:
        raise BootKernelError(
            f"boot kernel: a file system of {sb.size * sb.fsize} bytes in a ramdisk of {size}", HINT
        )
    return offset, size


def by_superblock(kernel: bytes) -> tuple[int, int]:
    """(offset, size) of the one FFS1 file system in a stripped kernel.

    The magic number also occurs in code: a candidate counts when its superblock is sane, a
    backup copy with the same geometry lies where it says, and the kernel holds its size as a
    32-bit number outside of it (rd_root_size).  Raises BootKernelError, or the FfsError that
    says what is there instead.
    """
    found: list[tuple[int, int]] = []
    problem: ObsdimgError | None = None
    for base in candidates(kernel, FS_UFS1_MAGIC.to_bytes(4, "little"), SBLOCK_UFS1):
        try:
            sb = Superblock.parse(kernel, base + SBLOCK_UFS1)
            size = sb.size * sb.fsize
            if base + size > len(kernel):
                raise BootKernelError("boot kernel: the ramdisk goes beyond its end", HINT)
            same_geometry(kernel, base, sb)
        except (FfsError, BootKernelError) as error:
            if plausible(kernel, base + SBLOCK_UFS1, "<"):
                problem = problem or error
            continue
        if holds_size(kernel, base, size):
            found.append((base, size))
        else:
            problem = BootKernelError(
                f"boot kernel: a file system of {size} bytes, but no rd_root_size says so", HINT
            )
    if len(found) > 1:
        raise BootKernelError(f"boot kernel: {len(found)} ramdisks; which one is it?", HINT)
    if found:
        return found[0]
    raise other_kind(kernel) or problem or BootKernelError("boot kernel: no ramdisk in it", HINT)


def candidates(kernel: bytes, magic: bytes, distance: int) -> Iterator[int]:
    """Where a file system would start whose superblock, `distance` bytes on, has this magic."""
    at = kernel.find(magic)
    for _ in range(MAX_CANDIDATES):
        if at < 0:
            return
        base = at - FS_MAGIC_OFFSET - distance
        if base >= 0:
            yield base
        at = kernel.find(magic, at + 1)
    raise BootKernelError("boot kernel: full of what looks like file systems", HINT)


def plausible(kernel: bytes, at: int, order: str) -> bool:
    """Whether block, fragment size and their ratio at a supposed superblock go together."""
    bsize, fsize, frag = struct.unpack_from(f"{order}3i", kernel, at + FIELDS["bsize"])
    return bool(512 <= fsize <= bsize <= 65536 and bsize == fsize * frag)


def same_geometry(kernel: bytes, base: int, sb: Superblock) -> None:
    """Raise BootKernelError unless group 0's backup superblock agrees with the primary."""
    backup = base + sb.cgsblock(0) * sb.fsize
    for at in (*FIELDS.values(), FS_MAGIC_OFFSET):
        primary = base + SBLOCK_UFS1 + at
        if kernel[primary : primary + 4] != kernel[backup + at : backup + at + 4]:
            raise BootKernelError(
                "boot kernel: the ramdisk's superblock and its backup differ", HINT
            )


def holds_size(kernel: bytes, base: int, size: int) -> bool:
    """Whether an aligned 32-bit number outside of the image is its size."""
    number = struct.pack("<I", size)
    for start, end in ((0, base), (base + size, len(kernel))):
        at = kernel.find(number, start, end)
        for _ in range(MAX_CANDIDATES):
            if at < 0:
                break
            if at % 4 == 0:
                return True
            at = kernel.find(number, at + 1, end)
    return False


def other_kind(kernel: bytes) -> UnsupportedError | None:
    """FFS2 or a big-endian FFS1, if that is what the kernel holds."""
    for order, name in (("<", "little"), (">", "big")):
        magic = FS_UFS2_MAGIC.to_bytes(4, "little" if order == "<" else "big")
        for distance in (SBLOCK_UFS1, SBLOCK_UFS2):
            for base in candidates(kernel, magic, distance):
                if plausible(kernel, base + distance, order):
                    return UnsupportedError(
                        f"boot kernel: its ramdisk is FFS2 ({name}-endian)", "FFS1 can be edited"
                    )
    for base in candidates(kernel, FS_UFS1_MAGIC.to_bytes(4, "big"), SBLOCK_UFS1):
        if plausible(kernel, base + SBLOCK_UFS1, ">"):
            return UnsupportedError(
                "boot kernel: its ramdisk is FFS1 in big-endian byte order", HINT
            )
    return None


assert SBSIZE == FS_MAGIC_OFFSET + 4
