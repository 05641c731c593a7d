"""Somebody kills what the service works with: git, the agent, its sandbox, its supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.judge import Judge, inhabitants, judge_stopped
from commandcenter.testing.scene import Installation, batch, plan, task

MERGED = ("completed", "merged")
GIT = shutil.which("git") or "git"
# Dies as it is told, once: before git did anything, after it did all, or while it held its locks.
MORTAL_GIT = """\
#!/bin/sh
order={folder}/order
if [ -f "$order" ]; then
    read -r verb moment < "$order"
    for word in "$@"; do
        if [ "$word" = "$verb" ] && rm "$order" 2>/dev/null; then
            case $moment in
                before) kill -9 $$ ;;
                after) {git} "$@"; kill -9 $$ ;;
                locked) hooks={folder}/hooks ;;
            esac
        fi
    done
fi
for word in "$@"; do
    shift
    test -z "$hooks" || test "$word" != core.hooksPath=/dev/null || word=core.hooksPath=$hooks
    set -- "$@" "$word"
done
exec {git} "$@"
"""
KILLS_ITS_GIT = """\
#!/bin/sh
test "$1" != prepared || kill -9 $PPID
"""
DEATHS = [
    *((verb, moment) for verb in ("fetch", "update-ref") for moment in ("before", "after")),
    *((verb, moment) for verb in ("fast-import", "index-pack") for moment in ("before", "after")),
    *((verb, moment) for verb in ("read-tree", "checkout-index") for moment in ("before", "after")),
    *((verb, moment) for verb in ("push", "commit-tree") for moment in ("before", "after")),
    *(("merge-tree", "before"), ("update-index", "before"), ("ls-tree", "before")),
    *(("update-ref", "locked"), ("fetch", "locked")),
]


SIDE_BY_SIDE = plan(
    batch(
        1,
        *(task(f"1.{n}", f"Side {n}", files=[f"{n}.txt"], checks=["true"]) for n in (1, 2)),
        mode="parallel",
    )
)
SLOW = plan(
    batch(
        1,
        task(
            "1.1",
            "Slow",
            files=["starts.txt", "slow.txt"],
            script="run echo started >> starts.txt\nprint started\n"
            "only-on-attempt 1 hang\nwrite slow.txt\n| slow",
            checks=["test -f slow.txt"],
        ),
    )
)


@pytest.fixture(scope="module")
def bin_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a git that dies when the file `order` there says so."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "hooks").mkdir()
    hook = folder / "hooks/reference-transaction"
    for path, text in ((folder / "git", MORTAL_GIT), (hook, KILLS_ITS_GIT)):
        path.write_text(text.format(folder=shlex.quote(str(folder)), git=GIT))
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, bin_: Path) -> Iterator[Host]:
    """A service that works with the mortal git; afterwards nothing of it may be left."""
    folder = tmp_path_factory.mktemp("victims")
    host = Host(Installation.make(folder / "own"), folder)
    process = host.start("serve", "--port", "0", PATH=f"{bin_}:{os.environ['PATH']}")
    try:
        asyncio.run(host.desk(process))
        yield host
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert asyncio.run(judge_stopped(host.installation)) == ()


@pytest.fixture
def desk(shared: Host, tmp_path: Path) -> Desk:
    """A desk at the shared service."""
    told = json.loads((shared.installation.data_dir / "service.json").read_text())
    return Desk(told["url"], shared.installation, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "moment"), DEATHS, ids=map("-".join, DEATHS))
async def test_a_git_that_dies_once_changes_nothing(
    desk: Desk, bin_: Path, verb: str, moment: str
) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    run = await desk.start(sample, SIDE_BY_SIDE)
    (bin_ / "order").write_text(f"{verb} {moment}\n")

    await judge.ended(desk.url, run, patience_s=90)
    ended = await desk.ended(judge)

    assert not (bin_ / "order").exists(), f"git {verb} was never run"
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert [each["attempt"] for each in ended.tasks.values()] == [1, 1]
    assert sorted(each["pr_number"] for each in ended.tasks.values()) == [1, 2]
    assert {"1.txt", "2.txt"} < set(await sample.paths())


def of_the_sandbox(processes: Mapping[int, str]) -> list[int]:
    return [process for process, name in processes.items() if "bwrap" in name]


def of_the_supervisor(processes: Mapping[int, str]) -> list[int]:
    return [process for process, name in processes.items() if "shim" in name]


def of_the_agent(processes: Mapping[int, str]) -> list[int]:
    return [process for process, name in processes.items() if name.startswith("python3 -I ")]


VICTIMS = {
    "the agent": of_the_agent,
    "its sandbox": of_the_sandbox,
    "its supervisor": of_the_supervisor,
}


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
async def test_work_whose_processes_are_killed_is_done_again(desk: Desk, victim: str) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    run = await desk.start(sample, SLOW)
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/events?format=json", agent_works)
        victims = VICTIMS[victim](names(desk.installation))
        for process in victims:
            # With the sandbox's first process the others are gone.
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        async with asyncio.timeout(60):
            await judge.over()
    ended = await desk.ended(judge)

    assert victims
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert ended.tasks["1.1"]["attempt"] == 2


def agent_works(events: list[Any]) -> bool:
    return any("started" in json.dumps(each["data"]) for each in events if each["kind"] == "agent")


def names(installation: Installation) -> dict[int, str]:
    """Return the command lines of the processes at work in an installation's workspaces."""
    found = set[int]().union(*inhabitants(installation).values())
    lines: dict[int, str] = {}
    for process in found:
        with suppress(OSError):
            lines[process] = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    return lines
