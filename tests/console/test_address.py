from __future__ import annotations

from pathlib import Path

import pytest

from obsdimg.console import address
from obsdimg.console.errors import AddressError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vnc://host:5901", address.VncTcp("host", 5901)),
        ("vnc://192.0.2.1", address.VncTcp("192.0.2.1", 5900)),
        ("vnc://[2001:db8::1]:5900", address.VncTcp("2001:db8::1", 5900)),
        ("vnc+unix:///run/a%20b/vnc", address.VncUnix(Path("/run/a b/vnc"))),
        ("serial+unix:///run/com0", address.SerialUnix(Path("/run/com0"))),
        ("serial:///dev/pts/3", address.SerialDevice(Path("/dev/pts/3"))),
        (
            "exec:ssh host virsh 'console x'",
            address.SerialCommand(("ssh", "host", "virsh", "console x")),
        ),
        (
            "wss://h.example/?token=abc",
            address.VncWebSocket("wss://h.example/?token=abc", "h.example", True),
        ),
        ("ws://localhost:5700/", address.VncWebSocket("ws://localhost:5700/", "localhost", False)),
    ],
)
def test_an_address_is_one_line_of_text(text: str, expected: address.Address) -> None:
    assert address.parse(text) == expected
    assert address.parse(f" {text}\n") == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("vnc://", "host and a port"),
        ("vnc://host:99999", "no URL"),
        ("vnc://host/path", "host and a port"),
        ("vnc+unix://relative", "absolute path"),
        ("serial:dev", "absolute path"),
        ("exec:", "command is missing"),
        ("exec:'open", "quotation"),
        ("https://provider.example/console", "web page"),
        ("rdp://host", "no address"),
        ("vnc://user:secret@host", "user name or password"),
        ("wss://user:secret@host/", "user name or password"),
        ("vnc://host\x1b[0m", "no text"),
        ("wss://h/" + "x" * 10000, "too long"),
    ],
)
def test_what_is_no_address_gets_one_line_that_shows_no_secret(text: str, says: str) -> None:
    with pytest.raises(AddressError) as caught:
        address.parse(text)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert "secret" not in str(caught.value.message) + str(caught.value.hint)
    assert caught.value.hint


def test_the_ticket_in_a_websockets_address_is_never_shown() -> None:
    found = address.parse("wss://console.example/vnc?ticket=TOP")
    assert "TOP" not in found.label + repr(found) + str(found)


def test_an_address_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("wss://host/?ticket=1\n")
    assert address.from_argument(f"@{tmp_path}/url").label == "wss://host/…"
    with pytest.raises(AddressError, match="no such file"):
        address.from_argument(f"@{tmp_path}/none")
