"""The settings, as types.  Descriptions here become the file that `init` writes and the docs.

Rules that need more than one setting are in rules.py.
"""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from obsdimg.config import types as t


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are not converted."""

    # Validators are made when they are first used: for the whole file, not for each table in it.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


UdpPort = Annotated[int, Field(ge=1, le=65535)]


class ReleaseSettings(Section):
    """Which OpenBSD, and where to get it."""

    version: t.Version = Field(
        "7.9", description="Release of OpenBSD: the newest, or 6.6 for the recipe of 2019."
    )
    port: t.Port = Field("amd64", description="Machine architecture, as OpenBSD names it.")
    mirrors: list[t.Url] = Field(
        [], description="Mirrors to try before the built-in list (they need not be trusted)."
    )


class HostSettings(Section):
    """The server itself."""

    name: t.HostName = Field("vpn", description="Short host name.")
    domain: t.Domain = Field("my.domain", description="DNS domain the host is in.")
    timezone: t.Timezone = Field("UTC", description="Time zone, like Europe/Paris.")
    keyboard: Annotated[str, *t._pattern(r"[a-z]{2}(?:\.[a-z0-9.]+)?", "a layout", "us")] = Field(
        "us",
        description="Keyboard layout of the installed console (the boot loader always has us).",
    )
    console: Literal["vga", "com0"] = Field(
        "vga", description="Console of the installed system and of the ISO: vga (VNC) or com0."
    )
    console_speed: Literal[9600, 19200, 38400, 57600, 115200] = Field(
        115200, description="Speed of com0, bits per second."
    )


class InterfaceSettings(Section):
    """A further network interface, such as a provider's private network."""

    name: t.InterfaceName = Field(description="Interface, like vio1.", examples=["vio1"])
    ipv4: t.Ip4Interface | Literal["dhcp", "none"] = Field(
        "dhcp", description="Address with prefix, dhcp, or none."
    )
    ipv6: t.Ip6Interface | Literal["autoconf", "none"] = Field(
        "none", description="Address with prefix, autoconf, or none."
    )


class NetworkSettings(Section):
    """The way out (egress), and further interfaces."""

    interface: t.InterfaceName = Field("vio0", description="Interface that faces the internet.")
    also: list[t.OtherInterface] = Field(
        [],
        description="What the same card may be called on another machine, like em0 or vmx0, or its"
        " MAC address (7.3 on): the server takes whichever is there.",
    )
    ipv4: t.Ip4Interface | Literal["dhcp", "none"] = Field(
        "dhcp", description="dhcp, none, or an address with prefix like 203.0.113.5/24."
    )
    gateway4: t.Ip4 | None = Field(
        None, description="Default IPv4 route; needed with an address.", examples=["203.0.113.1"]
    )
    ipv6: t.Ip6Interface | Literal["autoconf", "none"] = Field(
        "none", description="autoconf, none, or an address with prefix."
    )
    gateway6: t.Ip6 | None = Field(
        None, description="Default IPv6 route; needed with an address.", examples=["2001:db8::1"]
    )
    dns: list[t.Ip] = Field(
        [], description="Resolvers of the server itself; empty: those that DHCP names."
    )
    interfaces: list[InterfaceSettings] = Field(
        [], description="Further interfaces: one [[network.interfaces]] table each."
    )


class AdminSettings(Section):
    """The one administrator, member of wheel."""

    name: t.LoginName = Field("admin", description="Login name.")
    full_name: t.PersonName = Field("Administrator", description="Full name.")
    keys: list[t.SshKey] = Field(
        [],
        description="Public ssh keys: each the line of an id_ed25519.pub, or the file's path.",
        examples=[["~/.ssh/id_ed25519.pub"]],
    )
    password: t.PasswordHash = Field(
        "disabled", description="disabled (keys only), or a bcrypt hash from `encrypt -b a`."
    )
    doas: Literal["nopass", "persist", "none"] = Field(
        "nopass",
        description="doas for this user: nopass (needed without a password), persist, none.",
    )


