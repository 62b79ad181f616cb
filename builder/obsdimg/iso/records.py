"""pycdlib's directory records, as values of ours: names, dates, modes."""

from __future__ import annotations

import calendar
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pycdlib.dates import DirectoryRecordDate, VolumeDescriptorDate
from pycdlib.dr import DirectoryRecord
from pycdlib.pycdlib import PyCdlib
from pycdlib.rockridge import RockRidge, RRPXRecord, RRTFRecord

from obsdimg.iso.errors import DAMAGED, IsoError
from obsdimg.iso.view import SECTOR

Kind = Literal["file", "dir", "link", "other"]
_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
_MULTI_EXTENT = 0x80


@dataclass(frozen=True)
class IsoEntry:
    """A name in the image, absolute (`/6.6/amd64/bsd.rd`), by Rock Ridge where there is one.

    `size` is in bytes, `mode` holds the permission bits, `mtime` seconds since 1970, `extent`
    the first sector; `target` is a symbolic link's; `iso_name` is the ISO 9660 identifier.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime: int
    extent: int
    target: str | None = None
    iso_name: str = ""


@dataclass(frozen=True)
class Named:
    """An entry with its record, and the record of its own directory, if it is one."""

    entry: IsoEntry
    record: DirectoryRecord
    directory: DirectoryRecord | None


def walk(disc: PyCdlib, size: int) -> Iterator[Named]:
    """Every name with what it names, the root first, each directory before what it holds.

    `size` is the image's bytes.  Directories that were moved (Rock Ridge CL) are where they
    were before.  Raises IsoError on what cannot be, and on forms that install media never have.
    """
    root = disc.pvd.root_directory_record()
    _check_directory(root, "the root directory")
    yield Named(_entry("/", root.children[0], root, size), root.children[0], root)
    seen, pending = {root.extent_location()}, [("", root)]
    while pending:
        prefix, directory = pending.pop()
        for record in directory.children[2:]:
            ridge = record.rock_ridge
            if ridge is not None and ridge.relocated_record():
                continue
            path = f"{prefix}/{_name(record)}"
            own = record if record.isdir else None
            if ridge is not None and ridge.child_link_record_exists():
                own = ridge.cl_to_moved_dr
            if own is not None:
                _check_directory(own, path)
                if own.extent_location() in seen:
                    raise IsoError(f"{path}: a directory that is in two places", DAMAGED)
                seen.add(own.extent_location())
                pending.append((path, own))
            yield Named(_entry(path, record, own, size), record, own)


def _check_directory(directory: DirectoryRecord, path: str) -> None:
    dots = directory.children[:2]
    if [d.file_ident for d in dots] != [b"\x00", b"\x01"] or not directory.isdir:
        raise IsoError(f"{path}: its first two records are not itself and its parent", DAMAGED)
    if dots[0].extent_location() != directory.extent_location():
        raise IsoError(f"{path}: says that it is somewhere else", DAMAGED)


def _name(record: DirectoryRecord) -> str:
    """The name that users see; one that could leave its directory is refused."""
    ridge = record.rock_ridge
    parts = (ridge.dr_entries, ridge.ce_entries) if ridge else ()
    name = b"".join(nm.posix_name for part in parts if part for nm in part.nm_records)
    name = name or record.file_ident.partition(b";")[0].rstrip(b".")
    if not name or name in (b".", b"..") or b"/" in name or b"\x00" in name:
        raise IsoError(f"a file named {shown(name)!r}", DAMAGED)
    return shown(name)


def _entry(path: str, record: DirectoryRecord, own: DirectoryRecord | None, size: int) -> IsoEntry:
    if record.xattr_len or record.file_unit_size or record.interleave_gap_size:
        raise IsoError(f"{path}: an extended attribute record or interleaving", DAMAGED)
    if record.file_flags & _MULTI_EXTENT:
        raise IsoError(f"{path}: a file in several extents (over 4 GiB)", DAMAGED)
    extent = (own or record).extent_location()
    length = (own or record).data_length
    if length and extent * SECTOR + length > size:
        end = extent * SECTOR + length
        raise IsoError(f"truncated: {path} ends at byte {end}, the file has {size}", DAMAGED)
    ridge, px, dates = record.rock_ridge, posix(record), times(record)
    mode = px.posix_file_mode if px else 0o40755 if own else 0o100444
    kind = "dir" if own else _KINDS.get(stat.S_IFMT(mode), "other")
    if kind == "dir" and own is None:
        raise IsoError(f"{path}: called a directory, recorded as a file", DAMAGED)
    target = ridge.symlink_path() if kind == "link" and ridge and ridge.is_symlink() else None
    return IsoEntry(
        path=path,
        kind=kind,
        size=length,
        mode=stat.S_IMODE(mode),
        mtime=_seconds((dates and dates.access_time) or record.date),
        extent=extent,
        target=None if target is None else shown(target),
        iso_name=shown(record.file_ident),
    )


def shown(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace")


def posix(record: DirectoryRecord) -> RRPXRecord | None:
    """Mode, links and owner of a record, which may lie in its continuation area."""
    found: RRPXRecord | None = _either(record.rock_ridge, "px_record")
    return found


def times(record: DirectoryRecord) -> RRTFRecord | None:
    """The Rock Ridge dates of a record.

    pycdlib calls the second one `access_time`; by RRIP 4.1.6 it is the time of modification.
    """
    found: RRTFRecord | None = _either(record.rock_ridge, "tf_record")
    return found


def _either(ridge: RockRidge | None, field: str) -> Any:
    parts = (ridge.dr_entries, ridge.ce_entries) if ridge else ()
    found = (getattr(part, field) for part in parts if part is not None)
    return next((value for value in found if value is not None), None)


def _seconds(date: DirectoryRecordDate | VolumeDescriptorDate) -> int:
    """Seconds since 1970 of a date; 0 where it names no moment (ECMA-119, 9.1.5)."""
    if isinstance(date, VolumeDescriptorDate):
        year, day = date.year, date.dayofmonth
    else:
        year, day = 1900 + date.years_since_1900, date.day_of_month
    clock = (date.hour, date.minute, date.second)
    if not (1 <= date.month <= 12 and 1 <= day <= 31 and clock[0] < 24 and max(clock) < 61):
        return 0
    # The zone is given in quarters of an hour east of UTC.
    return calendar.timegm((year, date.month, day, *clock)) - date.gmtoffset * 15 * 60


def _calendar(seconds: int) -> time.struct_time:
    problem = f"the date {seconds} (seconds since 1970) does not fit into an ISO"
    try:
        moment = time.gmtime(seconds)
    except (ValueError, OverflowError, OSError) as error:
        raise IsoError(problem) from error
    if not 1900 <= moment.tm_year <= 2155:
        raise IsoError(problem)
    return moment


def long_date(seconds: int) -> bytes:
    """The 17 bytes of a volume's date (8.4.26.1) for seconds since 1970, in UTC."""
    return time.strftime("%Y%m%d%H%M%S00", _calendar(seconds)).encode("ascii") + b"\x00"


def stamp(record: DirectoryRecord, seconds: int) -> None:
    """Give a record one date, in UTC: pycdlib writes the clock's, in the host's time zone."""
    moment = _calendar(seconds)
    date = DirectoryRecordDate.from_fields(moment.tm_year - 1900, *moment[1:6], 0)
    record.date = date
    dates = times(record)
    if dates is not None:
        dates.modification_time = dates.access_time = dates.attribute_change_time = date
