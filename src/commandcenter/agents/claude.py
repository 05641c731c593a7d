"""Claude Code, Anthropic's command line agent: `claude -p` with JSON lines on its output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from commandcenter.agents.output import (
    bounded,
    clipped,
    count,
    cut_short,
    json_object,
    json_objects,
    structured,
    word,
)
from commandcenter.core.agent import (
    AgentEvent,
    EventKind,
    Outcome,
    Profile,
    Prompt,
    Report,
    Usage,
)
from commandcenter.core.workspace import CHANNEL, GATEWAY_PORT, Command, Completed

_Json = Mapping[str, Any]  # Any: events as the CLI printed them; every read checks what it needs

_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{GATEWAY_PORT}",
        # The CLI wants a key to start. The gateway throws this one away and puts the real one in.
        "ANTHROPIC_API_KEY": "held-by-the-model-gateway",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # By default it tries ten times, three minutes long, also when the key is wrong.
        "CLAUDE_CODE_MAX_RETRIES": "4",
        "DISABLE_AUTOUPDATER": "1",
    }
)
# Another agent made the tree that a reviewer, a judge or a manager reads. A hook or an MCP server
# that it planted there would run in the reader's place, and could write its answer.
_DISTRUSTING = ("--setting-sources", "user", "--strict-mcp-config")
_NOTHING: _Json = MappingProxyType({})
_UNKNOWN_SESSION = re.compile(r"no conversation found|session.{0,40}not found", re.IGNORECASE)
_KNOWN_SESSION = re.compile(r"session id ([0-9a-f-]{36}) is already in use", re.IGNORECASE)
_NO_SCHEMA = re.compile(r"--json-schema")
"""The CLI is too old for it, or does not take the schema."""
_INSISTING = "[structured-output-enforce]"
"""How the CLI begins when it tells an agent to use its tool for structured output."""
_TOO_LONG = re.compile(r"prompt is too long|context.{0,12}(limit|window|length)", re.IGNORECASE)


class ClaudeCode:
    """The `claude` agent. Its terminal `result` event decides, never its exit code."""

    name = "claude"
    program = "claude"

    def command(self, prompt: Prompt, profile: Profile) -> Command:
        """Return the command that asks this; the prompt goes on stdin, since argv is bounded."""
        session = "--resume" if prompt.resume else "--session-id"
        model = ("--model", profile.model) if profile.model else ()
        return Command(
            argv=(
                *("claude", "-p", "--output-format", "stream-json", "--verbose"),
                "--dangerously-skip-permissions",
                *(session, prompt.session),
                *model,
                *("--max-turns", str(profile.limits.turns_max)),
                *(_DISTRUSTING if prompt.role.reads_only else ()),
                *_bound(prompt.schema),
            ),
            stdin=prompt.text.encode(),
            environment={
                **_ENVIRONMENT,
                "CC_RESULT_FILE": f"{CHANNEL}/result.json",
                **profile.environment,
            },
            timeout_s=profile.limits.timeout_s,
            idle_s=profile.limits.idle_s,
            output_bytes_max=profile.limits.output_bytes_max,
            model_access=True,
        )

    def read(self, line: bytes) -> tuple[AgentEvent, ...]:
        """Return the events in one line; types that the CLI adds later give none."""
        event = json_object(line)
        if event is None:
            return ()
        match event.get("type"), event.get("subtype"):
            case "system", "init":
                return (AgentEvent(EventKind.STARTED, word(event, "model")),)
            case "system", "api_retry":
                return (AgentEvent(EventKind.RETRY, _retry_words(event)),)
            case "assistant", _:
                return tuple(_said(event))
            case "user", _:
                return tuple(_tool_results(event))
            case "result", _:
                failed = event.get("is_error") is True
                return (AgentEvent(EventKind.RESULT, clipped(_last_text(event)), ok=not failed),)
        return ()

    def report(self, completed: Completed, result: bytes | None) -> Report:
        """Return what the agent claims.

        `session` is what a later prompt can resume, or empty. With the reason `lost`, ask again:
        resume the session if there is one, else start another. Newer CLIs count `cost_usd` over
        the whole session, so it is not the cost of a resumed run alone.
        """
        said, final = _session_and_final(completed.stdout)
        complaint = completed.stderr.decode("utf-8", "replace").strip()
        text = _last_text(final) or complaint
        if ended := cut_short(completed.ended):
            outcome, reason, session = *ended, said
        elif final:
            outcome, reason = _judged(final)
            session = "" if reason == "lost" else said
        elif known := _KNOWN_SESSION.search(complaint):
            # A run that was cut off by a crash had started it, so this one can go on with it.
            outcome, reason, session = Outcome.TRY_AGAIN, "lost", known[1]
        elif _NO_SCHEMA.search(complaint):
            outcome, reason, session = Outcome.FAILED, "no_schema", said
        else:
            outcome, reason, session = Outcome.FAILED, "no_result", said
        return Report(
            outcome=outcome,
            reason=reason,
            text=text,
            result=_answer(completed.stdout, final, result) if outcome is Outcome.DONE else None,
            session=session,
            turns=count(final, "num_turns"),
            usage=_usage(final),
        )


def _bound(schema: _Json | None) -> tuple[str, ...]:
    return ("--json-schema", json.dumps(schema)) if schema else ()


def _answer(stdout: bytes, final: _Json, file: bytes | None) -> _Json | None:
    """Return the structured answer: the CLI's own, else what is in the file, else in words.

    An agent that has given its answer in words may have nothing more to say when the CLI insists
    on its tool, so its words before that count, too.
    """
    if isinstance(own := final.get("structured_output"), dict):
        return bounded(own)
    if file is not None:
        return structured(file, "")
    return structured(None, _last_text(final)) or structured(None, _before_insisting(stdout))


def _before_insisting(stdout: bytes) -> str:
    """Return the last words before the CLI insisted on its tool, empty if it did not."""
    said = words = ""
    for event in json_objects(stdout):
        text = "\n".join(word(block, "text") for block in _blocks(event))
        if event.get("type") == "assistant" and not event.get("parent_tool_use_id"):
            said = text
        elif event.get("type") == "user" and text.startswith(_INSISTING):
            words = said
    return words


def _session_and_final(stdout: bytes) -> tuple[str, _Json]:
    """Return the session's id (also of a run cut short) and the terminal event, empty if none."""
    session, final = "", _NOTHING
    for event in json_objects(stdout):
        session = word(event, "session_id") or session
        if event.get("type") == "result":
            final = event
    return session, final


