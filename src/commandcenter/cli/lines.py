"""Progress as plain lines, one a transition: for logs, pipes and CI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from commandcenter.api.schema import BatchAnswer, EventAnswer, StatusAnswer
from commandcenter.cli.wording import clock, count, one_line
from commandcenter.core.run import EventKind


class Lines:
    """Prints a line for each transition, with its time."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._titles: dict[str, str] = {}

    def happened(self, event: EventAnswer) -> None:
        """Print an event, unless it is only an agent's words."""
        learn(self._titles, event)
        line = line_of(event, self._titles)
        if line:
            print(line, file=self._out, flush=True)

    def show(self, status: StatusAnswer, batches: Sequence[BatchAnswer]) -> None:
        """Learn the titles of the tasks."""
        if not self._titles:
            self._titles = titles_of(batches)

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        print(sentence, file=self._out, flush=True)


def titles_of(batches: Sequence[BatchAnswer]) -> dict[str, str]:
    """Return the title of each task by its number."""
    return {task.task_number: task.task_title for batch in batches for task in batch.tasks}


def learn(titles: dict[str, str], event: EventAnswer) -> None:
    """Add the titles of the sub-tasks that a task is split into."""
    if event.kind == EventKind.TASK_ROUND:
        titles |= {each["id"]: each["title"] for each in event.data.get("tasks", ())}


def line_of(event: EventAnswer, titles: dict[str, str]) -> str:
    """Return an event as a line; empty when it is no transition.

    The subject comes first and the ids last: `11:02:03  Add the parser: working (task 1.2)`.
    """
    words = _words(event)
    if not words:
        return ""
    if event.task is None:
        return one_line(f"{clock(event.at)} {words} (run {event.execution_id})")
    subject = titles.get(event.task, "A task")
    return one_line(f"{clock(event.at)} {subject}: {words} (task {event.task})")


def _words(event: EventAnswer) -> str:
    data = event.data
    match event.kind:
        case EventKind.RUN_SUBMITTED:
            return "The run was accepted"
        case EventKind.RUN_CANCEL_REQUESTED:
            return "The run is being cancelled"
        case EventKind.RUN_RETRIED:
            return "Tasks of the run are tried again"
        case EventKind.RUN_LANDING_MOVED:
            return f"The result goes to another branch, {data.get('branch', '')}"
        case EventKind.RUN_ENDED:
            return "The run has ended"
        case EventKind.TASK_STARTED:
            return f"started, attempt {event.attempt}"
        case EventKind.TASK_PHASE:
            return _phase(data)
        case EventKind.TASK_ROUND:
            return _round(data)
        case EventKind.TASK_ANSWERED:
            return _answered(data)
        case EventKind.TASK_JOINED:
            return _joined(data)
        case EventKind.TASK_CONCLUDED:
            return _reason(f"its pattern ended, {data.get('result')}", data, "words")
        case EventKind.TASK_CAPTURED:
            return "its work was recorded"
        case EventKind.TASK_USED:
            asked, answered = data.get("input_tokens", 0), data.get("output_tokens", 0)
            return f"a run that left no result used {asked:,} tokens in, {answered:,} out"
        case EventKind.TASK_CHECKED:
            return _checked(data)
        case EventKind.TASK_LOOKED_AT:
            return _looked_at(data)
        case EventKind.TASK_HANDED_OVER:
            return "the forge is to land it"
        case EventKind.TASK_PROPOSED:
            return f"pull request #{data.get('number')} is open, {data.get('url', '')}"
        case EventKind.TASK_REVIEWED:
            return _reviewed(data)
        case EventKind.TASK_DECIDED:
            return _decided(data)
        case EventKind.TASK_TRY_FAILED:
            return _reason(f"attempt {event.attempt} failed", data, "why")
        case EventKind.TASK_COMPLETED | EventKind.TASK_FAILED:
            return _ended(event)
        case EventKind.TASK_SKIPPED | EventKind.TASK_CANCELLED:
            return _ended(event)
        case EventKind.TASK_REOPENED:
            return "will be tried again"
        case _:
            return ""


def _phase(data: dict[str, Any]) -> str:
    waiting_for = data.get("waiting_for")
    return f"{data.get('phase')} for {waiting_for}" if waiting_for else str(data.get("phase"))


def _round(data: dict[str, Any]) -> str:
    begins = f"round {data.get('round')} of {data.get('pattern')}"
    if tasks := data.get("tasks"):
        named = ", ".join(f"{each['id']} {each['title']}" for each in tasks)
        return f"{begins} splits it into {count(len(tasks), 'task')}: {named}"
    asked = [f"{each['profile']} to {_VERBS[each['role']]}" for each in data.get("asks", ())]
    return f"{begins} asks {', '.join(asked)}"


_VERBS = {
    "work": "work",
    "review": "review",
    "judge": "judge",
    "route": "choose a profile",
    "plan": "plan",
    "manage": "manage",
}


def _answered(data: dict[str, Any]) -> str:
    who = f"{data.get('profile')} ({data.get('role')}) answered: {data.get('outcome')}"
    found = [
        data.get("problem"),
        data.get("refused"),
        data.get("checks") and f"checks {data['checks']}",
        data.get("files")
        and f"{count(data['files'], 'file')}, +{data['insertions']} -{data['deletions']}",
        *data.get("flags", ()),
        data.get("left") and f"changed {', '.join(data['left'])}, which is thrown away",
    ]
    return "; ".join([who, *(str(each).rstrip(".") for each in found if each)])


def _joined(data: dict[str, Any]) -> str:
    children = data.get("children", ())
    landed = sum(each["satisfied"] for each in children)
    words = f"{landed} of {count(len(children), 'sub-task')} have landed"
    verdict = data.get("verdict")
    return f"{words}; its checks {verdict['judgement']}" if verdict else words


def _checked(data: dict[str, Any]) -> str:
    receipts = data.get("receipts", [])
    judgement = str(data.get("judgement", "")).replace("_", " ")
    if not receipts:
        return f"checks {judgement}: the task has none"
    bad = [str(r.get("check")) for r in receipts if r.get("found") in ("failed", "not_run")]
    ran = f"checks {judgement} ({count(len(receipts), 'check')})"
    return f"{ran}: {', '.join(bad)}" if bad else ran


def _looked_at(data: dict[str, Any]) -> str:
    found = [f"{each['name']} {each['state']}" for each in data.get("checks", ())]
    return f"external checks: {', '.join(found[:5]) or 'none is reported'}"


def _reviewed(data: dict[str, Any]) -> str:
    decision = data.get("decision")
    words = "not reviewed" if decision == "none" else f"the review says {decision}"
    return _reason(words, data, "summary")


def _decided(data: dict[str, Any]) -> str:
    verbs = {"approve": "approved", "revise": "sent back", "reject": "rejected"}
    words = f"{verbs.get(str(data.get('decision')), 'decided')} by {data.get('by')}"
    return _reason(words, data, "words")


def _ended(event: EventAnswer) -> str:
    state = event.kind.removeprefix("task.")
    return _reason(state, event.data, "explanation", "reason")


def _reason(words: str, data: dict[str, Any], *names: str) -> str:
    for name in names:
        if data.get(name):
            return f"{words}, {data[name]}".rstrip(".")
    return words
