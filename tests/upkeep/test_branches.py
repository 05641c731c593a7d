"""Branches upstream: only what the ledger says that we put there is moved or deleted."""

from __future__ import annotations

import shutil

import pytest

from commandcenter.core.errors import GitError
from commandcenter.core.ledger import Kind
from commandcenter.core.publication import branch_name, landing_branch
from commandcenter.stages import Stages, holdings, land, publish
from commandcenter.stages.job import Job
from commandcenter.system.vault import RefUpdate, task_ref
from commandcenter.testing.forges import write_commit
from commandcenter.testing.yard import TASK, Yard


async def captured(yard: Yard, run: str = "exec_1") -> Job:
    job = await yard.begin(run)
    await yard.act(job, "echo work > work.txt")
    return await yard.capture(job)


async def persons(yard: Yard, branch: str, parent: str | None = None) -> str:
    """Commit on a branch of the upstream, as a person does; return the commit."""
    files = {"person.txt": "Mine.\n"}
    return await write_commit(
        yard.sample.git, yard.sample.git_dir, branch, files, "Mine", parent or yard.sample.start
    )


async def settle(yard: Yard) -> str:
    record = await Stages(yard.equipment).settle("exec_1", TASK.id, 1)
    return " ".join(record["problems"])


async def publish_branch(yard: Yard, job: Job) -> str:
    """Publish as the stage does: look, note, push."""
    branch, vault = branch_name(job.run.id, TASK), await yard.vault()
    expected = await publish._expected(yard.equipment, vault, job, branch)
    await holdings.note(yard.equipment, [holdings.branch(job, branch, job.attempt.head)])
    await vault.publish(branch, job.attempt.head, expected)
    return branch


async def test_our_branch_is_made_moved_and_deleted(yard: Yard) -> None:
    job = await captured(yard)
    branch = await publish_branch(yard, job)
    assert await yard.sample.tip(branch) == job.attempt.head
    assert await publish_branch(yard, job) == branch
    await yard.fail(job, settled=False)

    assert await settle(yard) == ""

    assert await yard.sample.branches() == ("main",)
    assert list(await yard.held(Kind.BRANCH)) == []


async def test_the_intent_is_noted_before_a_branch_is_made(yard: Yard) -> None:
    """A crash between the two leaves a branch in the ledger, and no branch that is not in it."""
    job = await captured(yard)
    hook = yard.sample.upstream / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)

    with pytest.raises(GitError):
        await publish_branch(yard, job)

    (held,) = (await yard.held(Kind.BRANCH)).values()
    assert held.commits == (job.attempt.head,)
    await yard.fail(job, settled=False)
    assert await settle(yard) == ""
    assert list(await yard.held(Kind.BRANCH)) == []


async def test_a_foreign_branch_of_our_name_is_not_adopted_moved_or_deleted(yard: Yard) -> None:
    job = await captured(yard)
    branch = branch_name("exec_1", TASK)
    theirs = await persons(yard, branch)

    with pytest.raises(GitError):
        await publish_branch(yard, job)
    with pytest.raises(GitError, match="not CommandCenter's"):
        await publish_branch(yard, job)
    await yard.fail(job, settled=False)
    told = await settle(yard)

    assert await yard.sample.tip(branch) == theirs
    assert f"{branch} was left alone" in told


async def test_a_foreign_branch_at_a_commit_of_ours_is_not_deleted_either(yard: Yard) -> None:
    """We captured that commit, and never pushed it: whoever made the branch, it was not us."""
    job = await captured(yard)
    branch = branch_name("exec_1", TASK)
    vault = await yard.vault()
    await vault.publish(branch, job.attempt.head, None)
    await yard.fail(job, settled=False)

    await settle(yard)

    assert await yard.sample.tip(branch) == job.attempt.head


