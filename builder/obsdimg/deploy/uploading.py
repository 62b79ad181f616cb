"""The ISO's way to the provider: host it, have it fetched, compare checksums, clean up."""

from __future__ import annotations

from urllib.parse import urlsplit

from obsdimg.deploy.hosting import Hosting
from obsdimg.deploy.image import Image
from obsdimg.deploy.provider import DeployError, OverdueError, ProviderError, RemoteIso
from obsdimg.deploy.state import Thing
from obsdimg.deploy.work import Work


class Upload(Work):
    """Brings the ISO there."""

    def upload(self, image: Image, hosting: Hosting, keep_object: bool) -> None:
        """Bring the ISO to the provider and compare checksums; what is there is used."""
        state = self.state
        if state.iso_verified and state.iso.id is not None:
            if self.provider.iso(state.iso.id) is not None:
                self.say(f"the provider has the {state.medium}: {state.iso.id}")
                self._clean_object(hosting, keep_object)
                return
            self.say(f"the provider has lost the {state.medium}: once more")
            self._drop_iso()
        resumed = state.iso.lives
        with hosting.offer(image, state, self.save, self.progress) as url:
            self._ask_for_iso(url)
            if resumed and state.hosting == "serve":
                self._ask_anew(url)
            try:
                self._await_iso(image)
            except DeployError:
                if not state.iso.lives and not keep_object:
                    self._clean_object(hosting, keep_object)
                raise
        self._clean_object(hosting, keep_object)

    def _ask_for_iso(self, url: str) -> None:
        state = self.state
        if state.iso.id is None and not state.iso.asked:
            state.isos_before = [iso.id for iso in self.provider.isos()]
        last = urlsplit(url).path.rpartition("/")[2]

        def find() -> RemoteIso | None:
            return self.find_iso(last)

        self.make(state.iso, state.medium, find, lambda: self.provider.create_iso(url))

    def _ask_anew(self, url: str) -> None:
        """What an earlier run served broke off with it; the provider may not try again."""
        state = self.state
        assert state.iso.id is not None
        iso = self.provider.iso(state.iso.id)
        if iso is not None and iso.complete:
            return
        if iso is not None:
            try:
                self.provider.delete_iso(iso.id)
            except ProviderError:
                return  # not while it downloads: then it still does
        self.say("the download broke off with the last run: asked for once more")
        self._drop_iso()
        self._ask_for_iso(url)

    def _await_iso(self, image: Image) -> None:
        state = self.state
        assert state.iso.id is not None
        try:
            self._look_at_iso(image, state.iso.id)
        except OverdueError as error:
            self.provider.delete_iso(state.iso.id)
            self._drop_iso()
            raise OverdueError(
                f"{error.message}; it was removed there",
                "is the URL reachable from outside, without a login?  --upload-limit gives it time",
            ) from error

    def _look_at_iso(self, image: Image, key: str) -> None:
        for _ in self.looks(
            self.limits.download, f"the provider's download of the {self.state.medium}"
        ):
            iso = self.provider.iso(key)
            if iso is None:
                self._drop_iso()
                raise DeployError(
                    f"the provider dropped the {self.state.medium}: it could not fetch it",
                    "is the URL reachable from outside, without a login?  Run it again",
                )
            if iso.complete and iso.sha512 != "":
                self._verify_iso(iso, image)
                return
            if not iso.complete and iso.status != "pending":
                self.provider.delete_iso(iso.id)
                self._drop_iso()
                raise DeployError(
                    f"the provider could not fetch the {self.state.medium}: status {iso.status!r}",
                    "is the URL reachable from outside, without a login?  Run it again",
                )

    def _verify_iso(self, iso: RemoteIso, image: Image) -> None:
        told, medium = iso.sha512, self.state.medium
        same = told in (None, image.sha512)
        if not same or not self.provider.size_agrees(iso.size, image.size):
            self.provider.delete_iso(iso.id)
            self._drop_iso()
            what = (
                f"size {iso.size}, not {image.size}" if same
                else f"sha512 {(told or '')[:16]}…, not {image.sha512[:16]}…"
            )  # fmt: skip
            raise DeployError(
                f"the provider's copy is not our {medium} ({what}); it was removed there",
                "the transfer was damaged, or somebody changed it: check the host, try again",
            )
        self.state.iso_verified = True
        if told is None:
            self.did(f"the provider has the {medium} {iso.id}, of our size")
            self.say(f"{medium} {iso.id}: its size is ours; this provider tells no checksum of it")
            return
        self.did(f"the provider has the {medium} {iso.id}, sha512 {told[:16]}… as here")
        self.say(f"{medium} {iso.id}: size and sha512 are ours")

    def _drop_iso(self) -> None:
        self.state.iso, self.state.iso_verified, self.state.isos_before = Thing(), False, []
        self.save()

    def _clean_object(self, hosting: Hosting, keep: bool) -> None:
        if self.state.object.lives and not keep:
            hosting.clean(self.state)
            self.state.object.gone = True
            self.did(f"removed from {self.state.host_url}")
