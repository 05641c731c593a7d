"""A disk of one's own, as a file: it can be filled, and its power can be cut."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commandcenter.system.boot import boot_id

_SHUT_DOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN: the same number."""
_NOTE_BYTES = 1024
_WITHOUT_THE_LOG = struct.pack("I", 2)
_SIZE_BYTES = {"ext4": 256 * 2**20, "xfs": 320 * 2**20}
_FORMAT = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


def journalled() -> tuple[str, ...]:
    """Return the file systems whose power this machine can cut; empty without root or mkfs."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        return ()
    known = Path("/proc/filesystems").read_text().split()
    return tuple(kind for kind, (mkfs, *_) in _FORMAT.items() if kind in known and _has(mkfs))


def _has(program: str) -> bool:
    return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None


@dataclass(frozen=True)
class Disk:
    """A mounted file system of its own."""

    folder: Path
    """Where it is mounted."""
    kind: str
    image: Path
    """The file that it lies in; for `tmpfs` there is none."""

    def cut_power(self) -> None:
        """Lose everything that was not synced, as a power cut does, and mount what is left.

        Whoever still has a file of it open meets errors there, for ever.
        """
        self.turn_off()
        self.turn_on()

    def turn_off(self) -> None:
        """Let nothing more reach the disk. Everybody who uses it meets errors from now on."""
        at = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(at, _SHUT_DOWN, _WITHOUT_THE_LOG)
        finally:
            os.close(at)

    def turn_on(self) -> None:
        """Mount what reached the disk: the file system replays its journal, as after a reboot.

        A copy, since another mount namespace may hold the dead file system for a while: every
        sandbox that somebody starts on this machine meanwhile.
        """
        _unmount(self.folder)
        survivor = self.image.with_suffix(".survivor")
        _run("cp", "--sparse=always", str(self.image), str(survivor))
        survivor.replace(self.image)
        _mount(self.kind, self.image, self.folder)
        _reboot(self.folder)

    def commit_journal(self) -> None:
        """Make the file system commit its journal, as any program's `fsync` does at any time."""
        at = os.open(self.folder / "somebody", os.O_WRONLY | os.O_CREAT)
        try:
            os.write(at, b"x")
            os.fsync(at)
        finally:
            os.close(at)

    @contextmanager
    def filled(self, *, left_kib: int = 0) -> Iterator[None]:
        """Leave no more than so many KiB free until the block ends."""
        filler = self.folder / "filler"
        try:
            _fill(filler, self.folder, left_kib * 1024)
            yield
        finally:
            filler.unlink(missing_ok=True)


@contextmanager
def disk(folder: Path, kind: str) -> Iterator[Disk]:
    """Have a journalled file system of this kind, in a file beside `folder`, until the block ends.

    It needs root and loop devices: see `journalled`.
    """
    image = folder.with_name(f"{folder.name}.img")
    folder.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES[kind])
    _run(*_FORMAT[kind], str(image))
    _mount(kind, image, folder)
    try:
        yield Disk(folder, kind, image)
    finally:
        _unmount(folder)
        image.unlink()


@contextmanager
def small_disk(folder: Path, *, mebibytes: int) -> Iterator[Disk]:
    """Have a file system in memory that holds no more than this, until the block ends."""
    folder.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "tmpfs", str(folder))
    try:
        yield Disk(folder, "tmpfs", folder)
    finally:
        _unmount(folder)


@contextmanager
def elsewhere(folder: Path, real: Path) -> Iterator[None]:
    """Have a folder lie on another file system, below `real`, until the block ends."""
    for each in (folder, real):
        each.mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", str(real), str(folder))
    try:
        yield
    finally:
        _unmount(folder)


def _fill(filler: Path, folder: Path, left_bytes: int) -> None:
    with filler.open("ab") as file:
        # A file system tells only roughly what is free: it is filled until it refuses more.
        while (free := _free(folder) - left_bytes) > 0:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), min(free, 2**24))
                continue
            break


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def kill_users(folder: Path, *names: str) -> None:
    """Kill every process that names a folder in its command line, as its machine's end would.

    Also those that have a file open below one of these `names`: half a bubblewrap, which would
    wait for the other half for ever, sees the folder elsewhere.
    """
    # One that was just started may start others while we look.
    while _kill_those_seen(os.fsencode(folder), names):
        pass


def _kill_those_seen(mark: bytes, names: Sequence[str]) -> bool:
    """Kill who uses what is marked or named so; say whether there was somebody."""
    seen = False
    for process in filter(str.isdecimal, os.listdir("/proc")):
        # It may end while we look.
        with contextlib.suppress(OSError):
            if int(process) != os.getpid() and _uses(Path("/proc", process), mark, names):
                os.kill(int(process), signal.SIGKILL)
                seen = True
    return seen


def _uses(process: Path, mark: bytes, names: Sequence[str]) -> bool:
    if mark in (process / "cmdline").read_bytes():
        return True
    # The links tell where a file is without a look at its disk, which may be gone.
    files = [os.readlink(process / "fd" / each) for each in os.listdir(process / "fd") if names]
    return any(f"/{name}/" in file for file in files for name in names)


def _reboot(folder: Path) -> None:
    """Make what was noted of this start of the machine a note of an earlier one.

    What git locked is older than this start, too.
    """
    now, before = boot_id().encode(), str(uuid.uuid4()).encode()
    for place, _, files in os.walk(os.fsencode(folder)):
        for name in files:
            path = Path(os.fsdecode(os.path.join(place, name)))
            if path.suffix == ".lock":
                os.utime(path, (0, 0), follow_symlinks=False)
            if path.is_file() and now in (content := path.read_bytes()[:_NOTE_BYTES]):
                path.write_bytes(content.replace(now, before))


def _mount(kind: str, image: Path, folder: Path) -> None:
    options = "loop,nouuid" if kind == "xfs" else "loop"
    _run("mount", "-t", kind, "-o", options, str(image), str(folder))


def _unmount(folder: Path) -> None:
    # Lazily: those who died with the power let go of it when they notice.
    _run("umount", "--lazy", str(folder))


def _run(*argv: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")