async def test_commits_that_a_person_adds_to_our_branch_stay_and_are_named(yard: Yard) -> None:
    job = await captured(yard)
    branch = await publish_branch(yard, job)
    theirs = await persons(yard, branch, job.attempt.head)
    await yard.fail(job, settled=False)

    told = await settle(yard)

    assert await yard.sample.tip(branch) == theirs
    assert branch in told
    assert theirs[:12] in told
    (held,) = (await yard.held(Kind.BRANCH)).values()
    assert held.words in told


async def test_a_branch_whose_capture_is_lost_is_salvaged_before_it_goes(yard: Yard) -> None:
    """Nothing in the vault holds it: upstream is the only place that has the work."""
    job = await captured(yard)
    branch = await publish_branch(yard, job)
    await yard.fail(job, settled=False)
    vault = await yard.vault()
    ref = task_ref(job.run.id, job.task.id, job.attempt.number)
    assert await vault.update_refs([RefUpdate(ref, None, job.attempt.head)])

    await settle(yard)

    assert await yard.sample.branches() == ("main",)
    salvaged = {each.id: each for each in await yard.service.salvage()}
    kept = salvaged["exec_1/1.1/1/branch"]
    assert kept.commit == job.attempt.head
    assert branch in kept.why
    await yard.service.restore(kept.id, repository=None, branch="back")
    assert await yard.sample.run("show", "back:work.txt") == "work"


async def test_a_capture_that_is_only_on_our_branch_any_more_comes_back(yard: Yard) -> None:
    """The vault was moved away and made again: upstream is the only place that has the work."""
    job = await captured(yard)
    await publish_branch(yard, job)
    await yard.fail(job, settled=False)
    yard.equipment.vaults.close()
    shutil.rmtree(yard.settings.data_dir / "vaults")

    await settle(yard)

    ref = task_ref(job.run.id, job.task.id, job.attempt.number)
    assert await (await yard.vault()).ref(ref) == job.attempt.head
    assert await yard.sample.branches() == ("main",)


async def test_a_foreign_branch_is_not_overwritten_by_a_result(yard: Yard) -> None:
    job = await captured(yard)
    branch = landing_branch("exec_1")
    theirs = await persons(yard, branch)

    problem = await land._publish_aside(yard.equipment, await yard.vault(), job, job.attempt.head)

    assert "not CommandCenter's" in problem
    assert await yard.sample.tip(branch) == theirs
    assert await land._found_aside(yard.equipment, await yard.vault(), job) is None


async def test_a_result_moves_forward_and_never_loses_what_it_holds(yard: Yard) -> None:
    vault, branch = await yard.vault(), landing_branch("exec_1")
    job = await captured(yard)
    first = job.attempt.head
    other = await persons(yard, "scratch")
    await vault.fetch("scratch")

    assert await land._publish_aside(yard.equipment, vault, job, first) == ""
    assert await land._publish_aside(yard.equipment, vault, job, first) == ""
    refused = await land._publish_aside(yard.equipment, vault, job, other)

    assert "holds another result" in refused
    assert await yard.sample.tip(branch) == first
    found = await land._found_aside(yard.equipment, vault, job)
    assert found is not None
    assert found["landed_on"] == branch


async def test_a_result_is_found_also_when_a_person_has_gone_on_from_it(yard: Yard) -> None:
    vault, branch = await yard.vault(), landing_branch("exec_1")
    job = await captured(yard)
    assert await land._publish_aside(yard.equipment, vault, job, job.attempt.head) == ""
    theirs = await persons(yard, branch, job.attempt.head)

    found = await land._found_aside(yard.equipment, vault, job)

    assert found is not None
    assert found["commit"] == theirs


async def test_a_result_is_not_deleted_with_its_last_task(yard: Yard) -> None:
    vault, branch = await yard.vault(), landing_branch("exec_1")
    job = await captured(yard)
    assert await land._publish_aside(yard.equipment, vault, job, job.attempt.head) == ""
    await yard.fail(job, settled=False)

    await settle(yard)

    assert await yard.sample.tip(branch) == job.attempt.head
