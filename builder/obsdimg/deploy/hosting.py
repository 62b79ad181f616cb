"""Where the provider fetches the ISO from: a URL, an object store, or this machine.

Each is a context manager that gives the URL for as long as the provider may need it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from obsdimg.core.progress import Progress
from obsdimg.deploy.image import Image
from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.s3 import Bucket
from obsdimg.deploy.serve import FileServer
from obsdimg.deploy.state import State

Save = Callable[[], None]


class Hosting(Protocol):
    """A way to make the ISO reachable."""

    def offer(
        self, image: Image, state: State, save: Save, progress: Progress
    ) -> contextlib.AbstractContextManager[str]:
        """The URL.  What it leaves behind is in `state` (saved) before it is made."""
        ...

    def clean(self, state: State) -> None:
        """Remove what `offer` left; nothing there is as good."""
        ...


@dataclass(frozen=True)
class Hosted:
    """`--url`: somebody else hosts it."""

    url: str | None
    """None: nothing should be left to host."""

    @contextlib.contextmanager
    def offer(self, image: Image, state: State, save: Save, progress: Progress) -> Iterator[str]:
        if self.url is None:
            raise DeployError(
                "the provider has lost the ISO, and nothing says where it can be fetched again",
                "give --url URL or --serve HOST:PORT, or configure [deploy.s3]",
            )
        parts = urlsplit(self.url)
        if parts.username or parts.password:
            raise DeployError(
                "--url: it holds a password, which the provider would get to see",
                "host the ISO where no login is needed: it holds no secret in clear",
            )
        self._look(self.url, image, progress)
        state.hosting, state.host_url = "url", self.url.partition("?")[0]
        save()
        yield self.url

    def _look(self, url: str, image: Image, progress: Progress) -> None:
        """Compare the size with ours where the host says it; the checksum comes later."""
        try:
            answer = httpx.head(url, follow_redirects=True, timeout=15)
        except httpx.HTTPError:
            progress.note("the URL does not answer from here; the provider may still reach it")
            return
        length = answer.headers.get("content-length", "")
        if answer.is_success and length.isdigit() and int(length) != image.size:
            raise DeployError(
                f"--url: what is there has {length} bytes, {image.path.name} has {image.size}",
                "host the file that obsdimg built, unchanged",
            )

    def clean(self, state: State) -> None:
        return


@dataclass(frozen=True)
class InBucket:
    """An object store; the URL is presigned and expires after `seconds`."""

    open: Callable[[], Bucket]
    where: str
    """The store's address and bucket, for people."""
    prefix: str
    seconds: int

    @contextlib.contextmanager
    def offer(self, image: Image, state: State, save: Save, progress: Progress) -> Iterator[str]:
        if state.hosting == "s3" and state.host_url != self.where and state.object.lives:
            raise DeployError(
                f"this upload was begun in {state.host_url}, not in {self.where}",
                "go on there, or begin anew after `obsdimg deploy destroy`",
            )
        state.hosting, state.host_url = "s3", self.where
        if not state.object.lives:
            state.object.id = f"{self.prefix}{state.file_name}"
            state.object.gone = False
        state.object.asked = True
        save()
        key = state.object.id
        assert key is not None
        with self.open() as bucket:
            bucket.upload(image.path, key, image.size, progress)
            yield bucket.url(key, self.seconds)

    def clean(self, state: State) -> None:
        if state.object.lives and state.object.id is not None:
            with self.open() as bucket:
                bucket.remove(state.object.id)


@dataclass(frozen=True)
class FromHere:
    """`--serve`: this machine, for as long as the provider downloads."""

    public: tuple[str, int]
    """Host and port as the provider reaches them."""
    listen: tuple[str, int]

    @contextlib.contextmanager
    def offer(self, image: Image, state: State, save: Save, progress: Progress) -> Iterator[str]:
        host, port = self.public
        if state.host_path is None:
            state.host_path = secrets.token_urlsafe(24)
        name = f"[{host}]" if ":" in host else host
        state.hosting, state.host_url = "serve", f"http://{name}:{port}"
        save()
        with (
            progress.step(f"The provider fetches it from {name}:{port}", image.size) as step,
            FileServer(image.path, state.host_path, state.file_name, self.listen, step.advance),
        ):
            yield f"{state.host_url}/{state.host_path}/{state.file_name}"

    def clean(self, state: State) -> None:
        return


@dataclass(frozen=True)
class Direct:
    """The provider's tools take the file from this host: nothing is hosted."""

    @contextlib.contextmanager
    def offer(self, image: Image, state: State, save: Save, progress: Progress) -> Iterator[str]:
        state.hosting, state.host_url = "direct", None
        save()
        yield f"{image.path.resolve().as_uri()}#{state.file_name}"

    def clean(self, state: State) -> None:
        return
