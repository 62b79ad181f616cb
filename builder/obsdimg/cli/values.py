"""Values of options that are more than a word; each refusal is one sentence (exit code 2)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from ipaddress import ip_address

from obsdimg.tunnel.ip import Address

_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(text: str) -> int:
    """Bytes of a size such as `4G` or `800M`."""
    number, unit = text[:-1], text[-1:].upper()
    if unit not in _UNITS or not number.isdigit() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a size such as 4G or 800M")
    return int(number) * _UNITS[unit]


def address(text: str) -> Address:
    """An IP address."""
    try:
        return ip_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from error


def address_or_none(text: str) -> Address | None:
    """An IP address, or None for `none`."""
    return None if text == "none" else address(text)


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds between `low` and `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not between {low:g} and {high:g}")
        return value

    return parse


def duration(text: str) -> float:
    """Seconds of a length of time such as `90s`, `15m` or `2h`."""
    number, unit = text[:-1], text[-1:].lower()
    if unit not in ("s", "m", "h") or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: give a time such as 90s or 15m")
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
