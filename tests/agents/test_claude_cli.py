"""The real Claude Code CLI against the scripted model, through the model gateway, with no key."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from commandcenter.agents.claude import ClaudeCode
from commandcenter.core.agent import EventKind, Limits, Outcome, Profile, Prompt, Report, Role
from commandcenter.core.budget import Allowance
from commandcenter.core.contract import SCHEMAS, plain
from commandcenter.core.verdict import VERDICT_SCHEMA, parse_verdict
from commandcenter.core.workspace import Command, Completed, Ended
from commandcenter.gateway.credentials import ApiKey, Provider
from commandcenter.gateway.model import ModelGateway
from commandcenter.testing import claude_code
from commandcenter.testing.model_server import ModelServer

SESSION = "6f0c28a4-6a7e-4a0e-8f5e-0a6ad1f1c001"
SECRET = "sk-real-and-secret"
VERDICT = {"decision": "approve", "summary": "Good.", "issues": []}
SCENARIOS: list[dict[str, Any]] = [
    {
        "name": "hello",
        "match": {"prompt": "TASK:hello"},
        "turns": [
            {
                "text": "I write it.",
                "do": [{"write": {"path": "hello.txt", "content": "hallo\n"}}],
                "usage": [1000, 50],
            },
            {"do": [{"shell": "wc -c < hello.txt > count.txt"}], "usage": [1100, 30]},
            {"text": "Done.", "usage": [1200, 20]},
        ],
    },
    {
        "name": "better",
        "match": {"prompt": "TASK:better"},
        "turns": [
            {"do": [{"edit": {"path": "hello.txt", "old": "hallo", "new": "hello"}}]},
            {"text": "Better."},
        ],
    },
    {
        "name": "review",
        "match": {"prompt": "TASK:review"},
        "turns": [{"text": f"Here:\n```json\n{json.dumps(VERDICT)}\n```"}],
    },
    {
        "name": "bound",
        "match": {"prompt": "TASK:bound"},
        "turns": [{"answer": VERDICT | {"decision": "perhaps"}}, {"answer": VERDICT}],
    },
    {
        "name": "refused",
        "match": {"prompt": "TASK:refused"},
        "turns": [{"fault": {"status": 401, "message": "key revoked"}}],
    },
    {
        "name": "limited",
        "match": {"prompt": "TASK:limited"},
        "turns": [{"fault": {"status": 429, "headers": {"retry-after": 3600}}}],
    },
    {
        "name": "endless",
        "match": {"prompt": "TASK:endless"},
        "turns": [{"do": [{"shell": "echo again >> again.txt"}]}],
        "loop": True,
    },
]


CLI = claude_code.find()
pytestmark = [
    pytest.mark.claude,
    pytest.mark.skipif(CLI is None, reason=claude_code.MISSING),
]


@dataclass(frozen=True)
class Bench:
    """The CLI with a home, a folder to work in, and a port behind which the gateway is."""

    folder: Path
    port: int
    server: ModelServer
    gateway: ModelGateway

    @property
    def work(self) -> Path:
        return self.folder / "work"

    async def ask(
        self,
        text: str,
        session: str = SESSION,
        *,
        role: Role = Role.WORK,
        schema: Mapping[str, Any] | None = None,
        resume: bool = False,
        turns_max: int = 20,
    ) -> Report:
        profile = Profile(
            "real", "claude", model="claude-sonnet-4-5", limits=Limits(turns_max=turns_max)
        )
        prompt = Prompt(text, role, session, resume=resume, schema=schema)
        return ClaudeCode().report(await self._run(ClaudeCode().command(prompt, profile)), None)

    async def _run(self, command: Command) -> Completed:
        assert CLI is not None
        process = await asyncio.create_subprocess_exec(
            CLI,
            *command.argv[1:],
            cwd=self.work,
            env=self._environment(command.environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(120):
            stdout, stderr = await process.communicate(command.stdin)
        return Completed(
            Ended.EXITED, process.returncode, stdout, stderr, 0.0, len(stdout), self.folder
        )

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "IS_SANDBOX": "1",  # tests may run as root, which the CLI refuses otherwise
            **environment,
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self.port}",
            "CLAUDE_CODE_MAX_RETRIES": "1",
        }


@asynccontextmanager
async def relayed(path: Path) -> AsyncIterator[int]:
    """Serve a unix socket on a loopback port, as the relay inside a workspace does."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above_writer = await asyncio.open_unix_connection(str(path))
        await asyncio.gather(
            pump(reader, above_writer), pump(above_reader, writer), return_exceptions=True
        )

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    async with ModelServer(SCENARIOS) as server:
        gateway = ModelGateway(Provider("anthropic", server.url, ApiKey(SECRET)))
        async with (
            aclosing(gateway),
            gateway.socket(tmp_path, key="a") as path,
            relayed(path) as port,
        ):
            yield Bench(tmp_path, port, server, gateway)


async def test_it_changes_files_with_tools_and_resumes_its_session(bench: Bench) -> None:
    first = await bench.ask("TASK:hello")
    written = (bench.work / "hello.txt").read_text(), (bench.work / "count.txt").read_text()
    metered = bench.gateway.usage("a")
    second = await bench.ask("TASK:better", first.session, resume=True)

    assert (first.outcome, first.text, first.session) == (Outcome.DONE, "Done.", SESSION)
    assert written == ("hallo\n", "6\n")
    assert (metered.input_tokens, metered.output_tokens, metered.requests) == (3300, 100, 3)
    assert (first.usage.input_tokens, first.usage.output_tokens) == (3300, 100)
    assert (second.outcome, second.session) == (Outcome.DONE, SESSION)
    assert (bench.work / "hello.txt").read_text() == "hello\n"
    assert {seen.headers["x-api-key"] for seen in bench.server.requests} == {SECRET}


