"""Mode `container` stands the attack suite, on Docker.

All attacks from within are tried. Of those that an agent plants in its result, which the host meets
with the code that meets a local checkout's, one in six is.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from commandcenter.system.git import Git
from commandcenter.testing.attacks import passage, suite
from commandcenter.testing.attacks.passage import Passages
from commandcenter.testing.attacks.planted import HIDING, RUNNING, SHARED, TRUSTED, Planted
from commandcenter.testing.attacks.suite import OTHER_REFUSALS, AttackSuite
from commandcenter.testing.engine import Dockerd
from commandcenter.workspaces.container import Container

pytestmark = pytest.mark.slow

SAMPLE = 6
SAMPLED = frozenset((*SHARED[::SAMPLE], *RUNNING[::SAMPLE], *(*HIDING, *TRUSTED)[::SAMPLE]))


class TestContainer(AttackSuite):
    other_refusals: ClassVar[Mapping[str, str]] = {
        **OTHER_REFUSALS,
        "kernel.x32": "it ended with -31",
    }
    environment: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _engine(cls, engine: Dockerd) -> None:
        cls.environment = engine.environment

    @classmethod
    def workspaces(cls, folder: Path) -> Container:
        return Container(folder / "state", Git(), cls.environment)

    @classmethod
    def _passed(cls, folder: Path, attacks: tuple[Planted, ...]) -> Passages:
        sampled = tuple(attack for attack in attacks if attack in SAMPLED)
        return asyncio.run(passage.pass_through(cls.workspaces(folder), sampled))

    @pytest.mark.parametrize("attack", SHARED[::SAMPLE], ids=str)
    def test_on_what_is_shared(self, attack: Planted, shared: Passages) -> None:
        suite.passes(attack, shared)

    @pytest.mark.parametrize("attack", RUNNING[::SAMPLE], ids=str)
    def test_running_programs(self, attack: Planted, running: Passages) -> None:
        suite.passes(attack, running)

    @pytest.mark.parametrize("attack", [*HIDING, *TRUSTED][::SAMPLE], ids=str)
    def test_hidden_in_the_result(self, attack: Planted, hiding: Passages) -> None:
        suite.passes(attack, hiding)
