"""The contract of a workspace kind, as tests: what isolation, limits and recovery have to mean.

Subclass `WorkspacesContract` in a test module as `TestMyKind` and give it the two fixtures
`workspaces` (the kind under test) and `service` (source code of a Python program's beginning that
leaves the same kind, on the same state, in the variable `workspaces`). Needs pytest and
pytest-asyncio in auto mode.
"""

# ruff: noqa: D102 - the name of a test is its promise

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest

from commandcenter.core.workspace import (
    CHANNEL,
    EGRESS_PORT,
    GATEWAY_PORT,
    HOME,
    WORK,
    Command,
    Completed,
    Ended,
    Resources,
    Workspace,
    WorkspaceKey,
    Workspaces,
)
from commandcenter.system import process
from commandcenter.system.sandbox import AGENT_ID

KEY = WorkspaceKey("run", "task", 1)
OTHER = WorkspaceKey("run", "other", 1)
MIB = 2**20
GRASP = """
import sys, time
held = b"x" * (int(sys.argv[1]) << 20)
print("held", flush=True)
time.sleep(1)
print("still held")
"""
FORK_BOMB = "import os\nwhile True:\n  try:\n    os.fork()\n  except OSError:\n    pass"
FORKS = """
import os, time
made = 0
try:
    while made < 5000:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    pass
print(made)
"""
"""Says how many processes it could start."""
_GIT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@dataclass(frozen=True)
class Example:
    """A small vault and the commit in it that the tests check out."""

    vault: Path
    commit: str


