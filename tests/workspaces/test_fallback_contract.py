"""The local kind keeps the contract where bubblewrap is refused, but for what it says is open."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from commandcenter.core.workspace import CHANNEL, HOME, WORK, Workspace
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import WorkspacesContract
from commandcenter.workspaces.local import Local

pytestmark = pytest.mark.slow

GRACE_S = 0.3
BEGINNING = """
from commandcenter.system.git import Git
from commandcenter.workspaces.local import Local
workspaces = Local(Path({root!r}), Git(), rungs=(), best_effort=True)
"""
FOLDERS = {WORK: "tree", HOME: "home", CHANNEL: "channel", "/tmp": "tmp"}


class TestFallback(WorkspacesContract):
    own = f"{WORK} {HOME} {CHANNEL} /tmp"
    exposed: ClassVar[frozenset[str]] = frozenset({"grep -aq {mark} /proc/[0-9]*/cmdline"})

    def who(self, workspace: Workspace) -> int:
        tree = workspace.contents().tree
        assert tree is not None
        return tree.stat().st_uid

    def place(self, workspace: Workspace, name: str) -> str:
        tree = workspace.contents().tree
        assert tree is not None
        return str(tree.with_name(FOLDERS[name]))

    @pytest.fixture
    def tmp_path(self) -> Iterator[Path]:
        """A folder that other users may enter, as pytest's own is not."""
        folder = Path("/var/tmp") / f"commandcenter-fallback-{uuid.uuid4().hex}"
        folder.mkdir()
        folder.chmod(0o755)
        yield folder
        shutil.rmtree(folder)

    @pytest.fixture
    def workspaces(self, tmp_path: Path) -> Local:
        return Local(tmp_path / "state", Git(), rungs=(), best_effort=True, grace_s=GRACE_S)

    @pytest.fixture
    def service(self, tmp_path: Path) -> str:
        return BEGINNING.format(root=str(tmp_path / "state"))
