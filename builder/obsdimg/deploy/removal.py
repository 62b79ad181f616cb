"""Taking away what a deployment made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from obsdimg.deploy.hosting import Hosting
from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.state import Thing
from obsdimg.deploy.work import Made, Work

_DETACH = 60.0
"""Seconds in which the ISO should be out of an instance that is to be deleted."""


class Removal(Work):
    """Removes instance, ISO, firewall group, private network, object and state file."""

    def destroy(self, hosting: Hosting | None) -> None:
        """Remove everything that this deployment made, found by its marks where need be."""
        state, provider = self.state, self.provider
        state.removing = True
        self.save()
        self._remove(state.instance, "instance", self.find_instance, self._delete_instance)
        # Also where it was refused: a part of it may have been made before.
        if state.mark:
            self.delete(lambda: provider.delete_rest(state.mark), "what an instance left")
        last = (state.host_url or "").rpartition("/")[2] if state.hosting == "url" else ""
        self._remove(state.iso, state.medium, lambda: self.find_iso(last), provider.delete_iso)
        self._remove(
            state.firewall, "firewall group",
            lambda: self.find_named(provider.firewalls()), provider.delete_firewall,
        )  # fmt: skip
        self._remove(
            state.network, "private network",
            lambda: self.find_named(provider.networks()), provider.delete_network,
        )  # fmt: skip
        if state.object.lives:
            if hosting is None:
                raise DeployError(
                    f"the object {state.object.id} in {state.host_url} is left",
                    "configure deploy.s3 and its keys again, or remove it by hand",
                )
            hosting.clean(state)
            state.object.gone = True
            self.save()
        self.store.forget(state.name)

    def _delete_instance(self, key: str) -> None:
        """The ISO comes out first, as the provider's own Terraform and Packer plugins do it."""
        provider = self.provider
        if provider.instance(key) is None:
            return
        with contextlib.suppress(DeployError):  # an instance that hangs is deleted all the same
            if provider.attached_iso(key) is not None:
                provider.detach_iso(key)
            for _ in self.looks(min(_DETACH, self.limits.release), "the ISO to be detached"):
                if provider.attached_iso(key) is None:
                    break
        provider.delete_instance(key)

    def _remove(
        self,
        thing: Thing,
        what: str,
        find: Callable[[], Made | None],
        remove: Callable[[str], None],
    ) -> None:
        if not thing.lives:
            return
        if thing.id is None and (found := self.settled(find)) is not None:
            thing.id = found.id
            self.save()
        if thing.id is not None:
            key = thing.id
            self.delete(lambda: remove(key), f"the {what}")
            self.say(f"removed {what} {key}")
        thing.gone = True
        self.did(f"the {what} is removed")
