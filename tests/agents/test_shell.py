"""Any command as an agent: its environment, its events, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandcenter.agents.shell import Shell, program
from commandcenter.core.agent import AgentEvent, EventKind, Outcome, Profile, Prompt, Role, Usage
from commandcenter.core.workspace import Completed, Ended

PROFILE = Profile("mine", "shell", model="m", command="exec my-agent", environment={"TZ": "UTC"})


def completed(
    stdout: str = "", *, exit_code: int | None = 0, ended: Ended = Ended.EXITED, stderr: str = ""
) -> Completed:
    return Completed(
        ended=ended,
        exit_code=exit_code,
        stdout=stdout.encode(),
        stderr=stderr.encode(),
        duration_s=1.0,
        output_bytes=0,
        log=Path("log"),
    )


def test_the_command_gets_prompt_files_role_and_model() -> None:
    command = Shell().command(Prompt("Say hello", Role.REVIEW, "s1"), PROFILE)

    assert command.argv == ("/bin/sh", "-c", "exec my-agent")
    assert command.stdin == b"Say hello"
    assert command.files == {"prompt.md": b"Say hello"}
    assert command.environment == {
        "CC_PROMPT_FILE": "/cc/prompt.md",
        "CC_INPUT_FILE": "/cc/input.json",
        "CC_RESULT_FILE": "/cc/result.json",
        "CC_ROLE": "review",
        "CC_SESSION": "s1",
        "CC_MODEL": "m",
        "CC_MODEL_URL": "http://127.0.0.1:8899",
        "TZ": "UTC",
    }
    assert command.model_access


@pytest.mark.parametrize(
    ("exit_code", "outcome", "reason"),
    [
        (0, Outcome.DONE, ""),
        (75, Outcome.TRY_AGAIN, "overloaded"),
        (1, Outcome.FAILED, "exit"),
        (126, Outcome.FAILED, "no_program"),
        (127, Outcome.FAILED, "no_program"),
        (-9, Outcome.FAILED, "exit"),
    ],
)
def test_the_exit_code_decides(exit_code: int, outcome: Outcome, reason: str) -> None:
    report = Shell().report(completed(exit_code=exit_code), None)

    assert (report.outcome, report.reason) == (outcome, reason)


def test_it_may_say_why_it_wants_another_try() -> None:
    line = json.dumps({"type": "result", "reason": "rate_limit", "text": "Wait a while."})

    report = Shell().report(completed(line, exit_code=75), None)

    assert (report.reason, report.text) == ("rate_limit", "Wait a while.")


def test_a_stopped_command_is_stopped_even_if_it_says_it_is_done() -> None:
    report = Shell().report(completed('{"type": "result"}', ended=Ended.STOPPED), b"{}")

    assert (report.outcome, report.reason, report.result) == (Outcome.STOPPED, "stopped", None)


def test_a_failure_tells_what_was_printed_last() -> None:
    report = Shell().report(completed("working\n", exit_code=1, stderr="no such file\n"), None)

    assert report.text == "working\nno such file"


def test_usage_and_tools_are_counted_from_events() -> None:
    lines = [
        {"type": "tool", "tool": "write"},
        {"type": "usage", "input_tokens": 100, "output_tokens": 7, "cached_tokens": 50},
        {"type": "usage", "input_tokens": 11, "output_tokens": -5, "cost_usd": 0.5},
        {"type": "usage", "cost_usd": 1},
        {"type": "usage", "cost_usd": -1},
        {"type": "text", "text": "Nearly."},
        {"type": "result", "text": "Done."},
    ]

    report = Shell().report(completed("\n".join(json.dumps(line) for line in lines)), None)

    assert report.usage == Usage(111, 7, 50, cost_usd=1.5)
    assert (report.turns, report.text) == (1, "Done.")


def test_the_result_file_is_the_structured_result() -> None:
    assert Shell().report(completed(), b'{"decision": "approve"}').result == {"decision": "approve"}


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"type": "text", "text": "Hi"}\n', AgentEvent(EventKind.TEXT, "Hi")),
        (b'{"type": "tool", "tool": "t"}', AgentEvent(EventKind.TOOL, tool="t")),
        (
            b'{"type": "tool_result", "tool": "t", "ok": false}',
            AgentEvent(EventKind.TOOL_RESULT, tool="t", ok=False),
        ),
        (b"plain \x1b[31mwords\xff\n", AgentEvent(EventKind.LOG, "plain �[31mwords�")),
        (b'{"type": "started"}', AgentEvent(EventKind.LOG, '{"type": "started"}')),
        (b'{"level": "info"}', AgentEvent(EventKind.LOG, '{"level": "info"}')),
    ],
)
def test_known_lines_are_events_and_the_rest_is_log(line: bytes, event: AgentEvent) -> None:
    assert Shell().read(line) == (event,)


@pytest.mark.parametrize("line", [b"", b"\n", b'{"type": "usage", "input_tokens": 1}'])
def test_nothing_worth_watching_gives_no_event(line: bytes) -> None:
    assert Shell().read(line) == ()


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("no-such-program", "no-such-program"),
        ("  no-such-program --yes 'a b'", "no-such-program"),
        ("A=1 B='x y' no-such-program", "no-such-program"),
        ("no-such-program|cat", "no-such-program"),
        ("no-such-program; true", "no-such-program"),
        ("no-such-program>out.txt", "no-such-program"),
        ("'no-such-program' x", "no-such-program"),
        ("/opt/mine/agent.sh x", "/opt/mine/agent.sh"),
        ("scripts/agent.sh", "scripts/agent.sh"),
        # What cannot be told without a shell
        ("", ""),
        ("A=1", ""),
        ("PATH=/x:$PATH agent", ""),
        ("$AGENT --yes", ""),
        ("`which agent`", ""),
        ("~/agent", ""),
        ("agent* x", ""),
        ("cd src && agent", ""),
        ("if true; then agent; fi", ""),
        ("(agent)", ""),
        ("{ agent; }", ""),
        ("! agent", ""),
        ("agent() { echo; }; agent", ""),
        ("> out.txt agent", ""),
        ("2>out.txt agent", ""),
        ("# why\nagent", ""),
        ("agent 'unclosed", ""),
        ("'agent", ""),
    ],
)
def test_the_program_that_a_command_line_surely_starts_with(command: str, found: str) -> None:
    assert program(command) == found
