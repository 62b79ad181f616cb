"""A guest of 512 bytes that asks for a passphrase as OpenBSD's BIOS loader does.

`loader_guest.s` is its source: banner, `Passphrase: ` without echo, some time for the KDF,
`incorrect passphrase` or `booting sr0a:/bsd`.  It boots in a second, and loses keys as a real
BIOS does.
"""

from __future__ import annotations

from pathlib import Path

_CODE = (
    "fa31c08ed88ec08ed0bc007cfbfcb80300cd10be927ce86800beaf7ce86200bf007e31c0cd1684c074f83c0d"
    "74103c08750981ff007e74ea4febe7aaebe430c0aabed37ce83a00b840001e8ed88b1e6c001f031e907cfbf4"
    "1e8ed83b1e6c001f77f4be007ebff87cacae750d84c075f8bed67ce80b00f4ebfdbebc7ce80200eb98ac84c0"
    "7409b40ebb0700cd10ebf2c3"
)
_TEXTS = (
    b">> OpenBSD/amd64 BOOT 3.67\r\n\0"
    b"Passphrase: \0"
    b"incorrect passphrase\r\n\0"
    b"\r\n\0"
    b"boot> \r\nbooting sr0a:/bsd: 16+4\r\n\0"
)


def make_disk(path: Path, passphrase: str, ticks: int = 5) -> None:
    """A disk that boots it; it computes for `ticks` of 55 ms."""
    secret = passphrase.encode("ascii").ljust(128, b"\0")
    assert len(secret) == 128
    sector = bytes.fromhex(_CODE) + ticks.to_bytes(2, "little") + _TEXTS + secret
    path.write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(512 * 127))