class AccessSettings(Section):
    """Who may log in, and from where."""

    root_password: t.PasswordHash = Field(
        "disabled", description="disabled, or a bcrypt hash from `encrypt -b a`."
    )
    root_keys: list[t.SshKey] = Field([], description="Public ssh keys for root; empty is best.")
    admin: AdminSettings | None = Field(
        None,
        description="The administrator, in [access.admin]; without it nobody can log in by ssh.",
    )
    sshd: bool = Field(True, description="Start sshd.")
    ssh_from: Literal["tunnel", "anywhere"] = Field(
        "tunnel", description="Where ssh is accepted from: tunnel, or anywhere."
    )
    ssh_window_minutes: Annotated[int, Field(ge=0, le=1440)] = Field(
        0,
        description="Safety net: minutes after the first boot in which ssh is open to all.",
    )
    rescue_minutes: Annotated[int, Field(ge=0, le=1440)] = Field(
        0,
        description="A way back in: minutes since a boot without any client heard, after which ssh"
        " opens outside for an hour, to keys only; 0: never.",
    )


class DiskSettings(Section):
    """The disk that is erased, and its encryption."""

    device: t.DiskName = Field(
        "sd0", description="Disk to install on, like sd0; auto: the only one there is, else stop."
    )
    encryption: Literal["passphrase", "keydisk", "embedded", "none"] = Field(
        "passphrase",
        description="passphrase (typed on the console), keydisk, none, or embedded: the passphrase"
        " is IN the ISO, for throw-away machines only.",
    )
    key_disk: t.PartitionName | None = Field(
        None,
        description="RAID partition that holds the key, like sd1a (encryption = keydisk).",
        examples=["sd1a"],
    )
    rounds: Annotated[int, Field(ge=16, le=1_000_000)] | Literal["auto"] = Field(
        "auto",
        description="KDF rounds; auto: about a second on that machine. The recipe's 8192 is slow.",
    )
    random_fill: bool = Field(
        True, description="Fill the disk with random data first (takes time)."
    )
    overwrite: bool = Field(
        False,
        description="true: erase a disk that holds data without asking. An ISO left attached then"
        " erases the server at the next boot.",
    )
    layout: t.PathText = Field(
        "auto", description="auto, or a file with a disklabel(8) autopartitioning template."
    )
    after: Literal["reboot", "halt"] = Field(
        "reboot", description="After the installation: reboot, or halt and wait for a key."
    )
    loader: Literal["console", "firmware"] = Field(
        "console",
        description="Where a BIOS machine's boot loader asks for the passphrase: on host.console"
        " (for com0 a small partition in clear tells it so), or where the firmware shows it.",
    )


class PeerSettings(Section):
    """A client of the tunnel."""

    name: t.PeerName = Field(
        description="Name: clients/NAME.conf, comments, the log.", examples=["phone"]
    )
    ipv4: t.Ip4 | None = Field(
        None, description="Its address in the tunnel.", examples=["10.0.0.2"]
    )
    ipv6: t.Ip6 | None = Field(
        None, description="Its IPv6 address in the tunnel.", examples=["fd00:66::2"]
    )
    public_key: t.WgPublicKey | None = Field(
        None,
        description="The client's own public key; then its private key never exists here.",
        examples=["<44 characters from wg pubkey>"],
    )
    internet: bool = Field(
        True,
        description="true: all its traffic goes through the tunnel and out; false: split tunnel.",
    )
    reach: list[t.Network] = Field(
        [],
        description="Networks behind the server, or behind another peer, that this one may reach,"
        " like 172.16.1.0/24.",
    )
    networks: list[t.Network] = Field(
        [],
        description="Networks behind this peer (site to site): the server routes them to it, and"
        " they have its rights but for ssh, like 192.168.40.0/24.",
    )
    reached_from: list[t.Network] = Field(
        [],
        description="Networks behind the server (of network.interfaces) whose hosts may open"
        " connections to this peer's networks.",
    )
    ssh: bool = Field(True, description="May open ssh to the server through the tunnel.")
    dns: list[t.Ip] = Field(
        [], description="Resolvers for this client; empty: those of the tunnel."
    )
    keepalive: Annotated[int, Field(ge=0, le=65535)] = Field(
        25, description="PersistentKeepalive of the client, seconds; 0: off."
    )
    mtu: Annotated[int, Field(ge=1280, le=1500)] | None = Field(
        None,
        description="MTU of this client, bytes, where its network carries less than tunnel.mtu:"
        " 1280 suits mobile networks.",
        examples=[1280],
    )