async def test_its_review_is_read_from_its_last_words(bench: Bench) -> None:
    report = await bench.ask("TASK:review")

    assert report.result == VERDICT
    assert not hasattr(parse_verdict(report.result, commit="c0ffee", reviewer="r"), "problem")


async def test_it_is_held_to_a_schema_also_in_a_conversation_that_goes_on(bench: Bench) -> None:
    schema = plain(VERDICT_SCHEMA)

    first = await bench.ask("TASK:bound", role=Role.REVIEW, schema=schema)
    second = await bench.ask("TASK:bound", role=Role.REVIEW, schema=schema, resume=True)
    in_words = await bench.ask("TASK:review", resume=True, role=Role.REVIEW, schema=schema)

    assert (first.outcome, first.result) == (second.outcome, second.result)
    assert (first.outcome, first.result) == (Outcome.DONE, VERDICT)
    assert (in_words.outcome, in_words.result) == (Outcome.DONE, VERDICT)


async def test_every_schema_of_an_answer_is_one_that_it_takes(bench: Bench) -> None:
    every = {"type": "object", "anyOf": [plain(schema) for schema in SCHEMAS.values()]}

    report = await bench.ask("TASK:review", role=Role.JUDGE, schema=every)

    assert (report.outcome, report.result) == (Outcome.DONE, VERDICT)


async def test_a_schema_that_it_does_not_take_is_told_apart(bench: Bench) -> None:
    report = await bench.ask("TASK:review", role=Role.JUDGE, schema={"type": "nonsense"})

    assert (report.outcome, report.reason) == (Outcome.FAILED, "no_schema")
    assert bench.server.requests == []


@pytest.mark.parametrize("role", [Role.REVIEW, Role.MANAGE])
async def test_who_only_reads_runs_no_hook_and_no_server_that_the_author_planted(
    bench: Bench, role: Role
) -> None:
    (bench.work / ".claude").mkdir()
    hook = {"hooks": [{"type": "command", "command": "touch hooked"}]}
    settings = {"hooks": {"SessionStart": [hook]}, "enableAllProjectMcpServers": True}
    (bench.work / ".claude" / "settings.json").write_text(json.dumps(settings))
    server = {"command": "sh", "args": ["-c", "touch served; cat"]}
    (bench.work / ".mcp.json").write_text(json.dumps({"mcpServers": {"planted": server}}))

    read = await bench.ask("TASK:review", role=role)
    after_reading = planted(bench)
    worked = await bench.ask("TASK:review", SESSION[:-1] + "2")

    assert (read.outcome, worked.outcome) == (Outcome.DONE, Outcome.DONE)
    assert after_reading == set()
    assert planted(bench) == {"hooked", "served"}


def planted(bench: Bench) -> set[str]:
    return {path.name for path in bench.work.iterdir()} & {"hooked", "served"}


async def test_a_refused_key_fails_at_once_and_says_so(bench: Bench) -> None:
    report = await bench.ask("TASK:refused")

    assert (report.outcome, report.reason) == (Outcome.FAILED, "auth")
    assert "key revoked" in report.text
    assert len(bench.server.requests) == 1


async def test_a_reached_budget_fails_at_once_and_says_so(bench: Bench) -> None:
    await bench.gateway.open(
        bench.folder, key="a", allowance=Allowance("r/2.1/0", "2.1", 12.0, left_usd=0.0)
    )

    report = await bench.ask("TASK:hello")

    assert (report.outcome, report.reason) == (Outcome.FAILED, "api")
    assert "the budget of task 2.1 ($12) is reached" in report.text
    assert bench.server.requests == []


async def test_a_long_rate_limit_ends_the_run_and_the_gateway_knows_how_long(bench: Bench) -> None:
    report = await bench.ask("TASK:limited")

    assert (report.outcome, report.reason) == (Outcome.TRY_AGAIN, "rate_limit")
    assert bench.gateway.facts("a").retry_after_s == 3600


async def test_an_agent_that_never_finishes_ends_at_its_turns(bench: Bench) -> None:
    report = await bench.ask("TASK:endless", turns_max=3)

    assert (report.outcome, report.reason) == (Outcome.FAILED, "turns")
    assert (bench.work / "again.txt").read_text() == "again\n" * 3


async def test_a_session_is_lost_or_found_as_the_report_says(bench: Bench) -> None:
    unknown = await bench.ask("TASK:hello", resume=True)
    fresh = await bench.ask("TASK:hello")
    known = await bench.ask("TASK:better")

    assert (unknown.reason, unknown.session) == ("lost", "")
    assert fresh.outcome is Outcome.DONE
    assert (known.reason, known.session) == ("lost", SESSION)


async def test_what_it_prints_is_read_into_events(bench: Bench) -> None:
    profile = Profile("real", "claude", model="claude-sonnet-4-5")
    command = ClaudeCode().command(Prompt("TASK:hello", Role.WORK, SESSION), profile)

    completed = await bench._run(command)

    events = [event for line in completed.stdout.splitlines() for event in ClaudeCode().read(line)]
    assert [event.kind for event in events] == [
        EventKind.STARTED,
        EventKind.TEXT,
        EventKind.TOOL,
        EventKind.TOOL_RESULT,
        EventKind.TOOL,
        EventKind.TOOL_RESULT,
        EventKind.TEXT,
        EventKind.RESULT,
    ]
