"""The page: a BuildPlan as one HTML file that needs nothing else.

It holds no secret: a file with keys or password hashes is named and not shown (with it go the ssh
keys of root and the administrator), nor is one of the user's own (overlay/ may hold host keys and
certificates) but for its pf.conf; answers are as `check` shows them.  Public keys of the tunnel
have a name in their place: before the first build there are none, and a page may be shown around.
No script, no picture from elsewhere; the page's own policy forbids both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from obsdimg.core.entry import Entry
from obsdimg.core.templates import render_html
from obsdimg.image.plan import BuildPlan
from obsdimg.overview.drawing import COLOURS, draw
from obsdimg.overview.reach import plan_reach
from obsdimg.overview.rules import explain
from obsdimg.site.pf import PF_CONF
from obsdimg.site.ways import seen_outside, ways_in

SHOWN = 64 << 10
"""Bytes of a file that the page shows at most."""


@dataclass(frozen=True)
class ShownFile:
    """A file of the site set; `text` is None where there is nothing to show."""

    path: str
    kind: str
    mode: str
    origin: str
    text: str | None
    sealed: bool = False


def overview_page(plan: BuildPlan) -> bytes:
    """The page, in UTF-8; the same plan gives the same bytes."""
    config, tunnel = plan.inputs.config, plan.site.tunnel
    table = plan_reach(config, tunnel)
    ports = (config.tunnel.port, *config.tunnel.also_ports)
    server = (config.host.name, f"OpenBSD {plan.inputs.release.version}")
    landing = (*plan.site.files, *plan.site.sealed.values())
    pf_conf = next((f for f in landing if f.path == PF_CONF), None)
    return render_html(
        Path(__file__).with_name("page.html.j2"),
        config=config,
        plan=plan,
        release=plan.inputs.release,
        port=plan.inputs.port,
        tunnel=tunnel,
        ports=ports,
        table=table,
        picture=draw(table, server, ("WireGuard", f"UDP {', '.join(map(str, ports))}")),
        colours=COLOURS,
        ways=ways_in(config),
        answers=plan.response.simulation.answers,
        elsewhere=plan.response.elsewhere,
        files=shown_files(plan),
        groups=explain(_text(pf_conf) or "", tunnel) if pf_conf else (),
        own_rules=pf_conf is not None and not pf_conf.origin.startswith("siteXX/"),
        origin=pf_conf.origin if pf_conf else "",
        outside=seen_outside(config),
    )


def shown_files(plan: BuildPlan) -> list[ShownFile]:
    """What lands on the server, by path."""
    keys = plan.inputs.keys
    names = {held.public.text(): f"<public key of {name}>" for name, held in keys.peers.items()}
    upstream = plan.inputs.config.tunnel.upstream
    if upstream is not None and upstream.public_key:
        names[upstream.public_key] = "<public key of the next server>"
    if keys.server_public is not None:
        names[keys.server_public.text()] = "<public key of the server>"
    open_files = [
        ShownFile(f.path, f.kind, f"{f.mode:04o}", f.origin, _named(_text(f), names))
        for f in plan.site.files
    ]
    sealed = [
        ShownFile(path, f.kind, f"{f.mode:04o}", f.origin, _named(_text(f), names), sealed=True)
        for path, f in plan.site.sealed.items()
    ]
    return sorted([*open_files, *sealed], key=lambda shown: shown.path)


def _text(entry: Entry) -> str | None:
    """What is in a file, if that is text of a size that somebody reads."""
    if entry.kind != "file" or entry.secret or not entry.data or len(entry.data) > SHOWN:
        return None
    if not entry.origin.startswith("siteXX/") and entry.path != PF_CONF:
        return None  # the user's own: nobody but the user knows what is secret in it
    try:
        return None if b"\0" in entry.data else entry.data.decode()
    except UnicodeDecodeError:
        return None


def _named(text: str | None, names: Mapping[str, str]) -> str | None:
    for key, name in names.items():
        text = text and text.replace(key, name)
    return text
