"""A database in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from commandcenter.store import database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "commandcenter.sqlite"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    database.prepare_sqlite(path)
    engine = database.open_engine(database.sqlite_url(path))
    database.migrate(engine)
    yield engine
    engine.dispose()
