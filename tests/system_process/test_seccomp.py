"""The system call filter, loaded for real; each call works without it (or fails otherwise)."""

import errno
import platform
import struct
import sys
from collections.abc import Callable

import pytest

from commandcenter.system import process, seccomp

PROBE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
program = bytes.fromhex(sys.argv[1])
if program:
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
    libc.prctl(38, 1, 0, 0, 0)
    filter = Program(len(program) // 8, program)
    assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
ctypes.set_errno(0)
result = libc.syscall(*[ctypes.c_long(int(word)) for word in sys.argv[2:]])
print("ok" if result >= 0 else ctypes.get_errno())
sys.stdout.flush()
os._exit(0)
"""
MACHINE = platform.machine()
X86_64 = pytest.mark.skipif(MACHINE != "x86_64", reason="numbers of x86_64")
CALLS = {
    "clone3": ((435, 0, 0), errno.ENOSYS),
    "unshare a user namespace": ((272, 0x10000000), errno.EPERM),
    "clone a user namespace": ((56, 0x10000000 | 17, 0, 0, 0, 0), errno.EPERM),
    "mount": ((165, 0, 0, 0, 0, 0), errno.EPERM),
    "keyctl": ((250, 0, -3, 0), errno.EPERM),
    "bpf": ((321, 0, 0, 0), errno.EPERM),
    "io_uring_setup": ((425, 0, 0), errno.EPERM),
    "userfaultfd": ((323, 0), errno.EPERM),
    "perf_event_open": ((298, 0, 0, -1, -1, 0), errno.EPERM),
    "push a character into the terminal": ((16, 0, 0x5412, 0), errno.EPERM),
    "the same with a high word": ((16, 0, 0x5412 | 1 << 32, 0), errno.EPERM),
    "a VSOCK socket": ((41, 40, 1, 0), errno.EAFNOSUPPORT),
    "a packet socket": ((41, 17, 3, 0), errno.EAFNOSUPPORT),
    "a crypto socket": ((41, 38, 5, 0), errno.EAFNOSUPPORT),
    "a pair of VSOCK sockets": ((53, 40, 1, 0, 0), errno.EAFNOSUPPORT),
    "an x32 call": ((0x40000000 | 39,), errno.ENOSYS),
}
NOT_IN_EVERY_KERNEL = {
    "an x32 call",
    "bpf",
    "a crypto socket",
    "a VSOCK socket",
    "a pair of VSOCK sockets",
}
ALLOWED = {
    "getpid": (39,),
    "fork by clone": (56, 17, 0, 0, 0, 0),
    "a unix socket": (41, 1, 1, 0),
    "an internet socket": (41, 2, 1, 0),
    "an IPv6 socket": (41, 10, 1, 0),
    "a netlink socket": (41, 16, 3, 0),
}


async def call(program: bytes, numbers: tuple[int, ...]) -> str:
    argv = (sys.executable, "-I", "-c", PROBE, program.hex(), *map(str, numbers))
    done = await process.run(argv)
    return done.stdout.decode().split("\n")[0] if done.exit_code == 0 else f"{done.exit_code}"


@X86_64
@pytest.mark.parametrize("name", CALLS)
async def test_a_dangerous_call_is_refused(name: str) -> None:
    numbers, refusal = CALLS[name]

    free, filtered = [await call(program, numbers) for program in (b"", seccomp.program(MACHINE))]

    assert filtered == str(int(refusal))
    # Without the filter each works, or fails for another reason.
    assert free != filtered or name in NOT_IN_EVERY_KERNEL


REACHES_OTHERS = {
    "shared memory by its number": ((30, 0, 0, 0), errno.EPERM),
    "a message queue": ((68, 0, 0o1000 | 0o600), errno.EPERM),
    "somebody's semaphores": ((65, 0, 0, 0), errno.EPERM),
    "the limits of another process": ((302, 1, 7, 0, 0), errno.EPERM),
    "the priority of a user": ((141, 2, 12345, 19), errno.EPERM),
    "a datagram socket": ((41, 2, 2, 0), errno.EPERM),
    "a datagram socket that says more": ((41, 2, 2 | 0x80000, 0), errno.EPERM),
    "a raw socket": ((41, 2, 3, 1), errno.EPERM),
    "a socket of several paths": ((41, 2, 1, 262), errno.EPERM),
    "an IPv6 socket": ((41, 10, 1, 0), errno.EAFNOSUPPORT),
    "a unix socket": ((41, 1, 1, 0), errno.EAFNOSUPPORT),
    "news of devices": ((41, 16, 3, 15), errno.EPERM),
    "a pair of datagram sockets": ((53, 1, 2, 0, 0), errno.EPERM),
    "a fast open": ((44, 0, 0, 0, 0x20000000, 0, 0), errno.EPERM),
    "a fast open by message": ((46, 0, 0, 0x20000000), errno.EPERM),
    "a fast open by messages": ((307, 0, 0, 0, 0x20000000), errno.EPERM),
}
NOT_HERE = {"the limits of another process", "a socket of several paths"}
"""What may fail alike without the filter: for an ordinary user, or in a kernel without it."""


@X86_64
@pytest.mark.parametrize("name", REACHES_OTHERS)
async def test_what_reaches_others_is_refused_where_nothing_is_ones_own(name: str) -> None:
    numbers, refusal = REACHES_OTHERS[name]
    programs = (b"", seccomp.unshared_program(MACHINE))

    free, filtered = [await call(program, numbers) for program in programs]

    assert filtered == str(int(refusal))
    assert free != filtered or name in NOT_HERE


@X86_64
@pytest.mark.parametrize(
    "numbers",
    [(302, 0, 7, 0, 0), (141, 0, 0, 0), (41, 16, 3, 0), (203, 0, 0, 0), (39,)],
    ids=str,
)
async def test_what_is_ones_own_is_let_through_there(numbers: tuple[int, ...]) -> None:
    free, filtered = [
        await call(program, numbers) for program in (b"", seccomp.unshared_program(MACHINE))
    ]

    assert filtered == free


@X86_64
@pytest.mark.parametrize("name", ALLOWED)
async def test_an_ordinary_call_is_not(name: str) -> None:
    assert await call(seccomp.program(MACHINE), ALLOWED[name]) == "ok"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("phrase", [seccomp.program, seccomp.unshared_program])
def test_every_path_through_the_program_ends_in_a_return(
    machine: str, phrase: Callable[[str], bytes]
) -> None:
    program = phrase(machine)
    instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]

    for place, (code, if_true, if_false, _) in enumerate(instructions):
        if code != 0x06:
            assert place + 1 + max(if_true, if_false) < len(instructions)
    assert instructions[-1][0] == 0x06
    assert len(instructions) < 4096


def test_an_unknown_machine_is_not_supported() -> None:
    assert not seccomp.supported("riscv64")
