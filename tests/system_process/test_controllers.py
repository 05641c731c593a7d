"""The cgroups that a command gets, in both versions, and where they go."""

import os
from pathlib import Path

import pytest

from commandcenter.core.workspace import Resources
from commandcenter.system import cgroup, controllers
from commandcenter.system.controllers import Controller

RESOURCES = Resources(memory_bytes=2**30, disk_bytes=2**30, cpus=1.5)


def phrased(version: int, resources: Resources = RESOURCES) -> list[tuple[str, dict[str, str]]]:
    parents = {
        name: Path("/cg", name if version == 1 else "") for name in ("memory", "pids", "cpu")
    }
    found = [Controller(name, parent, version) for name, parent in parents.items()]
    groups = controllers.phrase(found, "ours", resources, 512)
    return [(group["folder"], group["values"]) for group in groups]


def test_the_first_version_has_a_group_in_each_hierarchy() -> None:
    memory, pids, cpu = phrased(1)

    assert memory == (
        "/cg/memory/ours",
        {"memory.limit_in_bytes": "1073741824", "?memory.memsw.limit_in_bytes": "1073741824"},
    )
    assert pids == ("/cg/pids/ours", {"pids.max": "520"})
    assert cpu == ("/cg/cpu/ours", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"})


def test_the_second_version_has_one_group_that_is_killed_as_a_whole() -> None:
    assert phrased(2) == [
        (
            "/cg/ours",
            {
                "memory.max": "1073741824",
                "?memory.swap.max": "0",
                "memory.oom.group": "1",
                "pids.max": "520",
                "cpu.max": "150000 100000",
            },
        )
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_without_a_limit_on_processors_none_is_set(version: int) -> None:
    groups = phrased(version, Resources())

    assert not [name for _, values in groups for name in values if name.startswith("cpu.")]


@pytest.mark.parametrize(
    ("root", "path", "place"),
    [
        ("/", "/user.slice/a.scope", "/cg/user.slice/a.scope"),
        ("/", "/", "/cg"),
        ("/docker/abc", "/docker/abc", "/cg"),
        ("/docker/abc", "/docker/abc/inner", "/cg/inner"),
        ("/docker/abc", "/elsewhere", None),
        ("/", None, None),
    ],
)
def test_our_own_group_is_found_below_its_mount_or_not_at_all(
    root: str, path: str | None, place: str | None
) -> None:
    found = controllers._Mount(root, Path("/cg"), 2, ()).place(path)

    assert found == (None if place is None else Path(place))


def test_a_file_that_must_be_there_and_is_not_fails_the_making(tmp_path: Path) -> None:
    # Where files are not made by the kernel, none is there.
    cgroup.make(str(tmp_path / "optional"), {"?memory.swap.max": "0"})

    with pytest.raises(FileNotFoundError):
        cgroup.make(str(tmp_path / "needed"), {"memory.max": "1"})


@pytest.mark.parametrize("name", ["memory.oom_control", "memory.events"])
def test_kills_are_counted_in_both_versions(tmp_path: Path, name: str) -> None:
    before = cgroup.killed(str(tmp_path))
    (tmp_path / name).write_text("oom 4\noom_kill 3\n")

    assert (before, cgroup.killed(str(tmp_path))) == (0, 3)


def test_only_groups_of_dead_runs_of_ours_are_stale(tmp_path: Path) -> None:
    for name in ("commandcenter.me.ws.dead", "commandcenter.me.ws.try-1.2", "commandcenter.x.ws.a"):
        (tmp_path / name).mkdir()

    controllers.remove_stale(
        [Controller("memory", tmp_path, 1)],
        "me",
        lambda folder, run: (folder, run) == ("ws", "try-1.2"),
    )

    assert sorted(os.listdir(tmp_path)) == ["commandcenter.me.ws.try-1.2", "commandcenter.x.ws.a"]
