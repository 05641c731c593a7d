"""A Dagger run counts only when it is proven; each guard with a control that is fooled."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import Command, Ended
from commandcenter.system.git import Git
from commandcenter.testing import dagger_engine
from commandcenter.testing.dagger_engine import Fault
from commandcenter.testing.workspaces import Example, bash, example_vault, opened, sh
from commandcenter.workspaces import dagger_run
from commandcenter.workspaces.dagger import CLIENT, Dagger
from commandcenter.workspaces.dagger_run import UnprovenError

pytestmark = pytest.mark.slow

Naive = Callable[..., tuple[str, list[str]]]
NAIVE = """
import asyncio, dagger
async def main():
    async with dagger.Connection(dagger.Config()) as client:
        lazy = client.container().from_("image").with_exec(
            ["sh", "-c", "exit 3"], expect=dagger.ReturnType.ANY)
        {then}
    print("done")
asyncio.run(main())
"""


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    return await example_vault(tmp_path)


@pytest.fixture
def kind(tmp_path: Path, dagger_schema: Path) -> Callable[..., Dagger]:
    def make(*faults: Fault, **options: Any) -> Dagger:
        places = (tmp_path / "bin" / "dagger", tmp_path / "engine")
        client = dagger_engine.client(*places, *faults, schema=dagger_schema)
        environ = {"PATH": os.environ["PATH"], CLIENT: str(client)}
        return Dagger(tmp_path / "state", Git(), environ, grace_s=0.3, **options)

    return make


@pytest.fixture
def naive(tmp_path: Path, dagger_schema: Path) -> Naive:
    """Run an executor without guards; give what it says, and what the engine really did."""

    def run(then: str, *faults: Fault) -> tuple[str, list[str]]:
        state = tmp_path / "engine"
        client = dagger_engine.client(tmp_path / "dagger", state, *faults, schema=dagger_schema)
        done = subprocess.run(
            (sys.executable, "-O", "-W", "ignore", "-c", NAIVE.format(then=then)),
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), CLIENT: str(client)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout, [event["event"] for event in dagger_engine.events(state)]

    return run


@pytest.mark.parametrize(
    ("then", "executed"),
    [("pass", []), ("await lazy.workdir()", []), ("await lazy.sync()", ["EXEC"])],
)
def test_an_executor_without_guards_is_done_without_having_run_or_noticed_the_failure(
    naive: Naive, then: str, executed: list[str]
) -> None:
    said, did = naive(then)

    assert (said, did) == ("done\n", executed)


def test_an_executor_without_guards_takes_the_cache_for_a_run(naive: Naive) -> None:
    naive("await lazy.sync()")

    said, did = naive("await lazy.sync()")

    assert (said, did) == ("done\n", ["EXEC", "CACHED"])


def test_an_executor_without_guards_believes_an_engine_that_runs_nothing(naive: Naive) -> None:
    said, did = naive("assert await (await lazy.sync()).exit_code() == 0", Fault.HOLLOW)

    assert said == "done\n"
    assert "EXEC" not in did


async def test_the_same_command_runs_twice_and_its_exit_code_is_told(
    kind: Callable[..., Dagger], example: Example, tmp_path: Path
) -> None:
    script = sh("echo x >> count; wc -l < count; exit 3")
    async with opened(kind(), example) as workspace:
        ends = [await workspace.run(name, script) for name in ("one", "two")]

    assert [(end.stdout, end.exit_code) for end in ends] == [(b"1\n", 3), (b"2\n", 3)]
    did = [event["event"] for event in dagger_engine.events(tmp_path / "engine")]
    assert did.count("EXEC") == 3  # the probe's, too
    assert "INVALID" not in did


async def test_an_engine_that_runs_nothing_is_not_believed(kind: Callable[..., Dagger]) -> None:
    strength = await kind(Fault.HOLLOW).probe()

    assert not strength.ok
    assert "UnprovenError" in strength.problems[0]


async def test_an_engine_that_begins_to_run_nothing_fails_the_run(
    kind: Callable[..., Dagger], example: Example
) -> None:
    probed = kind()
    await probed.probe()
    kind(Fault.HOLLOW)  # the same client from now on
    async with opened(probed, example) as workspace:
        with pytest.raises(WorkspaceError) as refused:
            await workspace.run("nothing", sh("true"))

    assert "it never began" in refused.value.message


async def test_an_engine_that_takes_an_old_run_for_this_one_is_not_believed(
    kind: Callable[..., Dagger], example: Example
) -> None:
    script = sh("echo same")
    async with opened(kind(Fault.STALE), example) as workspace:
        first = await workspace.run("one", script)
        with pytest.raises(WorkspaceError) as refused:
            await workspace.run("two", script)

    assert first.stdout == b"same\n"
    assert "UnprovenError" in refused.value.message


@pytest.mark.parametrize(
    ("told", "said", "proof"),
    [(None, "me:0", "me:0"), (1, "me:0", "me:0"), (0, "", "me:0"), (0, "me:0", "other:0")],
)
def test_every_witness_must_name_this_run(told: int | None, said: str, proof: str) -> None:
    dagger_run.require_proof("me", 0, "me:0\n", "me:0")

    with pytest.raises(UnprovenError):
        dagger_run.require_proof("me", told, said, proof)


async def test_a_run_whose_engine_dies_is_lost_and_the_workspace_is_as_before(
    kind: Callable[..., Dagger], example: Example
) -> None:
    probed = kind()
    await probed.probe()
    kind(Fault.DIES)  # the same client from now on
    async with opened(probed, example) as workspace:
        done = await workspace.run("long", sh("echo half > hello.txt; touch fatal; sleep 60"))
        tree = workspace.contents().tree
        assert tree is not None
        left = (tree / "hello.txt").read_text()

    assert (done.ended, done.exit_code, left) == (Ended.LOST, None, "hello\n")
    assert done.problem


async def test_a_command_that_does_not_begin_is_stopped_at_once_and_can_start_again(
    kind: Callable[..., Dagger], example: Example, tmp_path: Path
) -> None:
    def stuck() -> bool:
        return "STUCK" in [each["event"] for each in dagger_engine.events(tmp_path / "engine")]

    probed = kind()
    await probed.probe()
    kind(Fault.STUCK)
    async with opened(probed, example) as workspace:
        running = asyncio.ensure_future(workspace.run("pull", sh("echo pulled")))
        while not stuck():  # noqa: ASYNC110 - the engine tells no one
            await asyncio.sleep(0.05)
        running.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait({running})
        kind()
        again = await workspace.run("pull", sh("echo pulled"))

    assert running.cancelled()
    assert again.stdout == b"pulled\n"


async def test_a_command_killed_for_want_of_memory_is_told_as_killed(
    kind: Callable[..., Dagger], example: Example
) -> None:
    async with opened(kind(), example) as workspace:
        done = await workspace.run("die", sh("echo kept > kept; exit 137"))
        again = await workspace.run("look", sh("cat kept"))

    assert (done.ended, done.exit_code) == (Ended.EXITED, -9)
    assert again.stdout == b"kept\n"


async def test_without_a_client_nothing_is_downloaded_and_what_to_install_is_told(
    tmp_path: Path,
) -> None:
    strength = await Dagger(tmp_path / "state", Git(), {"PATH": str(tmp_path)}).probe()

    assert not strength.ok
    assert strength.problems == ("There is no `dagger`.",)
    assert "Install the Dagger CLI" in strength.hint


async def test_looking_starts_no_engine(kind: Callable[..., Dagger], tmp_path: Path) -> None:
    looked = await kind().look()
    silent = dagger_engine.events(tmp_path / "engine")
    tried = await kind().probe()

    assert (looked.ok, looked.tried, silent) == (True, False, [])
    assert (tried.ok, tried.tried) == (True, True)
    assert dagger_engine.events(tmp_path / "engine")


async def test_where_commands_cannot_be_closed_off_the_network_has_to_be_opened_by_name(
    kind: Callable[..., Dagger],
) -> None:
    refused = await kind(Fault.NO_NAMESPACES).probe()
    agreed = await kind(Fault.NO_NAMESPACES, open_network=True).probe()

    assert not refused.ok
    assert "cannot have a network of its own" in refused.problems[0]
    assert "open_network = true" in refused.hint
    assert agreed.ok
    assert "the engine's own network" in agreed.degraded


async def test_a_command_has_the_engines_network_only_when_it_is_opened(
    kind: Callable[..., Dagger], example: Example
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ask = bash(f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}")
        async with opened(kind(open_network=True), example) as workspace:
            reached = await workspace.run("open", ask)
        async with opened(kind(), example) as workspace:
            closed = await workspace.run("closed", ask)

    assert reached.exit_code == 0
    assert closed.exit_code == 1
    assert b"Connection refused" in closed.stderr


async def test_a_private_variable_is_seen_inside_and_nowhere_in_the_engine(
    kind: Callable[..., Dagger], example: Example, tmp_path: Path
) -> None:
    variables = {"OPEN": "an-open-value", "TOKEN": "a-hidden-value", "SHORT": "7"}
    command = Command(
        ("sh", "-c", "echo $OPEN $TOKEN $SHORT"),
        environment=variables,
        private=frozenset({"TOKEN", "SHORT"}),
    )

    async with opened(kind(), example) as workspace:
        done = await workspace.run("say", command)

    engine = tmp_path / "engine"
    held = b"".join(path.read_bytes() for path in engine.rglob("*") if path.is_file())
    assert done.stdout == b"an-open-value a-hidden-value 7\n"
    assert b"an-open-value" in held
    assert b"a-hidden-value" not in held


async def test_a_cache_is_shared_by_all_commands_and_other_folders_are_not(
    kind: Callable[..., Dagger], example: Example
) -> None:
    shared = kind(caches=("/home/agent/.cache/pip",))
    write = "mkdir -p ~/.cache/pip ~/.cache/own; echo x >~/.cache/pip/x; echo x >~/.cache/own/x"
    look = "cd ~/.cache && find . -type f; true"

    async with opened(shared, example) as workspace:
        assert (await workspace.run("write", sh(write))).ok
    async with opened(shared, example) as workspace:
        told = (await workspace.run("look", sh(look))).stdout
    async with opened(kind(), example) as workspace:
        without = (await workspace.run("look", sh(look))).stdout

    assert told == b"./pip/x\n"
    assert without == b""
