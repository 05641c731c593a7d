"""Patterns in the modes that have an engine: candidates and readers are apart there, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

pytestmark = pytest.mark.slow

MERGED = ("completed", "merged")
VOTE = """
    only-on-lane 1 lines made.txt 30
    only-on-lane 2 lines made.txt 10
    only-as judge append README.md
    | the judge was here
    only-as judge rank largest
"""
PLAN = plan(
    batch(
        1,
        task(
            "1.1",
            "A vote",
            files=["made.txt"],
            script=VOTE,
            checks=["test -s made.txt"],
            fields={"Pattern": "vote(2)"},
        ),
        task(
            "1.2",
            "A ledger",
            files=["more.txt"],
            script="append more.txt\n| more",
            checks=["test -s more.txt"],
            fields={"Pattern": "magentic(rounds=4)"},
        ),
        mode="parallel",
    )
)


async def played(folder: Path, variables: Mapping[str, str], mode: str) -> None:
    """Play patterns in a mode; what is as it has to be is asserted."""
    sample = await Sample.make(folder / "sample")
    installation = Installation.make(folder / "own", variables=variables)
    with Service(installation) as service:
        desk = Desk(service.url, installation, folder)
        ended = await desk.run(sample, PLAN, execution_mode=mode, patience_s=240)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert len((await sample.read("made.txt")).splitlines()) == 30
    assert ended.data("task.answered", "1.1")[-1]["left"] == ["README.md"]
    assert "judge" not in await sample.read("README.md")


async def test_candidates_and_readers_are_apart_in_containers(
    tmp_path: Path, engine: Dockerd
) -> None:
    await played(tmp_path, {"DOCKER_HOST": engine.environment["DOCKER_HOST"]}, "container")


@pytest.mark.dagger_engine
@pytest.mark.timeout(400)
async def test_candidates_and_readers_are_apart_in_dagger(
    tmp_path: Path, dagger: Mapping[str, str]
) -> None:
    await played(tmp_path, dagger, "dagger")
