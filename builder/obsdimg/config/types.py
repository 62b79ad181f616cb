"""Values of the configuration that are more than a string: each parsed once, strictly.

Everything that later lands in a shell script, in pf.conf or in a response file passes
through one of these first, so its alphabet is known.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from obsdimg.tunnel.errors import KeyTextError


def _pattern(regex: str, what: str, example: str) -> tuple[AfterValidator, WithJsonSchema]:
    compiled = re.compile(regex)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not {what} (like {example})")
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^(?:{regex})$"})


def _parsed(parse: Callable[[str], Any], what: str, example: str) -> Any:
    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value if not isinstance(value, bool | int | float | list | dict) else _no(value)
        try:
            return _scoped(parse(value))
        except ValueError:
            _no(value)

    def _no(value: Any) -> None:
        raise ValueError(f"{value!r} is not {what} (like {example})")

    return BeforeValidator(convert)


def _scoped(address: Any) -> Any:
    """`address`, if what follows its `%` is an interface and needed there (RFC 4007, 11).

    Python takes any text as a scope, newlines included.  Raises ValueError.
    """
    scope = getattr(address, "scope_id", None)
    plain = isinstance(address, ipaddress.IPv6Address) and not isinstance(address, _IP6)
    if scope and not (plain and address.is_link_local and re.fullmatch(_INTERFACE, scope)):
        raise ValueError("no such scope")
    return address


_INTERFACE = r"[a-z]{2,8}[0-9]{1,2}"
_STRING = WithJsonSchema({"type": "string"})
_IP6 = ipaddress.IPv6Interface
_IP4 = ipaddress.IPv4Interface


def _with_prefix(kind: type[_IP4] | type[_IP6]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if "/" not in text:
            raise ValueError("prefix length missing")
        return kind(text)

    return parse


HostName = Annotated[
    str, *_pattern(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", "a short host name", "vpn")
]
Domain = Annotated[
    str,
    *_pattern(
        r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z][a-z0-9-]{0,61}[a-z0-9]",
        "a domain name",
        "example.net",
    ),
]
Timezone = Annotated[
    str, *_pattern(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}", "a zone", "Europe/Paris")
]
InterfaceName = Annotated[str, *_pattern(_INTERFACE, "an interface", "vio0")]
OtherInterface = Annotated[
    str,
    *_pattern(
        _INTERFACE + r"|[0-9a-f]{2}(?::[0-9a-f]{2}){5}",
        "an interface or a MAC address in lower case",
        "em0",
    ),
]
DiskName = Annotated[str, *_pattern(r"auto|(?:sd|wd)[0-9]{1,2}", "a disk or auto", "sd0")]
PartitionName = Annotated[str, *_pattern(r"(?:sd|wd)[0-9]{1,2}[a-p]", "a partition", "sd1a")]
LoginName = Annotated[str, *_pattern(r"[a-z][a-z0-9_-]{0,30}", "a login name", "admin")]
PeerName = Annotated[
    str, *_pattern(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", "a peer's name", "laptop")
]
PersonName = Annotated[
    str, *_pattern(r"[A-Za-z0-9][A-Za-z0-9 .'_-]{0,62}", "a full name", "VPN administrator")
]
PackageName = Annotated[
    str,
    *_pattern(r"[A-Za-z0-9][A-Za-z0-9._+%-]{0,99}(?:--[a-z0-9_,-]*)?", "a package", "vim--no_x11"),
]
SetPattern = Annotated[
    str, *_pattern(r"[a-z][a-z0-9.*?]{0,30}", "a set or pattern of sets", "game*")
]
Port = Annotated[str, *_pattern(r"[a-z0-9]{3,12}", "a port of OpenBSD", "amd64")]
Version = Annotated[str, *_pattern(r"[0-9]{1,2}\.[0-9]", "a release", "6.6")]
Hour = Annotated[str, *_pattern(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", "a time of day", "04:30")]
Url = Annotated[
    str,
    *_pattern(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._~%/-]*)?", "a URL", "https://host/p"),
]
LibvirtUri = Annotated[
    str,
    *_pattern(
        r"qemu(?:\+ssh)?://(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.\[\]:-]*/(?:system|session)",
        "an address of libvirt",
        "qemu+ssh://root@host/system",
    ),
]
PlaceName = Annotated[str, *_pattern(r"[a-z0-9][a-z0-9.-]{0,62}", "a provider's name", "ams")]
BucketName = Annotated[str, *_pattern(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket", "my-isos")]
KeyPrefix = Annotated[
    str, *_pattern(r"(?:[A-Za-z0-9][A-Za-z0-9._/-]{0,126})?", "the beginning of a key", "isos/")
]
PrivateNetwork = Annotated[
    str, *_pattern(r"none|create|[0-9a-f-]{36}", "none, create, or the id of a network", "create")
]

Ip4 = Annotated[
    ipaddress.IPv4Address, _parsed(ipaddress.IPv4Address, "an IPv4 address", "10.0.0.2"), _STRING
]
Ip6 = Annotated[
    ipaddress.IPv6Address, _parsed(ipaddress.IPv6Address, "an IPv6 address", "fd00:66::2"), _STRING
]
Ip = Annotated[
    ipaddress.IPv4Address | ipaddress.IPv6Address,
    _parsed(ipaddress.ip_address, "an IP address", "9.9.9.9"),
    _STRING,
]
Ip4Interface = Annotated[
    _IP4, _parsed(_with_prefix(_IP4), "an IPv4 address with prefix", "10.0.0.1/24"), _STRING
]
Ip6Interface = Annotated[
    _IP6, _parsed(_with_prefix(_IP6), "an IPv6 address with prefix", "fd00:66::1/64"), _STRING
]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    _parsed(ipaddress.ip_network, "a network without host bits", "172.16.1.0/24"),
    _STRING,
]

_BCRYPT = r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}"
DISABLED = "disabled"
LOGIN_DISABLED = "*" * 13
"""What stands in master.passwd for "no password", and what the installer takes for it (install.sub
6.6, `encr_pwd`)."""


def _password_hash(value: str) -> str:
    if value != DISABLED and not re.fullmatch(_BCRYPT, value):
        # The value is not shown: it may be the password itself.
        raise ValueError(
            "neither disabled nor a bcrypt hash of 60 characters (`encrypt -b a`, `htpasswd -nB`)"
        )
    return value


PasswordHash = Annotated[str, AfterValidator(_password_hash)]
"""`disabled`, or a hash that the installer stores as it is (install.sub 6.6: `$2?$NN$…`)."""

_SSH_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)


def _ssh_key(value: str) -> str:
    fields = value.split(None, 2)
    if "PRIVATE KEY" in value:
        raise ValueError("this is a private key; give the .pub file's line")
    if len(fields) < 2 or fields[0] not in _SSH_TYPES:
        raise ValueError(f"not a public ssh key: it must start with one of {', '.join(_SSH_TYPES)}")
    try:
        blob = base64.b64decode(fields[1], validate=True)
        parts = _ssh_strings(blob)
    except (binascii.Error, struct.error):
        parts = []
    if not parts or parts[0] != fields[0].encode():
        raise ValueError(f"not a public ssh key: the base64 part is not of type {fields[0]}")
    if len(parts) < 2 or (fields[0] == "ssh-ed25519" and [len(p) for p in parts] != [11, 32]):
        raise ValueError("not a whole public ssh key: part of the line is missing")
    comment = fields[2] if len(fields) == 3 else ""
    if not re.fullmatch(r"[A-Za-z0-9 @._+-]*", comment):
        raise ValueError("the key's comment may only hold letters, digits, blank and @._+-")
    return " ".join(f for f in (*fields[:2], comment) if f)


def _ssh_strings(blob: bytes) -> list[bytes]:
    """The strings of a key blob, each after its length (RFC 4251, 5; RFC 4253, 6.6).

    One that is cut off is left out; struct.error where not even its length is whole.
    """
    parts, at = [], 0
    while at < len(blob):
        (length,) = struct.unpack_from(">I", blob, at)
        at += 4 + length
        if at <= len(blob):
            parts.append(blob[at - length : at])
    return parts


SshKey = Annotated[str, AfterValidator(_ssh_key)]
"""A public key as in authorized_keys, without options (sshd(8), AUTHORIZED_KEYS FILE FORMAT)."""


def _endpoint_host(value: str) -> str:
    try:
        if "%" in value:
            raise ValueError("a scope means nothing to others")
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(
            r"(?=.{1,253}$)(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z][A-Za-z0-9-]{0,62}", value
        ):
            raise ValueError(
                f"{value!r} is neither a host name nor an address (like vpn.example.net)"
            ) from None
    return value


EndpointHost = Annotated[str, AfterValidator(_endpoint_host)]


def _wg_key(value: str) -> str:
    from obsdimg.tunnel.keys import WgPublicKey  # with cryptography, which --version need not load

    try:
        key = WgPublicKey.parse(value, "key")
    except KeyTextError as error:
        problem = error.message.removeprefix("key: ")
        raise ValueError(
            f"not a WireGuard public key (44 characters, as `wg pubkey` prints it): {problem}"
        ) from None
    return key.text()


WgPublicKey = Annotated[str, AfterValidator(_wg_key)]


def _answer_text(value: str) -> str:
    if value != value.strip() or not value or not value.isprintable():
        raise ValueError(f"{value!r} must be one line of text without blanks at its ends")
    if len(value) > 1000:
        raise ValueError("must be one line of at most 1000 characters")
    return value


def _path_text(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{value!r} is not a path")
    return value


PathText = Annotated[str, AfterValidator(_path_text)]
"""A path on the host, relative to the configuration."""

AnswerText = Annotated[str, AfterValidator(_answer_text)]
