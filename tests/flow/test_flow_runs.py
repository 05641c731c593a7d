"""Runs through the real flow, with scripted stages: what follows what, and that all ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from commandcenter.core.attempt import Bounds
from commandcenter.core.disk import WAITS_FOR_DISK
from commandcenter.core.errors import InputError, NotYet
from commandcenter.core.run import WAITS_FOR_A_PERSON, EventKind, Phase, Reason, State, TaskStatus
from commandcenter.flow import Flow, NewRun
from commandcenter.stages import Stages
from commandcenter.store import database, facts, views

RUN = "exec_1"
PATIENCE_S = 40
Record = dict[str, Any]  # Any: JSON, as a stage returns it
Stage = Callable[[str, int], Any]  # Any: an awaitable record
TREE = "a" * 40
WORKED: Record = {
    "outcome": "done",
    "head": "h",
    "tree": TREE,
    "session_cost_usd": 0.0,
    "captured": {
        "branch": "b",
        "head": "h",
        "tree": TREE,
        "input_tokens": 1,
        "output_tokens": 1,
        "cost_usd": None,
    },
}
VERIFIED: Record = {
    "tree": TREE,
    "judgement": "unverified",
    "receipts": [],
    "changed": True,
    "evident": False,
}
REVIEWED: Record = {
    "decision": "none",
    "problem": "",
    "input_tokens": 0,
    "output_tokens": 0,
    "cost_usd": None,
}
LANDED: Record = {"outcome": "landed", "commit": "c" * 40, "landed_on": "main"}


class ScriptedStages(Stages):
    """Stages that succeed, but for those that a test replaces; counts what was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.order: list[str] = []
        self.scripts: dict[str, Stage] = {}
        self.ended = False
        self.short = ""

    async def _play(self, stage: str, task: str, number: int, usual: Record) -> Record:
        self.calls[f"{stage} {task}"] += 1
        self.order.append(f"{stage} {task}")
        if stage in self.scripts:
            record: Record = await self.scripts[stage](task, number)
            return record
        return usual

    async def work(self, run: str, task: str, number: int) -> Record:
        return await self._play("work", task, number, WORKED)

    async def verify(self, run: str, task: str, number: int) -> Record:
        return await self._play("verify", task, number, VERIFIED)

    async def propose(self, run: str, task: str, number: int) -> Record:
        return await self._play("propose", task, number, {"number": 1, "url": "/1"})

    async def review(self, run: str, task: str, number: int) -> Record:
        return await self._play("review", task, number, REVIEWED)

    async def land(self, run: str, task: str, number: int) -> Record:
        return await self._play("land", task, number, LANDED)

    async def halt(self, run: str, task: str) -> None:
        await self._play("halt", task, 0, {})

    async def settle(self, run: str, task: str, number: int) -> Record:
        return await self._play("settle", task, number, {"problems": []})

    async def sweep(self) -> None:
        """Find nothing."""

    def shortage(self) -> str:
        return self.short

    def plays(self, session: Session, run: str, task: str, number: int) -> bool:
        return False

    def bounds(
        self, session: Session, run: str, task: str, number: int, configured: Bounds
    ) -> Bounds:
        return configured

    async def needs_a_turn(self, run: str, task: str, number: int) -> bool:
        self.calls["needs_a_turn"] += 1
        return self.ended


