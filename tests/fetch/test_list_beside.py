"""What is said where an ISO was given and there is no signed list for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.fetch.cache import Cache
from obsdimg.fetch.download import DownloadError
from obsdimg.fetch.install_iso import IsoSource, obtain_iso
from obsdimg.signify.message import SignifySecretKey


def test_a_given_iso_without_a_list_is_told_to_put_it_beside(tmp_path: Path) -> None:
    iso = tmp_path / "install66.iso"
    iso.write_bytes(b"x")
    key = SignifySecretKey.generate("test").public()
    source = IsoSource("6.6", "6.6/amd64", iso.name, key, None, ())
    with pytest.raises(DownloadError) as caught:
        obtain_iso(source, cache=Cache(tmp_path / "cache"), iso=iso)
    assert caught.value.hint is not None
    assert f"put SHA256.sig beside {iso}" in caught.value.hint
    assert "--iso" not in caught.value.hint
