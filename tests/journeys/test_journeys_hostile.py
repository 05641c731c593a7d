"""Journeys with agents that attack whatever they reach, or use up what the machine has."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence

import pytest

from commandcenter.testing.attacks.planted import HIDING, RUNNING, SHARED, TRUSTED, Planted
from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, batch, plan, task

MERGED = ("completed", "merged")
TIGHT = "[sandbox]\nmemory_bytes = 268435456\ndisk_bytes = 268435456\n"
KNOWN = """
export CANARY=/nowhere EVIL=/nowhere/evil USER_REPOSITORY=/nowhere USER_HOME=/nowhere
export ORIGIN=/nowhere VAULT=/vault OTHER=/nowhere SECRETS=/nowhere U=.git ALT=/vault/objects
cp -a .git /tmp/git
"""
AFRESH = """
cd /work; rm -rf .git; cp -a /tmp/git .git
git checkout -qf HEAD; git clean -qfdx; find . -type p -delete
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose workspaces are small; afterwards nothing of it may be left."""
    installation = Installation.make(tmp_path_factory.mktemp("shared"), more=TIGHT)
    with Service(installation) as service:
        yield service
    assert asyncio.run(judge_stopped(installation)) == ()


def attacking(number: int, attacks: Sequence[Planted]) -> str:
    """A task whose agent tries these attacks one after another, and then does its work."""
    each = (f"( {attack.script}\n); {AFRESH}" for attack in attacks)
    script = base64.b64encode((KNOWN + "\n".join(each)).encode()).decode()
    lines = [
        "write attacks.b64",
        f"| {script}",
        "run base64 -d attacks.b64 > /tmp/attacks; bash /tmp/attacks; echo attacked",
        f"write work-{number}.txt",
        "| done",
    ]
    return task(
        f"1.{number}",
        f"Attack {number}",
        files=[f"work-{number}.txt"],
        script="\n".join(lines),
        checks=[f"grep done work-{number}.txt"],
    )


@pytest.mark.slow
async def test_agents_that_attack_everything_harm_nobody_and_land_their_work(desk: Desk) -> None:
    sample = await desk.sample()
    groups = (SHARED, RUNNING, (*HIDING, *TRUSTED))
    tasks = [attacking(number, group) for number, group in enumerate(groups, 1)]

    ended = await desk.run(sample, plan(batch(1, *tasks, mode="parallel")), patience_s=150)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert {f"work-{number}.txt" for number in (1, 2, 3)} <= set(await sample.paths())
    assert (await sample.ask("log", "--format=%an", "main")).split("\n").count("CommandCenter") >= 3


@pytest.mark.parametrize(
    ("waste", "word"),
    [
        ("python3 -c 'b = b\"x\" * (400 << 20); import time; time.sleep(60)'", "memory"),
        ("for i in 1 2 3; do head -c 150000000 /dev/zero > $i; done; sleep 60", "disk"),
    ],
    ids=["memory", "disk"],
)
async def test_a_broken_limit_is_told_to_the_user_and_to_the_next_try_which_lands(
    desk: Desk, waste: str, word: str
) -> None:
    sample = await desk.sample()
    script = f"only-on-attempt 1 run {waste}\nwrite hello.txt\n| hello"

    ended = await desk.run(sample, plan(batch(1, task("1.1", "Waste", script=script))))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    (failed,) = ended.data("task.try_failed", "1.1")
    assert failed["why"].startswith(f"the agent failed ({word}: ")
    assert "256 MiB" in failed["why"]
    assert "256 MiB" in failed["feedback"]


async def test_a_check_that_uses_too_much_memory_was_not_run_and_says_why(desk: Desk) -> None:
    sample = await desk.sample()
    waste = "python3 -c \"b = b'x' * (400 << 20)\""
    wasteful = task("1.1", "Waste", script="write hello.txt\n| hello", checks=[waste])

    ended = await desk.run(sample, plan(batch(1, wasteful)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "checks")}
    first = ended.data("task.checked", "1.1")[0]["receipts"][0]
    assert first["found"] == "not_run"
    assert "256 MiB" in first["words"]
