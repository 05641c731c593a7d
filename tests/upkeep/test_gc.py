"""`gc`: frees what is held elsewhere, and names with the reason all that it leaves."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from commandcenter.core.ledger import Kind
from commandcenter.core.publication import landing_branch
from commandcenter.core.upkeep import Item, Known, Thing, explain
from commandcenter.service.upkeep import known
from commandcenter.stages import Stages, land
from commandcenter.stages.equipment import BOT
from commandcenter.stages.job import Job
from commandcenter.system.usage import size_bytes
from commandcenter.system.vault import Merged
from commandcenter.testing.forges import write_commit
from commandcenter.testing.scene import fingerprint
from commandcenter.testing.yard import TASK, Yard

LARGE = "head -c 3000000 /dev/urandom > large.bin"
MEGABYTES = 2_000_000


async def captured(yard: Yard, run: str, script: str = "echo work > work.txt") -> Job:
    job = await yard.begin(run)
    await yard.act(job, script)
    return await yard.capture(job)


async def ended(yard: Yard, run: str, script: str = "echo work > work.txt") -> Job:
    """Have a run whose task was captured, failed and was settled."""
    job = await captured(yard, run, script)
    await yard.fail(job, settled=False)
    await Stages(yard.equipment).settle(run, TASK.id, 1)
    await yard.fail_run(job)
    return job


def freed(items: dict[tuple[Thing, str], Item]) -> set[Thing]:
    return {item.what for item in items.values() if item.free}


def of(items: dict[tuple[Thing, str], Item], what: Thing) -> list[Item]:
    return [item for item in items.values() if item.what is what]


async def test_what_the_target_holds_goes_and_its_bytes_are_really_gone(brief: Yard) -> None:
    job = await ended(brief, "exec_1", LARGE)
    await brief.land(job)
    logs = brief.settings.data_dir / "logs" / "exec_1" / "1.1" / "1"
    logs.mkdir(parents=True)
    (logs / "try-1.stdout.log").write_bytes(os.urandom(MEGABYTES))
    await ended(brief, "exec_2", LARGE)
    await brief.service.drop("exec_2/1.1/1/capture")
    before = size_bytes(brief.settings.data_dir)

    items = await brief.gc()

    assert freed(items) == {Thing.BASE, Thing.CAPTURE, Thing.LOGS, Thing.OBJECTS}
    total = sum(item.size_bytes for item in items.values() if item.free)
    gone = before - size_bytes(brief.settings.data_dir)
    assert total > 2 * MEGABYTES
    assert gone > 0.9 * total
    assert not logs.exists()
    assert await (await brief.vault()).refs("refs/cc/") == {}
    assert await (await brief.vault()).fsck() == ()
    again = await brief.gc()
    assert freed(again) == set()


async def test_a_squashed_capture_goes_when_the_target_holds_what_stands_for_it(
    brief: Yard,
) -> None:
    honest = await captured(brief, "exec_1")
    other = await captured(brief, "exec_2", "echo 2 > two.txt")
    vault = await brief.vault()
    tip = await vault.fetch("main")
    squashed = await vault.replay(
        tip, honest.attempt.head, message="It\n", committer=BOT, date=honest.date
    )
    assert isinstance(squashed, Merged)
    await vault.land("main", tip, squashed.commit)
    await brief.complete(honest, squashed.commit)
    await brief.complete(other, squashed.commit)

    items = await brief.gc()

    assert items[Thing.CAPTURE, "exec_1/1.1/1/capture"].free
    assert "not on the target" in items[Thing.CAPTURE, "exec_2/1.1/1/capture"].why


async def test_a_dry_run_frees_nothing_and_foretells_what_goes(brief: Yard) -> None:
    job = await ended(brief, "exec_1")
    await brief.land(job)
    job = await brief.begin("exec_2")
    await brief.act(job, "echo half > half.txt")
    await brief.fail(job)
    await ended(brief, "exec_3", LARGE)
    await brief.service.drop("exec_3/1.1/1/capture")
    folder = brief.settings.data_dir / "workspaces"
    before = fingerprint(folder)
    refs = await (await brief.vault()).refs("refs/cc/")

    foretold = await brief.gc(dry_run=True)

    assert fingerprint(folder) == before
    assert await (await brief.vault()).refs("refs/cc/") == refs
    done = await brief.gc()
    assert {key for key, item in foretold.items() if item.free} == {
        key for key, item in done.items() if item.free
    }
    assert freed(done) == {Thing.WORKSPACE, Thing.BASE, Thing.CAPTURE, Thing.OBJECTS}


async def test_work_that_nothing_else_holds_stays_and_is_named(brief: Yard) -> None:
    await ended(brief, "exec_1")
    job = await brief.begin("exec_2")
    await brief.act(job, "echo half > half.txt")
    await brief.fail(job)

    items = await brief.gc()

    assert [item.name for item in of(items, Thing.CAPTURE)] == ["exec_1/1.1/1/capture"]
    assert "not on the target" in items[Thing.CAPTURE, "exec_1/1.1/1/capture"].why
    assert [item.name for item in of(items, Thing.SALVAGE)] == ["exec_2/1.1/1/work"]
    assert "nothing else holds" in items[Thing.SALVAGE, "exec_2/1.1/1/work"].why
    assert {each.id for each in await brief.service.salvage()} == {
        "exec_1/1.1/1/capture",
        "exec_2/1.1/1/work",
    }


async def test_salvaged_work_goes_when_the_target_has_held_it_for_long_enough(
    brief: Yard,
) -> None:
    job = await brief.begin("exec_1")
    await brief.act(job, "echo half > half.txt")
    await brief.fail(job)
    await Stages(brief.equipment).sweep()
    (kept,) = await brief.service.salvage()
    vault = await brief.vault()
    await vault.land("main", await vault.fetch("main"), kept.commit)

    items = await brief.gc()

    assert items[Thing.SALVAGE, kept.id].free
    assert await brief.service.salvage() == []
    assert not list(brief.equipment.salvage_dir.rglob("*.bundle"))


async def test_salvage_and_logs_stay_as_long_as_is_set(yard: Yard) -> None:
    job = await yard.begin("exec_1")
    await yard.act(job, "echo half > half.txt")
    await yard.fail(job)
    await Stages(yard.equipment).sweep()
    (kept,) = await yard.service.salvage()
    vault = await yard.vault()
    await vault.land("main", await vault.fetch("main"), kept.commit)
    (yard.settings.data_dir / "logs" / "exec_1").mkdir(parents=True)

    items = await yard.gc()

    assert items[Thing.SALVAGE, kept.id].why == "the target holds it; it is kept for 30 days"
    assert "kept for 30 days" in items[Thing.LOGS, "of exec_1"].why


async def test_what_a_run_that_has_not_ended_uses_stays(brief: Yard) -> None:
    job = await captured(brief, "exec_1")
    await brief.land(job)
    branch = await brief.publish(job)
    vault = await brief.vault()
    await vault.pin(job.pin, job.attempt.base)
    await ended(brief, "exec_2", LARGE)
    await brief.service.drop("exec_2/1.1/1/capture")

    items = await brief.gc()

    assert freed(items) == set()
    assert {item.what for item in items.values()} == {
        *(Thing.BRANCH, Thing.WORKSPACE, Thing.BASE, Thing.VAULT, Thing.REF),
        *(Thing.CAPTURE, Thing.OBJECTS),
    }
    assert items[Thing.BRANCH, branch].why == "its run has not ended"
    (objects,) = of(items, Thing.OBJECTS)
    assert objects.size_bytes > MEGABYTES
    assert "runs that have not ended" in objects.why


async def test_objects_stay_while_a_workspace_borrows_from_their_vault(brief: Yard) -> None:
    """The run has ended; a workspace that nobody knows lies on a base of its vault."""
    await ended(brief, "exec_1", LARGE)
    await brief.service.drop("exec_1/1.1/1/capture")
    job = await brief.begin("exec_2")
    await brief.act(job, "echo mine > mine.txt")
    await brief.fail(job)
    folder = brief.workspace("exec_2")
    assert folder is not None
    (folder / "key").write_text("a stranger's")

    kept = await brief.gc()

    assert freed(kept) == set()
    (objects,) = of(kept, Thing.OBJECTS)
    assert "borrow" in objects.why
    assert kept[Thing.WORKSPACE, "a stranger's"].why == "no run of this data folder made it"
    (folder / "key").write_text(str(brief.key("exec_2")))
    assert Thing.OBJECTS in freed(await brief.gc())


async def test_a_dead_branch_of_ours_goes(yard: Yard) -> None:
    """Upstream was away when its task was settled."""
    job = await captured(yard, "exec_1")
    branch = await yard.publish(job)
    away = yard.sample.upstream.with_suffix(".away")
    yard.sample.upstream.rename(away)
    await yard.fail(job, settled=False)
    record = await Stages(yard.equipment).settle("exec_1", TASK.id, 1)
    await yard.fail_run(job)

    unanswered = await yard.gc()
    away.rename(yard.sample.upstream)
    assert await yard.sample.branches() == (branch, "main")
    items = await yard.gc()

    assert "its branch could not be cleaned up" in " ".join(record["problems"])
    assert "cannot be asked" in unanswered[Thing.BRANCH, branch].why
    assert "does not answer" in unanswered[Thing.CAPTURE, "exec_1/1.1/1/capture"].why
    assert items[Thing.BRANCH, branch].free
    assert await yard.sample.branches() == ("main",)
    assert list(await yard.held(Kind.BRANCH)) == []


async def test_a_branch_that_is_not_ours_any_more_stays_and_is_named(yard: Yard) -> None:
    job = await captured(yard, "exec_1")
    branch = await yard.publish(job)
    theirs = await write_commit(
        yard.sample.git, yard.sample.git_dir, branch, {"p": "p"}, "Mine", job.attempt.head
    )
    await yard.fail(job)

    items = await yard.gc()

    assert items[Thing.BRANCH, branch].why == "it holds a commit that is not CommandCenter's"
    assert await yard.sample.tip(branch) == theirs


async def test_a_result_goes_only_when_the_target_holds_it(yard: Yard) -> None:
    job = await captured(yard, "exec_1")
    branch, vault = landing_branch("exec_1"), await yard.vault()
    assert await land._publish_aside(yard.equipment, vault, job, job.attempt.head) == ""
    await yard.fail(job)

    before = await yard.gc()
    stayed = await yard.sample.branches()
    await yard.land(job)
    after = await yard.gc()

    assert "result that the target does not hold" in before[Thing.BRANCH, branch].why
    assert branch in stayed
    assert after[Thing.BRANCH, branch].free
    assert await yard.sample.branches() == ("main",)


async def test_every_path_of_the_data_folder_is_explained(yard: Yard) -> None:
    job = await ended(yard, "exec_1")
    await yard.land(job)
    for run, script in (("exec_2", "echo half > half.txt"), ("exec_3", "truncate -s 101M big")):
        job = await yard.begin(run)
        await yard.act(job, script)
        await yard.fail(job)
    await Stages(yard.equipment).sweep()
    await captured(yard, "exec_4")
    (yard.settings.data_dir / "logs" / "exec_4").mkdir(parents=True)

    assert await unexplained(yard) == []

    salvaged = {each.id for each in await yard.service.salvage()}
    assert {"exec_2/1.1/1/work", "exec_3/1.1/1/work"} <= salvaged
    assert of(await yard.gc(), Thing.UNKNOWN) == []
    assert await unexplained(yard) == []


async def unexplained(yard: Yard) -> list[str]:
    """Return every path of the data folder, however deep, that nothing explains."""
    runs, held = await yard.recorded()
    root = yard.settings.data_dir
    told = known(root, runs, held)
    paths = [Path(at, name) for at, *names in os.walk(root) for name in [*names[0], *names[1]]]
    assert len(paths) > 100
    return [str(path) for path in paths if not explain(relative(path, root), told)]


def relative(path: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(root).as_posix())


async def test_what_nothing_explains_is_named_and_not_touched(yard: Yard) -> None:
    job = await ended(yard, "exec_1")
    strange = [
        *("notes.txt", "vaults/mine/x", "workspaces/mine/x", "workspaces/ws/0123456789ab/x"),
        *("workspaces/bases/mine/x", "logs/exec_9/x", "salvage/exec_1/1.1/other.bundle"),
        *("salvage/mine", f"vaults/{yard.vault_dir.parent.name}/mine"),
    ]
    for each in strange:
        path = yard.settings.data_dir / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")

    items = await yard.gc()

    assert job.run.id == "exec_1"
    assert {item.name for item in of(items, Thing.UNKNOWN)} == {
        *("notes.txt", "vaults/mine", "workspaces/mine", "workspaces/ws/0123456789ab"),
        *("workspaces/bases/mine", "logs/exec_9", "salvage/mine", "salvage/exec_1"),
        f"vaults/{yard.vault_dir.parent.name}/mine",
    }
    assert all((yard.settings.data_dir / each).read_text() == "mine" for each in strange)


def test_nothing_is_explained_by_a_name_alone() -> None:
    for path in ("vaults", "commandcenter.sqlite-wal", "service.json"):
        assert explain(PurePosixPath(path), Known())
    for path in ("vaults/x", "logs/exec_1", "workspaces/ws/x", "salvage/x", "tmp", "x/vaults"):
        assert explain(PurePosixPath(path), Known()) == ""
