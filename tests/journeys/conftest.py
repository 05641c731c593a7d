"""The service that journeys share, and a desk from which they are started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Host, Service
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, Sample


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that a module's journeys share; afterwards nothing of it may be left.

    No longer than a module: there is one durable engine in a process, and others have tests, too.
    """
    installation = Installation.make(tmp_path_factory.mktemp("shared"))
    with Service(installation) as service:
        yield service
    assert asyncio.run(judge_stopped(installation)) == ()


@pytest.fixture
def desk(service: Service, tmp_path: Path) -> Desk:
    """A desk at the shared service."""
    return Desk(service.url, service.installation, tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An installation whose commands are processes of their own."""
    return Host(Installation.make(tmp_path / "own"), tmp_path)


@pytest.fixture
async def sample(tmp_path: Path) -> Sample:
    """A repository with an origin."""
    return await Sample.make(tmp_path / "sample")
