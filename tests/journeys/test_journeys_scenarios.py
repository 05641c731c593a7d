"""The ten scenarios of a qualification, all at once, in every mode."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scenarios import SCENARIOS
from commandcenter.testing.scene import Installation

pytestmark = pytest.mark.slow


async def test_the_ten_scenarios_end_as_they_have_to_in_the_local_mode(tmp_path: Path) -> None:
    installation = Installation.make(tmp_path / "own", workers=16)

    assert await _faults(installation, tmp_path, "local") == []
    assert await judge_stopped(installation) == ()


async def test_the_ten_scenarios_end_as_they_have_to_in_containers(
    tmp_path: Path, engine: Dockerd
) -> None:
    where = {"DOCKER_HOST": engine.environment["DOCKER_HOST"]}
    installation = Installation.make(tmp_path / "own", workers=16, variables=where)

    assert await _faults(installation, tmp_path, "container") == []
    assert await judge_stopped(installation) == ()
    assert engine.docker("ps", "--all", "--quiet") == ""


@pytest.mark.dagger_engine
@pytest.mark.timeout(400)
async def test_the_ten_scenarios_end_as_they_have_to_in_dagger(
    tmp_path: Path, dagger: Mapping[str, str]
) -> None:
    installation = Installation.make(tmp_path / "own", workers=16, variables=dagger)

    assert await _faults(installation, tmp_path, "dagger") == []
    assert await judge_stopped(installation) == ()


async def _faults(installation: Installation, folder: Path, mode: str) -> list[str]:
    """Run all scenarios in a mode, each on a repository of its own; return what is wrong."""
    host = Host(installation, folder)
    with host.serving() as service:
        desk = await host.desk(service)
        found = await asyncio.gather(*[_run(desk, number, mode) for number in SCENARIOS])
    return [fault for faults in found for fault in faults]


async def _run(desk: Desk, number: int, mode: str) -> list[str]:
    scenario = SCENARIOS[number]
    own = replace(desk, folder=desk.folder / f"{number}")
    sample = await own.sample()
    ended = await own.run(sample, scenario.plan, execution_mode=mode, patience_s=240)
    return [f"{number}, {scenario.title}: {each}" for each in await scenario.faults(ended, sample)]
