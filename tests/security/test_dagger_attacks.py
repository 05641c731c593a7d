"""Mode `dagger` stands the attack suite, on the shipped engine.

That engine gives an exec its network and its system calls, as a real one does: what refuses them is
ours, and is tried here. All attacks from within are tried but the one on the number of processes,
which mode `dagger` does not limit. Of those that an agent plants in its
result, which the host meets with the code that meets a local checkout's, some are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from commandcenter.core.workspace import Command, Ended
from commandcenter.system.git import Git
from commandcenter.testing.attacks import suite
from commandcenter.testing.attacks.passage import Passages
from commandcenter.testing.attacks.planted import HIDING, RUNNING, SHARED, TRUSTED, Planted
from commandcenter.testing.attacks.suite import AttackSuite, sleeping
from commandcenter.testing.attacks.trial import NAMES, Trial
from commandcenter.testing.probed import ProbedOnce

pytestmark = [pytest.mark.slow, pytest.mark.dagger_engine]

SAMPLED = (SHARED[0], SHARED[16], RUNNING[0], RUNNING[16], HIDING[0], TRUSTED[0])


class TestDagger(AttackSuite):
    environment: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _engine(cls, dagger: Mapping[str, str]) -> None:
        cls.environment = dagger

    @classmethod
    def workspaces(cls, folder: Path) -> ProbedOnce:
        return ProbedOnce(folder / "state", Git(), cls.environment, grace_s=0.3)

    @pytest.fixture(scope="class")
    @classmethod
    def planted(cls, tmp_path_factory: pytest.TempPathFactory) -> Passages:
        """How some of the attacks went that an agent plants."""
        return cls._passed(tmp_path_factory.mktemp("planted"), SAMPLED)

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "dos.processes"])
    def test_from_within(self, name: str, inside: Trial) -> None:
        super().test_from_within(name, inside)

    async def test_a_signal_to_everybody_reaches_nobody_outside(self, tmp_path: Path) -> None:
        with sleeping() as outside:
            done = await self._run(tmp_path, Command(("sh", "-c", "kill -9 -1; sleep 60")))

            # Its own supervisor inside is the same user: that it has ended, nobody can tell.
            assert (done.ended, done.exit_code) == (Ended.LOST, None)
            assert outside.poll() is None

    @pytest.mark.parametrize("attack", SAMPLED, ids=str)
    def test_on_what_is_shared(self, attack: Planted, planted: Passages) -> None:
        suite.passes(attack, planted)

    test_running_programs = None  # type: ignore[assignment]
    test_hidden_in_the_result = None  # type: ignore[assignment]

    @pytest.mark.parametrize("group", ["planted"])
    def test_everybody_is_as_before_and_what_landed_is_ours(
        self, group: str, request: pytest.FixtureRequest
    ) -> None:
        super().test_everybody_is_as_before_and_what_landed_is_ours(group, request)
