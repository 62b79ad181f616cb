"""A client's configuration as a QR code (ISO/IEC 18004), as the mobile apps scan it.

The code holds the private key: it belongs on a terminal for the moment of the scan, or
into a file of mode 0600.  The same text gives the same bytes.
"""

from __future__ import annotations

import io
from typing import Any, Final

import segno

from obsdimg.tunnel.errors import TunnelError

PIXELS: Final = 8
"""Width of a module in a PNG."""
QUIET_ZONE: Final = 4
"""Light modules around the code, as the standard asks for."""


class QrError(TunnelError):
    """The text does not fit into a QR code."""


def qr_text(conf: str) -> str:
    """Lines for a terminal, two modules high each, dark on light by ANSI colours."""
    out = io.StringIO()
    _make(conf).terminal(out, border=QUIET_ZONE, compact=True)
    return out.getvalue()


def qr_size(conf: str) -> tuple[int, int]:
    """Columns and lines that `qr_text` takes on a terminal."""
    modules = _make(conf).symbol_size(border=QUIET_ZONE)[0]
    return modules, (modules + 1) // 2


def qr_png(conf: str) -> bytes:
    """A PNG image, one bit a pixel, PIXELS pixels a module."""
    out = io.BytesIO()
    _make(conf).save(out, kind="png", scale=PIXELS, border=QUIET_ZONE)
    return out.getvalue()


def qr_svg(conf: str) -> bytes:
    """An SVG image, dark on an explicit light background."""
    out = io.BytesIO()
    _make(conf).save(out, kind="svg", scale=PIXELS, border=QUIET_ZONE, light="white")
    return out.getvalue()


def essential(conf: str) -> str:
    """The configuration without comments and empty lines: a smaller code, the same tunnel."""
    lines = (line.partition("#")[0].strip() for line in conf.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def _make(conf: str) -> Any:
    """The code with error correction M (15 %).  Raises QrError where it does not fit."""
    text = essential(conf)
    try:
        return segno.make_qr(text, error="m", boost_error=False)
    except segno.DataOverflowError as error:
        raise QrError(
            f"the configuration has {len(text.encode())} bytes, too many for a QR code (2331)",
            "shorten its AllowedIPs, or copy the file instead",
        ) from error
