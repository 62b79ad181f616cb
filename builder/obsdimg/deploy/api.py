"""Requests to a JSON API with a bearer token: time-outs, retries, and errors as one sentence.

What may be asked twice is asked again after a pause; what creates something is not, once its
request has left: then UncertainError says that one has to look first.  The token is sent to one
host only (no redirect is followed), over https (or to this machine), and shown nowhere.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from obsdimg import __version__
from obsdimg.core.documents import from_json
from obsdimg.core.lifetime import Closing
from obsdimg.core.retries import AgainError, Pace, certificate_fault, patiently, retry_after
from obsdimg.core.secret import Secret
from obsdimg.core.slow_headers import HeaderLimit
from obsdimg.deploy.bounds import bound
from obsdimg.deploy.provider import MissingError, ProviderError, TokenError, UncertainError

LARGEST_ANSWER = 4 << 20
"""Bytes."""
_WORDS = 200
"""Characters of the provider's own words that an error repeats."""


class Api(Closing):
    """One API at `base` (without a slash at its end); use it with `with`."""

    def __init__(
        self,
        name: str,
        base: str,
        token: Secret,
        pace: Pace | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ProviderError where `base` would send the token in clear."""
        parts = urlsplit(base)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.netloc)):
            raise ProviderError(
                f"{base}: the token would be sent in clear",
                "the API's address begins with https://",
            )
        self.name, self.base, self.pace = name, base.rstrip("/"), pace or Pace()
        self._host = parts.netloc
        self._token, self._sleep = token, sleep
        self._client = httpx.Client(
            timeout=httpx.Timeout(self.pace.read, connect=self.pace.connect),
            follow_redirects=False,
            headers={
                "User-Agent": f"obsdimg/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            event_hooks={
                "request": [HeaderLimit(self.pace.headers).guard],
                "response": [bound(LARGEST_ANSWER + (1 << 20), self.pace.whole)],
            },
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object at `path`.  Raises ProviderError; MissingError: there is none."""
        return self._patiently("GET", path, params, None, repeatable=True)

    def post(self, path: str, body: Mapping[str, Any], *, repeatable: bool) -> dict[str, Any]:
        """`repeatable`: asking twice does no harm.  Else raises UncertainError for lost answers."""
        return self._patiently("POST", path, None, body, repeatable=repeatable)

    def delete(self, path: str) -> None:
        """Delete what is at `path`; nothing there is as good."""
        try:
            self._patiently("DELETE", path, None, None, repeatable=True)
        except MissingError:
            return

    def _patiently(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        *,
        repeatable: bool,
    ) -> dict[str, Any]:
        return patiently(
            lambda: self._once(method, path, params, body, repeatable=repeatable),
            self.pace,
            self._sleep,
        )

    def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        *,
        repeatable: bool,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        try:
            with self._client.stream(
                method, f"{self.base}{path}", params=params, json=body, headers=headers
            ) as response:
                data = bytearray()
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > LARGEST_ANSWER:
                        raise ProviderError(f"{self.name}: an answer without end ({path})")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if (why := certificate_fault(error)) is not None:
                raise ProviderError(
                    f"{self._host}: its certificate does not verify: {why}",
                    "something stands between you and the provider; the token was not sent",
                ) from error
            reason = "no connection" if "refused" not in str(error).lower() else "refused"
            raise AgainError(
                ProviderError(
                    f"{self._host}: cannot be reached: {reason}",
                    "check this machine's network; then run the same command again",
                )
            ) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            slow = isinstance(error, httpx.TimeoutException)
            reason = f"no answer within {self.pace.read:g} s" if slow else "the connection broke"
            raise self._lost(f"{self._host}: {reason} ({method} {path})", repeatable) from error
        return self._judge(response, bytes(data), f"{method} {path}", repeatable=repeatable)

    def _lost(self, message: str, repeatable: bool) -> Exception:
        hint = "run the same command again: it goes on where it stopped"
        if repeatable:
            return AgainError(ProviderError(message, hint))
        return UncertainError(message, hint)

    def _judge(
        self, response: httpx.Response, data: bytes, what: str, *, repeatable: bool
    ) -> dict[str, Any]:
        code = response.status_code
        try:
            value = from_json(data) if data.strip() else {}
        except ValueError:
            value = None
        if 200 <= code < 300:
            if isinstance(value, dict):
                return value
            raise self._lost(f"{self.name}: the answer to {what} is no JSON object", repeatable)
        words = self._words(value)
        if code == 429:
            raise self._limited(response)
        if code >= 500:
            raise self._lost(f"{self.name}: failed with {code} at {what}{words}", repeatable)
        raise self._refused(code, what, words)

    def _limited(self, response: httpx.Response) -> Exception:
        wait = retry_after(response.headers.get("retry-after", ""))
        error = ProviderError(
            f"{self.name}: too many requests", "wait a few minutes, then run the same command again"
        )
        if wait is not None and wait > self.pace.longest_asked:
            return ProviderError(f"{error.message}: it asks to wait {wait:.0f} s", error.hint)
        return AgainError(error, wait)

    def _refused(self, code: int, what: str, words: str) -> ProviderError:
        if code in (401, 403) and re.search(r"\bip\b", words, re.IGNORECASE):
            return TokenError(
                f"{self.name}: the token may not be used from this machine's address{words}",
                "allow the address in the account's API settings (access control), or run this"
                " where it is allowed",
            )
        if code == 401:
            return TokenError(
                f"{self.name}: the token is not accepted{words}",
                "make one in the account's API settings, and allow this machine's address there",
            )
        if code == 403:
            return ProviderError(
                f"{self.name}: not allowed{words} ({what})",
                "the token's user needs the right for it, or a limit of the account is reached",
            )
        if code == 404:
            return MissingError(f"{self.name}: there is no such thing{words} ({what})")
        if 300 <= code < 400:
            return ProviderError(
                f"{self.name}: redirects ({code}) at {what}, which is not followed",
                "is the API's address right?",
            )
        limits = any(word in words.lower() for word in ("limit", "maximum", "quota", "exceed"))
        return ProviderError(
            f"{self.name}: refused ({code}){words} ({what})",
            "a limit of the account is reached: remove something, or ask them to raise it"
            if limits
            else None,
        )

    def _words(self, value: object) -> str:
        """`: TEXT` from the answer's `error`, on one line, without the token; or nothing."""
        text = value.get("error") if isinstance(value, dict) else None
        if not isinstance(text, str):
            return ""
        text = text.replace(self._token.reveal(), "[token]")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return f": {text[:_WORDS]}" if text else ""


def _is_loopback(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
