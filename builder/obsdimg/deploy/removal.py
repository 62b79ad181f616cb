"""Taking away what a deployment made."""

from __future__ import annotations

from collections.abc import Callable

from obsdimg.deploy.hosting import Hosting
from obsdimg.deploy.provider import DeployError
from obsdimg.deploy.state import Thing
from obsdimg.deploy.work import Made, Work


class Removal(Work):
    """Removes instance, ISO, firewall group, private network, object and state file."""

    def destroy(self, hosting: Hosting | None) -> None:
        """Remove everything that this deployment made, found by its marks where need be."""
        state, provider = self.state, self.provider
        state.removing = True
        self.save()
        self._remove(state.instance, "instance", self.find_instance, provider.delete_instance)
        last = (state.host_url or "").rpartition("/")[2] if state.hosting == "url" else ""
        self._remove(state.iso, "ISO", lambda: self.find_iso(last), provider.delete_iso)
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
