"""What `check` says of the ways in, and of being locked out."""

from __future__ import annotations

import pytest

from obsdimg.config import parse
from obsdimg.config.load import ConfigError
from obsdimg.site.ways import seen_outside, ssh_outside, ways_in
from support.site_fixtures import RECIPE


def said(access: str = "", text: str = RECIPE) -> str:
    settings = text.replace("[access.admin]", f"[access]\n{access}\n[access.admin]")
    return "\n".join(ways_in(parse(settings.encode())))


def test_a_dead_tunnel_leaves_the_console_unless_the_settings_say_otherwise() -> None:
    assert "ssh through the tunnel: laptop, phone" in said()
    assert "if the tunnel is dead: only the console" in said()
    text = said("rescue_minutes = 30")
    assert "keys only, for 60 min once a boot, if no client was heard for 30 min" in text
    assert "only the console" not in text


def test_other_ways() -> None:
    assert said('ssh_from = "anywhere"') == "ssh from anywhere"
    assert said("sshd = false").startswith("no sshd: only by the console")
    assert "since there is no client" in said(text=RECIPE.split("[[tunnel.peers]]")[0])
    assert "for 20 min after the first boot" in said("ssh_window_minutes = 20")


NOBODY = RECIPE.split("[[tunnel.peers]]")[0]


@pytest.mark.parametrize(
    "text, access, decided, seen",
    [
        (RECIPE, "", (False, 0, 0), "nothing else"),
        (RECIPE, 'ssh_from = "anywhere"', (True, 0, 0), "ssh (TCP 22)"),
        (RECIPE, 'ssh_from = "anywhere"\nssh_window_minutes = 20', (True, 0, 0), "ssh (TCP 22)"),
        (NOBODY, "", (True, 0, 0), "ssh (TCP 22)"),
        (NOBODY, "ssh_window_minutes = 20", (True, 0, 0), "ssh (TCP 22)"),
        (RECIPE, "ssh_window_minutes = 20", (False, 20, 0), "ssh for 20 minutes"),
        (RECIPE, "rescue_minutes = 30", (False, 0, 30), "where no client was heard for 30 min"),
        (RECIPE, "sshd = false", (False, 0, 0), "nothing else"),
        (NOBODY, "sshd = false", (False, 0, 0), "nothing else"),
    ],
)
def test_ssh_outside_is_decided_once(
    text: str, access: str, decided: tuple[bool, int, int], seen: str
) -> None:
    config = parse(text.replace("[access.admin]", f"[access]\n{access}\n[access.admin]").encode())
    found = ssh_outside(config)
    assert (found.always, found.window, found.rescue) == decided
    assert seen in seen_outside(config)


@pytest.mark.parametrize(
    "settings",
    ["[access]\nrescue_minutes = 30\n", "[access]\nrescue_minutes = 30\nsshd = false\n"],
)
def test_a_rescue_that_lets_nobody_in_is_refused(settings: str) -> None:
    with pytest.raises(ConfigError, match="rescue_minutes"):
        parse(settings.encode())


@pytest.mark.parametrize("network", ["203.0.113.1/24", "8.8.8.1/24", "172.32.0.1/24"])
def test_a_public_range_is_no_tunnel(network: str) -> None:
    text = f'[tunnel]\nipv4 = "{network}"\n'
    with pytest.raises(ConfigError, match="is public"):
        parse(text.encode())
