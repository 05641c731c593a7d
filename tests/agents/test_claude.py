"""Claude Code: the command line it is asked with, and reports read from recorded lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commandcenter.agents.claude import ClaudeCode
from commandcenter.core.agent import (
    AgentEvent,
    EventKind,
    Limits,
    Outcome,
    Profile,
    Prompt,
    Role,
    Usage,
)
from commandcenter.core.workspace import Completed, Ended

SESSION = "01c5b1f2-7a6e-4d7f-9c86-5a1f52b8a1aa"
INIT = {"type": "system", "subtype": "init", "session_id": SESSION, "model": "claude-sonnet-4-5"}
SUCCESS = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "api_error_status": None,
    "num_turns": 3,
    "result": "Done.",
    "session_id": SESSION,
    "total_cost_usd": 0.019,
    "usage": {
        "input_tokens": 300,
        "cache_creation_input_tokens": 1000,
        "cache_read_input_tokens": 2000,
        "output_tokens": 100,
    },
}


def failure(status: int | None, text: str) -> dict[str, Any]:
    return {**SUCCESS, "is_error": True, "api_error_status": status, "result": text}


def completed(
    *events: object, ended: Ended = Ended.EXITED, exit_code: int | None = 0, stderr: str = ""
) -> Completed:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    return Completed(
        ended=ended,
        exit_code=exit_code,
        stdout=lines.encode(),
        stderr=stderr.encode(),
        duration_s=1.0,
        output_bytes=len(lines),
        log=Path("log"),
    )


def test_the_prompt_goes_on_stdin_and_every_limit_along() -> None:
    limits = Limits(timeout_s=60, idle_s=5, output_bytes_max=1000, turns_max=7)
    profile = Profile("fast", "claude", model="claude-sonnet-4-5", limits=limits)

    command = ClaudeCode().command(Prompt("x" * 200_000, Role.WORK, SESSION), profile)

    assert command.argv == (
        *("claude", "-p", "--output-format", "stream-json", "--verbose"),
        *("--dangerously-skip-permissions", "--session-id", SESSION),
        *("--model", "claude-sonnet-4-5", "--max-turns", "7"),
    )
    assert command.stdin == b"x" * 200_000
    assert (command.timeout_s, command.idle_s, command.output_bytes_max) == (60, 5, 1000)
    assert command.model_access


@pytest.mark.parametrize("role", Role)
def test_who_only_reads_takes_no_settings_from_the_tree_that_it_reads(role: Role) -> None:
    argv = ClaudeCode().command(Prompt("x", role, SESSION), Profile("fast", "claude")).argv

    distrusting = argv[-3:] == ("--setting-sources", "user", "--strict-mcp-config")
    assert distrusting is (role is not Role.WORK)


def test_a_schema_is_one_that_the_cli_holds_it_to() -> None:
    schema = {"type": "object"}

    argv = (
        ClaudeCode()
        .command(Prompt("x", Role.JUDGE, SESSION, schema=schema), Profile("fast", "claude"))
        .argv
    )

    assert argv[-2:] == ("--json-schema", '{"type": "object"}')


@pytest.mark.parametrize("file", [None, b'{"n": 2}'])
def test_the_clis_own_structured_output_is_the_answer(file: bytes | None) -> None:
    final = SUCCESS | {"structured_output": {"n": 1}, "result": '{"n": 3}'}

    assert ClaudeCode().report(completed(INIT, final), file).result == {"n": 1}


def test_a_structured_output_that_is_too_large_is_none() -> None:
    final = SUCCESS | {"structured_output": {"n": "x" * 2**20}}

    assert ClaudeCode().report(completed(INIT, final), None).result is None


@pytest.mark.parametrize(
    ("last", "result"), [("I have said it.", {"n": 1}), ('```json\n{"n": 2}\n```', {"n": 2})]
)
def test_an_answer_in_words_counts_although_the_cli_insists_on_its_tool(
    last: str, result: object
) -> None:
    said = {"type": "assistant", "message": {"content": [text_block('```json\n{"n": 1}\n```')]}}
    of_another = {**said, "message": {"content": [text_block("no")]}, "parent_tool_use_id": "t1"}
    insisting = {
        "type": "user",
        "message": {"content": [text_block("[structured-output-enforce] You MUST call it.")]},
    }
    again = {"type": "assistant", "message": {"content": [text_block(last)]}}
    final = SUCCESS | {"result": last}

    report = ClaudeCode().report(completed(INIT, said, of_another, insisting, again, final), None)

    assert report.result == result


def text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    "complaint",
    [
        "error: unknown option '--json-schema'",
        "Error: --json-schema is not a valid JSON Schema: data/type must be array",
    ],
)
def test_a_cli_that_cannot_be_held_to_a_schema_says_so(complaint: str) -> None:
    report = ClaudeCode().report(completed(stderr=complaint, exit_code=1), None)

    assert (report.outcome, report.reason) == (Outcome.FAILED, "no_schema")


def test_a_resumed_prompt_names_the_session_that_it_continues() -> None:
    prompt = Prompt("go on", Role.WORK, SESSION, resume=True)

    argv = ClaudeCode().command(prompt, Profile("fast", "claude")).argv

    assert argv[argv.index("--resume") + 1] == SESSION
    assert "--session-id" not in argv
    assert "--model" not in argv


def test_no_credential_is_in_the_environment_but_the_profiles_additions_are() -> None:
    profile = Profile("fast", "claude", environment={"TZ": "UTC"})

    environment = ClaudeCode().command(Prompt("x", Role.WORK, SESSION), profile).environment

    assert environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8899"
    assert environment["ANTHROPIC_API_KEY"] == "held-by-the-model-gateway"
    assert environment["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"
    assert environment["CC_RESULT_FILE"] == "/cc/result.json"
    assert environment["TZ"] == "UTC"


def test_a_finished_run_is_done_whatever_its_exit_code() -> None:
    report = ClaudeCode().report(completed(INIT, SUCCESS, exit_code=1), None)

    assert (report.outcome, report.reason, report.text) == (Outcome.DONE, "", "Done.")
    assert (report.session, report.turns) == (SESSION, 3)
    assert report.usage == Usage(3300, 100, 2000, cost_usd=0.019)


def test_no_terminal_event_is_a_failure_whatever_the_exit_code() -> None:
    report = ClaudeCode().report(completed(INIT, stderr="Killed"), None)

    assert (report.outcome, report.reason) == (Outcome.FAILED, "no_result")
    assert (report.text, report.session) == ("Killed", SESSION)


@pytest.mark.parametrize(
    ("status", "text", "outcome", "reason"),
    [
        (429, "API Error: Request rejected (429)", Outcome.TRY_AGAIN, "rate_limit"),
        (500, "API Error: 500", Outcome.TRY_AGAIN, "overloaded"),
        (529, "API Error: 529 Overloaded", Outcome.TRY_AGAIN, "overloaded"),
        (401, "Failed to authenticate", Outcome.FAILED, "auth"),
        (403, "Not allowed", Outcome.FAILED, "auth"),
        (400, "Prompt is too long · the request is ~300000 tokens", Outcome.FAILED, "context"),
        (413, "Request too large", Outcome.FAILED, "context"),
        (400, "messages.1: bad", Outcome.FAILED, "api"),
        (None, "Something else", Outcome.FAILED, "api"),
    ],
)
def test_success_with_an_error_in_it_is_a_failure_with_its_reason(
    status: int | None, text: str, outcome: Outcome, reason: str
) -> None:
    report = ClaudeCode().report(completed(INIT, failure(status, text)), None)

    assert (report.outcome, report.reason, report.text) == (outcome, reason, text)
    assert report.result is None


def test_too_many_turns_is_a_reason_of_its_own() -> None:
    final = {**SUCCESS, "subtype": "error_max_turns", "is_error": True, "result": None}
    final["errors"] = ["Reached maximum number of turns (3)"]

    report = ClaudeCode().report(completed(INIT, final, exit_code=1), None)

    assert (report.outcome, report.reason) == (Outcome.FAILED, "turns")
    assert report.text == "Reached maximum number of turns (3)"


def test_a_session_whose_files_are_gone_is_lost_and_cannot_be_resumed() -> None:
    words = f"No conversation found with session ID: {SESSION}"
    final = {**failure(None, ""), "subtype": "error_during_execution", "errors": [words]}

    report = ClaudeCode().report(completed(final, exit_code=1, stderr=words), None)

    assert (report.outcome, report.reason, report.session) == (Outcome.TRY_AGAIN, "lost", "")


def test_a_session_that_a_crash_left_behind_can_be_resumed() -> None:
    words = f"Error: Session ID {SESSION} is already in use.\n"

    report = ClaudeCode().report(completed(exit_code=1, stderr=words), None)

    assert (report.outcome, report.reason, report.session) == (Outcome.TRY_AGAIN, "lost", SESSION)


@pytest.mark.parametrize(
    ("ended", "outcome", "reason"),
    [
        (Ended.TIMED_OUT, Outcome.FAILED, "timeout"),
        (Ended.IDLE, Outcome.FAILED, "idle"),
        (Ended.OUTPUT_LIMIT, Outcome.FAILED, "output"),
        (Ended.MEMORY_LIMIT, Outcome.FAILED, "memory"),
        (Ended.DISK_LIMIT, Outcome.FAILED, "disk"),
        (Ended.STOPPED, Outcome.STOPPED, "stopped"),
        (Ended.LOST, Outcome.TRY_AGAIN, "lost"),
    ],
)
def test_a_result_that_comes_after_the_stop_does_not_count(
    ended: Ended, outcome: Outcome, reason: str
) -> None:
    report = ClaudeCode().report(completed(INIT, SUCCESS, ended=ended, exit_code=None), None)

    assert (report.outcome, report.reason, report.session) == (outcome, reason, SESSION)
    assert report.usage.output_tokens == 100


def test_the_result_file_goes_before_the_last_words() -> None:
    final = {**SUCCESS, "result": '{"from": "words"}'}

    report = ClaudeCode().report(completed(INIT, final), b'{"from": "file"}')

    assert report.result == {"from": "file"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here:\n```json\n{"a": 1}\n```\nand then\n```json\n{"a": 2}\n```\nBye.', {"a": 2}),
        ("LGTM!", None),
        ('I say {"a": 1}', None),
        ("```json\n[1]\n```", None),
        ('{"a": NaN}', None),
        ('{"a": "' + "x" * 300_000 + '"}', None),
    ],
)
def test_a_structured_result_is_read_from_the_last_words(text: str, result: object) -> None:
    report = ClaudeCode().report(completed(INIT, {**SUCCESS, "result": text}), None)

    assert report.result == result


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff{}", b'{"a": "' + b"x" * 300_000 + b'"}'])
def test_an_unusable_result_file_is_not_mended_from_the_words(content: bytes) -> None:
    final = {**SUCCESS, "result": '{"from": "words"}'}

    assert ClaudeCode().report(completed(INIT, final), content).result is None


def test_lines_are_read_into_live_events() -> None:
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "make test"}}
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "Hi."}, use]}}
    back = {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": "boom"}
    parts = {**back, "is_error": False, "content": [{"type": "text", "text": "fine"}]}
    retry = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 2,
        "max_retries": 4,
        "error_status": 529,
        "error": "overloaded",
    }
    lines = [INIT, said, {"type": "user", "message": {"content": [back, parts]}}, retry, SUCCESS]

    events = [event for line in lines for event in ClaudeCode().read(json.dumps(line).encode())]

    assert events == [
        AgentEvent(EventKind.STARTED, "claude-sonnet-4-5"),
        AgentEvent(EventKind.TEXT, "Hi."),
        AgentEvent(EventKind.TOOL, "make test", tool="Bash"),
        AgentEvent(EventKind.TOOL_RESULT, "boom", ok=False),
        AgentEvent(EventKind.TOOL_RESULT, "fine", ok=True),
        AgentEvent(EventKind.RETRY, "529 overloaded, retry 2 of 4"),
        AgentEvent(EventKind.RESULT, "Done.", ok=True),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[1]",
        b"{}",
        b'{"type": "brand_new"}',
        b'{"type": "assistant"}',
        b'{"type": "assistant", "message": {"content": "plain"}}',
        b'{"type": "user", "message": []}',
        b"\xff\xfe",
        b"{" * 100_000,
    ],
)
def test_lines_that_it_does_not_know_give_no_event(line: bytes) -> None:
    assert ClaudeCode().read(line) == ()


def test_an_events_text_is_bounded() -> None:
    content = [{"type": "text", "text": "x" * 100_000}]
    line = json.dumps({"type": "assistant", "message": {"content": content}}).encode()

    (event,) = ClaudeCode().read(line)

    assert len(event.text) == 4_000
