"""Results that are made to choke whoever takes them are refused in words, and removed."""

import os
from pathlib import Path

import pytest

from commandcenter.core.errors import CaptureRefused
from commandcenter.core.workspace import Command, Contents, WorkspaceKey
from commandcenter.system.capture import capture
from commandcenter.system.git import Git
from commandcenter.system.vault import Identity, Vault, task_ref
from commandcenter.testing.workspaces import Example, example_vault, opened
from commandcenter.workspaces.local import Local

BOT = Identity("CommandCenter", "commandcenter@example.org")
MANY = """
import os
for folder in range(201):
    os.mkdir(f"many-{folder}")
    for name in range(1000):
        os.mknod(f"many-{folder}/{name}")
"""


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    return await example_vault(tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path / "state", Git())


async def taken(contents: Contents, example: Example, folder: Path) -> str:
    """Capture, and return the words of the refusal; empty when it was taken."""
    git = Git(user={"HOME": str(folder), "PATH": os.environ["PATH"]})
    vault = await Vault.open(git, folder / "data", str(example.vault))
    try:
        await vault.fetch("main")
        await capture(
            git,
            vault,
            contents,
            example.commit,
            ref=task_ref("run", "task", 1),
            message="m",
            author=BOT,
            committer=BOT,
            date=1,
        )
    except CaptureRefused as refusal:
        return refusal.message
    else:
        return ""
    finally:
        vault.close()


@pytest.mark.slow
async def test_two_hundred_thousand_files_are_refused_and_removed(
    local: Local, example: Example, tmp_path: Path
) -> None:
    async with opened(local, example) as workspace:
        done = await workspace.run("many", Command(("python3", "-c", MANY), timeout_s=150))
        place = workspace.contents().upper
        assert place is not None
        there = sum(len(names) for _, _, names in os.walk(place))
        refusal = await taken(workspace.contents(), example, tmp_path)

    assert done.ok, done
    assert there > 200_000
    assert refusal == "There are more than 200000 files."
    assert not place.exists()


async def test_another_tasks_uncommitted_work_is_in_no_result(
    local: Local, example: Example, tmp_path: Path
) -> None:
    other = WorkspaceKey("run", "other", 1)
    async with opened(local, example) as ours, opened(local, example, other) as theirs:
        await theirs.run("work", Command(("sh", "-c", "echo theirs > theirs.txt")))
        looking = "find / -name theirs.txt 2>/dev/null | grep . > found; ls / > root"
        await ours.run("look", Command(("sh", "-c", looking)))
        place = ours.contents().upper
        assert place is not None
        found, root = (place / "found").read_text(), (place / "root").read_text().split()

    assert found == ""
    assert "work" in root
