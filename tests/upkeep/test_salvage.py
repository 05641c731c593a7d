"""Nothing goes that is the only copy: what tries left is kept before their workspaces go."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from commandcenter.core.errors import InputError, NotFound
from commandcenter.core.ledger import Kind
from commandcenter.core.workspace import Command, WorkspaceKey
from commandcenter.stages import Stages
from commandcenter.stages.job import load
from commandcenter.stages.salvage import bundle_path
from commandcenter.system.vault import salvage_ref
from commandcenter.testing.scene import fingerprint
from commandcenter.testing.yard import TASK, Yard

UNFINISHED = "echo half > half.txt; rm README.md"
TOO_LARGE = (
    "truncate -s 101M big.bin; echo fine > fine.txt; ln -s /etc/passwd link; mkdir -p a/.git"
)


async def settle(yard: Yard, run: str, number: int = 1) -> list[str]:
    record = await Stages(yard.equipment).settle(run, TASK.id, number)
    told: list[str] = record["problems"]
    return told


async def test_what_was_never_captured_is_kept_as_a_ref_and_a_bundle(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job, settled=False)

    (told,) = await settle(yard, "exec_1")

    assert "commandcenter salvage restore exec_1/1.1/1/work" in told
    assert yard.workspace("exec_1") is None
    (kept,) = await yard.service.salvage()
    ref = salvage_ref("exec_1", TASK.id, "work-1")
    vault = await yard.vault()
    assert (kept.id, await vault.ref(ref)) == ("exec_1/1.1/1/work", kept.commit)
    bundle = bundle_path(yard.equipment.salvage_dir, ref)
    assert kept.size_bytes >= bundle.stat().st_size > 0
    verified = await vault.git.run("bundle", "verify", str(bundle), git_dir=yard.sample.git_dir)
    assert ref in verified.text
    assert await vault.diff_files(yard.sample.start, kept.commit) == ("README.md", "half.txt")


async def test_a_settlement_that_is_repeated_keeps_one_copy(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job, settled=False)

    first = await settle(yard, "exec_1")
    again = await settle(yard, "exec_1")

    assert len(first) == 1
    assert again == first
    assert len(await yard.service.salvage()) == 1


async def test_a_settlement_that_was_cut_off_before_the_removal_goes_on(yard: Yard) -> None:
    """The ref is there and the bundle is not: a crash came between them."""
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job, settled=False)
    await settle(yard, "exec_1")
    ref = salvage_ref("exec_1", TASK.id, "work-1")
    bundle = bundle_path(yard.equipment.salvage_dir, ref)
    bundle.unlink()
    await yard.act(job, UNFINISHED)
    await yard.note_again(job)

    await settle(yard, "exec_1")

    assert bundle.exists()
    assert yard.workspace("exec_1") is None


async def test_what_was_captured_is_not_kept_twice(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    job = await yard.capture(job)
    await yard.fail(job, settled=False)

    assert await settle(yard, "exec_1") == []

    assert list(await yard.held(Kind.SALVAGE)) == []
    (listed,) = await yard.service.salvage()
    assert (listed.id, listed.commit) == ("exec_1/1.1/1/capture", job.attempt.head)


async def test_a_later_try_that_added_nothing_leaves_nothing_to_keep(yard: Yard) -> None:
    """The second try was cut off before it did anything: the first one's capture holds it all."""
    job = await yard.begin("exec_1", tries=2)
    await yard.act(job, UNFINISHED)
    await yard.capture(await load(yard.equipment, "exec_1", TASK.id, 1))
    await yard.fail(job, settled=False)

    assert await settle(yard, "exec_1", 2) == []

    vault = await yard.vault()
    assert await vault.refs("refs/cc/salvage/") == {}
    assert list(await yard.held(Kind.SALVAGE)) == []


async def test_a_capture_that_a_cancellation_kept_from_being_recorded_is_not_lost(
    yard: Yard,
) -> None:
    """The vault has it, and no try tells of it: nobody would find it."""
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.capture_as(job, 1)
    await yard.fail(job, settled=False)

    await settle(yard, "exec_1")

    assert [each.id for each in await yard.service.salvage()] == ["exec_1/1.1/1/work"]


async def test_the_ledger_forgets_captures_that_never_came_to_be(yard: Yard) -> None:
    job = await yard.begin("exec_1", tries=2)
    await yard.act(job, UNFINISHED)
    await yard.fail(job, settled=False)

    await settle(yard, "exec_1", 2)

    assert list(await yard.held(Kind.REF, Kind.WORKSPACE)) == []


async def test_a_workspace_in_which_nothing_was_done_leaves_nothing(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, "git status > /dev/null")
    await yard.fail(job, settled=False)

    assert await settle(yard, "exec_1") == []

    assert await yard.service.salvage() == []
    assert yard.workspace("exec_1") is None


async def test_what_cannot_be_taken_is_put_aside_with_the_reason(
    yard: Yard, tmp_path: Path
) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, TOO_LARGE)
    await yard.fail(job, settled=False)

    (told,) = await settle(yard, "exec_1")

    assert "larger than 100 MiB" in told
    assert await settle(yard, "exec_1") == [told]
    (kept,) = await yard.service.salvage()
    assert (kept.commit, kept.why) == ("", "`big.bin` is larger than 100 MiB.")
    assert yard.workspace("exec_1") is None
    with pytest.raises(InputError, match="cannot be a branch"):
        await yard.service.restore(kept.id, repository=None, branch=None)
    files = await yard.service.salvaged_files(kept.id)
    with files.archive, tarfile.open(fileobj=files.archive) as archive:
        members = {each.name: each for each in archive.getmembers()}
    assert set(members) == {"big.bin", "fine.txt", "link"}
    assert (members["link"].issym(), members["big.bin"].size) == (True, 101 * 2**20)
    assert files.left_out == ("a/.git",)
    await yard.fail_run(job)
    await yard.service.drop(kept.id)
    assert await yard.service.salvage() == []
    assert not list((yard.settings.data_dir / "workspaces" / "aside").iterdir())


