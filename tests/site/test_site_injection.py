"""No value of a setting can become a command, a rule or a line of its own on the server.

Every text setting gets every kind of nasty text, alone and after a good value.  Either the
configuration refuses it, or the generated files have as many lines as with the good value,
every script is still a script, and pf.conf still pf.conf.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsdimg.config import Config, ConfigError, parse
from obsdimg.releases.release import load_release
from obsdimg.response.install_conf import ResponseError, check_response
from obsdimg.site.clients import client_conf, plan_client
from obsdimg.site.plan import Materials, install_site, plan_site
from support.pf_model import PfConf, World
from support.site_fixtures import RECIPE, keys_for

WORLD = World(defaultdict(lambda: ["192.0.2.1/24"]), "vio0")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
# Section and key, the good value, and whether the setting is a list.
SETTINGS: tuple[tuple[str, str, str, bool], ...] = (
    ("host", "name", "vpn", False),
    ("host", "domain", "example.net", False),
    ("host", "timezone", "Europe/Paris", False),
    ("host", "keyboard", "fr", False),
    ("release", "mirrors", "https://mirror.example.net/pub", True),
    ("network", "interface", "vio0", False),
    ("network", "dns", "9.9.9.9", True),
    ("network", "dns", "fe80::1", True),
    ("network", "ipv6", "fe80::5/64", False),
    ("access", "root_keys", KEY, True),
    ("access.admin", "name", "joe", False),
    ("access.admin", "full_name", "Joe", False),
    ("access.admin", "keys", KEY + " joe", True),
    ("disk", "device", "sd0", False),
    ("tunnel", "ipv4", "10.0.0.1/24", False),
    ("tunnel", "ipv6", "fd00:66::1/64", False),
    ("tunnel", "endpoint", "vpn.example.net", False),
    ("tunnel", "endpoint", "2001:db8::1", False),
    ("tunnel", "dns", "9.9.9.9", True),
    ("tunnel.upstream", "endpoint", "hop.example.net", False),
    ("tunnel.upstream", "endpoint", "2001:db8::9", False),
    ("tunnel.upstream", "ipv4", "10.9.0.2/24", False),
    ("packages", "names", "vim", True),
    ("upkeep", "time", "04:30", False),
    ("sets", "leave_out", "game*", True),
    ("tunnel.peers", "name", "phone", False),
    ("tunnel.peers", "reach", "172.16.1.0/24", True),
    ("tunnel.peers", "dns", "fe80::2", True),
    ("answers", "question", "DNS domain", False),
    ("answers", "answer", "x.example", False),
)
NASTY = (
    *("\n", "\r", "\x00", "\x0b", "\u2028", "\x85", "\x1b[2J", " ", "\t", ""),
    *("\nreboot\n", "; reboot", "$(reboot)", "`reboot`", "'; reboot; '", '"; reboot; "', "&& x"),
    *("| x", "> /etc/x", "\\", "\\\n", "%", "%0a", "%\nreboot", "%a b", "%vio0", "# x", "}", "{"),
    *("{{ 7 * 7 }}", "{% raw %}", "{#", "*", "?", "!reboot", "\npass quick all", "/0", "=", "=x"),
    *("é", "\u202ereboot", "\ud7ff", "a" * 5000, ",", " }", "\nanchor x", "~", "..", "/../x"),
)


def config_text(section: str, key: str, value: str, many: bool) -> str:
    text = json.dumps(value).replace("\\/", "/")
    line = f"{key} = [{text}]" if many else f"{key} = {text}"
    extra = {
        "access.admin": f"keys = ['{KEY}']\n" if key != "keys" else "",
        "tunnel.upstream": "public_key = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='\n"
        + ("ipv4 = '10.9.0.2/24'\n" if key != "ipv4" else "endpoint = 'hop.example.net'\n"),
        "tunnel.peers": ("name = 'p'\n" if key != "name" else "") + "ipv4 = '10.0.0.7'\n",
        "network": {
            "ipv6": "gateway6 = 'fe80::1'\ndns = ['9.9.9.9']\n",
            "dns": "ipv6 = 'autoconf'\n",
        }.get(key, ""),
        "answers": f"{'answer' if key == 'question' else 'question'} = 'DNS domain'\n",
    }.get(section, "")
    if section == "tunnel.peers":
        extra += "ipv6 = 'fd00:66::7'\n[tunnel]\nipv6 = 'fd00:66::1/64'\n"
    elif section.startswith("tunnel"):
        extra += "[network]\nipv6 = 'autoconf'\n"
    heading = f"[[{section}]]" if section in ("tunnel.peers", "answers") else f"[{section}]"
    return f"{heading}\n{line}\n{extra}"


def files(config: Config, version: str) -> dict[str, str]:
    """Every text that is generated from a configuration, by a name."""
    release = load_release(version)
    keys = keys_for(config)
    mirrors = config.release.mirrors
    plan = plan_site(config, release, keys, Materials(installurl=mirrors[0] if mirrors else ""))
    found = {f.path: f.data.decode() for f in (*plan.files, install_site(b"x"))}
    found |= {path: file.data.decode() for path, file in plan.sealed.items()}
    response = check_response(config, release, release.port("amd64"), False)
    found["install.conf"] = response.data.decode()
    for number, peer in enumerate(config.tunnel.peers):
        found[f"client {number}"] = client_conf(plan_client(config, keys, peer)).decode()
    return found


@cache
def good(setting: tuple[str, str, str, bool], version: str) -> dict[str, int]:
    config = parse(config_text(*setting).encode())
    return {name: text.count("\n") for name, text in files(config, version).items()}


def attempt(setting: tuple[str, str, str, bool], value: str, version: str) -> bool:
    """Whether `value` was accepted; if it was, nothing may have come of it."""
    section, key, _, many = setting
    try:
        config = parse(config_text(section, key, value, many).encode())
        made = files(config, version)
    except (ConfigError, ResponseError) as error:
        assert "\n" not in error.message
        assert len(error.message) < 1500
        return False
    assert {name: text.count("\n") for name, text in made.items()} == good(setting, version)
    for name, text in made.items():
        controls = {c for c in text if not c.isprintable()} - {"\n", "\t"}
        # obsdimg-qr draws with escape sequences of its own, written as \033.
        assert not controls, (name, controls)
        assert "49" not in text or name != "/etc/pf.conf" or "{{" not in value
        if text.startswith("#!/bin/") and shutil.which("mksh"):
            done = subprocess.run(["mksh", "-n"], input=text.encode(), capture_output=True)
            assert done.returncode == 0, (name, done.stderr)
    PfConf(made["/etc/pf.conf"], WORLD)
    return True


@pytest.mark.parametrize("setting", SETTINGS, ids=[f"{s[0]}.{s[1]}-{s[2][:9]}" for s in SETTINGS])
def test_no_nasty_text_becomes_a_line_or_a_command(setting: tuple[str, str, str, bool]) -> None:
    if setting[0] != "answers":
        assert attempt(setting, setting[2], "6.6"), "the good value must be good"
    for nasty in NASTY:
        attempt(setting, nasty, "6.6")
        attempt(setting, setting[2] + nasty, "6.6")
        attempt(setting, setting[2] + nasty, "7.5")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(setting=st.sampled_from(SETTINGS), value=st.text(max_size=30))
def test_no_text_at_all_becomes_a_line_or_a_command(
    setting: tuple[str, str, str, bool], value: str
) -> None:
    attempt(setting, value.encode("utf-8", "replace").decode(), "6.6")


def test_the_recipe_is_among_what_is_accepted() -> None:
    assert "/etc/pf.conf" in files(parse(RECIPE.encode()), "6.6")
