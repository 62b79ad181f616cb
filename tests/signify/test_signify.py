"""signify.py and signify_keys.py, judged by the real signify-openbsd where it is installed."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from obsdimg.core.errors import ObsdimgError
from obsdimg.signify.errors import (
    BadSignatureError,
    MalformedKeyError,
    MalformedSignatureError,
    PassphraseNeededError,
    TruncatedError,
    WrongKeyError,
    WrongPassphraseError,
)
from obsdimg.signify.message import (
    Signature,
    SignifyPublicKey,
    SignifySecretKey,
    sign_embedded,
    verify_detached,
    verify_embedded,
)

SIGNIFY = shutil.which("signify-openbsd") or shutil.which("signify")
needs_signify = pytest.mark.skipif(SIGNIFY is None, reason="signify-openbsd is not installed")

RELEASE_66 = (
    "untrusted comment: openbsd 6.6 base public key\n"
    "RWSvK/c+cFe24BIalifKnqoqdvLlXfeZ9MIj3MINndNeKgyYw5PpcWGn\n"
)


@pytest.fixture(scope="module")
def key() -> SignifySecretKey:
    return SignifySecretKey.generate("obsdimg test")


@pytest.fixture(scope="module")
def media() -> Path:
    folder = os.environ.get("OBSDIMG_MEDIA")
    if not folder:
        pytest.skip("OBSDIMG_MEDIA is not set: no genuine media")
    return Path(folder)


def signify(*args: str | Path, stdin: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    assert SIGNIFY
    return subprocess.run(
        [SIGNIFY, *map(str, args)],
        input=stdin,
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


# Keys and signatures as values


def test_a_release_key_is_read_and_written_back_unchanged() -> None:
    key = SignifyPublicKey.parse(RELEASE_66)
    assert key.comment == "openbsd 6.6 base public key"
    assert key.number.hex() == "af2bf73e7057b6e0"
    assert key.text == RELEASE_66
    assert key.base64 == RELEASE_66.splitlines()[1]
    assert len(key.text) == 104


def test_embedded_and_detached_signatures_verify_with_their_key(key: SignifySecretKey) -> None:
    message = b"SHA256 (x) = 0\n"
    assert verify_embedded(sign_embedded(message, key), key.public()).data == message
    signature = Signature.parse(key.sign(message).text)
    assert verify_detached(message, signature, key.public()).key == key.public()


def test_an_empty_message_can_be_signed(key: SignifySecretKey) -> None:
    assert verify_embedded(sign_embedded(b"", key), key.public()).data == b""


def test_comments_default_to_what_signify_writes(key: SignifySecretKey) -> None:
    assert key.comment == "obsdimg test secret key"
    assert key.public().comment == "obsdimg test public key"
    assert key.sign(b"").comment == "signature from obsdimg test secret key"
    assert key.sign(b"", "verify with image.pub").comment == "verify with image.pub"


def test_the_secret_is_in_no_representation(key: SignifySecretKey) -> None:
    seed = base64.b64encode(key.seed).decode()
    assert seed not in repr(key) and repr(key.seed) not in repr(key)


def test_a_protected_key_opens_with_its_passphrase_only(key: SignifySecretKey) -> None:
    text = key.text("correct horse", rounds=4)
    assert SignifySecretKey.parse(text, "correct horse") == key
    with pytest.raises(WrongPassphraseError):
        SignifySecretKey.parse(text, "wrong horse")
    with pytest.raises(PassphraseNeededError):
        SignifySecretKey.parse(text)


def test_an_unprotected_key_ignores_a_passphrase(key: SignifySecretKey) -> None:
    assert SignifySecretKey.parse(key.text(), "not needed") == key


def test_the_passphrase_is_not_in_the_error(key: SignifySecretKey) -> None:
    with pytest.raises(WrongPassphraseError) as caught:
        SignifySecretKey.parse(key.text("one", rounds=4), "s3cr3t-try")
    assert "s3cr3t-try" not in caught.value.message + str(caught.value.hint)


# Failures are told apart


def test_another_key_is_a_wrong_key_not_a_bad_signature(key: SignifySecretKey) -> None:
    other = SignifySecretKey.generate("other").public()
    with pytest.raises(WrongKeyError) as caught:
        verify_embedded(sign_embedded(b"m", key), other, "SHA256.sig")
    assert caught.value.message.startswith("SHA256.sig: signed by key number " + key.number.hex())


def test_a_forged_key_number_is_a_bad_signature(key: SignifySecretKey) -> None:
    forger = SignifySecretKey(key.comment, key.number, os.urandom(32))
    with pytest.raises(BadSignatureError):
        verify_embedded(sign_embedded(b"m", forger), key.public())


GOOD_LINE = RELEASE_66.splitlines()[1]
BAD_KEYS = [
    ("", TruncatedError, "empty or cut off"),
    ("untrusted comm", TruncatedError, "cut off in its first line"),
    ("untrusted comment: x", TruncatedError, "first line"),
    ("untrusted comment: x\n", TruncatedError, "second line"),
    (f"untrusted comment: x\n{GOOD_LINE}", TruncatedError, "no newline"),
    (f"trusted comment: x\n{GOOD_LINE}\n", MalformedKeyError, "untrusted comment"),
    (f"untrusted comment: {'x' * 1024}\n{GOOD_LINE}\n", MalformedKeyError, "longer than"),
    (f"untrusted comment: x\n{GOOD_LINE}\nmore\n", MalformedKeyError, "follows the second line"),
    (f"untrusted comment: x\n{GOOD_LINE}\r\n", MalformedKeyError, "not base64"),
    (f"untrusted comment: x\n {GOOD_LINE}\n", MalformedKeyError, "not base64"),
    (f"untrusted comment: x\n{GOOD_LINE[:-4]}\n", TruncatedError, "39 bytes where"),
    (f"untrusted comment: x\n{GOOD_LINE}AAAA\n", MalformedKeyError, "45 bytes where"),
    (f"untrusted comment: x\nRXS{GOOD_LINE[3:]}\n", MalformedKeyError, "not Ed25519"),
    (f"untrusted comment: x\n{'A' * 3000}\n", MalformedKeyError, "too long"),
    ("untrusted comment: \udcff\n" + GOOD_LINE + "\n", MalformedKeyError, "UTF-8"),
]


@pytest.mark.parametrize(("text", "error", "words"), BAD_KEYS)
def test_a_bad_key_file_says_what_is_wrong(
    text: str, error: type[ObsdimgError], words: str
) -> None:
    with pytest.raises(error) as caught:
        SignifyPublicKey.parse(text, "k.pub")
    assert words in caught.value.message
    assert caught.value.message.startswith("k.pub: ")


def test_base64_with_spare_bits_is_refused() -> None:
    blob = b"Ed" + bytes(72)
    line = base64.b64encode(blob).decode()
    assert line.endswith("A=")
    with pytest.raises(MalformedSignatureError, match="canonical"):
        Signature.parse(f"untrusted comment: x\n{line[:-2]}B=\n")


def test_a_key_file_asking_for_endless_rounds_is_refused(key: SignifySecretKey) -> None:
    blob = bytearray(base64.b64decode(key.text().splitlines()[1]))
    blob[4:8] = b"\xff\xff\xff\xff"
    with pytest.raises(MalformedKeyError, match="rounds"):
        SignifySecretKey.parse(f"untrusted comment: x\n{base64.b64encode(blob).decode()}\n", "p")


def test_a_damaged_unprotected_key_is_malformed_at_every_byte(key: SignifySecretKey) -> None:
    blob = base64.b64decode(key.text().splitlines()[1])
    for at in range(len(blob)):
        bad = bytearray(blob)
        bad[at] ^= 1
        text = f"untrusted comment: x\n{base64.b64encode(bad).decode()}\n"
        # Rounds, salt and key number of an unprotected key carry no check, in signify either.
        if 4 <= at < 8:
            with pytest.raises((PassphraseNeededError, MalformedKeyError)):
                SignifySecretKey.parse(text)
        elif 8 <= at < 24 or 32 <= at < 40:
            assert SignifySecretKey.parse(text).seed == key.seed
        else:
            with pytest.raises(MalformedKeyError):
                SignifySecretKey.parse(text)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400) | st.builds(lambda b: b"untrusted comment: " + b, st.binary()))
@example(b"untrusted comment: \n\n")
def test_no_input_causes_anything_but_an_explained_refusal(data: bytes) -> None:
    public = SignifyPublicKey.parse(RELEASE_66)
    for attempt in (
        lambda: SignifyPublicKey.parse(data),
        lambda: Signature.parse(data),
        lambda: SignifySecretKey.parse(data),
        lambda: verify_embedded(data, public),
    ):
        with pytest.raises(ObsdimgError):
            attempt()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_to_a_signed_file_verifies(data: st.DataObject) -> None:
    secret = SignifySecretKey("k", b"12345678", b"s" * 32)
    signed = sign_embedded(b"SHA256 (a) = b\n" * 3, secret)
    start = signed.index(b"\n") + 1  # the comment is untrusted: it may change
    at = data.draw(st.integers(start, len(signed) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    value = data.draw(st.integers(1, 255))
    if how == "flip":
        bad = signed[:at] + bytes([signed[at] ^ value]) + signed[at + 1 :]
    elif how == "cut":
        bad = signed[:at]
    elif how == "insert":
        bad = signed[:at] + bytes([value]) + signed[at:]
    else:
        bad = signed[:at] + signed[at + 1 :]
    if bad == signed:
        return
    try:
        verified = verify_embedded(bad, secret.public())
    except ObsdimgError:
        return
    assert verified.data == b"SHA256 (a) = b\n" * 3, how


# The genuine list


@pytest.mark.media
def test_the_genuine_list_of_7_6_verifies_and_no_changed_byte_of_it_does(media: Path) -> None:
    public = SignifyPublicKey.parse((media / "keys/openbsd-76-base.pub").read_bytes())
    data = (media / "SHA256-76-amd64.sig").read_bytes()
    assert verify_embedded(data, public).data.count(b"\n") == 25
    for at in range(data.index(b"\n") + 1, len(data)):
        with pytest.raises(ObsdimgError):
            verify_embedded(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], public)


@pytest.mark.media
def test_every_genuine_key_file_is_read_and_written_back(media: Path) -> None:
    files = sorted((media / "keys").glob("*.pub"))
    assert len(files) >= 20
    for path in files:
        assert SignifyPublicKey.parse(path.read_bytes()).text.encode() == path.read_bytes()


# The real signify


@needs_signify
@pytest.mark.parametrize("passphrase", [None, "tall lama", "Ünïcode ☃"])
def test_keys_and_signatures_of_signify_are_understood(
    tmp_path: Path, passphrase: str | None
) -> None:
    script = ["-G", "-c", "real", "-p", "k.pub", "-s", "k.sec"]
    if passphrase is None:
        script.insert(1, "-n")
    made = signify(*script, stdin=f"{passphrase}\n{passphrase}\n", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    secret = SignifySecretKey.parse((tmp_path / "k.sec").read_bytes(), passphrase)
    public = SignifyPublicKey.parse((tmp_path / "k.pub").read_bytes())
    assert secret.public() == public
    message = b"hello\n" * 1000
    (tmp_path / "m").write_bytes(message)
    for flags, target in (["-S"], "m.sig"), (["-S", "-e"], "m.esig"):
        made = signify(
            *flags, "-s", "k.sec", "-m", "m", "-x", target, stdin=f"{passphrase}\n", cwd=tmp_path
        )
        assert made.returncode == 0, made.stderr
    detached = Signature.parse((tmp_path / "m.sig").read_bytes())
    assert detached.comment == "verify with k.pub"
    assert verify_detached(message, detached, public).data == message
    assert verify_embedded((tmp_path / "m.esig").read_bytes(), public).data == message
    # Ed25519 is deterministic: the same key and message give the same file.
    assert (
        secret.sign(message, "verify with k.pub").text.encode() == (tmp_path / "m.sig").read_bytes()
    )


@needs_signify
@pytest.mark.parametrize("passphrase", [None, "tall lama"])
def test_signify_accepts_our_keys_and_signatures(tmp_path: Path, passphrase: str | None) -> None:
    secret = SignifySecretKey.generate("ours")
    (tmp_path / "k.pub").write_text(secret.public().text)
    (tmp_path / "k.sec").write_text(secret.text(passphrase))
    (tmp_path / "k.sec").chmod(0o600)
    (tmp_path / "m").write_bytes(b"message\n")
    (tmp_path / "m.sig").write_text(secret.sign(b"message\n").text)
    (tmp_path / "m.esig").write_bytes(sign_embedded(b"message\n", secret))
    assert signify("-Vp", "k.pub", "-m", "m", cwd=tmp_path).returncode == 0
    embedded = signify("-Vep", "k.pub", "-x", "m.esig", "-m", "out", cwd=tmp_path)
    assert embedded.returncode == 0, embedded.stderr
    assert (tmp_path / "out").read_bytes() == b"message\n"
    resigned = signify(
        "-S", "-s", "k.sec", "-m", "m", "-x", "r.sig", stdin=f"{passphrase}\n", cwd=tmp_path
    )
    assert resigned.returncode == 0, resigned.stderr
    verify_detached(
        b"message\n", Signature.parse((tmp_path / "r.sig").read_bytes()), secret.public()
    )


@needs_signify
def test_signify_and_we_agree_on_damaged_signatures(tmp_path: Path) -> None:
    secret = SignifySecretKey.generate("ours")
    (tmp_path / "k.pub").write_text(secret.public().text)
    good = sign_embedded(b"SHA256 (a) = b\n", secret)
    for at in range(good.index(b"\n") + 1, len(good), 3):
        bad = good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]
        (tmp_path / "bad").write_bytes(bad)
        theirs = signify("-Vep", "k.pub", "-x", "bad", "-m", "out", cwd=tmp_path)
        assert theirs.returncode != 0
        with pytest.raises(ObsdimgError):
            verify_embedded(bad, secret.public())
