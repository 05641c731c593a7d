"""The local kind keeps the contract, on both of its rungs."""

from pathlib import Path

import pytest

from commandcenter.system.git import Git
from commandcenter.testing.workspaces import WorkspacesContract
from commandcenter.workspaces.local import Local, Rung

GRACE_S = 0.3
BEGINNING = """
from commandcenter.system.git import Git
from commandcenter.workspaces.local import Local
workspaces = Local(Path({root!r}), Git(), rungs=({rung!r},))
"""


class LocalContract(WorkspacesContract):
    rung: Rung

    @pytest.fixture
    def workspaces(self, tmp_path: Path) -> Local:
        return Local(tmp_path / "state", Git(), rungs=(self.rung,), grace_s=GRACE_S)

    @pytest.fixture
    def service(self, tmp_path: Path) -> str:
        return BEGINNING.format(root=str(tmp_path / "state"), rung=self.rung)


class TestOverlay(LocalContract):
    rung = "overlay"


class TestCheckout(LocalContract):
    rung = "checkout"
