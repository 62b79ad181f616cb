"""The system calls that nothing in the sandbox needs: a filter in the form that bwrap loads.

A list of what is refused, not of what is allowed: the host's own libc decides which calls a
shell makes, and that changes.  bubblewrap's namespaces are the wall; this makes it thicker: no
tracing of other processes, no new namespaces, no mounts, no sockets, no keyrings, no typing
into a terminal.

Sources: seccomp(2), linux/filter.h, linux/seccomp.h, the tables of system calls of x86-64 and
of arm64 (asm-generic/unistd.h).
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

# BPF instructions: class, size, mode, comparison (linux/bpf_common.h).
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000  # SECCOMP_RET_ERRNO, the number in the low half
_KILL = 0x80000000

# Offsets in struct seccomp_data; of an argument the low half (both ports are little-endian).
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
}
"""Numbers that all ports share."""

_X86_64 = {
    "socket": 41,
    "socketpair": 53,
    "ptrace": 101,
    "syslog": 103,
    "personality": 135,
    "vhangup": 153,
    "modify_ldt": 154,
    "pivot_root": 155,
    "adjtimex": 159,
    "chroot": 161,
    "acct": 163,
    "settimeofday": 164,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "sethostname": 170,
    "setdomainname": 171,
    "iopl": 172,
    "ioperm": 173,
    "init_module": 175,
    "delete_module": 176,
    "quotactl": 179,
    "clock_settime": 227,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "migrate_pages": 256,
    "unshare": 272,
    "move_pages": 279,
    "perf_event_open": 298,
    "fanotify_init": 300,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "clock_adjtime": 305,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "finit_module": 313,
    "kexec_file_load": 320,
    "bpf": 321,
    "userfaultfd": 323,
}
_ARM64 = {
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "chroot": 51,
    "vhangup": 58,
    "quotactl": 60,
    "acct": 89,
    "personality": 92,
    "unshare": 97,
    "kexec_load": 104,
    "init_module": 105,
    "delete_module": 106,
    "clock_settime": 112,
    "syslog": 116,
    "ptrace": 117,
    "reboot": 142,
    "sethostname": 161,
    "setdomainname": 162,
    "settimeofday": 170,
    "adjtimex": 171,
    "socket": 198,
    "socketpair": 199,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "swapon": 224,
    "swapoff": 225,
    "migrate_pages": 238,
    "move_pages": 239,
    "perf_event_open": 241,
    "fanotify_init": 262,
    "name_to_handle_at": 264,
    "open_by_handle_at": 265,
    "clock_adjtime": 266,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "finit_module": 273,
    "bpf": 280,
    "userfaultfd": 282,
    "kexec_file_load": 294,
}


@dataclass(frozen=True)
class CallTable:
    """A processor's calls: AUDIT_ARCH number, what is refused, the calls that are looked into.

    `second_table`: numbers from here on belong to another calling convention (x32), or 0.
    """

    audit: int
    refused: Mapping[str, int]
    clone: int
    ioctl: int
    clone3: int = 435
    second_table: int = 0


PORTS = {
    "x86_64": CallTable(0xC000003E, {**_X86_64, **_COMMON}, 56, 16, second_table=0x40000000),
    "aarch64": CallTable(0xC00000B7, {**_ARM64, **_COMMON}, 220, 29),
}


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """The filter for `machine` (default: this one), or None for a processor without a table."""
    port = PORTS.get(machine or platform.machine())
    if port is None:
        return None
    refuse = _REFUSE | errno.EPERM
    code = [_op(_LOAD, _ARCH), _op(_EQUAL, port.audit, 1, 0), _op(_RETURN, _KILL)]
    code.append(_op(_LOAD, _NUMBER))
    if port.second_table:
        code += [_op(_AT_LEAST, port.second_table, 0, 1), _op(_RETURN, _KILL)]
    for number in sorted(port.refused.values()):
        code += [_op(_EQUAL, number, 0, 1), _op(_RETURN, refuse)]
    # clone3 passes its flags by reference, out of reach: libc then falls back to clone.
    code += [_op(_EQUAL, port.clone3, 0, 1), _op(_RETURN, _REFUSE | errno.ENOSYS)]
    code += [_op(_EQUAL, port.clone, 0, 4), _op(_LOAD, _FIRST)]
    code += [_op(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _op(_RETURN, refuse), _op(_RETURN, _ALLOW)]
    code += [_op(_EQUAL, port.ioctl, 0, 4), _op(_LOAD, _SECOND)]
    code += [_op(_EQUAL, _TIOCSTI, 1, 0), _op(_EQUAL, _TIOCLINUX, 0, 1), _op(_RETURN, refuse)]
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
