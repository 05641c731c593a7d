"""The Dagger kind keeps the contract, on the shipped engine, or with `-m dagger_engine` on yours.

Left out are the limits that it does not keep: of memory, disk and processes. Of the attempts to
reach the host some are made here, and all in `tests/security/test_dagger_attacks.py`.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from commandcenter.core.workspace import Workspace
from commandcenter.system.git import Git
from commandcenter.testing.probed import ProbedOnce
from commandcenter.testing.workspaces import WorkspacesContract

pytestmark = [pytest.mark.slow, pytest.mark.dagger_engine]

GRACE_S = 0.3
BEGINNING = """
from commandcenter.system.git import Git
from commandcenter.workspaces.dagger import Dagger
workspaces = Dagger(Path({root!r}), Git(), {environment!r})
"""


class TestDagger(WorkspacesContract):
    test_too_much_memory_is_its_own_end_and_told_in_words = None  # type: ignore[assignment]
    test_too_much_disk_is_its_own_end_wherever_it_is_written = None  # type: ignore[assignment]
    test_a_fork_bomb_is_bounded_and_ends_with_its_command = None  # type: ignore[assignment]

    @pytest.fixture
    def workspaces(self, tmp_path: Path, dagger: Mapping[str, str]) -> ProbedOnce:
        return ProbedOnce(tmp_path / "state", Git(), dagger, grace_s=GRACE_S)

    @pytest.fixture
    def service(self, tmp_path: Path, dagger: Mapping[str, str]) -> str:
        return BEGINNING.format(root=str(tmp_path / "state"), environment=dict(dagger))

    @pytest.mark.parametrize(
        "attack",
        [
            "cat {secret}",
            "grep -aq {mark} /proc/[0-9]*/environ",
            "exec 3<>/dev/tcp/127.0.0.1/{port}",
            "unshare -Ur true",
        ],
    )
    async def test_the_host_cannot_be_reached(
        self, workspace: Workspace, tmp_path: Path, attack: str
    ) -> None:
        await super().test_the_host_cannot_be_reached(workspace, tmp_path, attack)