def _judged(final: _Json) -> tuple[Outcome, str]:
    """Return outcome and reason of a terminal event. `success` with `is_error` is a failure."""
    if final.get("subtype") == "error_max_turns":
        return Outcome.FAILED, "turns"
    if final.get("is_error") is not True:
        return Outcome.DONE, ""
    return _failure(final.get("api_error_status"), _last_text(final))


def _failure(status: object, text: str) -> tuple[Outcome, str]:
    if _UNKNOWN_SESSION.search(text):
        return Outcome.TRY_AGAIN, "lost"
    if status == 429:
        return Outcome.TRY_AGAIN, "rate_limit"
    if isinstance(status, int) and 500 <= status < 600:
        return Outcome.TRY_AGAIN, "overloaded"
    if status in (401, 403):
        return Outcome.FAILED, "auth"
    if status == 413 or _TOO_LONG.search(text):
        return Outcome.FAILED, "context"
    return Outcome.FAILED, "api"


def _usage(final: _Json) -> Usage:
    """Return the usage; `input_tokens` has the cached ones in it, as the gateway counts."""
    usage = final.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    cached = count(usage, "cache_read_input_tokens")
    fresh = count(usage, "input_tokens") + count(usage, "cache_creation_input_tokens")
    cost = final.get("total_cost_usd")
    return Usage(
        input_tokens=fresh + cached,
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=cached,
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
    )


def _last_text(final: _Json) -> str:
    """Return the final words: the result, else the errors."""
    if isinstance(text := final.get("result"), str) and text:
        return text
    errors = final.get("errors")
    return "; ".join(str(error) for error in errors) if isinstance(errors, list) else ""


def _said(event: _Json) -> Iterator[AgentEvent]:
    for block in _blocks(event):
        if block.get("type") == "text":
            yield AgentEvent(EventKind.TEXT, clipped(word(block, "text")))
        elif block.get("type") == "tool_use":
            words = _tool_words(block.get("input"))
            yield AgentEvent(EventKind.TOOL, words, tool=word(block, "name"))


def _tool_results(event: _Json) -> Iterator[AgentEvent]:
    for block in _blocks(event):
        if block.get("type") == "tool_result":
            ok = block.get("is_error") is not True
            yield AgentEvent(EventKind.TOOL_RESULT, clipped(_content(block)), ok=ok)


def _blocks(event: _Json) -> Iterator[_Json]:
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        yield from (block for block in content if isinstance(block, dict))


def _content(block: _Json) -> str:
    """Return a tool result's text, which is a string or a list of blocks."""
    content = block.get("content")
    if isinstance(content, list):
        return "\n".join(word(part, "text") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tool_words(arguments: object) -> str:
    """Return the argument that says most about a tool call: the command, else the path."""
    if not isinstance(arguments, dict):
        return ""
    named = (word(arguments, key) for key in ("command", "file_path", "path", "pattern", "url"))
    return clipped(next((words for words in named if words), ""))


def _retry_words(event: _Json) -> str:
    status = event.get("error_status") or "no answer"
    attempt, attempts = count(event, "attempt"), count(event, "max_retries")
    return clipped(f"{status} {word(event, 'error')}, retry {attempt} of {attempts}")
