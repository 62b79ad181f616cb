"""Judges of FFS1 images that share no code with obsdimg.ffs.

`problems` recounts an image as fsck_ffs does, on dissect.ffs's definition of the structures;
`read_tree` reads every file with dissect.ffs; `makefs` makes images with NetBSD's program.
"""

from __future__ import annotations

import io
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from dissect.ffs import FFS
from dissect.ffs.c_ffs import c_ffs

Tree = dict[str, tuple[str, int, bytes]]  # path: kind, permission bits, content or target


def problems(image: bytes) -> list[str]:
    """Everything that fsck_ffs would mend, in words; empty for a consistent image."""
    return Fsck(image).run()


class Fsck:
    def __init__(self, image: bytes) -> None:
        self.image = image
        self.fs = c_ffs.fs(image[8192 : 8192 + 1376])
        self.found: list[str] = []
        self.blockmap = bytearray(self.fs.fs_old_size)
        self.nlink: dict[int, int] = {}
        self.kind: dict[int, int] = {}

    def run(self) -> list[str]:
        fs = self.fs
        for c in range(fs.fs_ncg):
            base = c * fs.fs_fpg
            low, high = base + (fs.fs_sblkno if c else 0), base + fs.fs_dblkno
            self.claim("metadata", low, high - low)
        self.claim("summary", fs.fs_old_csaddr, -(-fs.fs_cssize // fs.fs_fsize))
        for ino in range(2, fs.fs_ncg * fs.fs_ipg):
            self.inode(ino)
        self.tree()
        self.groups()
        return self.found

    def at(self, fragment: int, count: int) -> bytes:
        return self.image[fragment * self.fs.fs_fsize : (fragment + count) * self.fs.fs_fsize]

    def claim(self, who: str, start: int, count: int) -> None:
        for n in range(start, start + count):
            if not 0 <= n < len(self.blockmap):
                self.found.append(f"{who}: fragment {n} out of range")
            elif self.blockmap[n]:
                self.found.append(f"{who}: fragment {n} claimed twice")
            else:
                self.blockmap[n] = 1

    def dinode(self, ino: int):
        fs = self.fs
        c, i = divmod(ino, fs.fs_ipg)
        block = c * fs.fs_fpg + fs.fs_iblkno + i // fs.fs_inopb * fs.fs_frag
        offset = block * fs.fs_fsize + i % fs.fs_inopb * 128
        return c_ffs.ufs1_dinode(self.image[offset : offset + 128])

    def blocks(self, ino: int, d) -> list[tuple[int, int]]:
        """(address, fragments) of data; indirect blocks are claimed on the way."""
        fs = self.fs
        left = -(-d.di_size // fs.fs_bsize)
        tail = -(-(d.di_size % fs.fs_bsize) // fs.fs_fsize) or fs.fs_frag
        last_is_tail = left <= 12
        out: list[tuple[int, int]] = []

        def walk(address: int, level: int) -> None:
            nonlocal left
            if left <= 0:
                if address:
                    self.found.append(f"inode {ino}: address {address} beyond the end")
                return
            if level == 0:
                left -= 1
                out.append((address, tail if last_is_tail and left == 0 else fs.fs_frag))
                return
            self.claim(f"inode {ino} indirect", address, fs.fs_frag)
            self.held += fs.fs_frag
            for (p,) in struct.iter_unpack("<i", self.at(address, fs.fs_frag)):
                walk(p, level - 1)

        for p in d.di_db:
            walk(p, 0)
        for level, p in enumerate(d.di_ib, 1):
            walk(p, level)
        return out

    def inode(self, ino: int) -> None:
        d = self.dinode(ino)
        if not d.di_mode:
            if d.di_size or d.di_blocks or d.di_nlink or any(d.di_db) or any(d.di_ib):
                self.found.append(f"inode {ino}: free but not clear")
            return
        self.kind[ino], self.nlink[ino], self.held = stat.S_IFMT(d.di_mode), d.di_nlink, 0
        short = stat.S_ISLNK(d.di_mode) and d.di_size < 60
        if (
            stat.S_ISDIR(d.di_mode)
            or stat.S_ISREG(d.di_mode)
            or (stat.S_ISLNK(d.di_mode) and not short)
        ):
            for address, count in self.blocks(ino, d):
                if address:
                    self.claim(f"inode {ino}", address, count)
                    self.held += count
                    if address % self.fs.fs_frag + count > self.fs.fs_frag:
                        self.found.append(f"inode {ino}: fragments cross a block")
        if self.held * self.fs.fs_fsize // 512 != d.di_blocks:
            self.found.append(f"inode {ino}: block count {d.di_blocks}, holds {self.held} frags")

    def read(self, ino: int) -> bytes:
        d = self.dinode(ino)
        saved, self.found, before = self.found, [], bytes(self.blockmap)
        data = b"".join(self.at(a, n) for a, n in self.blocks(ino, d))[: d.di_size]
        self.found, self.blockmap = saved, bytearray(before)
        return data

    def tree(self) -> None:
        names = dict.fromkeys(self.nlink, 0)
        todo, seen = [(2, 2)], set()
        while todo:
            ino, parent = todo.pop()
            if ino in seen:
                self.found.append(f"directory {ino} seen twice")
                continue
            seen.add(ino)
            data = self.read(ino)
            if len(data) % 512 or not data:
                self.found.append(f"directory {ino}: size {len(data)}")
            entries = []
            at = 0
            while at < len(data):
                n, reclen, kind, namlen = struct.unpack_from("<IHBB", data, at)
                name = data[at + 8 : at + 8 + namlen]
                need = 8 + ((namlen + 1 + 3) & ~3)
                if reclen % 4 or reclen < 8 or at % 512 + reclen > 512:
                    self.found.append(f"directory {ino}: bad record at {at}")
                    break
                if n:
                    if need > reclen or not name or data[at + 8 + namlen]:
                        self.found.append(f"directory {ino}: bad name at {at}")
                    entries.append((name, n, kind))
                at += reclen
            if [(e[0], e[1]) for e in entries[:2]] != [(b".", ino), (b"..", parent)]:
                self.found.append(f"directory {ino}: no . and ..")
            for name, n, kind in entries:
                if n not in names:
                    self.found.append(f"directory {ino}: {name!r} leads to free inode {n}")
                    continue
                names[n] += 1
                if self.kind[n] >> 12 != kind:
                    self.found.append(f"directory {ino}: {name!r} has type {kind}")
                if self.kind[n] == stat.S_IFDIR and name not in (b".", b".."):
                    todo.append((n, ino))
        for ino, count in names.items():
            if count != self.nlink[ino]:
                self.found.append(f"inode {ino}: link count {self.nlink[ino]}, names {count}")

    def groups(self) -> None:
        fs = self.fs
        total = [0, 0, 0, 0]
        for c in range(fs.fs_ncg):
            where = (c * fs.fs_fpg + fs.fs_cblkno) * fs.fs_fsize
            raw = self.image[where : where + fs.fs_cgsize]
            cg = c_ffs.cg(raw)
            used = [bool(raw[cg.cg_iusedoff + i // 8] >> i % 8 & 1) for i in range(fs.fs_ipg)]
            want = [c * fs.fs_ipg + i in self.nlink for i in range(fs.fs_ipg)]
            if c == 0:
                want[:2] = [True, True]
            if used != want:
                self.found.append(f"group {c}: inode map")
            ndblk = min(fs.fs_fpg, fs.fs_old_size - c * fs.fs_fpg)
            free = [raw[cg.cg_freeoff + i // 8] >> i % 8 & 1 for i in range(fs.fs_fpg)]
            claimed = self.blockmap[c * fs.fs_fpg : c * fs.fs_fpg + ndblk]
            if free != [1 - b for b in claimed] + [0] * (fs.fs_fpg - ndblk):
                self.found.append(f"group {c}: block map")
            counts = [0, 0, used.count(False), 0]
            counts[0] = sum(
                self.kind.get(c * fs.fs_ipg + i) == stat.S_IFDIR for i in range(fs.fs_ipg)
            )
            frsum, clusters = [0] * 8, []
            for b in range(0, ndblk, fs.fs_frag):
                bits = "".join(map(str, free[b : b + fs.fs_frag]))
                if bits == "1" * fs.fs_frag:
                    counts[1] += 1
                else:
                    counts[3] += bits.count("1")
                    for run in filter(None, bits.split("0")):
                        frsum[len(run)] += 1
                clusters.append(bits == "1" * fs.fs_frag)
            stored = [cg.cg_cs.cs_ndir, cg.cg_cs.cs_nbfree, cg.cg_cs.cs_nifree, cg.cg_cs.cs_nffree]
            if stored != counts:
                self.found.append(f"group {c}: counts {stored}, are {counts}")
            if list(cg.cg_frsum) != frsum:
                self.found.append(f"group {c}: frsum {list(cg.cg_frsum)}, is {frsum}")
            area = fs.fs_old_csaddr * fs.fs_fsize + 16 * c
            if list(struct.unpack_from("<4i", self.image, area)) != counts:
                self.found.append(f"group {c}: summary area")
            if fs.fs_contigsumsize:
                self.clusters(c, cg, raw, clusters[: ndblk // fs.fs_frag])
            total = [a + b for a, b in zip(total, counts, strict=True)]
        old, new = fs.fs_old_cstotal, fs.fs_cstotal
        for name, cs in (("totals", old), ("64-bit totals", new)):
            if [cs.cs_ndir, cs.cs_nbfree, cs.cs_nifree, cs.cs_nffree] != total:
                self.found.append(f"superblock: {name}")

    def clusters(self, c: int, cg, raw: bytes, clusters: list[bool]) -> None:
        size = self.fs.fs_contigsumsize
        stored = [bool(raw[cg.cg_clusteroff + i // 8] >> i % 8 & 1) for i in range(len(clusters))]
        sums = [0] * (size + 1)
        for run in "".join("1" if f else "0" for f in clusters).split("0"):
            if run:
                sums[min(len(run), size)] += 1
        kept = struct.unpack_from(f"<{size + 1}i", raw, cg.cg_clustersumoff)
        if stored != clusters or list(kept[1:]) != sums[1:]:
            self.found.append(f"group {c}: cluster summary")


def read_tree(image: bytes) -> Tree:
    """Every path below / as dissect.ffs reads it (devices: without content)."""
    out: Tree = {}

    def walk(inode, base: str) -> None:
        for name, child in inode.listdir().items():
            if name in (".", ".."):
                continue
            path = f"{base}/{name}"
            bits = stat.S_IMODE(child.mode)
            if child.is_dir():
                out[path] = ("dir", bits, b"")
                walk(child, path)
            elif child.is_symlink():
                out[path] = ("link", bits, child.link.encode())
            elif child.is_file():
                out[path] = ("file", bits, child.open().read())
            else:
                out[path] = ("device", bits, b"")

    walk(FFS(io.BytesIO(image)).root, "")
    return out


def makefs(folder: Path, tree: Path, size: int, **options: int) -> bytes:
    """An image of `size` bytes from `tree`, by NetBSD's makefs."""
    if shutil.which("makefs") is None:
        pytest.skip("makefs is not installed")
    spec = ",".join(["version=1", *(f"{k}={v}" for k, v in options.items())])
    target = folder / "made.img"
    command = ["makefs", "-t", "ffs", "-B", "le", "-s", str(size), "-o", spec]
    subprocess.run([*command, str(target), str(tree)], check=True, capture_output=True, timeout=60)
    return target.read_bytes()