async def example_vault(folder: Path) -> Example:
    """Make a bare repository with one commit: a file, a folder, a link, a program, attributes."""
    source, vault = folder / "source", folder / "vault"
    (source / "docs").mkdir(parents=True)
    (source / "hello.txt").write_text("hello\n")
    (source / "docs" / "dos.txt").write_text("one\ntwo\n")
    (source / ".gitattributes").write_text("dos.txt text eol=crlf\n")
    (source / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("hello.txt")

    async def git(*args: str) -> str:
        done = await process.run(("git", *args), environment=_GIT, cwd=folder)
        assert done.exit_code == 0, done.stderr
        return done.stdout.decode().strip()

    at = ("-C", str(source))
    await git("init", "-q", "-b", "main", str(source))
    await git(*at, "add", "-A")
    await git(*at, "commit", "-q", "-m", "first")
    await git("clone", "-q", "--bare", "--no-hardlinks", str(source), str(vault))
    return Example(vault, await git(*at, "rev-parse", "HEAD"))


PLACES: Mapping[str, str] = MappingProxyType(
    {
        "WORK": WORK,
        "CHANNEL": CHANNEL,
        "MODEL": f"127.0.0.1:{GATEWAY_PORT}",
        "EGRESS": f"127.0.0.1:{EGRESS_PORT}",
    }
)
"""Variables by which a script names its places: not every kind has them where they are called."""


def sh(script: str, **limits: object) -> Command:
    """Return a command that runs a shell script; `limits` are fields of `Command`."""
    return Command(("sh", "-c", script), environment=PLACES, **limits)  # type: ignore[arg-type]


def bash(script: str, *, model_access: bool = False) -> Command:
    """Return a command that runs a bash script, for its `/dev/tcp`."""
    return Command(
        ("bash", "-c", script), environment=PLACES, model_access=model_access, timeout_s=20
    )


class WorkspacesContract:
    """What every kind of workspace promises."""

    agent_id = AGENT_ID
    """Who a command finds itself to be."""
    own = f"{WORK} {HOME} {CHANNEL} /tmp /dev/shm"
    """What it can write to."""
    exposed: ClassVar[frozenset[str]] = frozenset()
    """Attacks that the kind does not ward off, and says so."""

    def who(self, workspace: Workspace) -> int:
        """Return who a command in a workspace finds itself to be."""
        return self.agent_id

    def place(self, workspace: Workspace, name: str) -> str:
        """Return where a command finds one of its places."""
        return name

    @pytest.fixture
    async def example(self, tmp_path: Path) -> Example:
        """Give a vault and a commit."""
        return await example_vault(tmp_path)

    @pytest.fixture
    async def workspace(self, workspaces: Workspaces, example: Example) -> AsyncIterator[Workspace]:
        """Give an open workspace."""
        async with opened(workspaces, example) as workspace:
            yield workspace

    # What a command finds

    async def test_what_is_said_to_be_lacking_is_not_found(
        self, workspaces: Workspaces, workspace: Workspace
    ) -> None:
        names = ("sh", "/bin/sh", "cat", "no-such-program", "/usr/bin/no-such", "/srv/agent", "./a")
        lacking = [name for name in names if workspaces.lacks(name)]
        asked = " ".join(lacking)
        found = await workspace.run("ask", sh(f"for p in {asked}; do command -v $p; done; true"))

        assert not {"sh", "/bin/sh", "cat", "./a"} & set(lacking)
        assert found.stdout == b""

    async def test_a_command_finds_the_commit_and_its_end_is_told(
        self, workspace: Workspace
    ) -> None:
        done = await workspace.run("look", sh("cat link; ./run.sh; echo no >&2; exit 3"))

        assert (done.ended, done.exit_code) == (Ended.EXITED, 3)
        assert (done.stdout, done.stderr) == (b"hello\nran\n", b"no\n")
        assert not done.ok
        assert (done.log / "stdout").read_bytes() == done.stdout

    async def test_the_files_are_the_commits_bytes_whatever_its_attributes_say(
        self, workspace: Workspace
    ) -> None:
        done = await workspace.run("look", sh("cat docs/dos.txt"))

        assert done.stdout == b"one\ntwo\n"

    async def test_a_workspace_is_pristine_until_a_command_has_run_in_it(
        self, workspace: Workspace
    ) -> None:
        before = workspace.pristine
        await workspace.run("look", sh("true"))

        assert before
        assert not workspace.pristine

    async def test_a_signals_death_is_told_as_minus_its_number(self, workspace: Workspace) -> None:
        done = await workspace.run("die", sh("kill -9 $$"))

        assert (done.ended, done.exit_code) == (Ended.EXITED, -9)

    async def test_git_starts_clean_and_commits_and_moves_on_a_branch_of_its_own(
        self, workspace: Workspace
    ) -> None:
        script = "git status --porcelain; git rev-parse --abbrev-ref HEAD; echo x >> hello.txt"
        commit = "git add -A && git commit -qm mine && git log --format=%an:%s"

        done = await workspace.run("git", sh(f"{script}; {commit}"))

        assert done.stdout == b"task\nCommandCenter agent:mine\nA:first\n", done.stderr

    async def test_stdin_environment_and_files_reach_the_command(
        self, workspace: Workspace
    ) -> None:
        command = Command(
            ("sh", "-c", 'cat; echo $COLOUR; cat "$FILE"; id -u; echo $HOME; pwd'),
            stdin=b"in\n",
            environment={"COLOUR": "green", "FILE": f"{CHANNEL}/prompt.md"},
            files={"prompt.md": b"do it\n"},
        )

        done = await workspace.run("all", command)

        places = "\n".join(self.place(workspace, each) for each in (HOME, WORK))
        assert done.stdout.decode() == f"in\ngreen\ndo it\n{self.who(workspace)}\n{places}\n"

    async def test_programs_of_the_host_are_on_the_path_by_their_name(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        tool = _program(
            tmp_path / "tools" / "lib" / "tool-1.2",
            'echo tool; cat "$(dirname "$(realpath "$0")")/beside"',
        )
        (tool.parent / "beside").write_text("data\n")
        (tmp_path / "tools" / "tool").symlink_to(tool)
        command = Command(("tool",), programs=(tmp_path / "tools" / "tool",))

        done = await workspace.run("tool", command)

        assert done.stdout == b"tool\ndata\n", done.stderr

    async def test_files_persist_between_the_runs_of_one_workspace(
        self, workspace: Workspace
    ) -> None:
        await workspace.run("first", sh("echo new > new; rm hello.txt; echo kept > ~/kept"))

        done = await workspace.run("second", sh("cat new ~/kept; ls hello.txt"))

        assert done.stdout == b"new\nkept\n"
        assert done.exit_code != 0

    async def test_every_line_is_told_once_and_whole(self, workspace: Workspace) -> None:
        lines: list[bytes] = []
        long = "head -c 3000000 /dev/zero | tr '\\0' x; echo"

        await workspace.run(
            "talk", sh(f"echo one; {long}; printf '\\377\\n\\nlast'"), on_line=lines.append
        )

        assert [line for line in lines if len(line) < 9] == [b"one", b"\xff", b"", b"last"]
        assert [len(line) for line in lines if len(line) > 9] == [3_000_000]

    # Isolation, each attack with its positive control

    @pytest.mark.parametrize(
        "attack",
        [
            "cat {secret}",
            "echo overwritten >> {secret}",
            "ls {home}",
            "ln {secret} stolen && cat stolen",
            "ln -s {secret} stolen && cat stolen",
            "grep -aq {mark} /proc/[0-9]*/environ",
            "grep -aq {mark} /proc/[0-9]*/cmdline",
            "exec 3<>/dev/tcp/127.0.0.1/{port}",
            "exec 3<>/dev/tcp/localhost/{port}",
            "unshare -Ur true",
            "unshare -Urm sh -c 'mount -t tmpfs none /mnt'",
        ],
    )
    async def test_the_host_cannot_be_reached(
        self, workspace: Workspace, tmp_path: Path, attack: str
    ) -> None:
        with victim(tmp_path) as host:
            script = attack.format_map(host)
            control = await process.run(("bash", "-c", script), cwd=tmp_path)
            inside = await workspace.run("attack", bash(script))

        assert control.exit_code == 0, f"the probe itself is broken: {control.stderr!r}"
        assert (inside.exit_code == 0) == (attack in self.exposed)

    async def test_the_command_has_no_power_over_the_kernel(self, workspace: Workspace) -> None:
        status = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"
        writable = "for f in kernel/core_pattern vm/drop_caches; do test -w /proc/sys/$f; done"

        done = await workspace.run("power", sh(f"{status}; {writable} && echo writable"))

        assert done.stdout.split() == [
            *(b"CapEff:", b"0000000000000000", b"CapBnd:", b"0000000000000000"),
            *(b"NoNewPrivs:", b"1", b"Seccomp:", b"2"),
        ]

    async def test_only_its_own_places_can_be_written(self, workspace: Workspace) -> None:
        places = "/ /usr /usr/bin /etc /opt /opt/commandcenter /vault /vault/objects /run /proc/sys"
        own = " ".join(self.place(workspace, each) for each in self.own.split())

        refused = await workspace.run(
            "no", sh(f"for p in {places}; do echo > $p/x && echo $p; done")
        )
        allowed = await workspace.run("yes", sh(f"for p in {own}; do echo > $p/x && echo $p; done"))

        assert refused.stdout == b""
        assert allowed.stdout.decode().split() == own.split()

    async def test_vault_and_base_stay_as_they_are_whatever_an_agent_does(
        self, workspace: Workspace, example: Example
    ) -> None:
        base = workspace.contents().base
        shared = [example.vault, *([base] if base else [])]
        before = [digest(folder) for folder in shared]

        await workspace.run(
            "vandal",
            sh("rm -rf /vault/objects/* .git/refs; git init -q; git gc --prune=now; rm -rf *"),
        )

        assert [digest(folder) for folder in shared] == before

    async def test_parallel_workspaces_do_not_mix(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        async with (
            opened(workspaces, example) as one,
            opened(workspaces, example, OTHER) as two,
        ):
            script = (
                "echo {0} | tee hello.txt ~/mine $TMPDIR/mine $CHANNEL/mine; sleep 0.3; "
                "cat hello.txt"
            )
            rest = " ~/mine $TMPDIR/mine"
            ends = await asyncio.gather(
                *(each.run("mark", sh(script.format(n) + rest)) for n, each in ((1, one), (2, two)))
            )

        assert [end.stdout.split()[:4] for end in ends] == [[b"1"] * 4, [b"2"] * 4]

    async def test_without_model_access_nothing_answers(self, workspace: Workspace) -> None:
        async with gateway(workspace):
            done = await workspace.run("ask", bash(_ask("hi")))

        assert not done.ok

    async def test_with_model_access_the_gateway_answers_even_a_new_one(
        self, workspace: Workspace
    ) -> None:
        async with gateway(workspace):
            first = await workspace.run("ask", bash(_ask("one"), model_access=True))
        async with gateway(workspace):
            second = await workspace.run("again", bash(_ask("two"), model_access=True))

        assert (first.stdout, second.stdout) == (b"ONE\n", b"TWO\n")

    async def test_with_egress_its_proxy_answers_where_programs_look_for_one(
        self, workspace: Workspace
    ) -> None:
        script = f'{_ask("hi", "EGRESS")}; echo $EGRESS; echo "$https_proxy $HTTP_PROXY $NO_PROXY"'
        async with gateway(workspace, "egress.sock"):
            without = await workspace.run("without", bash(script))
            done = await workspace.run("with", replace(bash(script), egress=True))

        answer, at, named = done.stdout.decode().splitlines()
        assert answer == "HI"
        assert named == f"http://{at} http://{at} localhost,127.0.0.1,::1"
        assert without.stdout.decode() == f"127.0.0.1:{EGRESS_PORT}\n  \n"

    async def test_with_egress_and_model_access_both_answer(self, workspace: Workspace) -> None:
        command = bash(f"{_ask('one')}; {_ask('two', 'EGRESS')}", model_access=True)
        async with gateway(workspace), gateway(workspace, "egress.sock"):
            done = await workspace.run("ask", replace(command, egress=True))

        assert done.stdout == b"ONE\nTWO\n"

    @pytest.mark.parametrize(
        ("script", "exit_code"), [("exit 7", 7), ("kill -15 $$", -15), ("exec nonesuch", 127)]
    )
    async def test_the_end_is_the_same_with_model_access(
        self, workspace: Workspace, script: str, exit_code: int
    ) -> None:
        done = await workspace.run("end", sh(script, model_access=True))

        assert (done.ended, done.exit_code) == (Ended.EXITED, exit_code)

    # Limits

    async def test_out_of_time_is_its_own_end(self, workspace: Workspace) -> None:
        done = await workspace.run("slow", sh("echo begun; sleep 60", timeout_s=0.3))

        assert (done.ended, done.exit_code) == (Ended.TIMED_OUT, None)
        assert done.stdout == b"begun\n"
        assert done.duration_s < 30

    async def test_silence_is_its_own_end_and_talking_prevents_it(
        self, workspace: Workspace
    ) -> None:
        silent = await workspace.run("silent", sh("echo hi; sleep 60", idle_s=0.4))
        talking = await workspace.run(
            "talking", sh("for i in 1 2 3 4; do echo $i; sleep 0.2; done", idle_s=0.6)
        )

        assert (silent.ended, talking.ended) == (Ended.IDLE, Ended.EXITED)

    async def test_a_gigabyte_of_output_ends_the_command_and_only_the_limit_is_kept(
        self, workspace: Workspace
    ) -> None:
        done = await workspace.run(
            "flood", sh("head -c 1073741824 /dev/zero", output_bytes_max=5_000_000)
        )

        assert (done.ended, done.exit_code) == (Ended.OUTPUT_LIMIT, None)
        assert done.output_bytes == 5_000_000
        assert len(done.stdout) == 4 * 2**20

    async def test_too_much_memory_is_its_own_end_and_told_in_words(
        self, workspace: Workspace
    ) -> None:
        tight = Resources(memory_bytes=256 * MIB)
        grasp = ("python3", "-c", GRASP, "320")

        control = await process.run(grasp)
        fits = await workspace.run("fits", Command((*grasp[:3], "64"), resources=tight))
        ends = await workspace.run("ends", Command(grasp, resources=tight))

        assert control.stdout == b"held\nstill held\n", "it cannot be held at all"
        assert (fits.ended, fits.stdout, fits.problem) == (Ended.EXITED, control.stdout, "")
        assert (ends.ended, ends.exit_code) == (Ended.MEMORY_LIMIT, None)
        assert "256 MiB" in ends.problem

    @pytest.mark.parametrize("place", ["$WORK", "$WORK/.git", "$HOME", "$CHANNEL"])
    async def test_too_much_disk_is_its_own_end_wherever_it_is_written(
        self, workspace: Workspace, tmp_path: Path, place: str
    ) -> None:
        tight = Resources(disk_bytes=64 * MIB)
        fill = "for i in 1 2 3; do head -c 40000000 /dev/zero > {0}/$i; done; echo all; {1}"

        control = await process.run(("sh", "-c", fill.format(tmp_path, "")))
        done = await workspace.run("fill", sh(fill.format(place, "sleep 60"), resources=tight))

        assert control.stdout == b"all\n", "it cannot be written at all"
        assert (done.ended, done.exit_code) == (Ended.DISK_LIMIT, None)
        assert "64 MiB" in done.problem

    async def test_a_fork_bomb_is_bounded_and_ends_with_its_command(
        self, workspace: Workspace
    ) -> None:
        mark = uuid.uuid4().hex

        counted = await workspace.run("count", Command(("python3", "-c", FORKS)))
        bomb = Command(("python3", "-c", FORK_BOMB, mark), timeout_s=0.5)
        done = await workspace.run("bomb", bomb)

        assert 100 < int(counted.stdout) < 2000
        assert done.ended is Ended.TIMED_OUT
        assert processes(mark) == 0

    async def test_what_ignores_term_is_killed(self, workspace: Workspace) -> None:
        mark = uuid.uuid4().hex
        script = f"trap '' TERM; while :; do sleep 0.1; done # {mark}"

        done = await workspace.run("stubborn", sh(script, timeout_s=0.2))

        assert done.ended is Ended.TIMED_OUT
        assert processes(mark) == 0

    async def test_a_daemon_neither_survives_nor_holds_up_its_command(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        mark, controls = uuid.uuid4().hex, uuid.uuid4().hex
        script = "setsid sh -c 'echo up >&2; sleep 20; : {}' & echo done"

        survived = left_behind(script.format(controls), controls)
        done = await workspace.run("daemon", sh(script.format(mark)))

        assert survived > 0
        assert (done.ended, done.stdout) == (Ended.EXITED, b"done\n")
        assert done.duration_s < 10
        assert processes(mark) == 0

    # Names, stopping, dying and attaching

    async def test_a_finished_name_is_not_run_again(self, workspace: Workspace) -> None:
        lines: list[bytes] = []
        command = sh("echo x >> count; wc -l < count; exit 4")
        first = await workspace.run("once", command)

        second = await workspace.run("once", command, on_line=lines.append)

        assert (first.stdout, first.exit_code) == (b"1\n", 4)
        assert second == first
        assert lines == [b"1"]

    async def test_cancelling_stops_gracefully_and_the_name_starts_again(
        self, workspace: Workspace
    ) -> None:
        begun = asyncio.Event()
        script = (
            "trap 'echo asked >> ~/asked; exit 7' TERM; echo begun; while :; do sleep 0.05; done"
        )
        running = asyncio.ensure_future(
            workspace.run("long", sh(script), on_line=lambda _: begun.set())
        )
        await begun.wait()

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        again = await workspace.run("long", sh("cat ~/asked"))

        assert again.stdout == b"asked\n"

    async def test_a_new_service_attaches_to_what_a_killed_one_started(
        self, workspaces: Workspaces, example: Example, service: str, tmp_path: Path
    ) -> None:
        lines: list[bytes] = []
        script = "echo begun; while [ ! -e /cc/go ]; do sleep 0.05; done; echo $$; exit 5"
        program = _service(service, example, script)
        killed_before_it_ended(program)

        async with opened(workspaces, example) as workspace:
            running = asyncio.ensure_future(
                workspace.run("long", sh("echo another"), on_line=lines.append)
            )
            while b"begun" not in lines:  # noqa: ASYNC110 - as told by a callback
                await asyncio.sleep(0.02)
            still_running = not running.done()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

        assert still_running
        assert lines == [b"begun"]

    async def test_leaving_ends_and_removes_everything(
        self, workspaces: Workspaces, example: Example, tmp_path: Path
    ) -> None:
        mark, precious = uuid.uuid4().hex, tmp_path / "precious"
        precious.mkdir()
        (precious / "file").write_text("kept")
        nasty = (
            "mkdir -p locked/in/side && touch locked/in/side/f && chmod -R 000 locked; "
            f"ln -s {precious} link-out; ln -s / root; mkfifo pipe; touch \"$(printf 'a\\nb')\"; "
            "python3 -c \"import os\nfor i in range(3000): os.mkdir('d'); os.chdir('d')\"; "
            "echo done"
        )

        async with opened(workspaces, example) as workspace:
            done = await workspace.run("nasty", sh(nasty))
            left = workspace.contents()
            running = asyncio.ensure_future(workspace.run("long", sh(f"sleep 60; : {mark}")))
            while not processes(mark):  # noqa: ASYNC110 - the world tells no one
                await asyncio.sleep(0.02)
        with suppress(Exception):
            await running

        assert done.stdout == b"done\n"
        assert not (left.upper or left.tree or Path("/")).exists()
        assert (precious / "file").read_text() == "kept"
        assert processes(mark) == 0
        assert b"/work" not in Path("/proc/self/mountinfo").read_bytes().split()

    async def test_keep_keeps_until_removed_and_removing_twice_is_fine(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        async with opened(workspaces, example, keep=True) as workspace:
            await workspace.run("write", sh("echo kept > kept"))
        async with opened(workspaces, example, keep=True) as workspace:
            found = await workspace.run("read", sh("cat kept"))
        await workspaces.remove(KEY)
        await workspaces.remove(KEY)
        async with opened(workspaces, example) as workspace:
            fresh = await workspace.run("read", sh("cat kept"))

        assert (found.stdout, fresh.stdout) == (b"kept\n", b"")

    async def test_a_sweep_removes_what_is_not_alive(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        for key in (KEY, OTHER):
            async with opened(workspaces, example, key, keep=True) as workspace:
                await workspace.run("write", sh("echo kept > kept"))

        removed = await workspaces.sweep(frozenset({str(KEY)}))

        assert removed == (str(OTHER),)
        async with opened(workspaces, example) as workspace:
            assert (await workspace.run("read", sh("cat kept"))).stdout == b"kept\n"

    async def test_a_sweep_leaves_alone_what_has_lost_its_name_and_holds_files(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        async with opened(workspaces, example, keep=True) as workspace:
            await workspace.run("write", sh("echo kept > kept"))
        (found,) = await workspaces.existing()
        (found.path / "key").write_text("")

        removed = await workspaces.sweep(frozenset())

        assert removed == ()
        assert [each.path for each in await workspaces.existing()] == [found.path]

    async def test_what_is_there_is_told_by_its_key(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        for key in (KEY, OTHER):
            async with opened(workspaces, example, key, keep=True):
                pass

        assert {each.key for each in await workspaces.existing()} == {str(KEY), str(OTHER)}

    async def test_a_stilled_workspace_runs_nothing_and_shows_its_files(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        mark, begun = uuid.uuid4().hex, asyncio.Event()
        script = sh(f"echo half > half; echo begun; sleep 60; : {mark}")
        async with opened(workspaces, example, keep=True) as workspace:
            run = workspace.run("long", script, on_line=lambda _: begun.set())
            running = asyncio.ensure_future(run)
            await begun.wait()
            contents = await workspaces.still(KEY)
            alive = processes(mark)
            await running

        assert alive == 0
        assert contents is not None
        assert ((contents.upper or contents.tree or Path("/")) / "half").read_text() == "half\n"

    async def test_what_was_put_aside_is_neither_opened_nor_swept_and_stays_whole(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        async with opened(workspaces, example, keep=True) as workspace:
            await workspace.run("write", sh("echo kept > kept"))

        await workspaces.put_aside(KEY)
        await workspaces.put_aside(KEY)
        await workspaces.sweep(frozenset())

        async with opened(workspaces, example) as workspace:
            assert (await workspace.run("read", sh("cat kept"))).stdout == b""
        contents = await workspaces.aside(KEY)
        assert contents is not None
        assert ((contents.upper or contents.tree or Path("/")) / "kept").read_text() == "kept\n"
        await workspaces.remove_aside(KEY)
        assert await workspaces.aside(KEY) is None

    async def test_a_base_goes_only_when_no_workspace_lies_on_it(
        self, workspaces: Workspaces, example: Example
    ) -> None:
        async with opened(workspaces, example):
            laid = await workspaces.bases()
            refused = [await workspaces.remove_base(each.path) for each in laid if each.used_by]
        gone = [await workspaces.remove_base(each.path) for each in await workspaces.bases()]

        assert not any(refused)
        assert all(gone)
        assert await workspaces.bases() == ()
        async with opened(workspaces, example) as workspace:
            assert (await workspace.run("read", sh("cat hello.txt"))).stdout == b"hello\n"

    # Reading what a hostile command left

    async def test_a_result_is_read_only_from_a_plain_file_of_a_bounded_size(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        leave = {
            "fine": "echo fine > result.json",
            "empty": ": > result.json",
            "link": f"ln -s {secret} result.json",
            "pipe": "mkfifo result.json",
            "folder": "mkdir result.json",
            "big": "head -c 300000 /dev/zero > result.json",
            "none": "true",
        }

        for name, script in leave.items():
            await workspace.run(name, sh(f"cd $CHANNEL; {script}"))

        found = {name: workspace.result(name) for name in (*leave, "never-run")}
        assert {name: content for name, content in found.items() if content is not None} == {
            "fine": b"fine\n",
            "empty": b"",
        }

    async def test_a_result_stays_that_of_its_command_whatever_runs_afterwards(
        self, workspace: Workspace
    ) -> None:
        first, second = (
            sh("echo mine > $CHANNEL/result.json"),
            sh("echo other > $CHANNEL/result.json"),
        )
        await workspace.run("first", first)
        await workspace.run("second", second)
        await workspace.run("third", sh("test ! -e $CHANNEL/result.json"))

        again = await workspace.run("first", first)

        assert again.ok
        assert workspace.result("first") == b"mine\n"
        assert workspace.result("second") == b"other\n"
        assert workspace.result("third") is None

    async def test_a_planted_link_does_not_lead_our_writing_out(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        target = tmp_path / "target"
        target.write_text("untouched")
        await workspace.run("plant", sh(f"ln -s {target} $CHANNEL/prompt.md; chmod 000 $CHANNEL"))

        done = await workspace.run(
            "next", sh("cat $CHANNEL/prompt.md", files={"prompt.md": b"words"})
        )

        assert done.stdout == b"words"
        assert target.read_text() == "untouched"

    async def test_the_probe_says_that_this_machine_can(self, workspaces: Workspaces) -> None:
        strength = await workspaces.probe()

        assert strength.ok, strength


def opened(
    workspaces: Workspaces, example: Example, key: WorkspaceKey = KEY, *, keep: bool = False
) -> AbstractAsyncContextManager[Workspace]:
    """Open the example's commit."""
    return workspaces.open(key, vault=example.vault, commit=example.commit, keep=keep)


@contextmanager
def victim(folder: Path) -> Iterator[Mapping[str, str]]:
    """Give what an attack aims at: a secret file, a process with a marked environment, a port."""
    secret, mark = folder / "secret.txt", uuid.uuid4().hex
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        running = subprocess.Popen(
            ("sh", "-c", "sleep 60; :", mark), env={"PATH": "/usr/bin:/bin", "SECRET": mark}
        )
        try:
            yield {
                "secret": str(secret),
                "home": str(folder),
                "mark": f"[{mark[0]}]{mark[1:]}",
                "port": str(server.getsockname()[1]),
            }
        finally:
            running.kill()
            running.wait()


@asynccontextmanager
async def gateway(workspace: Workspace, name: str = "model.sock") -> AsyncIterator[None]:
    """Serve one of the workspace's sockets: every line is answered in capitals."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    folder = os.open(workspace.gateway, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The kernel takes 107 bytes at most for a socket's path.
        path = Path(f"/proc/self/fd/{folder}/{name}")
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(answer, path)
        path.chmod(0o666)
        async with server:
            yield
    finally:
        os.close(folder)


def _ask(question: str, at: str = "MODEL") -> str:
    address = f"/dev/tcp/${{{at}/://}}"
    return f"exec 3<>{address} && echo {question} >&3 && head -1 <&3"


def processes(mark: str) -> int:
    """Count the processes of this machine with `mark` in their command line."""
    return len(_marked(mark))


def kill(mark: str) -> None:
    """Kill the processes of this machine with `mark` in their command line."""
    for pid in _marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)


def left_behind(script: str, mark: str) -> int:
    """Run a script that leaves processes with `mark` behind; count and kill them.

    The script says on stderr when they are there: between two programs they have no command line.
    """
    with subprocess.Popen(
        ("sh", "-c", script), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as started:
        started.wait()
        assert started.stderr is not None
        started.stderr.readline()
        survived = processes(mark)
        kill(mark)
    return survived


def _marked(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        # A process may end while it is looked at; the bomb's do all the time.
        with suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def digest(folder: Path) -> str:
    """Return a digest of all names, modes and contents below `folder`."""
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        sha.update(f"{path} {path.lstat().st_mode}".encode())
        if path.is_file() and not path.is_symlink():
            sha.update(path.read_bytes())
    return sha.hexdigest()


def killed_before_it_ended(program: str) -> None:
    """Run a Python program until it prints a line, then kill it as a crash would."""
    with subprocess.Popen(
        (sys.executable, "-c", program), stdout=subprocess.PIPE, env=dict(os.environ)
    ) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        started.kill()
    assert line == b"begun\n", line


def _service(beginning: str, example: Example, script: str) -> str:
    return f"""
import asyncio
from pathlib import Path
from commandcenter.core.workspace import Command, WorkspaceKey
{beginning}
async def serve():
    key = WorkspaceKey("run", "task", 1)
    vault, commit = Path({str(example.vault)!r}), {example.commit!r}
    async with workspaces.open(key, vault=vault, commit=commit) as workspace:
        tell = lambda line: print(line.decode(), flush=True)
        await workspace.run("long", Command(("sh", "-c", {script!r})), on_line=tell)
asyncio.run(serve())
"""


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


__all__ = ["Completed", "Example", "WorkspacesContract", "bash", "example_vault", "opened", "sh"]
