"""One HTTP request, and what its failures mean: again, the next mirror, or never.

Everything that a mirror can do wrong becomes a RequestError with words for the user.  Proxies
and SSL_CERT_FILE are honoured by the usual variables (httpx).
"""

from __future__ import annotations

# httpx takes a tenth of a second to import, which a build from the cache need not wait for.
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obsdimg import __version__
from obsdimg.core.retries import Pace, certificate_fault, retry_after
from obsdimg.core.slow_headers import HeaderLimit

if TYPE_CHECKING:
    import httpx

GONE = (404, 410)
_BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Timeouts(Pace):
    """How long and how often: seconds, bytes, bytes a second."""

    read: float = 30.0
    """Seconds without a byte after which a connection is given up."""
    tries: int = 4
    """Tries of one URL without any progress."""
    all_tries: int = 200
    """Tries of one URL in all, progress or not."""
    slowest: float = 2048.0
    """Bytes a second, averaged over `patience`, below which a mirror is given up."""
    patience: float = 60.0
    largest: int = 8 << 30
    """Bytes: a larger file is refused."""
    headers: float = 60.0
    redirects: int = 5


class RequestError(Exception):
    """One try failed.  `again`: the same URL is worth another; `gone`: it has no such file;
    `wait`: seconds that the server asked for; `unreachable`: nobody answers at that host."""

    def __init__(
        self,
        reason: str,
        *,
        again: bool,
        gone: bool = False,
        wait: float = 0.0,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.again, self.gone, self.wait = reason, again, gone, wait
        self.unreachable = unreachable


def client(limits: Timeouts) -> httpx.Client:
    """A client that follows redirects and never asks for a compressed answer."""
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(limits.read, connect=limits.connect),
        follow_redirects=True,
        max_redirects=limits.redirects,
        headers={"User-Agent": f"obsdimg/{__version__}", "Accept-Encoding": "identity"},
        event_hooks={"request": [HeaderLimit(limits.headers).guard]},
    )


@contextmanager
def get(
    session: httpx.Client, url: str, headers: dict[str, str], accept: tuple[int, ...]
) -> Iterator[httpx.Response]:
    """The answer to a GET, its body still to be read, if its status is one of `accept`.

    Raises RequestError, also for what goes wrong while the caller reads the body.
    """
    import httpx

    try:
        with session.stream("GET", url, headers=headers) as response:
            if url.lower().startswith("https:") and response.url.scheme != "https":
                raise RequestError("redirects from https to plain http", again=False)
            if response.status_code not in accept:
                raise _refused(response)
            yield response
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
        raise _failed(error) from error


def shown(url: str) -> str:
    """`url` without user and password."""
    scheme, colon, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{colon}{authority.rpartition('@')[2]}{slash}{path}"


def host(url: str) -> str:
    """The host of `url`, or all of it where it is not a URL."""
    return shown(url).partition("://")[2].partition("/")[0] or shown(url)


def length(response: httpx.Response) -> int | None:
    """Content-Length in bytes, if the server says it."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def validator(response: httpx.Response) -> str:
    """What If-Range may hold: a strong ETag, else Last-Modified, else nothing."""
    etag: str = response.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    modified: str = response.headers.get("last-modified", "")
    return modified


def _refused(response: httpx.Response) -> RequestError:
    code = response.status_code
    reason = f"{code} {response.reason_phrase}".strip().lower()
    return RequestError(
        reason,
        again=code in _BUSY,
        gone=code in GONE,
        wait=retry_after(response.headers.get("retry-after", "")) or 0.0,
    )


def _failed(error: Exception) -> RequestError:
    import httpx

    if (why := certificate_fault(error)) is not None:
        return RequestError(f"its certificate does not verify ({why})", again=False)
    match error:
        case httpx.ConnectTimeout():
            return RequestError("no connection in time", again=True, unreachable=True)
        case httpx.TimeoutException():
            return RequestError("no answer in time", again=True)
        case httpx.TooManyRedirects():
            return RequestError("redirects without end", again=False)
        case httpx.UnsupportedProtocol() | httpx.InvalidURL() | UnicodeError():
            return RequestError("not a URL for http or https", again=False)
        case httpx.RemoteProtocolError():
            words = str(error).lower()
            if "disconnected" in words or "closed" in words:
                return RequestError("the connection was cut", again=True)
            return RequestError("its answer is not proper HTTP", again=True)
        case httpx.ConnectError():
            refused = "refused" in str(error).lower()
            why = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
            words = "connection refused" if refused else f"no connection: {why}"
            return RequestError(words.lower(), again=not refused, unreachable=True)
    return RequestError(f"the connection broke: {error or type(error).__name__}", again=True)