class UpstreamSettings(Section):
    """Another WireGuard server that the clients' traffic is sent through (multi-hop)."""

    endpoint: t.EndpointHost = Field(
        description="Host name or address of that server.", examples=["hop.example.net"]
    )
    port: UdpPort = Field(51820, description="Its UDP port.")
    public_key: t.WgPublicKey = Field(
        description="Its public key.", examples=["<44 characters from wg pubkey>"]
    )
    ipv4: t.Ip4Interface = Field(
        description="Our address there, with prefix.", examples=["10.9.0.2/24"]
    )


class TunnelSettings(Section):
    """WireGuard."""

    ipv4: t.Ip4Interface | None = Field(
        IPv4Interface("10.0.0.1/24"), description="The server's address in the tunnel."
    )
    ipv6: t.Ip6Interface | None = Field(
        None, description="The server's IPv6 address in the tunnel.", examples=["fd00:66::1/64"]
    )
    port: UdpPort = Field(53, description="UDP port; 53 passes most hotel networks.")
    also_ports: list[UdpPort] = Field(
        [], description="Further UDP ports that lead to the same tunnel, like 443 and 51820."
    )
    endpoint: t.EndpointHost | None = Field(
        None,
        description="Name or address under which clients reach the server.",
        examples=["vpn.example.net"],
    )
    mtu: Annotated[int, Field(ge=1280, le=1500)] = Field(1420, description="MTU inside, bytes.")
    dns: Literal["none", "unbound"] | list[t.Ip] = Field(
        "unbound",
        description="Resolvers for clients: unbound (runs on the server, inside the tunnel only),"
        " none, or a list of addresses.",
    )
    block_lists: list[t.PathText] = Field(
        [], description="Files with names (one per line, or a hosts file) that unbound refuses."
    )
    clients_meet: bool = Field(False, description="Clients may reach each other.")
    keys: Literal["build", "first-boot"] = Field(
        "build",
        description="Where the server's key is made: build (sealed in the ISO), or first-boot: on"
        " the server, which shows its public key on the console.",
    )
    audit: bool = Field(
        True, description="Log first handshake, endpoint change and silence of peers to syslog."
    )
    upstream: UpstreamSettings | None = Field(None, description="Multi-hop, in [tunnel.upstream].")
    peers: list[PeerSettings] = Field([], description="Clients: one [[tunnel.peers]] table each.")


class PackagesSettings(Section):
    """Packages besides those the tunnel needs."""

    names: list[t.PackageName] = Field([], description="Further packages.")
    carry: bool = Field(
        True,
        description="Carry the packages in the site set; false: from a mirror at first boot.",
    )


class UpkeepSettings(Section):
    """Updates."""

    first_boot_syspatch: bool = Field(True, description="Install patches at the first boot.")
    schedule: Literal["never", "daily", "weekly"] = Field(
        "weekly", description="How often patches and package updates are installed."
    )
    time: t.Hour = Field("04:30", description="Time of day for it, on Sunday if weekly.")
    reboot: bool = Field(
        False,
        description="Reboot when a patch needs it; an encrypted disk then waits for you.",
    )


class SetsSettings(Section):
    """What is installed of the base system."""

    leave_out: list[t.SetPattern] = Field(
        ["game*", "x*"], description="Sets to leave out; patterns as in the installer."
    )


