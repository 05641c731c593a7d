"""What the tests of crashes share: a repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.testing.scene import Sample


@pytest.fixture
async def sample(tmp_path: Path) -> Sample:
    """A repository with an origin."""
    return await Sample.make(tmp_path / "sample")
