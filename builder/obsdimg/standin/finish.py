"""The last pass over an image that pycdlib wrote: dates, directory names, directory modes.

Changes fields in place, never a length or a position.  Makes the image depend on its content
only, not on the clock or the time zone of the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from obsdimg.iso.structures import (
    FIRST_DESCRIPTOR,
    RECORD_HEAD,
    SECTOR,
    PathTableEntry,
    Record,
    both32,
    long_date,
    pack_directory,
    pack_path_table,
    parse_primary,
    parse_record,
    short_date,
    split_directory,
)

_DIRECTORY_MODE = 0o40755


def finish(stream: BinaryIO, epoch: int, names: Mapping[bytes, bytes]) -> None:
    """Set all dates to `epoch` (seconds since 1970), give directories mode 0755, and rename
    those whose identifier is a key of `names` to a name of the same length."""
    primary = parse_primary(_read(stream, FIRST_DESCRIPTOR, SECTOR))
    descriptor = bytearray(primary.raw)
    for offset in (813, 830, 864):  # created, changed, effective; 847, expiry, stays unset
        descriptor[offset : offset + 17] = long_date(epoch)
    descriptor[156:190] = _dated(primary.root.raw, epoch)
    _put(stream, FIRST_DESCRIPTOR, bytes(descriptor))
    table = [PathTableEntry(b"\x00", primary.root.extent, 1)]
    pending: list[tuple[int, Record]] = [(1, primary.root)]
    while pending:
        number, directory = pending.pop(0)
        raws = split_directory(_read(stream, directory.extent, directory.size), "stand-in")
        changed = [_finished(raw, epoch, names) for raw in raws]
        _put(stream, directory.extent, pack_directory(changed))
        for raw in changed[2:]:
            record = parse_record(raw, "stand-in")
            if record.is_directory:
                table.append(PathTableEntry(record.identifier, record.extent, number))
                pending.append((len(table), record))
    places = zip(primary.path_tables, "<<>>", strict=True)
    for place, order in places:
        if place:
            _put(stream, place, pack_path_table(table, order))


def _finished(raw: bytes, epoch: int, names: Mapping[bytes, bytes]) -> bytes:
    record = parse_record(raw, "stand-in")
    changed = _dated(raw, epoch)
    if not record.is_directory:
        return changed
    new = names.get(record.identifier, record.identifier)
    end = RECORD_HEAD + len(new)
    return changed[:RECORD_HEAD] + new + _with_mode(changed[end:])


def _dated(raw: bytes, epoch: int) -> bytes:
    """A record with another date in its own field and in its TF entry (three short dates)."""
    date = short_date(epoch)
    dated = raw[:18] + date + raw[25:]
    at = dated.find(b"TF\x1a\x01\x0e", RECORD_HEAD)
    return dated if at < 0 else dated[: at + 5] + date * 3 + dated[at + 26 :]


def _with_mode(system_use: bytes) -> bytes:
    """A system use area with a directory's mode in its PX entry (RRIP 1.09: 36 bytes)."""
    at = system_use.find(b"PX\x24\x01")
    if at < 0:
        return system_use
    return system_use[: at + 4] + both32(_DIRECTORY_MODE) + system_use[at + 12 :]


def _read(stream: BinaryIO, sector: int, size: int) -> bytes:
    stream.seek(sector * SECTOR)
    return stream.read(size)


def _put(stream: BinaryIO, sector: int, data: bytes) -> None:
    stream.seek(sector * SECTOR)
    stream.write(data)
