"""The container kind keeps the contract, on Docker."""

from pathlib import Path

import pytest

from commandcenter.system import container
from commandcenter.system.git import Git
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.workspaces import WorkspacesContract
from commandcenter.workspaces.container import Container

pytestmark = pytest.mark.slow

GRACE_S = 0.3
BEGINNING = """
from commandcenter.system.git import Git
from commandcenter.workspaces.container import Container
workspaces = Container(Path({root!r}), Git(), {environment!r})
"""


class TestContainer(WorkspacesContract):
    agent_id = container.user_id()

    @pytest.fixture
    def workspaces(self, tmp_path: Path, engine: Dockerd) -> Container:
        return Container(tmp_path / "state", Git(), engine.environment, grace_s=GRACE_S)

    @pytest.fixture
    def service(self, tmp_path: Path, engine: Dockerd) -> str:
        return BEGINNING.format(root=str(tmp_path / "state"), environment=dict(engine.environment))