async def test_a_start_keeps_what_a_crash_left_of_an_ended_task(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job)

    await Stages(yard.equipment).sweep()

    assert yard.workspace("exec_1") is None
    assert [each.id for each in await yard.service.salvage()] == ["exec_1/1.1/1/work"]


async def test_a_start_knows_a_workspace_that_a_power_cut_took_its_name_from(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job)
    folder = yard.workspace("exec_1")
    assert folder is not None
    (folder / "key").write_text("")

    await Stages(yard.equipment).sweep()

    assert not folder.exists()
    assert [each.id for each in await yard.service.salvage()] == ["exec_1/1.1/1/work"]


async def test_a_start_leaves_alone_what_no_run_of_ours_made(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    strange = WorkspaceKey("exec_9", "9", 1, "work")
    kind = yard.equipment.workspaces["local"]
    vault = await yard.vault()
    opened = kind.open(strange, vault=vault.path, commit=job.attempt.base, keep=True)
    async with opened as workspace:
        await workspace.run("act", Command(("sh", "-c", "echo mine > mine.txt")))

    await Stages(yard.equipment).sweep()

    assert [each.key for each in await kind.existing()] == [str(strange)]


def touchable(yard: Yard) -> dict[str, str]:
    """Return what a person sees of the checkout: its files, index, HEAD and configuration."""
    kept = (".git/index", ".git/HEAD", ".git/config", ".git/refs/heads/main")
    found = fingerprint(yard.sample.checkout)
    return {name: each for name, each in found.items() if name[:4] != ".git" or name in kept}


async def test_work_comes_back_as_a_branch_and_no_checkout_is_touched(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job)
    await Stages(yard.equipment).sweep()
    before = touchable(yard)
    id_ = "exec_1/1.1/1/work"

    made = await yard.service.restore(id_, repository=None, branch=None)

    assert (made.repository, made.branch) == (
        str(yard.sample.checkout),
        "salvage/exec_1/1.1-work-1",
    )
    assert await yard.sample.run("show", f"{made.branch}:half.txt") == "half"
    assert touchable(yard) == before
    with pytest.raises(InputError, match="has a branch"):
        await yard.service.restore(id_, repository=None, branch=made.branch)
    with pytest.raises(InputError, match="has a branch"):
        await yard.service.restore(id_, repository=None, branch="main")
    assert await yard.sample.run("rev-parse", "main") == yard.sample.start


async def test_work_comes_back_into_any_repository_that_is_named(
    yard: Yard, tmp_path: Path
) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.capture(job)
    await yard.fail(job)

    made = await yard.service.restore(
        "exec_1/1.1/1/capture", repository=str(yard.sample.upstream), branch="mine"
    )

    assert await yard.sample.read("half.txt", "mine") == "half"
    assert made.commit == await yard.sample.tip("mine")
    with pytest.raises(InputError, match="does not answer as a git repository"):
        await yard.service.restore(made.id, repository=str(tmp_path), branch=None)


async def test_work_comes_back_from_its_bundle_when_the_vault_is_lost(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.fail(job)
    await Stages(yard.equipment).sweep()
    yard.equipment.vaults.close()
    shutil.rmtree(yard.settings.data_dir / "vaults")

    await yard.service.restore("exec_1/1.1/1/work", repository=None, branch="back")

    assert await yard.sample.run("show", "back:half.txt") == "half"


async def test_files_come_back_as_they_were(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, "echo x > run.sh; chmod +x run.sh; ln -s run.sh link; rm README.md")
    await yard.fail(job)
    await Stages(yard.equipment).sweep()

    files = await yard.service.salvaged_files("exec_1/1.1/1/work")

    with files.archive, tarfile.open(fileobj=files.archive) as archive:
        found = {each.name: (each.mode & 0o111 != 0, each.linkname) for each in archive}
    assert found == {
        "link": (found["link"][0], "run.sh"),
        "numbers.txt": (False, ""),
        "run.sh": (True, ""),
    }


async def test_what_is_dropped_is_gone_and_only_that(yard: Yard) -> None:
    for run in ("exec_1", "exec_2"):
        job = await yard.begin(run)
        await yard.act(job, UNFINISHED)
        await yard.fail(job)
    await Stages(yard.equipment).sweep()

    await yard.service.drop("exec_1/1.1/1/work")

    assert [each.id for each in await yard.service.salvage()] == ["exec_2/1.1/1/work"]
    assert list(await (await yard.vault()).refs("refs/cc/salvage/")) == [
        salvage_ref("exec_2", TASK.id, "work-1")
    ]
    bundles = sorted(path.name for path in yard.equipment.salvage_dir.rglob("*.bundle"))
    assert bundles == ["work-1.bundle"]
    with pytest.raises(NotFound):
        await yard.service.drop("exec_1/1.1/1/work")


async def test_what_a_run_may_still_need_is_not_dropped(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, UNFINISHED)
    await yard.capture(job)

    with pytest.raises(InputError, match="has not ended"):
        await yard.service.drop("exec_1/1.1/1/capture")