class SiteSettings(Section):
    """What else lands on the server."""

    overlay: t.PathText = Field(
        "overlay",
        description="Folder of files for the server, sealed: overlay/etc/daily.local for /etc.",
    )


class ExtraAnswer(Section):
    """A raw answer for a question that obsdimg does not know."""

    question: t.AnswerText = Field(
        description="The question, or its beginning, as the installer asks it.",
        examples=["Which disk do you wish to initialize"],
    )
    answer: t.AnswerText = Field(description="The answer.", examples=["done"])


class S3Settings(Section):
    """An S3-compatible object store from which the provider fetches the ISO."""

    endpoint: t.Url = Field(
        description="Address of the store.", examples=["https://ams1.vultrobjects.com"]
    )
    region: t.PlaceName = Field("us-east-1", description="Region that signatures name.")
    bucket: t.BucketName = Field(description="Bucket; it must be there.", examples=["my-isos"])
    prefix: t.KeyPrefix = Field("obsdimg/", description="Beginning of the object's key.")
    hours: Annotated[int, Field(ge=1, le=168)] = Field(
        6, description="How long the URL given to the provider is valid."
    )


class DeploySettings(Section):
    """Where `obsdimg deploy` makes the server (docs/vultr.md, docs/providers.md)."""

    provider: Literal["vultr", "libvirt"] = Field("vultr", description="The provider.")
    region: t.PlaceName | None = Field(
        None,
        description="Region, as the provider calls it; libvirt: a storage pool (`default`).",
        examples=["ams"],
    )
    plan: t.PlaceName = Field(
        "vc2-1c-1gb",
        description="Size of the machine, and its price; libvirt: CPUs-MiB-GB (`1c-1024m-10g`).",
    )
    label: t.HostName | None = Field(
        None,
        description="Name of the instance at the provider; default: host.name.",
        examples=["vpn"],
    )
    firewall: bool = Field(
        True, description="Make a firewall group that lets in the tunnel's ports only."
    )
    private_network: t.PrivateNetwork = Field(
        "none",
        description="none, create (for the subnet of the first of network.interfaces that has an"
        " address), or the id of one that is there.",
    )
    keep_iso: bool = Field(False, description="Keep the ISO in the account afterwards.")
    keep_object: bool = Field(False, description="Keep the object in the store afterwards.")
    api: t.Url = Field("https://api.vultr.com/v2", description="Address of the provider's API.")
    uri: t.LibvirtUri = Field("qemu:///system", description="libvirt: where it is.")
    network: t.PlaceName = Field(
        "default", description="libvirt: the network of the machine; it must give addresses."
    )
    firmware: Literal["bios", "uefi"] = Field("bios", description="libvirt: what starts the disk.")
    accelerator: Literal["auto", "none"] = Field(
        "auto", description="libvirt: kvm where the host has it, or none (slow, works everywhere)."
    )
    s3: S3Settings | None = Field(None, description="The object store, in [deploy.s3].")


class Config(Section):
    """All of obsdimg.toml."""

    release: ReleaseSettings = Field(default_factory=ReleaseSettings.model_construct)
    host: HostSettings = Field(default_factory=HostSettings.model_construct)
    network: NetworkSettings = Field(default_factory=NetworkSettings.model_construct)
    access: AccessSettings = Field(default_factory=AccessSettings.model_construct)
    disk: DiskSettings = Field(default_factory=DiskSettings.model_construct)
    tunnel: TunnelSettings = Field(default_factory=TunnelSettings.model_construct)
    packages: PackagesSettings = Field(default_factory=PackagesSettings.model_construct)
    upkeep: UpkeepSettings = Field(default_factory=UpkeepSettings.model_construct)
    sets: SetsSettings = Field(default_factory=SetsSettings.model_construct)
    site: SiteSettings = Field(default_factory=SiteSettings.model_construct)
    deploy: DeploySettings = Field(default_factory=DeploySettings.model_construct)
    answers: list[ExtraAnswer] = Field(
        [], description="Raw extra answers: one [[answers]] table each."
    )
