"""A bucket of an S3-compatible store: multipart upload that resumes, listing, deletion.

Amazon S3 API Reference: CreateMultipartUpload, UploadPart, ListParts, ListMultipartUploads,
CompleteMultipartUpload, AbortMultipartUpload, HeadObject, DeleteObject.  Written on httpx rather
than boto3, which brings 15 MB of service descriptions for these eight requests; botocore judges
the signatures (s3sign.py) in tests/deploy.  Paths hold the bucket (`https://HOST/BUCKET/KEY`),
which every compatible store understands, Vultr's (Ceph) among them.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import httpx

from obsdimg import __version__
from obsdimg.core.lifetime import Closing
from obsdimg.core.progress import Progress
from obsdimg.core.retries import AgainError, Pace, patiently
from obsdimg.core.slow_headers import HeaderLimit
from obsdimg.deploy.bounds import bound
from obsdimg.deploy.credentials import S3Keys
from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.s3sign import LONGEST_EXPIRY, Signer, encode_key, query_string

PART_SIZE = 16 << 20
"""Bytes of every part but the last (the protocol's smallest: 5 MiB; at most 10,000 parts)."""

LARGEST_ANSWER = 8 << 20
"""Bytes; a list of ten thousand parts has about three million."""
ANSWER_SECONDS = 120.0
MOST_TAGS = 200_000
"""In an answer; each takes some hundred bytes of memory."""
_PIECE = 256 << 10
_AGAIN = (408, 429, 500, 502, 503, 504)
_HINTS = {
    "AccessDenied": "the key needs the right to read, write and delete objects in this bucket",
    "InvalidAccessKeyId": "is the access key of this store, and of this region?",
    "SignatureDoesNotMatch": "is the secret key right, and deploy.s3.region?",
    "NoSuchBucket": "make the bucket first, or correct deploy.s3.bucket",
    "RequestTimeTooSkewed": "set this machine's clock",
    "QuotaExceeded": "free some space in the store, or ask for more",
    "EntityTooLarge": "the store takes no file of this size",
}


class StoreError(DeployError):
    """The object store refused, failed, or could not be reached; `code` is its own word."""

    def __init__(self, message: str, hint: str | None = None, code: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


@dataclass(frozen=True)
class Part:
    """A part that the store has: number (from 1), bytes, and its ETag (usually the MD5)."""

    number: int
    size: int
    etag: str


class Bucket(Closing):
    """One bucket; use it with `with`.  Every request is repeatable or finds out what became."""

    def __init__(
        self,
        endpoint: str,
        region: str,
        bucket: str,
        keys: S3Keys,
        pace: Pace | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # httpx leaves a default port out of the Host header, which is signed.
        endpoint = str(httpx.URL(endpoint)).rstrip("/")
        self._base = f"{endpoint}/{bucket}"
        self._signer = Signer(keys, region)
        self._pace, self._sleep = pace or Pace(), sleep
        self._host = urlsplit(endpoint).netloc
        self._client = httpx.Client(
            timeout=httpx.Timeout(self._pace.read, connect=self._pace.connect),
            follow_redirects=False,
            headers={"User-Agent": f"obsdimg/{__version__}", "Accept-Encoding": "identity"},
            event_hooks={
                "request": [HeaderLimit(self._pace.headers).guard],
                "response": [bound(LARGEST_ANSWER, ANSWER_SECONDS)],
            },
        )

    def close(self) -> None:
        self._client.close()

    def upload(self, path: Path, key: str, size: int, progress: Progress | None = None) -> None:
        """Make the object `key` from the `size` bytes of the file `path`; what an earlier run
        sent of it is not sent again.  Raises StoreError."""
        if self.size(key) == size:
            return
        upload = self._resumable(key) or self._start(key)
        there = {part.number: part for part in self._parts(key, upload)}
        etags: list[str] = []
        title = f"Sending {path.name} to {self._host}"
        with path.open("rb") as stream, (progress or Progress()).step(title, total=size) as step:
            for number, offset in enumerate(range(0, size, PART_SIZE), start=1):
                data = stream.read(min(PART_SIZE, size - offset))
                md5 = hashlib.md5(data, usedforsecurity=False).digest()
                part = there.get(number)
                if part is None or part.size != len(data) or part.etag != md5.hex():
                    etags.append(self._send(key, upload, number, data, md5))
                else:
                    etags.append(part.etag)
                step.advance(len(data))
        self._complete(key, upload, etags)
        if (found := self.size(key)) != size:
            raise StoreError(f"{self._host}: the object has {found} bytes, not {size}")

    def url(self, key: str, seconds: int) -> str:
        """A URL from which anybody may GET the object for `seconds`."""
        return self._signer.presigned(self._url(key), min(seconds, LONGEST_EXPIRY))

    def size(self, key: str) -> int | None:
        """Bytes of the object; None: there is none."""
        answer = self._ask("HEAD", key, {}, missing=True)
        return None if answer.status_code == 404 else int(answer.headers["content-length"])

    def remove(self, key: str) -> None:
        """Delete the object and every unfinished upload of it.  Nothing there is as good."""
        for upload in self._uploads(key):
            self._ask("DELETE", key, {"uploadId": upload}, missing=True)
        self._ask("DELETE", key, {}, missing=True)

    def _start(self, key: str) -> str:
        answer = self._ask("POST", key, {"uploads": ""})
        return _text(_xml(answer), "UploadId")

    def _resumable(self, key: str) -> str | None:
        """The one unfinished upload; of several (a killed run's) all but the last are dropped."""
        uploads = self._uploads(key)
        for extra in uploads[:-1]:
            self._ask("DELETE", key, {"uploadId": extra}, missing=True)
        return uploads[-1] if uploads else None

    def _uploads(self, key: str) -> list[str]:
        root = _xml(self._ask("GET", "", {"uploads": "", "prefix": key}))
        return [_text(u, "UploadId") for u in root.iter("Upload") if _text(u, "Key") == key]

    def _parts(self, key: str, upload: str) -> list[Part]:
        parts: list[Part] = []
        marker = "0"
        while True:
            query = {"uploadId": upload, "part-number-marker": marker}
            root = _xml(self._ask("GET", key, query))
            parts += [
                Part(int(_text(p, "PartNumber")), int(_text(p, "Size")), _etag(_text(p, "ETag")))
                for p in root.iter("Part")
            ]
            following = root.findtext("NextPartNumberMarker") or ""
            if root.findtext("IsTruncated") != "true" or following in ("", marker):
                return parts
            marker = following

    def _send(self, key: str, upload: str, number: int, data: bytes, md5: bytes) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        headers = {"content-md5": base64.b64encode(md5).decode()}
        answer = self._ask("PUT", key, query, data, headers)
        return _etag(answer.headers.get("etag", ""))

    def _complete(self, key: str, upload: str, etags: list[str]) -> None:
        lines = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>"
            for number, etag in enumerate(etags, start=1)
        )
        body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
        try:
            answer = self._ask("POST", key, {"uploadId": upload}, body)
        except StoreError as error:
            # An answer that was lost: the upload is gone because it is complete.
            if error.code == "NoSuchUpload" and self.size(key) is not None:
                return
            raise
        if b"<Error>" in answer.content:  # 200, and an error after all: CompleteMultipartUpload
            raise self._refused(answer)

    def _url(self, key: str) -> str:
        return f"{self._base}/{encode_key(key)}" if key else self._base

    def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        missing: bool = False,
    ) -> httpx.Response:
        """The answer, after retries.  Raises StoreError; with `missing`, 404 is an answer."""

        def attempt() -> httpx.Response:
            try:
                answer = self._once(method, key, query, body, headers or {})
            except httpx.HTTPError as error:
                hint = "run the same command again: it goes on"
                raise AgainError(StoreError(f"{self._host}: {_why(error)}", hint)) from error
            if answer.is_success or (missing and answer.status_code == 404):
                return answer
            refused = self._refused(answer)
            raise AgainError(refused) if answer.status_code in _AGAIN else refused

        return patiently(attempt, self._pace, self._sleep)

    def _once(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        url = self._url(key)
        digest = hashlib.sha256(body).hexdigest()
        signed = self._signer.headers(method, url, query, digest)
        target = f"{url}?{query_string(query)}" if query else url
        length = {"content-length": str(len(body))}
        return self._client.request(
            method,
            target,
            content=_pieces(body) if body else None,
            headers={**signed, **headers, **(length if body else {})},
        )

    def _refused(self, answer: httpx.Response) -> StoreError:
        found = re.search(rb"<Code>([A-Za-z]{1,60})</Code>", answer.content[:65536])
        code = found[1].decode() if found else ""
        if not code and answer.status_code in (301, 307):
            code = "PermanentRedirect"
        words = f"refused with {answer.status_code}" + (f" ({code})" if code else "")
        hint = _HINTS.get(code) or (
            "is deploy.s3.region the bucket's region?" if 300 <= answer.status_code < 400 else None
        )
        return StoreError(f"{self._host}: {words}", hint, code)


def _pieces(body: bytes) -> Iterator[bytes]:
    """`body` in pieces; given whole, httpx copies it about eight times on its way out."""
    for at in range(0, len(body), _PIECE):
        yield body[at : at + _PIECE]


def _xml(answer: httpx.Response) -> ElementTree.Element:
    """An answer's XML without its namespace.  Raises StoreError."""
    data = answer.content
    try:
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise ElementTree.ParseError("a document type")
        if data.count(b"<") > MOST_TAGS:
            raise ElementTree.ParseError("too many elements")
        root = ElementTree.fromstring(data)  # noqa: S314 - no entities can be declared in it
    except ElementTree.ParseError as error:
        raise StoreError(
            f"{answer.url.host}: an answer that is no S3 protocol",
            "is deploy.s3.endpoint the store's address?",
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(name)
    if text is None:
        raise StoreError(f"the object store's answer has no {name}")
    return text


def _etag(text: str) -> str:
    return text.strip('"').lower()


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "cannot be reached"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return "the connection broke"
