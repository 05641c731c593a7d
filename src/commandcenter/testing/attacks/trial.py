"""Runs the attacks from within: once in a workspace, once as a plain process of the host."""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import os
import platform
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from commandcenter.core.workspace import CHANNEL, Command, Workspace, WorkspaceKey, Workspaces
from commandcenter.system import process, sandbox, seccomp
from commandcenter.testing.attacks import inside
from commandcenter.testing.attacks.victims import Victims, victims
from commandcenter.testing.workspaces import Example, example_vault

PROGRAM = Path(inside.__file__)
NAMES = tuple(inside.ATTACKS)
TIMEOUT_S = 300
_UNREFUSED = {errno.errorcode[code] for code in (errno.EXFULL,)}
# What the attacks change of the host, they change of a copy: only this process sees it.
_UNPROTECTED = """
set -e
for place in /usr/local/bin /etc; do
    mkdir -p "$1$place/upper" "$1$place/work"
    mount -t overlay -o "lowerdir=$place,upperdir=$1$place/upper,workdir=$1$place/work" none $place
done
mkdir "$1/shelf"
mount --bind "$1/shelf" "$1/shelf"
mount -o remount,bind,ro "$1/shelf"
"""
_CARELESS = 'exec 9<"$2"; cd "$1"; exec "$3" -I "$4"'


@dataclass(frozen=True)
class Verdict:
    """How one attack went, as it says itself."""

    worked: bool
    detail: str
    """Why it did not: the name of an errno, or words."""


@dataclass(frozen=True)
class Trial:
    """How all attacks went."""

    verdicts: Mapping[str, Verdict]
    harmed: frozenset[str]
    """Those that left a trace on the host."""
    seen: frozenset[str] = frozenset()
    """The system calls that a filter saw, whether this kernel has them or not."""


async def in_workspace(workspaces: Workspaces) -> Trial:
    """Try everything from within a workspace of this kind, while another one is open."""
    with _open_folder() as folder:
        example = await example_vault(folder)
        async with (
            _opened(workspaces, example, "attacker") as workspace,
            _opened(workspaces, example, "other") as other,
        ):
            place = other.contents().upper or other.contents().tree
            assert place is not None
            with victims(folder / "victims", place, example.vault / "objects") as hit:
                verdicts = await _inside(workspace, hit)
                return Trial(verdicts, hit.harmed_by())


def _opened(workspaces: Workspaces, example: Example, task: str) -> Any:
    key = WorkspaceKey("run", task, 1)
    return workspaces.open(key, vault=example.vault, commit=example.commit)


async def _inside(workspace: Workspace, hit: Victims) -> Mapping[str, Verdict]:
    targets = {
        **hit.targets,
        "read_only": "/usr",
        "scratch": "/tmp",  # noqa: S108 - inside
    }
    done = await workspace.run(
        "attacks",
        Command(
            ("python3", "-I", f"{CHANNEL}/{PROGRAM.name}"),
            # Where a kind has no such place, it says there where it is.
            environment={inside.OBJECTS: sandbox.VAULT_OBJECTS},
            stdin=json.dumps({"attacks": NAMES, "targets": targets}).encode(),
            files={PROGRAM.name: PROGRAM.read_bytes()},
            timeout_s=TIMEOUT_S,
        ),
    )
    assert done.ok, done
    return _verdicts(done.stdout)


@functools.cache
def unprotected() -> Trial:
    """Try everything without protection, on victims of its own; once for all kinds."""
    return asyncio.run(_unprotected())


async def _unprotected() -> Trial:
    with _open_folder() as folder:
        (folder / "other").mkdir()
        example = await example_vault(folder)
        with victims(folder / "victims", folder / "other", example.vault / "objects") as hit:
            verdicts = await _as_plain_process(folder / "scratch", hit, NAMES)
            seen = await _as_plain_process(folder / "seen", hit, sorted(inside.CALLS), marked())
            layers = (
                folder / "scratch" / "usr/local/bin/upper",
                folder / "scratch" / "etc/upper",
                folder / "scratch" / "shelf",
            )
            harmed = hit.harmed_by(*layers)
    saw = {name for name, verdict in seen.items() if verdict.detail == "EXFULL"}
    return Trial(verdicts, harmed, frozenset(saw))


async def _as_plain_process(
    scratch: Path, hit: Victims, names: Any, filter_program: bytes = b""
) -> Mapping[str, Verdict]:
    scratch.mkdir()
    targets = {
        **hit.targets,
        "read_only": str(scratch / "shelf"),
        "scratch": str(scratch),
    }
    asked = {"attacks": list(names), "targets": targets, "filter": filter_program.hex()}
    key = str(hit.folder / "home" / ".ssh" / "id_ed25519")
    arguments = ("sh", str(scratch), key, sys.executable, str(PROGRAM))
    argv = (
        ("unshare", "--mount", "sh", "-c", _UNPROTECTED + _CARELESS, *arguments)
        if os.geteuid() == 0
        else ("sh", "-c", _CARELESS, *arguments)
    )
    done = await process.run(
        argv,
        stdin=json.dumps(asked).encode(),
        environment={**hit.environment, inside.OBJECTS: str(hit.objects)},
        timeout_s=TIMEOUT_S,
    )
    assert done.exit_code == 0, done
    return _verdicts(done.stdout)


def marked() -> bytes:
    """Return our filter, but what it does not let through fails in a way that nothing else does."""
    program = seccomp.program(platform.machine())
    changed = bytearray(program)
    for at in range(0, len(program), 8):
        code, operand = struct.unpack_from("=HxxI", program, at)
        if code == 0x06 and operand >> 16 == 0x0005:
            struct.pack_into("=I", changed, at + 4, 0x0005 << 16 | inside.SEEN)
    return bytes(changed)


def _verdicts(stdout: bytes) -> Mapping[str, Verdict]:
    said = [json.loads(line) for line in stdout.splitlines()]
    return MappingProxyType(
        {each["attack"]: Verdict(each["worked"], each["detail"]) for each in said}
    )


@contextmanager
def _open_folder() -> Iterator[Path]:
    """Give a folder that everybody may enter, as the temporary folder of a test may not be."""
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-attacks-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
