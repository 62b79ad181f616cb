"""QR codes say exactly the configuration, to a reader that is not ours (zxing-cpp)."""

from __future__ import annotations

import re
import struct
import zlib

import pytest

from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey
from obsdimg.tunnel.qr import QrError, essential, qr_png, qr_svg, qr_text
from obsdimg.tunnel.wgconf import parse

zxingcpp = pytest.importorskip("zxingcpp")

CONF = f"""\
# phone: client of vpn
[Interface]
PrivateKey = {WgPrivateKey.generate().reveal()}
Address = 10.0.0.3/32, fd00:53::3/128
DNS = 10.0.0.1  # unbound
MTU = 1420

[Peer]
PublicKey = {WgPrivateKey.generate().public()}
PresharedKey = {PresharedKey.generate().reveal()}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.org:53
PersistentKeepalive = 25
"""

Rows = list[list[bool]]
"""True: dark."""


class Grey:
    """Rows as an 8-bit image, by the buffer protocol that zxing-cpp takes."""

    def __init__(self, rows: Rows, scale: int = 1) -> None:
        self.height, self.width = len(rows) * scale, len(rows[0]) * scale
        lines = (b"".join((b"\0" if dark else b"\xff") * scale for dark in row) for row in rows)
        self.data = b"".join(line * scale for line in lines)

    def read(self) -> str:
        view = memoryview(self.data).cast("B", (self.height, self.width))
        (found,) = zxingcpp.read_barcodes(view)
        return str(found.text)


def png_rows(png: bytes) -> Rows:
    """The pixels of a grey PNG of one bit a pixel (PNG specification, sections 9 and 12)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, width, depth = 8, b"", 0, 0
    while at < len(png):
        (size,), kind = struct.unpack_from(">I", png, at), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, _, depth, colour = struct.unpack_from(">IIBB", body)
            assert (depth, colour) == (1, 0)
        elif kind == b"IDAT":
            packed += body
        at += size + 12
    data = zlib.decompress(packed)
    stride = (width + 7) // 8 + 1
    rows: Rows = []
    above = bytes(stride - 1)
    for start in range(0, len(data), stride):
        line = data[start + 1 : start + stride]
        if data[start] == 2:  # "up": the difference to the row above
            line = bytes((a + b) & 255 for a, b in zip(line, above, strict=True))
        else:
            assert data[start] == 0
        above = line
        bits = "".join(f"{byte:08b}" for byte in line)
        rows.append([bit == "0" for bit in bits[:width]])
    return rows


def terminal_rows(text: str) -> Rows:
    """What a terminal shows: half blocks, light where the block is filled, else dark."""
    rows: Rows = []
    for line in text.splitlines():
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if plain:
            rows.append([c not in "█▀" for c in plain])
            rows.append([c not in "█▄" for c in plain])
    return rows


def test_the_png_reads_as_the_configuration() -> None:
    assert Grey(png_rows(qr_png(CONF))).read() == essential(CONF)


def test_the_terminal_shows_the_same_code() -> None:
    assert Grey(terminal_rows(qr_text(CONF)), scale=4).read() == essential(CONF)


def test_the_svg_is_well_formed_dark_on_white_and_sized() -> None:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(qr_svg(CONF))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    paths = [e.attrib for e in root.iter() if e.tag.endswith("path")]
    assert any(p.get("fill") in ("white", "#fff") for p in paths)
    assert any(p.get("stroke") == "#000" for p in paths)
    assert root.attrib["width"] == str(len(png_rows(qr_png(CONF))))


def test_comments_and_empty_lines_are_left_out_and_nothing_else() -> None:
    short = essential(CONF)
    assert "#" not in short
    assert "\n\n" not in short
    assert parse(short, "x") == parse(CONF, "x")


def test_the_same_text_gives_the_same_bytes() -> None:
    assert qr_png(CONF) == qr_png(CONF)
    assert qr_svg(CONF) == qr_svg(CONF)


def test_too_long_a_configuration_is_an_error_with_numbers() -> None:
    nets = ", ".join(f"10.{n}.{m}.0/24" for n in range(20) for m in range(10))
    text = CONF.replace("0.0.0.0/0, ::/0", nets)
    with pytest.raises(QrError, match=r"has \d{4} bytes, too many") as caught:
        qr_png(text)
    assert caught.value.hint