class Scene:
    """A flow on a database, and a look at what is stored."""

    def __init__(self, path: Path) -> None:
        database.prepare_sqlite(path)
        engine = database.open_engine(database.sqlite_url(path))
        database.migrate(engine)
        self.store = database.Database(engine)
        self.stages = ScriptedStages()

    @asynccontextmanager
    async def flow(self, forge_poll_s: float = 2.0) -> AsyncIterator[Flow]:
        flow = Flow(
            self.store.engine,
            self.stages,
            now_ms=lambda: time.time_ns() // 10**6,
            bounds=Bounds(2, 2, 4),
            workers=2,
            poll_s=0.1,
            forge_poll_s=forge_poll_s,
        )
        await flow.start()
        try:
            yield flow
        finally:
            await flow.stop()

    async def look(self) -> dict[str, TaskStatus]:
        tasks = await self.store.transact(views.tasks, RUN)
        return {task.id: task for task in tasks}

    async def kinds(self) -> list[EventKind]:
        events = await self.store.transact(views.events, RUN, after=0, limit=9999)
        return [event.kind for event in events]

    async def until(self, claim: Callable[[Session], bool]) -> None:
        """Wait until the database says so."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.store.transact(claim):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)

    async def ended(self) -> dict[str, TaskStatus]:
        await self.until(lambda session: views.read_run(session, RUN).ended_ms > 0)
        return await self.look()

    async def waiting(self, task: str, words: str) -> None:
        await self.until(lambda session: words in views.read_task(session, RUN, task).waiting_for)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "db.sqlite")
    yield scene
    scene.store.engine.dispose()


def new_run(*names: str, edges: tuple[tuple[str, str], ...] = ()) -> NewRun:
    record = facts.NewRun(RUN, "{}", "", "", "/r", "/r.git", "main", "main", "local", {}, ())
    tasks = [TaskStatus(RUN, name, name, "1", n) for n, name in enumerate(names)]
    return NewRun(record, tasks, [(before, after, "explicit") for before, after in edges])


async def for_ever(task: str, number: int) -> Record:
    await asyncio.Event().wait()
    return {}


async def test_tasks_land_in_the_order_that_they_need_each_other(scene: Scene) -> None:
    async with scene.flow() as flow:
        await flow.submit(new_run("b", "a", edges=(("a", "b"),)))
        tasks = await scene.ended()
    assert {task.reason for task in tasks.values()} == {Reason.MERGED}
    assert scene.stages.order.index("land a") < scene.stages.order.index("work b")
    assert set(scene.stages.calls.values()) == {1}
    assert (await scene.kinds()).count(EventKind.RUN_ENDED) == 1


async def test_a_task_that_fails_takes_those_that_need_it_and_no_others(scene: Scene) -> None:
    async def work(task: str, number: int) -> Record:
        return {"outcome": "failed", "reason": "exit"} if task == "a" else WORKED

    scene.stages.scripts["work"] = work
    async with scene.flow() as flow:
        await flow.submit(new_run("a", "b", "c", edges=(("a", "b"),)))
        tasks = await scene.ended()
    assert [tasks[each].state for each in "abc"] == [
        State.FAILED,
        State.SKIPPED,
        State.COMPLETED,
    ]
    assert scene.stages.calls["work a"] == 2
    assert scene.stages.calls["settle a"] == 1


@pytest.mark.parametrize("stage", ["work", "verify", "propose", "review", "land"])
async def test_a_defect_in_a_stage_fails_its_task_with_a_word(scene: Scene, stage: str) -> None:
    async def broken(task: str, number: int) -> Record:
        raise KeyError("oops")

    scene.stages.scripts[stage] = broken
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        tasks = await scene.ended()
    assert tasks["a"].reason is Reason.INFRASTRUCTURE
    assert "defect: KeyError" in tasks["a"].explanation


async def test_a_clean_up_that_breaks_is_told_and_holds_nothing_up(scene: Scene) -> None:
    async def broken(task: str, number: int) -> Record:
        raise InputError("The token is gone.")

    scene.stages.scripts["settle"] = broken
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        tasks = await scene.ended()
    assert tasks["a"].state is State.COMPLETED
    record = await scene.store.transact(views.read_run, RUN)
    assert record.notes == ("Task a: it could not be cleaned up: The token is gone.",)


@pytest.mark.parametrize("stage", ["work", "verify", "review"])
async def test_a_cancellation_ends_what_is_at_work(scene: Scene, stage: str) -> None:
    scene.stages.scripts[stage] = for_ever
    async with scene.flow() as flow:
        await flow.submit(new_run("a", "b", edges=(("a", "b"),)))
        await scene.until(lambda _: scene.stages.calls[f"{stage} a"] > 0)
        await flow.cancel(RUN)
        tasks = await scene.ended()
    assert {task.state for task in tasks.values()} == {State.CANCELLED}
    assert scene.stages.calls["settle a"] == 1
    assert scene.stages.calls["work b"] == 0


async def test_a_cancellation_at_any_moment_is_never_missed(scene: Scene) -> None:
    scene.stages.scripts["work"] = for_ever
    names = [str(n) for n in range(12)]
    async with scene.flow() as flow:
        await flow.submit(new_run(*names))
        await flow.cancel(RUN)
        tasks = await scene.ended()
    assert {task.state for task in tasks.values()} == {State.CANCELLED}


@pytest.mark.parametrize("stage", ["work", "verify", "review"])
async def test_what_a_killed_service_left_at_work_is_ended_before_its_task_is(
    scene: Scene, stage: str
) -> None:
    states = []

    async def halt(task: str, _: int) -> Record:
        states.append((await scene.look())[task].state)
        return {}

    scene.stages.scripts |= {stage: for_ever, "halt": halt}
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.until(lambda _: scene.stages.calls[f"{stage} a"] > 0)
    # As of a service that was killed between noting the cancellation and acting on it.
    await scene.store.transact(facts.request_cancel, RUN, 1)
    async with scene.flow():
        tasks = await scene.ended()

    assert tasks["a"].state is State.CANCELLED
    assert states == [State.IN_PROGRESS]


async def test_a_try_that_waits_for_the_provider_is_cancelled_at_once(scene: Scene) -> None:
    async def busy(task: str, number: int) -> Record:
        return {"outcome": "try_again", "reason": "rate_limit", "session": "s"}

    scene.stages.scripts["work"] = busy
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", "model provider")
        await flow.cancel(RUN)
        tasks = await scene.ended()
    assert tasks["a"].state is State.CANCELLED
    assert scene.stages.calls["work a"] == 1


async def test_a_retry_waits_for_the_old_try_and_old_tries_never_come_back(scene: Scene) -> None:
    leave = asyncio.Event()

    async def settle(task: str, number: int) -> Record:
        await leave.wait()
        return {"problems": []}

    scene.stages.scripts |= {"work": for_ever, "settle": settle}
    async with scene.flow() as flow:
        await flow.submit(new_run("a", "b", "c"))
        await scene.until(lambda _: scene.stages.calls["work a"] > 0)
        await flow.cancel(RUN)
        with pytest.raises(NotYet):
            await flow.retry(RUN, None)
        leave.set()
        await scene.ended()
        del scene.stages.scripts["work"]
        before = sum(scene.stages.calls[f"work {each}"] for each in "abc")
        await flow.retry(RUN, None)
        tasks = await scene.ended()
    assert {task.state for task in tasks.values()} == {State.COMPLETED}
    assert sum(scene.stages.calls[f"work {each}"] for each in "abc") == before + 3


async def test_two_retries_at_once_open_a_task_once(scene: Scene) -> None:
    async def fail(task: str, number: int) -> Record:
        return {"outcome": "failed", "reason": "auth"}

    scene.stages.scripts["work"] = fail
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.ended()
        del scene.stages.scripts["work"]
        answers = await asyncio.gather(
            *(flow.retry(RUN, "a") for _ in range(4)), return_exceptions=True
        )
        tasks = await scene.ended()
    assert answers.count(None) == 1
    assert tasks["a"].attempt == 2
    assert scene.stages.calls["work a"] == 2


async def test_a_pull_request_waits_for_a_person_as_often_as_it_must(scene: Scene) -> None:
    answers = [{"outcome": "waiting"}, {"outcome": "waiting"}, LANDED]

    async def land(task: str, number: int) -> Record:
        return answers[scene.stages.calls["land a"] - 1]

    scene.stages.scripts["land"] = land
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_A_PERSON)
        assert (await scene.look())["a"].phase is Phase.WAITING
        scene.stages.ended = True
        tasks = await scene.ended()
    assert tasks["a"].reason is Reason.MERGED
    assert scene.stages.calls["land a"] == 3


async def test_a_forge_that_is_asked_seldom_is_asked_when_somebody_says_so(scene: Scene) -> None:
    answers = [{"outcome": "waiting"}, LANDED]

    async def land(task: str, number: int) -> Record:
        return answers[scene.stages.calls["land a"] - 1]

    scene.stages.scripts["land"] = land
    async with scene.flow(forge_poll_s=3600) as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_A_PERSON)
        scene.stages.ended = True
        flow.look_now()
        tasks = await scene.ended()

    assert tasks["a"].reason is Reason.MERGED
    assert scene.stages.calls["needs_a_turn"] == 1


async def test_a_forge_that_is_asked_seldom_leaves_the_disk_looked_at(scene: Scene) -> None:
    scene.stages.short = FULL
    async with scene.flow(forge_poll_s=3600) as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_DISK)
        scene.stages.short = ""
        tasks = await scene.ended()

    assert tasks["a"].reason is Reason.MERGED


async def test_a_task_that_waits_for_a_person_can_be_cancelled(scene: Scene) -> None:
    async def land(task: str, number: int) -> Record:
        return {"outcome": "waiting"}

    scene.stages.scripts["land"] = land
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_A_PERSON)
        await flow.cancel(RUN)
        tasks = await scene.ended()
    assert tasks["a"].state is State.CANCELLED


def end(task: str, record: Record = LANDED) -> Record:
    return {**record, "run": RUN, "task": task, "number": 1}


async def all_in_the_queue(scene: Scene) -> None:
    await scene.until(
        lambda session: len(views.merging_tasks(session, "/r.git", "main", "main")) == 3
    )


async def test_who_lands_with_others_has_no_turn_of_its_own(scene: Scene) -> None:
    async def land(task: str, number: int) -> Record:
        await all_in_the_queue(scene)
        return {**LANDED, "ends": [end(each) for each in "bca"]}

    scene.stages.scripts["land"] = land
    async with scene.flow() as flow:
        await flow.submit(new_run("a", "b", "c"))
        tasks = await scene.ended()
    assert {task.reason for task in tasks.values()} == {Reason.MERGED}
    assert sum(scene.stages.calls[f"land {each}"] for each in "abc") == 1
    events = await scene.store.transact(views.events, RUN, after=0, limit=9999)
    completed = [e.task for e in events if e.kind is EventKind.TASK_COMPLETED]
    assert completed == ["b", "c", "a"]


async def test_who_breaks_a_chain_goes_back_to_its_agent_and_comes_again(scene: Scene) -> None:
    verdict = {"outcome": "combined", **VERIFIED, "judgement": "failed"}

    async def land(task: str, number: int) -> Record:
        if scene.stages.calls["work b"] > 1:
            return LANDED
        await all_in_the_queue(scene)
        ends = [end("a"), end("b", verdict), end("c")]
        return {**next(each for each in ends if each["task"] == task), "ends": ends}

    scene.stages.scripts["land"] = land
    async with scene.flow() as flow:
        await flow.submit(new_run("a", "b", "c"))
        tasks = await scene.ended()
    assert {task.reason for task in tasks.values()} == {Reason.MERGED}
    assert [tasks[each].attempt for each in "abc"] == [1, 2, 1]


async def test_who_has_to_let_others_go_first_keeps_its_turn_over_a_stop(scene: Scene) -> None:
    async def land(task: str, number: int) -> Record:
        match scene.stages.calls["land a"]:
            case 1:
                return {"outcome": "later", "ends": []}
            case 2:
                return await for_ever(task, number)
            case _:
                return LANDED

    scene.stages.scripts["land"] = land
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.until(lambda _: scene.stages.calls["land a"] == 2)
    async with scene.flow():
        tasks = await scene.ended()
    assert tasks["a"].reason is Reason.MERGED
    assert scene.stages.calls["land a"] == 3


async def test_a_flaky_check_is_told_to_people_once(scene: Scene) -> None:
    async def land(task: str, number: int) -> Record:
        return {**LANDED, "ends": [end("a")], "flaky": ["The check is flaky."]}

    scene.stages.scripts["land"] = land
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.ended()
    record = await scene.store.transact(views.read_run, RUN)
    assert record.notes == ("The check is flaky.",)


@pytest.mark.slow
async def test_a_stop_in_the_middle_loses_and_repeats_nothing_that_was_told(scene: Scene) -> None:
    names = [str(n) for n in range(6)]
    edges = tuple((a, b) for a, b in zip(names, names[2:], strict=False))
    async with scene.flow() as flow:
        await flow.submit(new_run(*names, edges=edges))
    for _ in range(2):
        seen = len(scene.stages.order)
        async with scene.flow():
            await scene.until(lambda _, seen=seen: len(scene.stages.order) >= seen + 5)  # type: ignore[misc]
    async with scene.flow():
        tasks = await scene.ended()
    assert {task.state for task in tasks.values()} == {State.COMPLETED}
    kinds = Counter(await scene.kinds())
    assert kinds[EventKind.TASK_STARTED] == kinds[EventKind.TASK_COMPLETED] == len(names)
    assert kinds[EventKind.RUN_ENDED] == 1


FULL = "disk space: 1 MiB free of 1 GiB needed on /data"
MORE_THAN_SLOTS = tuple(f"t{n}" for n in range(8))
"""Tasks, more than the queue of agents serves at one time."""


async def test_while_the_disk_is_full_no_try_begins_and_none_holds_a_slot(scene: Scene) -> None:
    scene.stages.short = FULL
    async with scene.flow() as flow:
        await flow.submit(new_run(*MORE_THAN_SLOTS))
        for each in MORE_THAN_SLOTS:
            await scene.waiting(each, WAITS_FOR_DISK)
        called = dict(scene.stages.calls)
        waiting = await scene.look()
        scene.stages.short = ""
        tasks = await scene.ended()

    assert called == {}
    assert {task.phase for task in waiting.values()} == {Phase.WAITING}
    assert {task.reason for task in tasks.values()} == {Reason.MERGED}
    assert {scene.stages.calls[f"work {each}"] for each in MORE_THAN_SLOTS} == {1}
    assert (await scene.kinds()).count(EventKind.TASK_STARTED) == len(MORE_THAN_SLOTS)


async def test_a_task_that_waits_for_the_disk_can_be_cancelled(scene: Scene) -> None:
    scene.stages.short = FULL
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_DISK)
        await flow.cancel(RUN)
        tasks = await scene.ended()
    assert tasks["a"].state is State.CANCELLED
    assert scene.stages.calls["work a"] == 0


async def test_what_waits_for_the_disk_goes_on_after_a_restart_too(scene: Scene) -> None:
    scene.stages.short = FULL
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_DISK)
    scene.stages.short = ""
    async with scene.flow():
        tasks = await scene.ended()
    assert tasks["a"].reason is Reason.MERGED
    assert scene.stages.calls["work a"] == 1


async def test_a_second_try_waits_for_the_disk_like_the_first(scene: Scene) -> None:
    async def fill(task: str, number: int) -> Record:
        scene.stages.short = FULL if number == 1 else ""
        return {"outcome": "failed", "reason": "exit"} if number == 1 else WORKED

    scene.stages.scripts["work"] = fill
    async with scene.flow() as flow:
        await flow.submit(new_run("a"))
        await scene.waiting("a", WAITS_FOR_DISK)
        tries = scene.stages.calls["work a"]
        scene.stages.short = ""
        tasks = await scene.ended()
    assert (tries, scene.stages.calls["work a"]) == (1, 2)
    assert (tasks["a"].reason, tasks["a"].attempt) == (Reason.MERGED, 2)
