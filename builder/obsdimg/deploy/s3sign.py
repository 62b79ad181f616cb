"""Signature version 4 of Amazon's services, for S3: headers of a request, and presigned URLs.

Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from obsdimg.deploy.credentials import S3Keys

LONGEST_EXPIRY = 7 * 24 * 3600
"""Seconds; signature version 4 allows no more."""
_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Signer:
    """Signs requests for one region of one store."""

    keys: S3Keys
    region: str

    def headers(
        self,
        method: str,
        url: str,
        query: Mapping[str, str],
        body_sha256: str = _EMPTY,
        moment: datetime.datetime | None = None,
    ) -> dict[str, str]:
        """The headers that authenticate a request whose body has this SHA-256 (hexadecimal).

        `url` is without a query; its path must be encoded already (see `encode_key`).
        """
        stamp = _stamp(moment)
        parts = urlsplit(url)
        headers = {"host": parts.netloc, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
        if self.keys.session:
            headers["x-amz-security-token"] = self.keys.session.reveal()
        signed = ";".join(sorted(headers))
        canonical = _canonical(method, parts.path, query, headers, signed, body_sha256)
        credential = f"{self.keys.access}/{self._scope(stamp)}"
        del headers["host"]
        return {
            **headers,
            "authorization": f"{_ALGORITHM} Credential={credential}, SignedHeaders={signed},"
            f" Signature={self._sign(stamp, canonical)}",
        }

    def presigned(self, url: str, seconds: int, moment: datetime.datetime | None = None) -> str:
        """`url` with a query that lets anybody GET it for `seconds` (LONGEST_EXPIRY at most)."""
        stamp = _stamp(moment)
        parts = urlsplit(url)
        query = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.keys.access}/{self._scope(stamp)}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if self.keys.session:
            query["X-Amz-Security-Token"] = self.keys.session.reveal()
        host = {"host": parts.netloc}
        canonical = _canonical("GET", parts.path, query, host, "host", "UNSIGNED-PAYLOAD")
        query["X-Amz-Signature"] = self._sign(stamp, canonical)
        return f"{url}?{query_string(query)}"

    def _scope(self, stamp: str) -> str:
        return f"{stamp[:8]}/{self.region}/s3/aws4_request"

    def _sign(self, stamp: str, canonical: str) -> str:
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join((_ALGORITHM, stamp, self._scope(stamp), digest))
        key = b"AWS4" + self.keys.secret.reveal().encode()
        for part in (stamp[:8], self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.new(key, text.encode(), "sha256").hexdigest()


def encode_key(key: str) -> str:
    """An object's key as it stands in a URL's path."""
    return quote(key, safe="/-._~")


def _canonical(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    signed: str,
    body_sha256: str,
) -> str:
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    return "\n".join((method, path or "/", query_string(query), lines, signed, body_sha256))


def query_string(values: Mapping[str, str]) -> str:
    """A query in the canonical order and encoding."""
    pairs = sorted((quote(k, safe="-._~"), quote(v, safe="-._~")) for k, v in values.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _stamp(moment: datetime.datetime | None) -> str:
    moment = moment or datetime.datetime.now(datetime.UTC)
    return moment.strftime("%Y%m%dT%H%M%SZ")
