"""The ten scenarios of a qualification, all at once, in every mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from commandcenter.testing.engine import Dockerd
from commandcenter.testing.qualification.rounds import Setting, Trial, play

pytestmark = pytest.mark.slow


def faults(trials: tuple[Trial, ...]) -> list[str]:
    return [f"{t.number}, {t.title}: {each}" for t in trials for each in t.violations]


async def test_the_ten_scenarios_end_as_they_have_to_in_the_local_mode(tmp_path: Path) -> None:
    trials = await play(Setting("local"), tmp_path / "round")

    assert faults(trials) == []
    assert [trial.number for trial in trials] == list(range(1, 11))


async def test_the_ten_scenarios_end_as_they_have_to_in_containers(
    tmp_path: Path, engine: Dockerd
) -> None:
    where = {"DOCKER_HOST": engine.environment["DOCKER_HOST"]}

    trials = await play(Setting("container", where), tmp_path / "round")

    assert faults(trials) == []
    assert engine.docker("ps", "--all", "--quiet") == ""


@pytest.mark.dagger_engine
@pytest.mark.timeout(400)
async def test_the_ten_scenarios_end_as_they_have_to_in_dagger(
    tmp_path: Path, dagger: Mapping[str, str]
) -> None:
    trials = await play(Setting("dagger", dagger), tmp_path / "round")

    assert faults(trials) == []
