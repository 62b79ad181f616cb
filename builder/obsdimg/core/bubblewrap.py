"""bubblewrap, the program that makes namespaces for users: where it is, and what forbids it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_SETTINGS = (
    ("user/max_user_namespaces", "0", "15000"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
)
"""Kernel settings that forbid users to make namespaces: name, forbidding value, a good one."""


def search_path() -> str:
    """Where programs of the system are looked for: PATH, and the system's own folders."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"


def find_bubblewrap() -> str | None:
    """The program, if it is installed."""
    return shutil.which("bwrap", path=search_path())


def forbidden_by(proc: Path = Path("/proc/sys")) -> str:
    """The hint that names the setting which forbids user namespaces."""
    for name, bad, good in _SETTINGS:
        try:
            value = (proc / name).read_text().strip()
        except OSError:
            continue
        if value == bad:
            dotted = name.replace("/", ".")
            extra = " (or give bwrap an AppArmor profile)" if "apparmor" in name else ""
            return f"the setting {dotted} is {bad}: sysctl {dotted}={good}{extra}"
    return (
        "no setting of the kernel forbids it: in a container, its own rules do"
        " (podman and docker: --security-opt seccomp=unconfined)"
    )
