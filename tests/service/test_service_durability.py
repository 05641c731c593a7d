"""What the doctor says of a power cut: the settings in force, the disk, and damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commandcenter import app
from commandcenter.core.run import Finding, Health
from commandcenter.service.durability import Mount, mount_of, weakness_of
from commandcenter.settings import Settings, load
from commandcenter.testing.disk import small_disk


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"COMMANDCENTER_DATA_DIR": str(tmp_path / "da ta"), "PATH": os.environ["PATH"]})


async def finding(settings: Settings) -> Finding:
    async with app.reading(settings) as service:
        (found,) = [each for each in await service.doctor() if each.name == "durability"]
    return found


async def test_the_doctor_tells_the_modes_that_are_in_force(settings: Settings) -> None:
    found = await finding(settings)

    assert "git core.fsync=all by fsync" in found.detail
    assert "SQLite synchronous=FULL, journal_mode=wal" in found.detail
    assert f"{mount_of(settings.data_dir).kind}, a sync takes " in found.detail


async def test_a_damaged_vault_is_told_for_as_long_as_its_remains_are_kept(
    settings: Settings,
) -> None:
    attic = settings.data_dir / "vaults/some/attic"
    attic.mkdir(parents=True)
    before = await finding(settings)
    (attic / "pack-1.pack").write_text("half of one")

    found = await finding(settings)

    assert str(attic) not in before.hint
    assert found.health is Health.DEGRADED
    assert str(attic) in found.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root: run as root")
async def test_a_data_folder_in_memory_is_degraded(settings: Settings) -> None:
    with small_disk(settings.data_dir, mebibytes=32):
        found = await finding(settings)

    assert found.health is Health.DEGRADED
    assert "tmpfs, a sync takes " in found.detail
    assert "in memory" in found.hint


@pytest.mark.parametrize(
    ("kind", "options", "preload", "words"),
    [
        ("ext4", ("rw", "relatime"), "", ""),
        ("xfs", ("rw",), "/usr/lib/libjemalloc.so", ""),
        ("ext4", ("rw", "nobarrier"), "", "nobarrier"),
        ("ext4", ("rw", "data=writeback"), "", "data=writeback"),
        ("overlay", ("rw",), "", "goes with the container"),
        ("nfs4", ("rw",), "", "only as good as the server's"),
        ("fuse.sshfs", ("rw",), "", "only as good as the server's"),
        ("tmpfs", ("rw",), "", "a restart of the machine empties it"),
        ("ext4", ("rw",), "libeatmydata.so", "leaves syncs out"),
    ],
)
def test_what_may_lose_confirmed_work_is_named(
    kind: str, options: tuple[str, ...], preload: str, words: str
) -> None:
    told = weakness_of(Mount(kind, options), {"LD_PRELOAD": preload})

    assert words in told
    assert bool(words) == bool(told)
