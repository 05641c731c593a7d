"""Memory, disk and CPU of a workspace are limited, by cgroups or by looking, and leave nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from commandcenter.core.workspace import Command, Completed, Ended, Hold, Resources, WorkspaceKey
from commandcenter.system import controllers, footprint, process, sandbox, watch
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import Example, example_vault, opened, sh
from commandcenter.workspaces.folders import FolderWorkspace
from commandcenter.workspaces.local import Local

MIB = 2**20
ROOM = Resources(memory_bytes=256 * MIB, disk_bytes=64 * MIB)
needs_cgroups = pytest.mark.skipif(
    not any(each.name == "memory" for each in controllers.usable()),
    reason="no cgroup can be made here: run as root, with a writable /sys/fs/cgroup",
)
HOLDS = [
    pytest.param(True, id="hard", marks=needs_cgroups),
    pytest.param(False, id="watched"),
]
GRASP = "import sys, time; held = b'x' * (int(sys.argv[1]) << 20); print('held', flush=True);"
IN_PARTS = (
    "import os, time\nfor _ in range(8):\n  if os.fork() == 0:\n    held = b'x' * (48 << 20)\n"
)
SHARING = "import os\nheld = b'x' * (128 << 20)\nfor _ in range(5):\n  if os.fork() == 0: break\n"


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    return await example_vault(tmp_path)


@pytest.fixture(params=HOLDS)
def local(tmp_path: Path, request: pytest.FixtureRequest) -> Local:
    return Local(tmp_path / "state", Git(), groups=request.param, grace_s=0.3)


@pytest.fixture
def with_groups(tmp_path: Path) -> Local:
    return Local(tmp_path / "state", Git(), grace_s=0.3)


@pytest.fixture
async def workspace(local: Local, example: Example) -> AsyncIterator[FolderWorkspace]:
    async with local.open(
        WorkspaceKey("run", "task", 1), vault=example.vault, commit=example.commit
    ) as workspace:
        yield workspace


def python(code: str, *arguments: str, room: Resources = ROOM) -> Command:
    return Command(("python3", "-c", code, *arguments), resources=room, timeout_s=60)


def within(script: str, room: Resources = ROOM) -> Command:
    return replace(sh(script, timeout_s=60), resources=room)


# Memory


async def test_the_memory_of_all_processes_counts_together(workspace: FolderWorkspace) -> None:
    done = await workspace.run("parts", python(IN_PARTS + "    time.sleep(60)\ntime.sleep(60)"))

    assert (done.ended, done.exit_code) == (Ended.MEMORY_LIMIT, None)
    assert "256 MiB" in done.problem


async def test_memory_that_processes_share_counts_once(workspace: FolderWorkspace) -> None:
    done = await workspace.run("shared", python(SHARING + "import time; time.sleep(1.5)"))

    assert (done.ended, done.exit_code) == (Ended.EXITED, 0)


@needs_cgroups
async def test_a_command_that_goes_on_after_the_kernel_killed_a_part_is_ended_too(
    with_groups: Local, example: Example
) -> None:
    async with opened(with_groups, example) as workspace:
        script = f'python3 -c "{GRASP}" 320; echo went on; exit 0'
        done = await workspace.run("part", within(script))

    assert done.ended is Ended.MEMORY_LIMIT
    assert "killed for want of memory" in done.problem


def test_no_more_memory_is_allowed_than_the_machine_has() -> None:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert sandbox.possible(Resources(memory_bytes=2**60)).memory_bytes == there
    assert sandbox.possible(ROOM) == ROOM


# Disk

HIDDEN = {
    "many small files": "python3 -c 'for i in range(24000): open(str(i), \"w\")'",
    "a removed file that is open": (
        "exec 3> ~/a 4> ~/b 5> ~/c; rm ~/a ~/b ~/c; "
        "for i in 3 4 5; do head -c 40000000 /dev/zero >&$i; done"
    ),
    "a locked folder": (
        "mkdir ~/d; for i in 1 2 3; do head -c 40000000 /dev/zero > ~/d/$i; done; chmod 000 ~/d"
    ),
}


@pytest.mark.parametrize("place", HIDDEN)
async def test_what_is_written_where_it_hardly_shows_counts(
    example: Example, with_groups: Local, place: str
) -> None:
    async with opened(with_groups, example) as workspace:
        done = await workspace.run("fill", within(f"{HIDDEN[place]}; sleep 60"))

    assert (done.ended, done.exit_code) == (Ended.DISK_LIMIT, None), done
    assert "64 MiB" in done.problem


async def test_folders_nested_beyond_measure_are_a_broken_limit(
    example: Example, with_groups: Local
) -> None:
    deep = "import os\nfor _ in range(1800): os.mkdir('d' * 250); os.chdir('d' * 250)\n"
    async with opened(with_groups, example) as workspace:
        done = await workspace.run("deep", python(deep + "import time; time.sleep(60)"))

    assert done.ended is Ended.DISK_LIMIT
    assert "nested" in done.problem


async def test_what_earlier_commands_left_counts(example: Example, with_groups: Local) -> None:
    two = "for i in 1 2; do head -c 40000000 /dev/zero > ~/$1$i; done"
    wide = replace(ROOM, disk_bytes=512 * MIB)
    async with opened(with_groups, example) as workspace:
        first = await workspace.run("first", within(two, wide))
        second = await workspace.run("second", within("sleep 60"))
        await workspace.run("away", within("rm ~/1 ~/2", wide))
        third = await workspace.run("third", within("sleep 1.5"))

    assert [done.ended for done in (first, second, third)] == [
        Ended.EXITED,
        Ended.DISK_LIMIT,
        Ended.EXITED,
    ]


async def test_one_file_cannot_be_larger_than_all_may_be(
    example: Example, with_groups: Local
) -> None:
    async with opened(with_groups, example) as workspace:
        done = await workspace.run("large", within("truncate -s 1T huge"))

    assert done.exit_code == -signal.SIGXFSZ


@pytest.mark.parametrize("rung", ["overlay", "checkout"])
async def test_the_checkout_itself_does_not_count(tmp_path: Path, rung: str) -> None:
    example = await example_vault(tmp_path)
    at = ("git", "-C", str(tmp_path / "source"), "-c", "user.name=A", "-c", "user.email=a@b")
    (tmp_path / "source" / "large").write_bytes(os.urandom(24 * MIB))
    await process.run((*at, "add", "-A"))
    await process.run((*at, "commit", "-qm", "large"))
    await process.run((*at, "push", "-q", str(example.vault), "HEAD:refs/heads/large"))
    commit = (await process.run((*at, "rev-parse", "HEAD"))).stdout.decode().strip()
    local = Local(tmp_path / "state", Git(), rungs=(rung,))  # type: ignore[arg-type]
    tight = replace(ROOM, disk_bytes=16 * MIB)

    async with opened(local, Example(example.vault, commit)) as workspace:
        done = await workspace.run("stay", within("sleep 1.5; wc -c < large", tight))

    assert (done.ended, int(done.stdout)) == (Ended.EXITED, 24 * MIB)


def test_a_disk_that_is_nearly_full_ends_a_command_before_others_suffer(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    floor = free.f_bavail * free.f_frsize - 128 * MIB
    watching = watch.Watch(_watched(tmp_path, floor), os.getpid())
    well = watching.look()

    with (tmp_path / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1024 * MIB)
    broken = watching.look()
    watching.last_look()

    assert well is None
    assert broken is not None
    assert broken[0] == "disk_limit"
    assert "left" in broken[1]


def _watched(folder: Path, floor: int) -> dict[str, object]:
    disk = {"folders": [str(folder)], "bytes": 2**50, "laid_out_bytes": 0, "floor_bytes": floor}
    return {
        "groups": [],
        "memory_bytes": 2**50,
        "memory_is_hard": False,
        "uid": 0,
        "disk": disk,
    }


def test_measuring_counts_blocks_and_follows_no_link(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * MIB)
    (folder / "inner" / "file").write_bytes(b"x" * MIB)
    (folder / "link").symlink_to(outside)
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**30)

    used = footprint.disk([str(folder)], [])

    assert MIB <= used < 2 * MIB


# CPU


async def test_a_command_lets_others_go_first(workspace: FolderWorkspace) -> None:
    done = await workspace.run("nice", within("cut -d' ' -f19 /proc/self/stat"))

    assert int(done.stdout) == os.nice(0) + sandbox.NICE


@needs_cgroups
async def test_a_command_gets_no_more_processors_than_it_may_have(
    with_groups: Local, example: Example
) -> None:
    half = replace(ROOM, cpus=0.5)
    spin = "echo go; i=0; while [ ! -e /cc/stop ]; do i=$((i+1)); done"
    async with opened(with_groups, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        running = await begun(workspace, within(spin, half))
        while not throttled(groups(with_groups, "cpu")):  # noqa: ASYNC110 - the kernel tells no one
            await asyncio.sleep(0.02)
        (channel,) = with_groups._root.glob("ws/*/channel")
        (channel / "stop").touch()
        done = await running

    assert done.ended is Ended.EXITED


def throttled(found: list[Path]) -> int:
    (group,) = found
    counts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(counts["nr_throttled"])


# Groups are made, and left by nobody


def groups(local: Local, controller: str = "memory") -> list[Path]:
    """The groups of this test's run."""
    (parent,) = (each.parent for each in controllers.usable() if each.name == controller)
    return list(parent.glob(f"commandcenter.{local._owner}.*.long"))


