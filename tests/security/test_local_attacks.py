"""Mode `local` stands the attack suite, on both of its rungs."""

from pathlib import Path

import pytest

from commandcenter.system.git import Git
from commandcenter.testing.attacks.suite import AttackSuite
from commandcenter.workspaces.local import Local, Rung

pytestmark = pytest.mark.slow


class LocalAttacks(AttackSuite):
    rung: Rung

    @classmethod
    def workspaces(cls, folder: Path) -> Local:
        return Local(folder / "state", Git(), rungs=(cls.rung,))


class TestOverlay(LocalAttacks):
    rung = "overlay"


class TestCheckout(LocalAttacks):
    rung = "checkout"
