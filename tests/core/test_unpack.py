"""Archives that somebody else made, read within bounds."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsdimg.core.unpack import ArchiveError, ArchiveLimits, open_gzip, read_tar


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def listed(data: bytes, limits: ArchiveLimits | None = None) -> list[tuple[str, int, bytes]]:
    return [
        (member.name, member.size, content.read())
        for member, content in read_tar(io.BytesIO(data), limits)
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_sizes_and_data_are_those_that_were_packed(form: int) -> None:
    long = "d/" * 90 + "x" * 60 if form != tarfile.USTAR_FORMAT else "x" * 90
    names = ["a", long, "c"]
    data = tar_of(*((tarfile.TarInfo(n), n.encode() * 3) for n in names), form=form)
    assert listed(data) == [(n, len(n) * 3, n.encode() * 3) for n in names]


def test_links_keep_their_long_targets() -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "y" * 300
    ((member, _),) = read_tar(io.BytesIO(tar_of((link, b""), form=tarfile.GNU_FORMAT)))
    assert (member.issym(), member.linkname) == (True, "y" * 300)


def test_a_sparse_member_is_refused_in_both_forms() -> None:
    sparse = tarfile.TarInfo("s")
    sparse.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(ArchiveError, match="sparse"):
        listed(sparse.tobuf(tarfile.GNU_FORMAT))
    pax = tarfile.TarInfo("s")
    pax.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "21474836480"}
    with pytest.raises(ArchiveError, match="sparse"):
        listed(tar_of((pax, b"x"), form=tarfile.PAX_FORMAT))


def test_what_unpacks_to_more_than_allowed_is_an_error() -> None:
    bomb = gzip.compress(bytes(10 << 20))
    with pytest.raises(ArchiveError, match="more than is taken"):
        open_gzip(io.BytesIO(bomb), 1 << 20).read()
    data = tar_of((tarfile.TarInfo("a"), bytes(1 << 20)))
    with pytest.raises(ArchiveError, match="more than is taken"):
        listed(data, ArchiveLimits(unpacked=1 << 19))
    with pytest.raises(ArchiveError, match="more members"):
        listed(tar_of(*((tarfile.TarInfo(f"{n}"), b"") for n in range(9))), ArchiveLimits(9999, 5))


@pytest.mark.parametrize("size", [5000, 1 << 34])
def test_a_name_without_end_is_an_error(size: int) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, size
    with pytest.raises(ArchiveError, match="longer than any"):
        listed(long.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))


def test_several_gzip_members_are_one_stream() -> None:
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two") + bytes(512)
    assert open_gzip(io.BytesIO(data), 100).read() == b"onetwo"


@pytest.mark.parametrize("cut", [0, 1, 9, 12, -1])
def test_a_gzip_stream_that_is_cut_short_is_an_error(cut: int) -> None:
    with pytest.raises(ArchiveError):
        open_gzip(io.BytesIO(gzip.compress(b"some text that is packed")[:cut]), 1000).read()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_gives_members_or_one_error(data: st.DataObject) -> None:
    whole = bytearray(tar_of((tarfile.TarInfo("a"), b"abc"), (tarfile.TarInfo("b"), b"x" * 600)))
    for at in data.draw(st.lists(st.integers(0, 1600), max_size=5)):
        whole[at] = data.draw(st.integers(0, 255))
    try:
        for name, size, content in listed(bytes(whole[: data.draw(st.integers(0, len(whole)))])):
            assert len(content) <= size or not content, name
    except ArchiveError as error:
        assert "\n" not in error.message
