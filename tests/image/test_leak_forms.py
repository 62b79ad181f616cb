"""The search for a secret in a stream: no form, no alignment and no cut hides it."""

from __future__ import annotations

import base64
import json
import os
import shlex
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.image.secret_forms import Needle, Scanner, base64_core, needles

SECRET = b'it\'s: a "pass+phrase" of /mine'
KEY = base64.b64encode(bytes(range(7, 39)))


def found(wanted: dict[str, bytes], *pieces: bytes) -> list[tuple[str, str, int]]:
    hits: list[tuple[str, str, int]] = []

    def hit(needle: Needle, offset: int) -> None:
        hits.append((needle.secret, needle.form, offset))

    scanner = Scanner(needles(wanted), hit)
    for piece in pieces:
        scanner.feed(piece)
    return hits


WRITTEN = {
    "plain": SECRET,
    "hexadecimal": SECRET.hex().encode(),
    "capital hexadecimal": SECRET.hex().upper().encode(),
    "base64": base64.b64encode(SECRET),
    "base64 in a text, at 1": base64.b64encode(b"x" + SECRET + b"more"),
    "base64 in a text, at 2": base64.b64encode(b"xy" + SECRET + b"m"),
    "base64 for addresses": base64.urlsafe_b64encode(b"\xfb\xff" + SECRET),
    "base64 in lines": base64.encodebytes(b"-" * 30 + SECRET),
    "UTF-16, little": SECRET.decode().encode("utf-16-le"),
    "UTF-16, big": SECRET.decode().encode("utf-16-be"),
    "shell": shlex.quote(SECRET.decode()).encode(),
    "JSON": json.dumps(SECRET.decode()).encode(),
    "percent": quote(SECRET.decode(), safe="").encode(),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_passphrase_is_found_in_every_form(how: str) -> None:
    noise = os.urandom(3001)
    assert found({"passphrase": SECRET}, noise + WRITTEN[how] + noise)


@pytest.mark.parametrize(
    "data",
    [
        KEY,
        base64.b64decode(KEY),
        base64.b64decode(KEY).hex().encode(),
        base64.b64encode(KEY),
        base64.b64encode(b"PrivateKey = " + KEY),
        KEY[:22],
        KEY[22:],
    ],
)
def test_a_wireguard_key_is_found_decoded_and_in_halves(data: bytes) -> None:
    assert found({"server key": KEY}, b"\0" * 999 + data)


def test_a_hexadecimal_key_is_found_decoded() -> None:
    key = bytes(range(32))
    assert found({"seal": key.hex().encode()}, b"-" * 77 + key)
    assert found({"seal": key.hex().encode()}, b"-" * 77 + base64.b64encode(key))


@pytest.mark.parametrize("how", WRITTEN)
def test_among_many_short_secrets_nothing_is_lost(how: str) -> None:
    many = {f"other {i}": os.urandom(9) for i in range(30)} | {"short": SECRET[:9]}
    data = WRITTEN[how]
    names = {name for name, _, _ in found(many, b"-" * 501 + data)}
    assert names <= {"short"}
    if how in ("plain", "UTF-16, little", "hexadecimal"):
        assert names == {"short"}


def test_random_data_and_near_misses_are_not_findings() -> None:
    assert found({"a": SECRET, "b": KEY}, os.urandom(1 << 20)) == []
    assert found({"a": SECRET}, SECRET[:-1] + b"x") == []


@given(
    st.binary(min_size=8, max_size=60),
    st.integers(0, 200),
    st.lists(st.integers(1, 90), min_size=1, max_size=20),
)
def test_no_alignment_and_no_cut_hides_a_secret(
    secret: bytes, before: int, cuts: list[int]
) -> None:
    stream = b"\xaa" * before + secret + b"\xaa" * 70
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(stream[at : at + cut])
        at += cut
    pieces.append(stream[at:])
    offsets = {offset for _, form, offset in found({"s": secret}, *pieces) if form == "plain"}
    assert before in offsets


@given(st.binary(min_size=8, max_size=40), st.integers(0, 30), st.integers(0, 30))
def test_base64_of_any_text_around_it_holds_the_core(secret: bytes, left: int, right: int) -> None:
    text = base64.b64encode(os.urandom(left) + secret + os.urandom(right))
    assert base64_core(secret, left % 3) in text


def test_each_place_is_reported_once_and_where_it_is() -> None:
    data = b"." * 1000 + b"secret-word" + b"." * 1000
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    assert found({"s": b"secret-word"}, *pieces) == [("s", "plain", 1000)]
