"""The functions of the handshake give what their specifications print."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.tunnel.errors import HandshakeError
from obsdimg.tunnel.keys import WgPrivateKey, WgPublicKey
from obsdimg.tunnel.noise import CONSTRUCTION, IDENTIFIER
from obsdimg.tunnel.primitives import blake2s, hchacha20, kdf, mac, seal, unseal, xunseal
from support.responder_handshake import xseal

hexa = bytes.fromhex

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the"
    b" future, sunscreen would be it."
)
AAD = hexa("50515253c0c1c2c3c4c5c6c7")
KEY = bytes(range(0x80, 0xA0))


def test_blake2s_of_abc_is_that_of_rfc_7693_appendix_b() -> None:
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert blake2s(b"a", b"bc").hex() == expected


def test_keyed_blake2s_is_that_of_the_blake2_reference_vectors() -> None:
    # blake2s KAT, key 00..1f: empty input, and input 00; 32-byte output, checked through
    # hashlib; `mac` differs only by its length parameter.
    key = bytes(range(32))
    assert hashlib.blake2s(b"", key=key).hexdigest() == (
        "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49"
    )
    assert mac(key, b"data") == hashlib.blake2s(b"data", key=key, digest_size=16).digest()
    assert len(mac(key, b"")) == 16


def test_hchacha20_is_that_of_the_draft_section_2_2_1() -> None:
    nonce = hexa("000000090000004a0000000031415927")
    assert hchacha20(bytes(range(32)), nonce).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_hchacha20_is_a_chacha20_block_without_its_final_addition(key: bytes, nonce: bytes) -> None:
    block = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64))
    start = b"expand 32-byte k" + key + nonce
    words = [
        (int.from_bytes(block[i : i + 4], "little") - int.from_bytes(start[i : i + 4], "little"))
        % 2**32
        for i in range(0, 64, 4)
    ]
    rows = b"".join(w.to_bytes(4, "little") for w in words[:4] + words[12:])
    assert hchacha20(key, nonce) == rows


def test_xchacha20_poly1305_is_that_of_the_draft_appendix_a_3_1() -> None:
    nonce = bytes(range(0x40, 0x58))
    sealed = xseal(KEY, nonce, SUNSCREEN, AAD)
    assert sealed.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )
    assert xunseal(KEY, nonce, sealed, AAD) == SUNSCREEN
    with pytest.raises(HandshakeError):
        xunseal(KEY, nonce, sealed, AAD + b"x")


def test_the_aead_puts_the_counter_little_endian_behind_four_zero_bytes() -> None:
    # RFC 8439, appendix A.5: nonce 000000000102030405060708.
    key = hexa("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
    extra = hexa("f33388860000000000004e91")
    sealed = hexa(
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2"
        "4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf"
        "332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855"
        "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4"
        "b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e"
        "af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a"
        "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10"
        "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29"
        "a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38"
    )
    counter = int.from_bytes(hexa("0102030405060708"), "little")
    plain = unseal(key, counter, sealed, extra)
    assert plain.startswith(b"Internet-Drafts are draft documents valid for a maximum of six")
    assert seal(key, counter, plain, extra) == sealed


def test_x25519_is_that_of_rfc_7748_section_6_1() -> None:
    alice = WgPrivateKey(hexa("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = WgPrivateKey(hexa("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange(bob.public()).hex() == shared
    assert bob.exchange(alice.public()).hex() == shared
    assert alice.public() == WgPublicKey(
        hexa("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_kdf_is_hkdf_with_an_empty_info(count: int) -> None:
    from cryptography.hazmat.primitives.hashes import BLAKE2s
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    expected = HKDF(BLAKE2s(32), 32 * count, salt=b"k" * 32, info=b"").derive(b"input")
    assert b"".join(kdf(count, b"k" * 32, b"input")) == expected


def test_hmac_blake2s_uses_the_hashs_own_block_of_64_bytes() -> None:
    key, data = b"k" * 32, b"input"
    inner = blake2s(bytes(b ^ 0x36 for b in key + bytes(32)), data)
    outer = blake2s(bytes(b ^ 0x5C for b in key + bytes(32)), inner)
    assert hmac.new(key, data, hashlib.blake2s).digest() == outer


def test_the_initial_chaining_key_and_hash_are_the_published_constants() -> None:
    # boringtun carries both as constants (noise/handshake.rs).
    chain = blake2s(CONSTRUCTION)
    assert chain.hex().startswith("60e26daef327efc02ec335e2a025d2d0")
    assert blake2s(chain, IDENTIFIER).hex().startswith("2211b361081ac566691243db458ad532")
