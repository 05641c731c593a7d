"""Any command line as an agent: the fallback for programs without a plug-in of their own.

The command gets the prompt on stdin and in `$CC_PROMPT_FILE`, the same as JSON in
`$CC_INPUT_FILE`, its role in `$CC_ROLE`, and the model gateway at `$CC_MODEL_URL`. It may leave a
JSON object in `$CC_RESULT_FILE`. Exit code 0 is done, 75 is try again, 126 and 127 are the shell's
own for a program that it cannot start, anything else is failed. Lines of its
output that are JSON objects with a known `type` (`text`, `tool`, `tool_result`, `usage`,
`result`) are events; everything else is log. A `usage` has `input_tokens`, `output_tokens`,
`cached_tokens` and `cost_usd`, of this run and since the last one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from commandcenter.agents.output import (
    amount,
    clipped,
    count,
    cut_short,
    json_object,
    json_objects,
    last_words,
    plain,
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

TRY_AGAIN_EXIT = 75
"""EX_TEMPFAIL of sysexits.h."""
_NOT_STARTED_EXITS = (126, 127)
"""POSIX: the shell found the program but could not start it, or did not find it."""
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=.*", re.DOTALL)
_PLAIN_WORD = re.compile(r"[\w./+@%:,=-]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_THE_SHELL = _words(
    """
    . : alias bg bind break builtin case cd chdir command continue declare dirs do done echo
    elif else enable esac eval exec exit export false fc fg fi for function getopts hash help
    history if in jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly
    return select set shift shopt source suspend test then time times trap true type typeset ulimit
    umask unalias unset until wait while
    """
)
_KINDS = {
    kind.value: kind
    for kind in (EventKind.TEXT, EventKind.TOOL, EventKind.TOOL_RESULT, EventKind.RESULT)
}
_WORLD_REASONS = frozenset({"rate_limit", "overloaded", "api"})


class Shell:
    """The `shell` agent: runs the profile's command with `/bin/sh -c`."""

    name = "shell"
    program = ""

    def command(self, prompt: Prompt, profile: Profile) -> Command:
        """Return the profile's command line, with the prompt on stdin and in a file."""
        text = prompt.text.encode()
        return Command(
            argv=("/bin/sh", "-c", profile.command),
            stdin=text,
            environment={
                "CC_PROMPT_FILE": f"{CHANNEL}/prompt.md",
                "CC_INPUT_FILE": f"{CHANNEL}/input.json",
                "CC_RESULT_FILE": f"{CHANNEL}/result.json",
                "CC_ROLE": prompt.role.value,
                "CC_SESSION": prompt.session,
                "CC_MODEL": profile.model,
                "CC_MODEL_URL": f"http://127.0.0.1:{GATEWAY_PORT}",
                **profile.environment,
            },
            timeout_s=profile.limits.timeout_s,
            idle_s=profile.limits.idle_s,
            output_bytes_max=profile.limits.output_bytes_max,
            model_access=True,
            files={"prompt.md": text},
        )

    def read(self, line: bytes) -> tuple[AgentEvent, ...]:
        """Return the event that this line is; a line that is none of ours is a log event."""
        event = json_object(line)
        kind = event.get("type") if event is not None else None
        if event is None or not isinstance(kind, str):
            return (AgentEvent(EventKind.LOG, plain(line)),) if line.strip() else ()
        if kind == "usage":
            return ()
        if kind not in _KINDS:
            return (AgentEvent(EventKind.LOG, plain(line)),)
        ok = event.get("ok")
        return (
            AgentEvent(
                _KINDS[kind],
                clipped(word(event, "text")),
                tool=word(event, "tool"),
                ok=ok if isinstance(ok, bool) else None,
            ),
        )

    def report(self, completed: Completed, result: bytes | None) -> Report:
        """Return what the command claims, by its exit code, result file and last words."""
        events = tuple(json_objects(completed.stdout))
        outcome, reason = cut_short(completed.ended) or _exited(completed.exit_code, events)
        text = _last_text(events) or last_words(completed.stdout)
        if outcome is Outcome.FAILED:
            text = "\n".join(part for part in (text, last_words(completed.stderr)) if part)
        return Report(
            outcome=outcome,
            reason=reason,
            text=text,
            result=structured(result, text) if outcome is Outcome.DONE else None,
            turns=sum(event.get("type") == "tool" for event in events),
            usage=_usage(events),
        )


def program(command: str) -> str:
    """Return the program that a command line surely starts with; empty when that is not sure.

    Words of the shell itself, functions, variables, patterns and a changed PATH are not sure.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        for word in lexer:
            assigned = _ASSIGNMENT.fullmatch(word)
            if assigned is None:
                return word if _is_program(word, lexer.get_token() or "") else ""
            if assigned["name"] == "PATH":
                return ""
    except ValueError:
        return ""
    return ""


def _is_program(word: str, following: str) -> bool:
    if following.startswith("(") or (word.isdecimal() and following.startswith(("<", ">"))):
        return False  # a function is defined, or a stream redirected
    return bool(_PLAIN_WORD.fullmatch(word)) and word not in _OF_THE_SHELL


_Events = Iterable[Mapping[str, Any]]  # Any: events as the program printed them


def _exited(code: int | None, events: _Events) -> tuple[Outcome, str]:
    if code == 0:
        return Outcome.DONE, ""
    if code in _NOT_STARTED_EXITS:
        return Outcome.FAILED, "no_program"
    if code != TRY_AGAIN_EXIT:
        return Outcome.FAILED, "exit"
    said = [word(event, "reason") for event in events if event.get("type") == "result"]
    return Outcome.TRY_AGAIN, said[-1] if said and said[-1] in _WORLD_REASONS else "overloaded"


def _last_text(events: _Events) -> str:
    """Return the text of the last `result` event, else of the last `text` event."""
    said = {event["type"]: word(event, "text") for event in events if _speaks(event)}
    return said.get("result") or said.get("text", "")


def _speaks(event: Mapping[str, Any]) -> bool:
    return event.get("type") in ("result", "text")


def _usage(events: _Events) -> Usage:
    counted = [event for event in events if event.get("type") == "usage"]
    costs = [cost for event in counted if (cost := amount(event, "cost_usd")) is not None]
    return Usage(
        input_tokens=sum(count(event, "input_tokens") for event in counted),
        output_tokens=sum(count(event, "output_tokens") for event in counted),
        cached_tokens=sum(count(event, "cached_tokens") for event in counted),
        cost_usd=sum(costs) if costs else None,
    )
