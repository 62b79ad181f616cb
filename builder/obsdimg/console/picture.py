"""A picture of a screen: pixels as a VNC server sent them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """`width` x `height` pixels, row by row, 4 bytes each: red, green, blue, 0."""

    width: int
    height: int
    pixels: bytes = field(repr=False)

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file."""
        from PIL import Image

        size = (self.width, self.height)
        image = Image.frombytes("RGB", size, self.pixels, "raw", "RGBX")
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()
