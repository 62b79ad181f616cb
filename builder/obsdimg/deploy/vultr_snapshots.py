"""Vultr, with a snapshot made from a URL in the place of the ISO: for the image of a disk.

Read in govultr 3.32.0 (`[G]` with the file) and terraform-provider-vultr (`[T]`); docs/vultr.md
has the table.  A snapshot has a size and no checksum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from obsdimg.config import Config
from obsdimg.deploy.api import Api
from obsdimg.deploy.credentials import find_token
from obsdimg.deploy.provider import Provider, RemoteIso
from obsdimg.deploy.vultr import Vultr, created

_UNITS = (1, 1 << 10, 1 << 20, 1 << 30, 10**3, 10**6, 10**9)


class VultrSnapshots(Vultr):
    """The provider for images of disks; `uefi` says what starts them there."""

    medium = "snapshot_id"

    def __init__(self, api: Api, uefi: bool = False) -> None:
        super().__init__(api)
        self._uefi = uefi

    def isos(self) -> list[RemoteIso]:
        return [self._iso(value) for value in self._list("/snapshots", "snapshots")]

    def iso(self, key: str) -> RemoteIso | None:
        found = self._get_or_none(f"/snapshots/{key}")
        return None if found is None else self._iso(found.get("snapshot"))

    def create_iso(self, url: str) -> RemoteIso:
        # [G] snapshot.go: SnapshotURLReq; found again by its description.
        body = {
            "url": url,
            "description": unquote(urlsplit(url).path.rpartition("/")[2]),
            "uefi": "yes" if self._uefi else "no",
        }
        answer = self._api.post("/snapshots/create-from-url", body, repeatable=False)
        return created(lambda: self._iso(answer.get("snapshot")))

    def delete_iso(self, key: str) -> None:
        self._api.delete(f"/snapshots/{key}")

    def size_agrees(self, reported: int, size: int) -> bool:
        # [T] snapshot: "in Bytes"; rounding has not been seen and is allowed for.
        return any(reported in (-(-size // unit), -(-size // unit) * unit) for unit in _UNITS)

    def attached_iso(self, key: str) -> str | None:
        return None

    def detach_iso(self, key: str) -> None:
        return None

    def _iso(self, value: Any) -> RemoteIso:
        return self._read(
            lambda: RemoteIso(
                str(value["id"]),
                str(value.get("description") or ""),
                str(value["status"]),
                value["status"] == "complete",
                int(value.get("size") or 0),
                None,
            ),
            "a snapshot",
        )


@contextlib.contextmanager
def open_snapshots(config: Config, token_file: Path | None, uefi: bool) -> Iterator[Provider]:
    """Vultr's API with the user's token.  Raises TokenError without one."""
    with Api("Vultr", config.deploy.api, find_token(token_file)) as api:
        yield VultrSnapshots(api, uefi)
