"""The object store's protocol: signatures judged by botocore, requests by moto's server."""

from __future__ import annotations

import datetime
import hashlib
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from obsdimg.core.retries import Pace
from obsdimg.core.secret import Secret
from obsdimg.deploy import s3
from obsdimg.deploy.credentials import S3Keys
from obsdimg.deploy.s3 import Bucket, StoreError
from obsdimg.deploy.s3sign import Signer, encode_key, query_string
from support.deploy_bench import S3Store, free_port

QUICK = Pace(connect=1, read=2, tries=2, first_wait=0.01, longest_wait=0.02)
MOMENT = datetime.datetime(2026, 11, 22, 16, 0, 5, tzinfo=datetime.UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

keys_text = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="?#"), min_size=1
).filter(lambda t: not {".", ".."} & set(t.split("/")))


def signer(session: bool = False) -> Signer:
    token = Secret("session/token+with=signs") if session else None
    return Signer(S3Keys("AKIDEXAMPLE", Secret(SECRET), token), "eu-test-1")


def botocore_keys(session: bool) -> Credentials:
    return Credentials("AKIDEXAMPLE", SECRET, "session/token+with=signs" if session else None)


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore asks `get_current_datetime` for the time."""
    import botocore.auth

    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *a, **k: MOMENT.replace(tzinfo=None)
    )


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", {"partNumber": "3", "uploadId": "a+b/c=d~e f"}),
        ("POST", {"uploads": ""}),
        ("GET", {"uploads": "", "prefix": "obsdimg/x y.iso"}),
        ("DELETE", {}),
    ],
)
def test_headers_are_signed_as_botocore_signs_them(
    session: bool, method: str, query: dict[str, str]
) -> None:
    url = "http://127.0.0.1:9000/my-isos/" + encode_key("obsdimg/wörk & more=1.iso")
    body = b"some bytes"
    digest = hashlib.sha256(body).hexdigest()
    ours = signer(session).headers(method, url, query, digest, MOMENT)
    target = f"{url}?{query_string(query)}" if query else url
    request = AWSRequest(method, target, data=body)
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(botocore_keys(session), "s3", "eu-test-1").add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]


@given(key=keys_text, seconds=st.integers(1, s3.LONGEST_EXPIRY))
def test_presigned_urls_are_those_of_botocore(key: str, seconds: int) -> None:
    url = "https://store.example/my-isos/" + encode_key(key)
    ours = signer().presigned(url, seconds, MOMENT)
    request = AWSRequest("GET", url)
    S3SigV4QueryAuth(botocore_keys(False), "s3", "eu-test-1", expires=seconds).add_auth(request)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(request.url).query)


def open_bucket(store: S3Store, name: str | None = None) -> Bucket:
    keys = S3Keys(store.access, Secret(store.secret))
    return Bucket(store.endpoint, "eu-test-1", name or store.bucket, keys, QUICK)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """The protocol's smallest part, so that a small file has several."""
    size = 5 << 20
    monkeypatch.setattr(s3, "PART_SIZE", size)
    return size


def test_a_file_of_several_parts_arrives_and_anybody_may_fetch_it(
    store: S3Store, tmp_path: Path, small_parts: int
) -> None:
    data = os.urandom(2 * small_parts + 12345)
    path = tmp_path / "some.iso"
    path.write_bytes(data)
    with open_bucket(store) as bucket:
        bucket.upload(path, "obsdimg/some.iso", len(data))
        url = bucket.url("obsdimg/some.iso", 600)
        assert httpx.get(url).content == data
        part = httpx.get(url, headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, data[5:10])
        assert store.uploads() == []
        bucket.remove("obsdimg/some.iso")
        bucket.remove("obsdimg/some.iso")
    assert store.keys() == []


def test_an_upload_that_broke_off_goes_on_with_the_parts_that_are_there(
    store: S3Store, tmp_path: Path, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3 * small_parts)
    path = tmp_path / "some.iso"
    path.write_bytes(data)
    sent: list[int] = []
    genuine = Bucket._send

    def count(self: Bucket, key: str, upload: str, number: int, *rest: bytes) -> str:
        if len(sent) == 2:
            sent.append(0)
            raise KeyboardInterrupt
        sent.append(number)
        return genuine(self, key, upload, number, *rest)

    monkeypatch.setattr(Bucket, "_send", count)
    with open_bucket(store) as bucket, pytest.raises(KeyboardInterrupt):
        bucket.upload(path, "k.iso", len(data))
    assert store.uploads() == ["k.iso"]
    with open_bucket(store) as bucket:
        bucket.upload(path, "k.iso", len(data))
        assert sent == [1, 2, 0, 3]
        assert httpx.get(bucket.url("k.iso", 60)).content == data
        bucket.upload(path, "k.iso", len(data))  # there already: nothing is sent
        assert sent == [1, 2, 0, 3]
        bucket.remove("k.iso")
    assert (store.keys(), store.uploads()) == ([], [])


def test_parts_of_another_file_are_sent_anew(
    store: S3Store, tmp_path: Path, small_parts: int
) -> None:
    data = os.urandom(small_parts + 5)
    upload = store.client.create_multipart_upload(Bucket=store.bucket, Key="k.iso")["UploadId"]
    store.client.upload_part(
        Bucket=store.bucket, Key="k.iso", UploadId=upload, PartNumber=1,
        Body=os.urandom(small_parts),
    )  # fmt: skip
    path = tmp_path / "k.iso"
    path.write_bytes(data)
    with open_bucket(store) as bucket:
        bucket.upload(path, "k.iso", len(data))
        assert httpx.get(bucket.url("k.iso", 60)).content == data
        bucket.remove("k.iso")


def test_removing_drops_unfinished_uploads_of_this_key_only(store: S3Store) -> None:
    for key in ("a.iso", "a.iso", "a.iso2"):
        store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
    with open_bucket(store) as bucket:
        bucket.remove("a.iso")
        assert store.uploads() == ["a.iso2"]
        bucket.remove("a.iso2")


def test_a_missing_bucket_is_named_with_what_to_do(store: S3Store, tmp_path: Path) -> None:
    path = tmp_path / "k.iso"
    path.write_bytes(b"x")
    with open_bucket(store, "no-such") as bucket, pytest.raises(StoreError) as caught:
        bucket.upload(path, "k.iso", 1)
    assert "NoSuchBucket" in caught.value.message
    assert "deploy.s3.bucket" in str(caught.value.hint)


def test_a_store_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    keys = S3Keys("A", Secret("b"))
    with (
        Bucket(f"http://127.0.0.1:{free_port()}", "r", "b", keys, QUICK) as bucket,
        pytest.raises(StoreError, match="cannot be reached"),
    ):
        bucket.size("k")
