"""The commands and their help lines, in the order of the help.

Each command is a module of this room with `Options` (a frozen dataclass, see options.py) and
`run(options, ui) -> exit code`.  Only the module of the command that runs is imported.
"""

from __future__ import annotations

COMMANDS: dict[str, str] = {
    "demo": "build against the embedded stand-in medium: nothing to download, shows everything",
    "init": "make a new project: obsdimg.toml, secrets/, overlay/",
    "check": "validate; print every installer question with its answer, and every file of the"
    " site set",
    "fetch": "download and verify ISO and packages into the cache (resumes, several mirrors)",
    "release": "list the releases that are known; learn a newer one from its verified predecessor",
    "verify": "verify a signature, a signed checksum list with its files, or a signed package",
    "build": "build the ISO that installs the server by itself",
    "inspect": "show what is in an ISO: boot entries, ramdisk changes, response file, site set,"
    " signatures",
    "rehearse": "run the ISO's own installer script on this machine, against stand-in disks",
    "smoke": "boot an ISO in QEMU: install, reboot, unlock, use the tunnel; with a report",
    "disk": "the installed, encrypted disk as an image, or written to a machine in a rescue system",
    "client": "show a client's configuration (text, QR code), or list, add, remove, rotate clients",
    "probe": "call a deployed server as one of its clients: handshake, pings, NAT",
    "upload": "bring the ISO to the provider, who downloads it from a URL, a store or this machine",
    "deploy": "make the server at the provider, wait for its handshake, take the ISO out",
    "apply": "bring changed peers, keys, ports and pf rules to the running server, and come back",
    "status": "the running server on one screen: peers, patches, disk, what differs from here",
    "upgrade": "take the running server to the next release, through sysupgrade and two restarts",
    "inventory": "the servers as an Ansible inventory, reached through the project's own tunnel",
    "console": "the screen of a machine, live in this terminal; keys go to the machine",
    "unlock": "type the disk's passphrase on a machine's console, and wait for the handshake",
    "backup": "keep the project's keys and settings in one encrypted file",
    "restore": "put back what a backup holds and the project has lost",
    "ssh": "log in to the server through the project's own tunnel, without WireGuard on this"
    " computer",
    "completion": "print what makes bash, zsh or fish complete the words of this command",
}
