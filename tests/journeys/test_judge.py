"""The judge's controls: a run that went well is sabotaged, and the right criterion is named."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from commandcenter.core.run import EventKind, Phase, State
from commandcenter.store import schema
from commandcenter.store.database import open_engine, sqlite_url
from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.judge import (
    Criterion,
    Facts,
    Judge,
    client_of,
    judge_transitions,
    read,
)
from commandcenter.testing.scene import batch, plan, task


@pytest.fixture(scope="module")
def landed(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """The judge of a run that landed one file."""
    folder = tmp_path_factory.mktemp("landed")
    return asyncio.run(_land(Desk(service.url, service.installation, folder)))


async def _land(desk: Desk) -> Judge:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    run = await desk.start(sample, plan(batch(1, task("1.1", "Greet", files=["hello.py"]))))
    await judge.ended(desk.url, run)
    return judge


@pytest.fixture
def judge(landed: Judge, tmp_path: Path) -> Judge:
    """The judge before a copy of the repository, which a test may spoil."""
    shutil.copytree(landed.sample.checkout.parent, tmp_path / "copy", symlinks=True)
    return landed.moved(
        replace(
            landed.sample,
            checkout=tmp_path / "copy" / landed.sample.checkout.name,
            upstream=tmp_path / "copy" / landed.sample.upstream.name,
        )
    )


async def blamed(judge: Judge) -> set[Criterion]:
    return {violation.criterion for violation in await judge.judge()}


async def test_what_went_well_is_not_blamed(judge: Judge) -> None:
    assert await blamed(judge) == set()


async def test_a_branch_that_is_left_is_blamed(judge: Judge) -> None:
    tip = await judge.sample.tip()
    await judge.sample.ask("update-ref", f"refs/heads/commandcenter/{judge.run}/1.1-greet", tip)

    assert await blamed(judge) == {Criterion.LEFTOVERS}


async def test_a_commit_of_nobody_on_the_target_is_blamed(judge: Judge) -> None:
    await judge.sample.push({"foreign.txt": "Not planned.\n"})

    assert await blamed(judge) == {Criterion.MERGE}


async def test_a_foreign_file_in_a_merge_is_blamed(judge: Judge) -> None:
    words = f"Again\n\nCommandCenter-Run: {judge.run}\nCommandCenter-Task: 1.1\n"
    await judge.sample.push({"foreign.txt": "Not planned.\n"}, words)

    found = await judge.judge()

    assert {violation.criterion for violation in found} == {Criterion.MERGE}
    assert any("foreign.txt" in violation.evidence for violation in found)
    assert any("landed 2 times" in violation.evidence for violation in found)


async def test_a_merge_that_was_taken_back_is_blamed(judge: Judge) -> None:
    await judge.sample.ask("update-ref", "refs/heads/main", judge.sample.start)

    # It is not on the target, where the forge still says that it was merged.
    assert await blamed(judge) == {Criterion.MERGE, Criterion.PROPOSAL}


async def test_a_row_that_its_events_do_not_give_is_blamed(judge: Judge) -> None:
    _set_checks(judge, 7)
    found = await blamed(judge)
    _set_checks(judge, 0)

    assert found == {Criterion.STORE}


def _set_checks(judge: Judge, number: int) -> None:
    engine = open_engine(sqlite_url(judge.installation.data_dir / "commandcenter.sqlite"))
    with engine.begin() as connection:
        row = schema.tasks.c.run == judge.run
        connection.execute(sa.update(schema.tasks).where(row).values(checks_total=number))
    engine.dispose()


async def test_a_damaged_object_is_blamed(judge: Judge) -> None:
    blob = await judge.sample.ask("rev-parse", "main:hello.py")
    loose = judge.sample.git_dir / "objects" / blob[:2] / blob[2:]
    if not loose.exists():
        pack = next((judge.sample.git_dir / "objects" / "pack").glob("*.pack"))
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:-9] + b"corrupted")
    else:
        loose.chmod(0o600)
        loose.write_bytes(zlib.compress(b"blob 1\0x"))

    assert Criterion.FSCK in await blamed(judge)


@pytest.mark.parametrize("path", ["README.md", "new.txt", ".git/config", ".git/hooks/post-commit"])
async def test_a_touched_checkout_is_blamed(judge: Judge, path: str) -> None:
    with (judge.sample.checkout / path).open("a") as file:
        file.write("# touched\n")

    assert await blamed(judge) == {Criterion.CHECKOUT}


async def test_a_checkout_that_was_written_to_with_the_same_bytes_is_blamed(judge: Judge) -> None:
    os.utime(judge.sample.checkout / "README.md")

    assert await blamed(judge) == {Criterion.CHECKOUT}


async def test_a_workspace_and_a_process_that_are_left_are_blamed(judge: Judge) -> None:
    workspace = judge.installation.data_dir / "workspaces" / "ws" / "0123456789ab"
    workspace.mkdir()
    (workspace / "key").write_text(f"{judge.run}/1.1/1/work")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "input()", str(workspace)), stdin=asyncio.subprocess.PIPE
    )

    found = await judge.judge()
    await process.communicate(b"\n")
    (workspace / "key").unlink()
    workspace.rmdir()

    evidence = " ".join(violation.evidence for violation in found)
    assert {violation.criterion for violation in found} == {Criterion.LEFTOVERS}
    assert str(process.pid) in evidence
    assert "the workspace" in evidence


async def test_a_pin_that_is_left_is_blamed(judge: Judge) -> None:
    git, ref = judge.sample.git, f"refs/cc/keep/{judge.run}/1.1"
    for vault in judge.vaults():
        await git.run("update-ref", ref, judge.sample.start, git_dir=vault)

    found = await blamed(judge)
    for vault in judge.vaults():
        await git.run("update-ref", "-d", ref, git_dir=vault)

    assert found == {Criterion.LEFTOVERS}


class _Forger(httpx.AsyncBaseTransport):
    """Passes calls on, and changes what the service says in those with this ending."""

    def __init__(self, url: str, ending: str, inside: str, changes: dict[str, Any]) -> None:
        self._client = client_of(url)
        self._ending = ending
        self._inside = inside
        self._changes = changes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._client.get(request.url.path, headers=dict(request.headers))
        if not request.url.path.endswith(self._ending):
            return httpx.Response(answer.status_code, content=answer.content)
        body = answer.json()
        objects = body if isinstance(body, list) else [body]
        for each in objects:
            for changed in each[self._inside] if self._inside else [each]:
                changed |= self._changes
        return httpx.Response(answer.status_code, json=body)

    async def aclose(self) -> None:
        await self._client.aclose()


def forged(judge: Judge, ending: str, inside: str = "", **changes: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=_Forger(judge.url, ending, inside, changes), base_url=judge.url, trust_env=False
    )


LIES: dict[str, tuple[dict[str, Any], Criterion]] = {
    "a merge that is not there": ({"merge_commit": "0" * 40}, Criterion.STATUS),
    "a pull request that is not there": ({"pr_number": 77}, Criterion.STATUS),
    "a branch that is not there": ({"status": "in_progress", "phase": "merging"}, Criterion.BRANCH),
    "a task that has not ended": ({"status": "failed", "reason": "agent"}, Criterion.STATUS),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_status_that_lies_is_blamed(judge: Judge, name: str) -> None:
    changes, criterion = LIES[name]
    liar = Judge(judge.installation, judge.sample, run=judge.run, url=judge.url)

    async with forged(judge, "/batches", "tasks", **changes) as client:
        await liar.look(client)

    assert criterion in {violation.criterion for violation in liar.found()}


SUMMARIES: dict[str, tuple[str, dict[str, Any]]] = {
    "more than completed": ("/status", {"tasks_completed": 2}),
    "fewer than completed": ("/status", {"tasks_completed": 0}),
    "one that failed": ("/status", {"tasks_failed": 1}),
    "one that was skipped": ("/status", {"tasks_skipped": 1}),
    "one that was cancelled": ("/status", {"tasks_cancelled": 1}),
    "more tasks": ("/status", {"tasks_total": 2}),
    "more batches": ("/status", {"total_batches": 2}),
    "another batch": ("/status", {"current_batch": 2}),
    "less progress": ("/status", {"progress": 0.5}),
    "another state": ("/status", {"status": "in_progress"}),
    "another state of its batch": ("/batches", {"status": "failed"}),
}


@pytest.mark.parametrize("name", SUMMARIES)
async def test_a_summary_that_its_tasks_do_not_give_is_blamed(judge: Judge, name: str) -> None:
    ending, changes = SUMMARIES[name]
    honest = Judge(judge.installation, judge.sample, run=judge.run, url=judge.url)
    liar = Judge(judge.installation, judge.sample, run=judge.run, url=judge.url)

    async with forged(judge, f"{judge.run}{ending}") as client:
        await honest.look(client)
    async with forged(judge, f"{judge.run}{ending}", **changes) as client:
        await liar.look(client)

    assert honest.found() == ()
    (violation,) = liar.found()
    assert violation.criterion is Criterion.STATUS
    assert next(iter(changes)) in violation.evidence


CONTENT: dict[str, dict[str, Any]] = {
    "title": {"title": "Something else"},
    "body": {"body": None},
    "commit": {"head": {"ref": "other", "sha": "0" * 40}},
    "target": {"base": {"ref": "other", "sha": "0" * 40}},
    "end": {"merged": False},
}


@pytest.mark.parametrize("name", CONTENT)
async def test_a_pull_request_with_wrong_content_is_blamed(judge: Judge, name: str) -> None:
    async with forged(judge, "/pulls/1", **CONTENT[name]) as client:
        await judge.judge_proposals(client)

    assert Criterion.PROPOSAL in {violation.criterion for violation in judge.found()}


def _swapped(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """Give sabotaged histories, each with a name."""
    events = list(facts.events)
    kinds = [event.kind for event in events]
    started = kinds.index(EventKind.TASK_STARTED)
    checked = kinds.index(EventKind.TASK_CHECKED)
    completed = kinds.index(EventKind.TASK_COMPLETED)
    yield (
        "started twice",
        replace(facts, events=(*events[:checked], events[started], *events[checked:])),
    )
    yield "never started", replace(facts, events=(*events[:started], *events[started + 1 :]))
    yield "never checked", replace(facts, events=(*events[:checked], *events[checked + 1 :]))
    yield "never ended", replace(facts, events=tuple(events[:completed]))
    yield "went on", replace(facts, events=(*events, events[checked]))


async def test_every_history_that_could_not_be_is_blamed(judge: Judge) -> None:
    facts = read(judge.installation, judge.run)

    assert list(judge_transitions(facts)) == []
    for name, sabotaged in _swapped(facts):
        found = {each.criterion for each in judge_transitions(sabotaged)}
        assert found == {Criterion.TRANSITIONS}, name


async def test_a_status_out_of_turn_is_blamed(judge: Judge) -> None:
    judge.hear("1.1", State.IN_PROGRESS, Phase.WORKING, 1)

    assert await blamed(judge) == {Criterion.STATUS}


def test_a_fingerprint_tells_every_kind_of_change(tmp_path: Path) -> None:
    from commandcenter.testing.scene import fingerprint

    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("a")
    before = fingerprint(tmp_path)
    (tmp_path / "a").chmod(0o755)
    mode = fingerprint(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")

    assert len({str(before), str(mode), str(fingerprint(tmp_path))}) == 3
