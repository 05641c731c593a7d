"""What a task is said to do while several agents of it work and wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from commandcenter.core.agent import Profile, Prompt, Role
from commandcenter.core.run import Phase, TaskStatus
from commandcenter.settings import Keep
from commandcenter.stages.asking import Question, _slot
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job
from commandcenter.store import views
from commandcenter.testing.yard import Yard

QUESTION = Question(
    "ask-1-1-1",
    Phase.WORKING,
    Profile("s", "shell", command="true"),
    Prompt("Do it.", Role.WORK, "s"),
    {},
)


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with Yard.open(tmp_path, Keep()) as yard:
        yield yard


async def status(equipment: Equipment, job: Job) -> tuple[Phase | None, str]:
    """Return what the task is said to do."""
    told: TaskStatus = await equipment.database.transact(views.read_task, job.run.id, job.task.id)
    return told.phase, told.waiting_for


async def until(equipment: Equipment, job: Job, phase: Phase, waiting_for: str = "") -> None:
    """Wait until the task is said to do this."""
    async with asyncio.timeout(30):
        while await status(equipment, job) != (phase, waiting_for):  # noqa: ASYNC110 - it is stored
            await asyncio.sleep(0.01)


async def until_one_waits(equipment: Equipment, job: Job) -> None:
    """Wait until an agent of the task stands in line for a worker."""
    crew = equipment.crews.of(job.run.id, job.task.id)
    async with asyncio.timeout(30):
        while not crew.waiting:  # noqa: ASYNC110 - it is nobody's event
            await asyncio.sleep(0.01)


class Agent:
    """An agent that works until it is told to end."""

    def __init__(self, equipment: Equipment, job: Job) -> None:
        self._told = asyncio.Event()
        self.begun = asyncio.Event()
        self._run = asyncio.ensure_future(self._work(equipment, job))

    async def _work(self, equipment: Equipment, job: Job) -> None:
        async with _slot(equipment, job, QUESTION, begun=False):
            self.begun.set()
            await self._told.wait()

    async def end(self) -> None:
        self._told.set()
        await self._run


async def test_a_task_works_as_long_as_one_of_its_agents_does(yard: Yard) -> None:
    equipment = replace(yard.equipment, slots=asyncio.Semaphore(1))
    mine, other = await yard.begin("exec_00000001"), await yard.begin("exec_00000002")

    first = Agent(equipment, mine)
    await first.begun.wait()
    second, third = Agent(equipment, mine), Agent(equipment, other)
    await until(equipment, other, Phase.WAITING, "a free worker")
    while_one_waits = await status(equipment, mine)
    await first.end()
    await second.begun.wait()
    await second.end()
    await third.begun.wait()
    await third.end()

    assert while_one_waits == (Phase.WORKING, "")


async def test_a_task_waits_when_none_of_its_agents_works_any_more(yard: Yard) -> None:
    equipment = replace(yard.equipment, slots=asyncio.Semaphore(2))
    mine, other = await yard.begin("exec_00000001"), await yard.begin("exec_00000002")

    first, longer = Agent(equipment, mine), Agent(equipment, other)
    await asyncio.gather(first.begun.wait(), longer.begun.wait())
    overtaking = Agent(equipment, other)
    await until_one_waits(equipment, other)
    second = Agent(equipment, mine)
    await first.end()
    await overtaking.begun.wait()

    await until(equipment, mine, Phase.WAITING, "a free worker")
    await longer.end()
    await second.begun.wait()
    await until(equipment, mine, Phase.WORKING)
    await asyncio.gather(second.end(), overtaking.end())
