"""Data folders that nobody works on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commandcenter.settings import Keep
from commandcenter.testing.yard import Yard


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    """A data folder that keeps logs and salvage for 30 days."""
    async with Yard.open(tmp_path, Keep()) as yard:
        yield yard


@pytest.fixture
async def brief(tmp_path: Path) -> AsyncIterator[Yard]:
    """A data folder that keeps nothing longer than it must."""
    async with Yard.open(tmp_path, Keep(logs_days=0, salvage_days=0)) as yard:
        yield yard
