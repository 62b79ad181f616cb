"""libvirt, with a volume in the place of the ISO: for the image of a disk.

The image is uploaded as a volume and compared, as an ISO is.  The machine's disk is a copy of it
that libvirt makes, as large as the plan says; the uploaded volume is removed at the end, as a
provider's snapshot is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from obsdimg.config import Config
from obsdimg.deploy import domain_xml
from obsdimg.deploy.libvirt import UPLOAD_SECONDS, Libvirt, connect
from obsdimg.deploy.provider import Provider


class LibvirtVolumes(Libvirt):
    """The provider for images of disks."""

    suffix = ".raw"
    """As they are called everywhere; libvirt tells a qcow2 by its first bytes."""

    def _make_disk(self, name: str, gibibytes: int, medium: str) -> None:
        """A copy of the volume `medium`.

        One that is there was begun by a run that was killed, and no machine has it: who has a
        machine does not come here.
        """
        self._delete_volume(name)
        size = gibibytes << 30
        self._virsh("pool-refresh", self._pool)  # or a qcow2 counts as the raw file it came as
        self._virsh(
            "vol-create-from", self._pool, "/dev/stdin", medium, "--inputpool", self._pool,
            stdin=domain_xml.volume(name, size), seconds=UPLOAD_SECONDS,
        )  # fmt: skip
        xml = ET.fromstring(self._virsh("vol-dumpxml", "--pool", self._pool, name))  # noqa: S314
        if int(xml.findtext("capacity") or 0) < size:
            self._virsh("vol-resize", "--pool", self._pool, name, f"{size}B")

    def _in_drive(self, medium: str) -> str | None:
        return None

    def detach_iso(self, key: str) -> None:
        """There is no drive."""
        return


@contextlib.contextmanager
def open_volumes(config: Config, uefi: bool) -> Iterator[Provider]:
    """libvirt as `deploy.uri` says; `uefi`: what starts the disk.  Raises ProviderError."""
    yield connect(config, LibvirtVolumes, uefi)
