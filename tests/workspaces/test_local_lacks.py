"""Which programs a local sandbox surely lacks, before anything is started in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.core.workspace import HOME, WORK
from commandcenter.system.git import Git
from commandcenter.workspaces.local import Local


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A program of the host's that is in no system folder."""
    (tmp_path / "tools").mkdir()
    program = tmp_path / "tools" / "my-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_a_program_that_only_the_host_has_is_lacking(tmp_path: Path, mine: Path) -> None:
    local = Local(tmp_path / "state", Git())

    assert local.lacks("my-agent")
    assert local.lacks(str(mine))


def test_a_program_in_a_shared_folder_is_not_lacking(tmp_path: Path, mine: Path) -> None:
    tools = mine.parent
    local = Local(tmp_path / "state", Git(), extra_read_only=(tools,), extra_path=(str(tools),))

    assert not local.lacks("my-agent")
    assert not local.lacks(str(mine))
    assert local.lacks("another-agent")
    assert local.lacks(str(tools / "another-agent"))


def test_what_may_be_in_the_checkout_is_not_lacking(tmp_path: Path) -> None:
    local = Local(tmp_path / "state", Git(), extra_path=(f"{WORK}/bin",))

    inside = (f"{WORK}/my-agent", f"{HOME}/my-agent")
    for name in ("my-agent", "./my-agent", "bin/my-agent", *inside):
        assert not local.lacks(name)
