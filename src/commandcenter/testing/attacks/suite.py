"""The attack suite as tests: subclass `AttackSuite` for a kind of workspace.

Give it `workspaces`, which makes the kind in a folder. Each attack is a test of its own, and each
has its control: the same attack, without protection, has to succeed. Where that is impossible on
a machine (an ordinary user cannot do what only root can), the test is skipped and says why.
"""

# ruff: noqa: D102 - the name of a test is its promise

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest

from commandcenter.core.workspace import Command, Completed, Ended, Workspaces
from commandcenter.system import process
from commandcenter.testing.attacks import passage, trial
from commandcenter.testing.attacks.inside import LEAVES_A_TRACE, NEEDS_ROOT
from commandcenter.testing.attacks.passage import Passages
from commandcenter.testing.attacks.planted import HIDING, RUNNING, SHARED, TRUSTED, Planted
from commandcenter.testing.attacks.trial import NAMES, Trial
from commandcenter.testing.attacks.victims import lacking
from commandcenter.testing.workspaces import example_vault, opened

OTHER_REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "net.ssh_agent": "KeyError: 'SSH_AUTH_SOCK'",
        "kernel.32_bit": "it ended with -31",
    }
)
"""How attacks fail that end neither with an errno nor by finding nothing; -31 is SIGSYS."""
_TAKE_PORT = """
import socket, sys, time
taken = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("taken", flush=True)
time.sleep(60)
"""
_ERRNOS = frozenset(errno.errorcode.values())


class AttackSuite:
    """What no kind of workspace lets an agent do."""

    other_refusals: ClassVar[Mapping[str, str]] = OTHER_REFUSALS
    exposed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Attacks that work all the same, each with why; the kind has to say so of itself."""

    @classmethod
    def workspaces(cls, folder: Path) -> Workspaces:
        """Return the kind, on a state of its own below `folder`."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def inside(cls, tmp_path_factory: pytest.TempPathFactory) -> Trial:
        """Give how the attacks from within went."""
        return asyncio.run(trial.in_workspace(cls.workspaces(tmp_path_factory.mktemp("inside"))))

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, tmp_path_factory: pytest.TempPathFactory) -> Passages:
        """Give how the attacks on what workspaces share went."""
        return cls._passed(tmp_path_factory.mktemp("shared"), SHARED)

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Passages:
        """Give how the attacks by settings that run programs went."""
        return cls._passed(tmp_path_factory.mktemp("running"), RUNNING)

    @pytest.fixture(scope="class")
    @classmethod
    def hiding(cls, tmp_path_factory: pytest.TempPathFactory) -> Passages:
        """Give how the attacks that hide in the result went."""
        return cls._passed(tmp_path_factory.mktemp("hiding"), (*HIDING, *TRUSTED))

    @classmethod
    def _passed(cls, folder: Path, attacks: tuple[Planted, ...]) -> Passages:
        return asyncio.run(passage.pass_through(cls.workspaces(folder), attacks))

    @pytest.mark.parametrize("name", NAMES)
    def test_from_within(self, name: str, inside: Trial) -> None:
        if reason := lacking(NEEDS_ROOT).get(name):
            pytest.skip(reason)
        control, verdict = trial.unprotected(), inside.verdicts[name]

        assert control.verdicts[name].worked or name in control.seen, control.verdicts[name]
        assert name in control.harmed or name not in LEAVES_A_TRACE, "it leaves no trace"
        assert verdict.worked == (name in self.exposed)
        assert verdict.detail in {"", self.other_refusals.get(name), *_ERRNOS}, "it is no refusal"
        assert name not in inside.harmed

    def test_nobody_outside_is_harmed_from_within(self, inside: Trial) -> None:
        assert inside.harmed == frozenset()

    async def test_a_signal_to_everybody_reaches_nobody_outside(self, tmp_path: Path) -> None:
        with sleeping() as outside:
            script = "sleep 60 & kill -9 -1; wait $!; echo $?"
            # Without protection, but where everybody is nobody else.
            alone = ("unshare", "-Urpf", "sh", "-c", script)
            control = await process.run(alone)
            done = await self._run(tmp_path, Command(("sh", "-c", script)))

            assert control.stdout == b"137\n", "the attack itself is broken"
            assert done.stdout == b"137\n"
            assert outside.poll() is None

    async def test_a_signal_to_its_group_ends_only_the_command(self, tmp_path: Path) -> None:
        killing = ("sh", "-c", "kill -9 0")
        with sleeping() as outside:
            killed_its_group = _end_of_one_in_the_group_of(killing)
            done = await self._run(tmp_path, Command(killing))

            assert killed_its_group == -9, "the attack itself is broken"
            assert (done.ended, done.exit_code) == (Ended.EXITED, -9)
            assert outside.poll() is None

    async def test_a_port_that_is_taken_inside_is_free_outside(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        taking = ("python3", "-c", _TAKE_PORT, str(port))
        free_beside_control = _is_free_while_running(taking, port)
        taken = asyncio.Event()
        running = asyncio.ensure_future(
            self._run(tmp_path, Command(taking), on_line=lambda _: taken.set())
        )
        # It may be refused, too, and then has ended.
        told = asyncio.ensure_future(taken.wait())
        await asyncio.wait({told, running}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        free_outside = _is_free(port)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert not free_beside_control, "the attack itself is broken"
        assert free_outside

    async def _run(
        self, folder: Path, command: Command, on_line: Callable[[bytes], None] | None = None
    ) -> Completed:
        example = await example_vault(folder)
        async with opened(self.workspaces(folder), example) as workspace:
            return await workspace.run("attack", command, on_line=on_line)

    @pytest.mark.parametrize("attack", SHARED, ids=str)
    def test_on_what_is_shared(self, attack: Planted, shared: Passages) -> None:
        passes(attack, shared)

    @pytest.mark.parametrize("attack", RUNNING, ids=str)
    def test_running_programs(self, attack: Planted, running: Passages) -> None:
        passes(attack, running)

    @pytest.mark.parametrize("attack", [*HIDING, *TRUSTED], ids=str)
    def test_hidden_in_the_result(self, attack: Planted, hiding: Passages) -> None:
        passes(attack, hiding)

    @pytest.mark.parametrize("group", ["shared", "running", "hiding"])
    def test_everybody_is_as_before_and_what_landed_is_ours(
        self, group: str, request: pytest.FixtureRequest
    ) -> None:
        passages: Passages = request.getfixturevalue(group)

        assert passages.after == passages.before
        assert passages.faults == ()
        assert passages.authors == {"CommandCenter"}
        assert passages.left == frozenset()


@contextmanager
def sleeping(process_group: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that does nothing, and could be hit."""
    with subprocess.Popen(("sleep", "600"), process_group=process_group) as started:
        try:
            yield started
        finally:
            started.kill()


def _end_of_one_in_the_group_of(argv: Sequence[str]) -> int:
    with sleeping(process_group=0) as victim:
        subprocess.run(argv, process_group=victim.pid)
        return victim.wait()


def _is_free_while_running(argv: Sequence[str], port: int) -> bool:
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        free = _is_free(port)
        running.kill()
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def passes(attack: Planted, passages: Passages) -> None:
    """Assert that an attack harms nobody, and that the honest part of its work lands."""
    passed = passages.each[attack.id]
    assert passage.succeeds_without_protection(attack), "the attack itself is broken"
    assert passed.harmed == frozenset()
    assert passed.refused == ""
    assert "result.txt" in passed.files
    assert passed.landed
