"""Disks of our own for these tests, and real repositories on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.disk import Disk, disk, journalled
from commandcenter.testing.scene import Installation, Sample

NO_DISK = (
    "Cutting the power of a disk needs root, loop devices and mkfs.ext4: run as root, "
    "apt install e2fsprogs xfsprogs"
)


@pytest.fixture(params=journalled() or [None])
def private_disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A journalled file system of our own, one after the other of those that there are."""
    if request.param is None:
        pytest.skip(NO_DISK)
    # Not below `tmp_path`, which pytest removes some runs later: a mount that outlived its test
    # would make that fail.
    with (
        tempfile.TemporaryDirectory(prefix="cc-disk-") as place,
        disk(Path(place, "disk"), request.param) as made,
    ):
        yield made


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An installation whose commands are processes of their own."""
    return Host(Installation.make(tmp_path / "own"), tmp_path)


@pytest.fixture
async def sample(tmp_path: Path) -> Sample:
    """A repository with an origin."""
    return await Sample.make(tmp_path / "sample")
