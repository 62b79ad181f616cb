"""The rehearsal room: an ISO's own installer script runs here, against stand-in disks.

`rehearse_iso(path)` and `rehearse_tree(tree, cd)` give a `Rehearsal`; `Machine` says what the
installer finds, `Operator` what somebody at the console types.  docs/rehearsal.md says what is
real and what is pretended.
"""

from __future__ import annotations

from obsdimg.rehearsal.host import SandboxError, find_host
from obsdimg.rehearsal.limits import RehearsalLimits
from obsdimg.rehearsal.machine import (
    Dhcp,
    MachineChanges,
    MachineDisk,
    MachineNic,
    Operator,
    RehearsalMachine,
    Reply,
    TypedPassphrase,
    likely_machine,
)
from obsdimg.rehearsal.ramdisk import RamdiskNode, tree_of
from obsdimg.rehearsal.rehearse import FilesCd, IsoCd, LayeredCd, rehearse_iso, rehearse_tree
from obsdimg.rehearsal.result import Landed, Rehearsal, RehearsalVerdict

__all__ = [
    "Dhcp",
    "FilesCd",
    "IsoCd",
    "Landed",
    "LayeredCd",
    "MachineChanges",
    "MachineDisk",
    "MachineNic",
    "Operator",
    "RamdiskNode",
    "Rehearsal",
    "RehearsalLimits",
    "RehearsalMachine",
    "RehearsalVerdict",
    "Reply",
    "SandboxError",
    "TypedPassphrase",
    "find_host",
    "likely_machine",
    "rehearse_iso",
    "rehearse_tree",
    "tree_of",
]
