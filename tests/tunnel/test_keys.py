"""Keys are those of wireguard-tools, and what is not a key is refused without showing it."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.tunnel.errors import HandshakeError, KeyTextError
from obsdimg.tunnel.keys import PresharedKey, WgPrivateKey, WgPublicKey, clamp
from support.wg_keys import generate_pair

needs_wg = pytest.mark.skipif(shutil.which("wg") is None, reason="wireguard-tools is missing")

P = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
]
"""The points of order 1, 2, 4 and 8 in every encoding below 2**255."""


def wg(*words: str, given: str = "") -> str:
    done = subprocess.run(
        ["wg", *words], input=given, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


@needs_wg
def test_wg_computes_the_same_public_key() -> None:
    for _ in range(20):
        private, public = generate_pair()
        assert wg("pubkey", given=private.reveal()) == public.text()


@needs_wg
def test_keys_made_by_wg_are_read_and_written_back_unchanged() -> None:
    for _ in range(20):
        text = wg("genkey")
        private = WgPrivateKey.parse(text + "\n")
        assert private.reveal() == text
        assert private.public().text() == wg("pubkey", given=text)
        psk = wg("genpsk")
        assert PresharedKey.parse(psk).reveal() == psk


@needs_wg
@given(st.binary(min_size=32, max_size=32).filter(any))
def test_a_private_key_that_is_not_clamped_keeps_its_public_key(raw: bytes) -> None:
    text = base64.b64encode(raw).decode()
    assert WgPrivateKey.parse(text).public().text() == wg("pubkey", given=text)


@given(st.binary(min_size=32, max_size=32))
def test_clamping_follows_rfc_7748(raw: bytes) -> None:
    number = int.from_bytes(clamp(raw), "little")
    assert number % 8 == 0
    assert number >> 254 == 1
    assert clamp(clamp(raw)) == clamp(raw)


def test_generated_private_keys_are_clamped_and_differ() -> None:
    raws = {base64.b64decode(WgPrivateKey.generate().reveal()) for _ in range(50)}
    assert len(raws) == 50
    assert all(clamp(raw) == raw for raw in raws)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("not base64 at all!", "not base64"),
        ("Ä" * 44, "not base64"),
        ("A" * 43, "not base64"),
        ("AAAA", "3 bytes, not 32"),
        (base64.b64encode(bytes(31)).decode(), "31 bytes, not 32"),
        (base64.b64encode(bytes(33)).decode(), "33 bytes, not 32"),
        (base64.b64encode(bytes(32)).decode(), "all zero"),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "not base64"),
        ("A" * 20 + " " + "B" * 23, "not base64"),
        ("B" * 42 + "B=", "cannot end a key"),
        (("B" * 42 + "A=") * 2, "not base64"),
    ],
)
@pytest.mark.parametrize("kind", [WgPrivateKey, WgPublicKey, PresharedKey])
def test_what_is_not_a_key_is_refused_with_its_place(
    kind: type[WgPrivateKey | WgPublicKey | PresharedKey], text: str, says: str
) -> None:
    with pytest.raises(KeyTextError, match=says) as caught:
        kind.parse(text, "peers[2]")
    assert caught.value.message.startswith("peers[2]: ")


@needs_wg
@given(st.text(alphabet="ABCDwxyz0189+/=", min_size=40, max_size=48))
def test_wg_and_we_agree_on_what_a_key_looks_like(text: str) -> None:
    theirs = subprocess.run(
        ["wg", "pubkey"], input=text, capture_output=True, text=True, timeout=10
    ).returncode
    try:
        WgPrivateKey.parse(text)
    except KeyTextError as error:
        if "all zero" in error.message:
            return
        assert theirs != 0
    else:
        assert theirs == 0


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("top", [0, 1 << 255])
def test_public_keys_of_low_order_are_refused(point: int, top: int) -> None:
    raw = (point | top).to_bytes(32, "little")
    with pytest.raises(KeyTextError, match=r"low order|all zero"):
        WgPublicKey.parse(base64.b64encode(raw).decode())
    with pytest.raises(HandshakeError):
        WgPrivateKey.generate().exchange(WgPublicKey(raw))


@pytest.mark.parametrize("point", [2, 9, P - 2, P + 9])
def test_other_points_are_accepted(point: int) -> None:
    text = base64.b64encode(point.to_bytes(32, "little")).decode()
    assert WgPublicKey.parse(text).text() == text


@pytest.mark.parametrize("key", [WgPrivateKey.generate(), PresharedKey.generate()])
def test_a_secret_does_not_show_itself(key: WgPrivateKey | PresharedKey) -> None:
    shown = [
        repr(key),
        str(key),
        f"{key}",
        f"{key!r}",
        repr([key]),
        repr({"k": key}),
        json.dumps({"k": key}, default=str),
    ]
    raw = base64.b64decode(key.reveal())
    for text in shown:
        assert "hidden" in text
        assert key.reveal()[:8] not in text
        assert repr(raw)[2:12] not in text
    assert not hasattr(key, "__dict__")
    for leak in (lambda: pickle.dumps(key), lambda: copy.deepcopy(key)):
        with pytest.raises(TypeError, match="not pickled"):
            leak()


def test_an_error_never_repeats_the_text_of_a_key() -> None:
    good = WgPrivateKey.generate().reveal()
    for text in (good[:-2] + "=", good + good, good[:20] + "!" + good[21:], good[:-1]):
        with pytest.raises(KeyTextError) as caught:
            WgPrivateKey.parse(text)
        assert good[:6] not in caught.value.message + str(caught.value.hint)


def test_keys_compare_by_value_and_by_kind() -> None:
    private, public = generate_pair()
    assert WgPrivateKey.parse(private.reveal()) == private
    assert WgPublicKey.parse(public.text()) == public
    assert WgPrivateKey.generate() != private
    assert PresharedKey.parse(private.reveal()) != private
    assert len({public, WgPublicKey(public.raw)}) == 1
