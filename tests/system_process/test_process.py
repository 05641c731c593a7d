"""Host commands: what they print, how they end, and that nothing of them is left."""

import asyncio
import os
import time
import uuid
from pathlib import Path

import pytest

from commandcenter.system import process
from commandcenter.testing.workspaces import kill, processes


async def test_a_command_gets_its_input_and_gives_both_outputs() -> None:
    done = await process.run(("sh", "-c", "cat; echo no >&2; exit 3"), stdin=b"in")

    assert done == process.Finished(3, b"in", b"no\n")


async def test_a_signals_death_is_minus_its_number() -> None:
    assert (await process.run(("sh", "-c", "kill -9 $$"))).exit_code == -9


async def test_the_environment_is_the_one_given_and_no_other() -> None:
    done = await process.run(("/usr/bin/env",), environment={"ONLY": "this"})

    assert done.stdout == b"ONLY=this\n"


async def test_large_input_and_output_cross_without_a_deadlock() -> None:
    data = os.urandom(2**22)

    assert (await process.run(("cat",), stdin=data)).stdout == data


async def test_input_that_nobody_reads_is_no_failure() -> None:
    assert (await process.run(("true",), stdin=b"x" * 2**20)).exit_code == 0


async def test_out_of_time_kills_the_whole_group() -> None:
    mark = uuid.uuid4().hex

    with pytest.raises(process.OutOfTime, match=r"`sh` did not end within 0\.2 s"):
        await process.run(("sh", "-c", f"(sleep 30; : {mark}) & wait"), timeout_s=0.2)

    async with asyncio.timeout(20):
        while processes(mark):  # noqa: ASYNC110 - only the group's first process is waited for
            await asyncio.sleep(0.01)


async def test_a_daemon_that_keeps_the_pipe_open_does_not_hold_us_for_ever() -> None:
    mark = uuid.uuid4().hex
    begun = time.monotonic()

    with pytest.raises(process.OutOfTime):
        await process.run(("setsid", "-f", "sh", "-c", f"sleep 30; : {mark}"), timeout_s=0.3)

    assert time.monotonic() - begun < 10
    kill(mark)


async def test_too_much_output_kills_it() -> None:
    with pytest.raises(process.TooMuchOutput, match="1000 bytes"):
        await process.run(("yes",), output_bytes_max=1000)


async def test_cancelling_kills_it() -> None:
    mark = uuid.uuid4().hex
    running = asyncio.ensure_future(process.run(("sh", "-c", f"sleep 30; : {mark}")))
    while not processes(mark):  # noqa: ASYNC110 - the world tells no one
        await asyncio.sleep(0.01)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert processes(mark) == 0


async def test_no_such_program_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        await process.run(("nonesuch",))


async def test_several_may_wait_for_the_end_of_one_process(tmp_path: Path) -> None:
    with (tmp_path / "handed").open("wb") as handed:
        pid = process.spawn_detached(("/bin/sh", "-c", "sleep 0.1"), handed=handed.fileno())
    pidfd = os.pidfd_open(pid)

    await asyncio.gather(process.wait(pidfd), process.wait(pidfd))

    os.close(pidfd)
    assert not Path(f"/proc/{pid}").exists()


async def test_what_is_spawned_has_a_session_of_its_own_an_empty_environment_and_what_it_is_handed(
    tmp_path: Path,
) -> None:
    script = "ps -o sid= -p $$ >&3; tr '\\0' '\\n' < /proc/$$/environ >&3"
    with (tmp_path / "handed").open("wb") as handed:
        pid = process.spawn_detached(("/bin/sh", "-c", script), handed=handed.fileno())
    pidfd = os.pidfd_open(pid)
    await process.wait(pidfd)
    os.close(pidfd)

    assert (tmp_path / "handed").read_text().split() == [str(pid)]


async def test_output_that_nobody_reads_any_more_holds_nothing_up() -> None:
    async with asyncio.timeout(60):
        for _ in range(60):
            with pytest.raises(process.TooMuchOutput):
                await process.run(("sh", "-c", "yes & yes >&2"), output_bytes_max=1000)


async def test_what_a_command_prints_is_given_on_as_it_comes(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    seen = bytearray()
    begun = asyncio.Event()

    def on_output(chunk: bytes) -> None:
        seen.extend(chunk)
        begun.set()

    script = f"echo first; read x <{fifo}; echo second >&2"
    running = asyncio.create_task(process.run(("sh", "-c", script), on_output=on_output))
    await begun.wait()
    before = bytes(seen)
    await asyncio.to_thread(fifo.write_text, "go\n")
    done = await running

    assert before == b"first\n"
    assert bytes(seen) == b"first\nsecond\n"
    assert (done.stdout, done.stderr) == (b"first\n", b"second\n")


HOOK = """#!/bin/sh
[ "$1" = prepared ] || exit 0
echo held > "$GIT_DIR/held"
exec sleep 600
"""
"""Runs while git holds the locks of the refs that it is about to move."""


async def test_a_push_that_is_cancelled_leaves_no_lock_in_the_upstream(tmp_path: Path) -> None:
    git = ("git", "-c", "user.name=N", "-c", "user.email=n@example.org", "-C", str(tmp_path))
    upstream = tmp_path / "upstream.git"
    for words in (
        ("init", "-q", "-b", "main", "work"),
        ("-C", "work", "commit", "-q", "--allow-empty", "-m", "one"),
        ("init", "-q", "--bare", "-b", "main", "upstream.git"),
    ):
        assert (await process.run((*git, *words))).exit_code == 0
    hook = upstream / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK)
    hook.chmod(0o755)
    push = (*git, "-C", "work", "push", "-q", str(upstream), "main")
    pushing = asyncio.create_task(process.run(push))
    async with asyncio.timeout(30):
        while not (upstream / "held").exists():  # noqa: ASYNC110 - git tells nobody
            await asyncio.sleep(0.01)
    held = [*upstream.rglob("*.lock")]

    pushing.cancel()
    await asyncio.wait({pushing})

    assert held
    assert [*upstream.rglob("*.lock")] == []


async def test_a_command_that_does_not_end_when_it_is_asked_to_is_killed() -> None:
    ignoring = ("sh", "-c", "trap '' TERM; echo begun; while :; do sleep 600; done")
    begun = asyncio.Event()
    running = asyncio.create_task(process.run(ignoring, on_output=lambda _: begun.set()))
    await begun.wait()

    running.cancel()
    await asyncio.wait({running}, timeout=30)

    assert running.cancelled()
