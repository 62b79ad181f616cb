"""What can be wrong with an FFS image, or with what is asked of it."""

from __future__ import annotations

from obsdimg.core.errors import ObsdimgError


class FfsError(ObsdimgError):
    """The image cannot be read, or the operation cannot be done; the image is unchanged."""


class UnsupportedError(FfsError):
    """A file system of a kind that this package does not handle: FFS2, big-endian, 4.2BSD."""


class DamagedError(FfsError):
    """Structures that contradict each other, or lie outside the image."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"damaged file system: {message}",
            "take a fresh copy of the medium, and verify its checksum",
        )


class NoRoomError(FfsError):
    """Not enough blocks, fragments or inodes; the message says how many of each."""
