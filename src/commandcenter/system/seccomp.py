"""The system calls that a sandboxed program may not make, as classic BPF programs."""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_MASK = 0x54
_ALLOW, _KILL_PROCESS, _FAIL, _ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000

# Offsets in struct seccomp_data; of an argument, the low 32 bits on a little-endian machine.
_NUMBER, _ARCHITECTURE, _ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2, _ARGUMENT_3 = 0, 4, 16, 24, 32, 40

_X32_BIT = 0x40000000
_NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_NEW_MOUNTS = 0x00020000
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: they put characters into the terminal of whoever started us."""
_FAMILIES = (1, 2, 10, 16)
"""UNIX, INET, INET6 and NETLINK. Not VSOCK, PACKET, ALG: they reach past the network namespace."""
_UNIX, _INTERNET, _NETLINK = 1, 2, 16
_STREAM, _TYPE, _SEQUENCED = 1, 0xF, 5
_TCP, _ROUTES = 6, 0
_FAST_OPEN = 0x20000000
"""MSG_FASTOPEN: calls a port past whatever looks at calls."""

_Code = tuple[bytes, ...]


@dataclass(frozen=True)
class _Machine:
    architecture: int
    clone: int
    clone3: int
    socket: int
    socketpair: int
    ioctl: int
    denied: Mapping[str, int]
    shared: Mapping[str, int]
    """What is only denied where it reaches others: there are no namespaces."""
    of_others: Mapping[str, int]
    """The same, but only when the first argument names another process."""
    of_anybody: Mapping[str, int]
    """The same, but only when the second argument names anybody else."""
    sending: Mapping[str, int]
    """Each with the offset of its flags in `_SENDING_FLAGS`."""
    has_x32: bool = False


_DENIED_X86_64 = MappingProxyType(
    {
        "acct": 163,
        "add_key": 248,
        "adjtimex": 159,
        "bpf": 321,
        "chroot": 161,
        "clock_adjtime": 305,
        "clock_settime": 227,
        "delete_module": 176,
        "finit_module": 313,
        "fsconfig": 431,
        "fsmount": 432,
        "fsopen": 430,
        "fspick": 433,
        "init_module": 175,
        "io_uring_enter": 426,
        "io_uring_register": 427,
        "io_uring_setup": 425,
        "ioperm": 173,
        "iopl": 172,
        "kexec_file_load": 320,
        "kexec_load": 246,
        "keyctl": 250,
        "lookup_dcookie": 212,
        "modify_ldt": 154,
        "mount": 165,
        "mount_setattr": 442,
        "move_mount": 429,
        "name_to_handle_at": 303,
        "nfsservctl": 180,
        "open_by_handle_at": 304,
        "open_tree": 428,
        "perf_event_open": 298,
        "pivot_root": 155,
        "quotactl": 179,
        "quotactl_fd": 443,
        "reboot": 169,
        "request_key": 249,
        "setdomainname": 171,
        "sethostname": 170,
        "setns": 308,
        "settimeofday": 164,
        "swapoff": 168,
        "swapon": 167,
        "syslog": 103,
        "umount2": 166,
        "unshare": 272,
        "userfaultfd": 323,
        "vhangup": 153,
    }
)
_DENIED_AARCH64 = MappingProxyType(
    {
        "acct": 89,
        "add_key": 217,
        "adjtimex": 171,
        "bpf": 280,
        "chroot": 51,
        "clock_adjtime": 266,
        "clock_settime": 112,
        "delete_module": 106,
        "finit_module": 273,
        "fsconfig": 431,
        "fsmount": 432,
        "fsopen": 430,
        "fspick": 433,
        "init_module": 105,
        "io_uring_enter": 426,
        "io_uring_register": 427,
        "io_uring_setup": 425,
        "kexec_file_load": 294,
        "kexec_load": 104,
        "keyctl": 219,
        "lookup_dcookie": 18,
        "mount": 40,
        "mount_setattr": 442,
        "move_mount": 429,
        "name_to_handle_at": 264,
        "nfsservctl": 42,
        "open_by_handle_at": 265,
        "open_tree": 428,
        "perf_event_open": 241,
        "pivot_root": 41,
        "quotactl": 60,
        "quotactl_fd": 443,
        "reboot": 142,
        "request_key": 218,
        "setdomainname": 162,
        "sethostname": 161,
        "setns": 268,
        "settimeofday": 170,
        "swapoff": 225,
        "swapon": 224,
        "syslog": 116,
        "umount2": 39,
        "unshare": 97,
        "userfaultfd": 282,
        "vhangup": 58,
    }
)
_SENDING_FLAGS = MappingProxyType(
    {"sendto": _ARGUMENT_3, "sendmsg": _ARGUMENT_2, "sendmmsg": _ARGUMENT_3}
)
_SHARED_X86_64 = MappingProxyType(
    {
        "mq_open": 240,
        "mq_unlink": 241,
        "msgctl": 71,
        "msgget": 68,
        "msgrcv": 70,
        "msgsnd": 69,
        "semctl": 66,
        "semget": 64,
        "semop": 65,
        "semtimedop": 220,
        "shmat": 30,
        "shmctl": 31,
        "shmget": 29,
    }
)
_SHARED_AARCH64 = MappingProxyType(
    {
        "mq_open": 180,
        "mq_unlink": 181,
        "msgctl": 187,
        "msgget": 186,
        "msgrcv": 188,
        "msgsnd": 189,
        "semctl": 191,
        "semget": 190,
        "semop": 193,
        "semtimedop": 192,
        "shmat": 196,
        "shmctl": 195,
        "shmget": 194,
    }
)
_OF_OTHERS_X86_64 = MappingProxyType(
    {
        "prlimit64": 302,
        "sched_setaffinity": 203,
        "sched_setattr": 314,
        "sched_setparam": 142,
        "sched_setscheduler": 144,
    }
)
_OF_OTHERS_AARCH64 = MappingProxyType(
    {
        "prlimit64": 261,
        "sched_setaffinity": 122,
        "sched_setattr": 274,
        "sched_setparam": 118,
        "sched_setscheduler": 119,
    }
)
_MACHINES: Mapping[str, _Machine] = MappingProxyType(
    {
        "x86_64": _Machine(
            *(0xC000003E, 56, 435, 41, 53, 16, _DENIED_X86_64, _SHARED_X86_64, _OF_OTHERS_X86_64),
            MappingProxyType({"setpriority": 141, "ioprio_set": 251}),
            MappingProxyType({"sendto": 44, "sendmsg": 46, "sendmmsg": 307}),
            has_x32=True,
        ),
        "aarch64": _Machine(
            *(0xC00000B7, 220, 435, 198, 199, 29, _DENIED_AARCH64),
            *(_SHARED_AARCH64, _OF_OTHERS_AARCH64),
            MappingProxyType({"setpriority": 140, "ioprio_set": 30}),
            MappingProxyType({"sendto": 206, "sendmsg": 211, "sendmmsg": 269}),
        ),
    }
)


def supported(machine: str) -> bool:
    """Say whether there is a filter for `machine` (as `platform.machine()` names it)."""
    return machine in _MACHINES


def program(machine: str) -> bytes:
    """Return the filter for `machine` as `bwrap --seccomp` reads it.

    Denied calls fail with EPERM, so that a program can go on without them; a call of a foreign
    architecture kills, since its numbers mean other things.
    """
    kind = _MACHINES[machine]
    blocks = (
        _native_only(kind),
        # glibc falls back to clone, whose flags a filter can see.
        _when(kind.clone3, _fail(errno.ENOSYS)),
        *(_when(number, _fail(errno.EPERM)) for number in kind.denied.values()),
        _when(kind.clone, _refuse_namespaces()),
        _when(kind.ioctl, _refuse_terminal_input()),
        _when(kind.socket, _only_families(_FAMILIES)),
        _when(kind.socketpair, _only_families(_FAMILIES)),
        (_statement(_RETURN, _ALLOW),),
    )
    return b"".join(_joined(blocks))


def unshared_program(machine: str) -> bytes:
    """Return what is refused besides, where a command shares the machine's network and IPC.

    Every TCP socket is asked for: whoever listens to the filter hands one over. All other sockets
    by which somebody outside could be reached are refused.
    """
    kind = _MACHINES[machine]
    blocks = (
        _native_only(kind),
        *(_when(number, _fail(errno.EPERM)) for number in kind.shared.values()),
        *(_when(number, _only_zero(_ARGUMENT_0)) for number in kind.of_others.values()),
        *(_when(number, _only_zero(_ARGUMENT_1)) for number in kind.of_anybody.values()),
        *(_when(kind.sending[name], _refuse_fast_open(at)) for name, at in _SENDING_FLAGS.items()),
        _when(kind.socket, _ask_for_tcp()),
        _when(kind.socketpair, _only_connected_pairs()),
        (_allow(),),
    )
    return b"".join(_joined(blocks))


def profile(machine: str) -> bytes:
    """Return the same filter as container engines read it: everything but this is allowed.

    One difference: a call by the x32 numbers kills, too, since they cannot be told from a foreign
    architecture there.
    """
    kind = _MACHINES[machine]
    rules = [
        _rule(["clone3"], errno.ENOSYS),
        _rule(list(kind.denied), errno.EPERM),
        *(_rule(["clone"], errno.EPERM, _masked(0, flag, flag)) for flag in _single_flags()),
        *(_rule(["ioctl"], errno.EPERM, _masked(1, 0xFFFFFFFF, code)) for code in _TERMINAL_INPUT),
        *(
            _rule([call], errno.EAFNOSUPPORT, condition)
            for call in ("socket", "socketpair")
            for condition in _other_families()
        ),
    ]
    said = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [f"SCMP_ARCH_{machine.upper()}"],
        "syscalls": rules,
    }
    return json.dumps(said).encode()


def _rule(names: list[str], code: int, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "names": names,
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": code,
        "args": list(conditions),
    }


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _single_flags() -> Iterable[int]:
    return (1 << bit for bit in range(32) if (_NAMESPACES | _NEW_MOUNTS) >> bit & 1)


def _other_families() -> Iterable[dict[str, Any]]:
    """Give conditions that are met by every family but ours; such a file can only say "or"."""
    for family in range(max(_FAMILIES)):
        if family not in _FAMILIES:
            yield {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}
    yield {"index": 0, "value": max(_FAMILIES), "op": "SCMP_CMP_GT"}


def _native_only(kind: _Machine) -> _Code:
    x32 = (_jump(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1), *_fail(errno.ENOSYS))
    return (
        _statement(_LOAD, _ARCHITECTURE),
        _jump(_JUMP_EQUAL, kind.architecture, 1, 0),
        _statement(_RETURN, _KILL_PROCESS),
        _statement(_LOAD, _NUMBER),
        *(x32 if kind.has_x32 else ()),
    )


def _when(number: int, then: _Code) -> _Code:
    """Run `then`, which must return, for this system call; else skip it."""
    return (_jump(_JUMP_EQUAL, number, 0, len(then)), *then)


def _refuse_namespaces() -> _Code:
    return (
        _statement(_LOAD, _ARGUMENT_0),
        _jump(_JUMP_ANY_BIT, _NAMESPACES | _NEW_MOUNTS, 0, 1),
        *_fail(errno.EPERM),
        _statement(_RETURN, _ALLOW),
    )


def _refuse_terminal_input() -> _Code:
    return (
        _statement(_LOAD, _ARGUMENT_1),
        *_match_any(_TERMINAL_INPUT, then=_fail(errno.EPERM), otherwise=(_allow(),)),
    )


def _only_families(families: tuple[int, ...]) -> _Code:
    return (
        _statement(_LOAD, _ARGUMENT_0),
        *_match_any(families, then=(_allow(),), otherwise=_fail(errno.EAFNOSUPPORT)),
    )


def _ask_for_tcp() -> _Code:
    asked = (
        _statement(_LOAD, _ARGUMENT_1),
        _statement(_MASK, _TYPE),
        _jump(_JUMP_EQUAL, _STREAM, 1, 0),
        *_fail(errno.EPERM),
        _statement(_LOAD, _ARGUMENT_2),
        *_match_any((0, _TCP), then=(_statement(_RETURN, _ASK),), otherwise=_fail(errno.EPERM)),
    )
    return (
        _statement(_LOAD, _ARGUMENT_0),
        _jump(_JUMP_EQUAL, _INTERNET, 0, len(asked)),
        *asked,
        # Programs list the machine's network interfaces by it.
        _jump(_JUMP_EQUAL, _NETLINK, 1, 0),
        *_fail(errno.EAFNOSUPPORT),
        _statement(_LOAD, _ARGUMENT_2),
        *_match_any((_ROUTES,), then=(_allow(),), otherwise=_fail(errno.EPERM)),
    )


def _only_connected_pairs() -> _Code:
    """A pair of datagram sockets could send to any other."""
    return (
        _statement(_LOAD, _ARGUMENT_0),
        _jump(_JUMP_EQUAL, _UNIX, 1, 0),
        *_fail(errno.EAFNOSUPPORT),
        _statement(_LOAD, _ARGUMENT_1),
        _statement(_MASK, _TYPE),
        *_match_any((_STREAM, _SEQUENCED), then=(_allow(),), otherwise=_fail(errno.EPERM)),
    )


def _only_zero(argument: int) -> _Code:
    return (
        _statement(_LOAD, argument),
        *_match_any((0,), then=(_allow(),), otherwise=_fail(errno.EPERM)),
    )


def _refuse_fast_open(flags: int) -> _Code:
    return (
        _statement(_LOAD, flags),
        _jump(_JUMP_ANY_BIT, _FAST_OPEN, 0, 1),
        *_fail(errno.EPERM),
        _allow(),
    )


def _match_any(values: tuple[int, ...], *, then: _Code, otherwise: _Code) -> _Code:
    """Run `then` when the loaded word is one of `values`; both branches must return."""
    tests = tuple(
        _jump(_JUMP_EQUAL, value, len(values) - 1 - index + len(otherwise), 0)
        for index, value in enumerate(values)
    )
    return (*tests, *otherwise, *then)


def _fail(code: int) -> _Code:
    return (_statement(_RETURN, _FAIL | code),)


def _allow() -> bytes:
    return _statement(_RETURN, _ALLOW)


def _statement(code: int, operand: int) -> bytes:
    return _jump(code, operand, 0, 0)


def _jump(code: int, operand: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _joined(blocks: Iterable[_Code]) -> Iterable[bytes]:
    return (instruction for block in blocks for instruction in block)
