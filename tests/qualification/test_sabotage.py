"""The controls of a qualification: each sabotage is found, and named by what has to name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.testing.judge import inhabitants
from commandcenter.testing.qualification.rounds import Setting, play
from commandcenter.testing.qualification.sabotage import SABOTAGES
from commandcenter.testing.scene import Installation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", SABOTAGES)
async def test_a_sabotage_is_found_and_named(tmp_path: Path, name: str) -> None:
    sabotage = SABOTAGES[name]()
    setting = Setting(sabotage.mode or "local", numbers=(1,))

    (trial,) = await play(setting, tmp_path / "round", sabotage=sabotage)

    assert not trial.passed
    assert sabotage.blamed in {each.criterion for each in trial.violations}
    assert inhabitants(Installation(tmp_path / "round" / "own")) == {}


async def test_the_same_round_without_it_passes(tmp_path: Path) -> None:
    (trial,) = await play(Setting("local", numbers=(1,)), tmp_path / "round")

    assert trial.violations == ()
    assert trial.pull_requests == (1,)