async def begun(workspace: FolderWorkspace, command: Command) -> "asyncio.Future[Completed]":
    heard = asyncio.Event()
    running = asyncio.ensure_future(workspace.run("long", command, on_line=lambda _: heard.set()))
    await heard.wait()
    return running


async def killed_shim(local: Local, workspace: FolderWorkspace) -> Completed:
    """Kill what looks after a run that has a group, as nothing but kill -9 can."""
    running = await begun(workspace, within("echo go; sleep 60"))
    (lock,) = local._root.glob("ws/*/runs/long/lock")
    os.kill(int(lock.read_text()), signal.SIGKILL)
    return await running


@needs_cgroups
async def test_a_group_holds_the_command_and_is_gone_at_its_end(
    with_groups: Local, example: Example
) -> None:
    async with opened(with_groups, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        running = await begun(workspace, within("echo go; until [ -e /cc/go ]; do sleep 0.1; done"))
        (group,) = groups(with_groups)
        inside = (group / "cgroup.procs").read_text().split()
        (channel,) = with_groups._root.glob("ws/*/channel")
        (channel / "go").touch()
        await running

    assert len(inside) >= 3
    assert str(os.getpid()) not in inside
    assert groups(with_groups) == []


@needs_cgroups
async def test_a_group_that_a_killed_shim_left_is_empty_and_the_next_sweep_removes_it(
    with_groups: Local, example: Example
) -> None:
    async with opened(with_groups, example, keep=True) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        done = await killed_shim(with_groups, workspace)
    (left,) = groups(with_groups)
    inside = (left / "cgroup.procs").read_text()

    await with_groups.sweep(frozenset({"run/task/1/work"}))

    assert (done.ended, inside, groups(with_groups)) == (Ended.LOST, "", [])
    await with_groups.sweep(frozenset())


@needs_cgroups
async def test_the_same_run_starts_again_in_a_fresh_group(
    with_groups: Local, example: Example
) -> None:
    async with opened(with_groups, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        await killed_shim(with_groups, workspace)
        again = await workspace.run("long", within("echo again"))

    assert (again.ended, again.stdout) == (Ended.EXITED, b"again\n")
    assert groups(with_groups) == []


@needs_cgroups
async def test_removing_a_workspace_removes_the_groups_that_killed_shims_left_there(
    with_groups: Local, example: Example
) -> None:
    async with opened(with_groups, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        await killed_shim(with_groups, workspace)

    assert groups(with_groups) == []


@needs_cgroups
async def test_a_sweep_leaves_the_group_of_a_run_that_lives(
    with_groups: Local, example: Example
) -> None:
    async with opened(with_groups, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        running = await begun(workspace, within("echo go; until [ -e /cc/go ]; do sleep 0.1; done"))
        await with_groups.sweep(frozenset({"run/task/1/work"}))
        found = groups(with_groups)
        (channel,) = with_groups._root.glob("ws/*/channel")
        (channel / "go").touch()
        done = await running

    assert len(found) == 1
    assert done.ended is Ended.EXITED


# What is said about them


@needs_cgroups
async def test_the_probe_says_what_the_kernel_keeps(with_groups: Local) -> None:
    strength = await with_groups.probe()

    assert strength.limits["memory"] is Hold.HARD
    assert strength.limits["disk"] is Hold.WATCHED


async def test_without_cgroups_the_probe_says_that_memory_is_only_watched(tmp_path: Path) -> None:
    strength = await Local(tmp_path, Git(), groups=False).probe()

    assert strength.ok
    assert strength.limits == {
        "memory": Hold.WATCHED,
        "processes": Hold.HARD,
        "cpus": Hold.NONE,
        "disk": Hold.WATCHED,
    }
