"""Journeys in mode `dagger`, each judged like all others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from commandcenter.testing import dagger_engine
from commandcenter.testing.dagger_engine import Fault
from commandcenter.testing.desk import Host
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task
from commandcenter.testing.survival import SLOW, outlive
from commandcenter.workspaces.dagger import CLIENT

pytestmark = [pytest.mark.slow, pytest.mark.dagger_engine]

QUICK = task("1.1", "Quick", files=["quick.txt"])
OTHER = task("1.1", "Other", files=["other.txt"])


async def test_a_session_goes_on_when_its_service_is_killed_and_is_not_started_twice(
    tmp_path: Path, sample: Sample, dagger: Mapping[str, str]
) -> None:
    host = Host(Installation.make(tmp_path / "own", variables=dagger), tmp_path)
    ended, survivors = await outlive(host, sample, "dagger")

    assert survivors
    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert await sample.read("starts.txt") == "started"
    assert await judge_stopped(host.installation) == ()


async def test_what_an_engine_only_says_that_it_ran_lands_nothing(
    tmp_path: Path, sample: Sample, dagger_schema: Path
) -> None:
    def engine(*faults: Fault) -> str:
        places = (tmp_path / "bin" / "dagger", tmp_path / "engine")
        return str(dagger_engine.client(*places, *faults, schema=dagger_schema))

    host = Host(Installation.make(tmp_path / "own", variables={CLIENT: engine()}), tmp_path)
    with host.serving() as service:
        desk = await host.desk(service)
        first = await desk.run(sample, plan(batch(1, QUICK)), execution_mode="dagger")
        engine(Fault.HOLLOW)  # the same client from now on
        second = await desk.run(
            sample, plan(batch(1, OTHER)), execution_mode="dagger", patience_s=150
        )

    assert first.ends() == {"1.1": ("completed", "merged")}
    assert {status for status, _ in second.ends().values()} == {"failed"}
    there = await sample.paths()
    assert "quick.txt" in there
    assert "other.txt" not in there


async def test_a_run_without_dagger_is_refused_with_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "path"
    path.mkdir()
    (path / "git").symlink_to(shutil.which("git") or "/usr/bin/git")
    installation = Installation.make(tmp_path / "own", variables={"PATH": str(path)})
    host = Host(installation, tmp_path)
    with host.serving() as service:
        desk = await host.desk(service)
        sample = await desk.sample()
        body = desk.body(sample, plan(batch(1, SLOW)), execution_mode="dagger")
        answer = await desk.post("/start", body)

    problem = answer.json()
    assert answer.status_code in (400, 422)
    assert "There is no `dagger`" in problem["detail"]
    assert "Install the Dagger CLI" in problem["hint"]
