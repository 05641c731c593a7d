"""Mode `local` without bubblewrap stands the attack suite, but for what it says is open.

All attacks from within are tried. Of those that an agent plants in its result, which the host meets
with the code that meets any other checkout's, one in six is.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from commandcenter.system.git import Git
from commandcenter.testing.attacks import passage, suite
from commandcenter.testing.attacks.passage import Passages
from commandcenter.testing.attacks.planted import HIDING, RUNNING, SHARED, TRUSTED, Planted
from commandcenter.testing.attacks.suite import OTHER_REFUSALS, AttackSuite
from commandcenter.workspaces.local import Local

pytestmark = pytest.mark.slow

SAMPLE = 6
SAMPLED = frozenset((*SHARED[::SAMPLE], *RUNNING[::SAMPLE], *(*HIDING, *TRUSTED)[::SAMPLE]))


class TestFallback(AttackSuite):
    other_refusals: ClassVar[Mapping[str, str]] = {
        **OTHER_REFUSALS,
        "kernel.terminal_input": "out of pty devices",
    }
    exposed: ClassVar[Mapping[str, str]] = {
        "fs.host_tmp": "Landlock does not keep a path from being asked for",
        "proc.any_command_line": "there is one /proc for all, of which programs need much",
    }
    folder: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _folder(cls) -> Iterator[None]:
        """Keep the state where other users may enter, as pytest's own folder is not."""
        cls.folder = Path(tempfile.mkdtemp(prefix="commandcenter-fallback-", dir="/var/tmp"))
        cls.folder.chmod(0o755)
        yield
        shutil.rmtree(cls.folder)

    @classmethod
    def workspaces(cls, folder: Path) -> Local:
        return Local(cls.folder / folder.name / "state", Git(), rungs=(), best_effort=True)

    @pytest.fixture
    def tmp_path(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

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
