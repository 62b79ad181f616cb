"""Vultr's API v2, as far as obsdimg needs it.

Paths and fields were read in govultr 3.32.0 (the provider's Go client; `[G]` with the file), in
the provider's generated clients vultr-python-client 1.0.2 and vultr-java (from its OpenAPI
description; `[O]`), in terraform-provider-vultr 2.32.0 (`[T]`) and packer-plugin-vultr (`[P]`).
docs/vultr.md has the table, and what could not be checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from obsdimg.config import Config
from obsdimg.deploy.api import Api
from obsdimg.deploy.credentials import find_token
from obsdimg.deploy.provider import (
    Instance,
    InstanceSpec,
    MissingError,
    NamedThing,
    Offer,
    Provider,
    ProviderError,
    RemoteIso,
    UdpRule,
    UncertainError,
)
from obsdimg.deploy.registry import register

"""[G] govultr.go: defaultBase; [O] servers."""
PER_PAGE = "500"
"""[O] list-isos: the largest allowed."""
_PAGES = 50
_NOT_YET = ("", "0.0.0.0")  # noqa: S104 - main_ip before an address is assigned

T = TypeVar("T")
Json = dict[str, Any]


class Vultr:
    """The provider `vultr`; see provider.Provider for what the methods promise."""

    name = "Vultr"
    medium = "iso_id"
    """What an instance is made from: [G] instance.go, InstanceCreateReq."""

    def __init__(self, api: Api) -> None:
        self._api = api

    # -- what can be bought: [G] regions.go, plans.go

    def offer(self, region: str, plan: str) -> Offer:
        regions = {str(r["id"]): r for r in self._list("/regions", "regions")}
        if region not in regions:
            raise ProviderError(
                f"deploy.region: there is no region {region!r}" if region else
                "deploy.region is not set",
                "regions: " + ", ".join(sorted(regions)),
            )  # fmt: skip
        plans = {str(p["id"]): p for p in self._list("/plans", "plans")}
        here = sorted(p for p, v in plans.items() if region in v.get("locations", ()))
        if plan not in plans:
            raise ProviderError(
                f"deploy.plan: there is no plan {plan!r}", f"plans in {region}: {_some(here)}"
            )
        available = self._get(f"/regions/{region}/availability").get("available_plans", [])
        if plan not in here or plan not in available:
            free = [p for p in here if p in available]
            raise ProviderError(
                f"deploy.plan: {plan} cannot be had in {region} now",
                f"available there: {_some(free)}",
            )
        found, where = plans[plan], regions[region]
        return self._read(
            lambda: Offer(
                region,
                f"{where['city']}, {where['country']}",
                plan,
                int(found["vcpu_count"]),
                int(found["ram"]),
                int(found["disk"]),
                float(found["monthly_cost"]),
            ),
            "a plan",
        )

    # -- ISOs: [G] iso.go; status `pending` then `complete` [T] resource_vultr_iso_private.go

    def isos(self) -> list[RemoteIso]:
        return [self._iso(value) for value in self._list("/iso", "isos")]

    def iso(self, key: str) -> RemoteIso | None:
        found = self._get_or_none(f"/iso/{key}")
        return None if found is None else self._iso(found.get("iso"))

    def create_iso(self, url: str) -> RemoteIso:
        answer = self._api.post("/iso", {"url": url}, repeatable=False)
        return created(lambda: self._iso(answer.get("iso")))

    def delete_iso(self, key: str) -> None:
        self._api.delete(f"/iso/{key}")

    def hides(self) -> bool:
        return False

    def size_agrees(self, reported: int, size: int) -> bool:
        # [T] says bytes, as v1 gave them; [O] says "size in KB".  The checksum is what counts.
        return reported in (size, size // 1024, -(-size // 1024), size // 1000, -(-size // 1000))

    def _iso(self, value: Any) -> RemoteIso:
        return self._read(
            lambda: RemoteIso(
                str(value["id"]),
                str(value.get("filename") or ""),
                str(value["status"]),
                value["status"] == "complete",
                int(value.get("size") or 0),
                str(value.get("sha512sum") or "").lower(),
            ),
            "an ISO",
        )

    # -- instances: [G] instance.go

    def instances(self, label: str) -> list[Instance]:
        # The filter is [G] listOptions.go; what it compares is not documented, so compare here.
        found = self._list("/instances", "instances", {"label": label})
        return [i for i in map(self._instance, found) if i.label == label]

    def instance(self, key: str) -> Instance | None:
        found = self._get_or_none(f"/instances/{key}")
        return None if found is None else self._instance(found.get("instance"))

    def create_instance(self, spec: InstanceSpec) -> Instance:
        body: Json = {
            "region": spec.region,
            "plan": spec.plan,
            "label": spec.label,
            "hostname": spec.hostname,
            "tags": [spec.tag],
            self.medium: spec.iso,
            "backups": "disabled",
            "activation_email": False,
        }
        if spec.ipv6:
            body["enable_ipv6"] = True
        if spec.firewall:
            body["firewall_group_id"] = spec.firewall
        if spec.network:
            body["attach_vpc"] = [spec.network]
        answer = self._api.post("/instances", body, repeatable=False)
        return created(lambda: self._instance(answer.get("instance")))

    def delete_instance(self, key: str) -> None:
        self._api.delete(f"/instances/{key}")

    def delete_rest(self, tag: str) -> None:
        """An instance and its disk are one thing here."""

    def attached_iso(self, key: str) -> str | None:
        # [G] instance.go: ready, isomounting, isomounted; [O]: ready, attached.
        status = self._get(f"/instances/{key}/iso").get("iso_status") or {}
        if status.get("state") == "ready":
            return None
        return str(status.get("iso_id") or "unknown")

    def detach_iso(self, key: str) -> None:
        # "will detach the currently mounted ISO and reboot the instance" [G] instance.go
        self._api.post(f"/instances/{key}/iso/detach", {}, repeatable=True)

    def _instance(self, value: Any) -> Instance:
        def read() -> Instance:
            address = str(value.get("main_ip") or "")
            return Instance(
                str(value["id"]),
                str(value.get("label") or ""),
                tuple(str(tag) for tag in value.get("tags") or ()),
                str(value["status"]),
                value["status"] == "active" and value.get("power_status") == "running",
                None if address in _NOT_YET else str(ip_address(address)),
                str(value.get("kvm") or ""),
            )

        return self._read(read, "an instance")

    # -- firewall groups: [G] firewall_group.go, firewall_rule.go

    def firewalls(self) -> list[NamedThing]:
        return self._named("/firewalls", "firewall_groups")

    def create_firewall(self, description: str) -> NamedThing:
        body = {"description": description}
        answer = self._api.post("/firewalls", body, repeatable=False)
        return created(lambda: self._one_named(answer.get("firewall_group")))

    def firewall_rules(self, key: str) -> list[UdpRule]:
        found = self._list(f"/firewalls/{key}/rules", "firewall_rules")
        return [
            UdpRule(str(rule.get("ip_type")), int(rule["port"]))
            for rule in found
            if str(rule.get("protocol")).lower() == "udp" and str(rule.get("port")).isdigit()
        ]

    def add_firewall_rule(self, key: str, rule: UdpRule) -> None:
        # A rule that stands twice lets in the same, so asking again does no harm.
        body = {
            "ip_type": rule.family,
            "protocol": "udp",
            "subnet": "0.0.0.0" if rule.family == "v4" else "::",  # noqa: S104
            "subnet_size": 0,
            "port": str(rule.port),
            "notes": "WireGuard",
        }
        self._api.post(f"/firewalls/{key}/rules", body, repeatable=True)

    def delete_firewall(self, key: str) -> None:
        self._api.delete(f"/firewalls/{key}")

    # -- private networks: [G] vpc.go

    def networks(self) -> list[NamedThing]:
        return self._named("/vpcs", "vpcs")

    def create_network(self, region: str, description: str, subnet: str) -> NamedThing:
        address, _, length = subnet.partition("/")
        body = {
            "region": region,
            "description": description,
            "v4_subnet": address,
            "v4_subnet_mask": int(length),
        }
        answer = self._api.post("/vpcs", body, repeatable=False)
        return created(lambda: self._one_named(answer.get("vpc")))

    def delete_network(self, key: str) -> None:
        self._api.delete(f"/vpcs/{key}")

    # -- reading answers

    def _get(self, path: str) -> Json:
        return self._api.get(path)

    def _get_or_none(self, path: str) -> Json | None:
        try:
            return self._api.get(path)
        except MissingError:
            return None

    def _list(self, path: str, key: str, params: dict[str, str] | None = None) -> list[Json]:
        return list(self._pages(path, key, params or {}))

    def _pages(self, path: str, key: str, params: dict[str, str]) -> Iterator[Json]:
        """Every item of a list; pages are linked by a cursor ([O] Meta and Pagination)."""
        cursor = ""
        for _ in range(_PAGES):
            asked = {**params, "per_page": PER_PAGE, **({"cursor": cursor} if cursor else {})}
            answer = self._api.get(path, asked)
            items = answer.get(key)
            if not isinstance(items, list):
                raise ProviderError(f"{self.name}: the answer to {path} has no {key}")
            yield from items
            cursor = str(((answer.get("meta") or {}).get("links") or {}).get("next") or "")
            if not cursor:
                return
        raise ProviderError(f"{self.name}: the list at {path} has no end")

    def _named(self, path: str, key: str) -> list[NamedThing]:
        return [self._one_named(value) for value in self._list(path, key)]

    def _one_named(self, value: Any) -> NamedThing:
        return self._read(
            lambda: NamedThing(str(value["id"]), str(value.get("description") or "")), "an object"
        )

    def _read(self, read: Callable[[], T], what: str) -> T:
        """What `read` makes of an answer.  Raises ProviderError where a field is missing."""
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProviderError(
                f"{self.name}: the answer does not describe {what}: {type(error).__name__}",
                "did the API change?  docs/vultr.md says what is expected",
            ) from error


def created(read: Callable[[], T]) -> T:
    """What `read` makes of the answer to a creation; one that cannot be read is as good as lost."""
    try:
        return read()
    except ProviderError as error:
        raise UncertainError(error.message, error.hint) from error


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


@register("vultr")
@contextlib.contextmanager
def open_vultr(config: Config, token_file: Path | None) -> Iterator[Provider]:
    """Vultr's API with the user's token.  Raises TokenError without one."""
    with Api("Vultr", config.deploy.api, find_token(token_file)) as api:
        yield Vultr(api)
