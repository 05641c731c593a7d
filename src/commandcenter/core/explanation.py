"""Why the outcome of a task is what it is, in sentences: from its stored events alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commandcenter.core import contract
from commandcenter.core.agent import Role
from commandcenter.core.check import Found
from commandcenter.core.rounds import (
    Answered,
    Asked,
    Joined,
    Played,
    Round,
    Standing,
    Subtask,
    played,
)
from commandcenter.core.run import ENDS, Event, EventKind, Reason, State, TaskStatus, satisfied
from commandcenter.core.words import count, one_line

KINDS = tuple(
    kind
    for kind in EventKind
    if kind.value.startswith("task.") and kind is not EventKind.TASK_PHASE
)
"""The events that an explanation is made of."""
QUOTED_MAX = 300
"""Most characters of what somebody else wrote that one sentence quotes."""
TOLD_MAX = 160
"""Most characters of what an agent was told that are quoted."""
NAMES_MAX = 8


@dataclass(frozen=True)
class Explanation:
    """A task, and why it stands where it does."""

    task: TaskStatus
    sentences: tuple[str, ...]


def explain(
    task: TaskStatus,
    events: Sequence[Event],
    *,
    subtasks: Sequence[TaskStatus] = (),
    parent: TaskStatus | None = None,
    commands: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return why a task stands where it does: where that is, what led there, what to do next.

    `events` are its own, oldest first; `subtasks` what it was split into, and `parent` the
    one that was split into it, as they stand now; `commands` what a person can do about it.
    """
    story = _Story(events, subtasks)
    told = [*_opening(task, parent), *story.told(), *_next(commands)]
    return tuple(map(_sentence, told))


def _sentence(words: str) -> str:
    line = one_line(words)
    return line if line.endswith(("?", "!", '"')) else f"{line.rstrip('. ')}."


# Where it stands


def _opening(task: TaskStatus, parent: TaskStatus | None) -> Iterator[str]:
    yield f"Task {task.id}, {_clipped(task.title)}, {_stands(task)}"
    if task.parent:
        yield f"It is a sub-task of task {task.parent}, which was split"
    if parent is not None and satisfied(parent) and task.state.ended and not satisfied(task):
        yield f"That it did not land counts for nothing: task {parent.id} is completed all the same"
    if task.pattern and task.outcome:
        yield f"The pattern {task.pattern} had the outcome {task.outcome}"
    elif task.pattern and not task.state.ended:
        yield f"Agents work together on it by the pattern {task.pattern}, in round {task.rounds}"


def _stands(task: TaskStatus) -> str:
    match task.state:
        case State.PENDING:
            return "has not begun: it waits for tasks before it, or for a free worker"
        case State.IN_PROGRESS:
            waits = f" for {task.waiting_for}" if task.waiting_for else ""
            doing = f"{task.phase}{waits}" if task.phase else "being worked on"
            return f"is not over: it is {doing}, in try {max(task.attempt, 1)}"
        case State.COMPLETED if task.reason is Reason.MERGED:
            return f"is completed: its change has landed, as commit {task.merge_commit[:12]}"
        case state:
            verb = "has failed" if state is State.FAILED else f"is {state}"
            return f"{verb} ({task.reason}){_because(task.explanation)}"


def _next(commands: Sequence[str]) -> Iterator[str]:
    yield from (f'What you can do: "{each}"' for each in commands)


# What led there


class _Story:
    """Tells the events of a task in their order."""

    def __init__(self, events: Sequence[Event], subtasks: Sequence[TaskStatus]) -> None:
        self._events = events
        self._subtasks = {subtask.id: subtask for subtask in subtasks}
        self._plays = {one.attempt: one for one in played(events)}
        self._last_end = max((n for n, e in enumerate(events) if e.kind in ENDS), default=-1)
        self._last_look = {_commit(e): n for n, e in enumerate(events) if _is_look(e)}
        self._proposed: set[int] = set()
        self._tree = ""
        """What was captured last."""

    def told(self) -> Iterator[str]:
        for place, event in enumerate(self._events):
            yield from self._of(place, event)

    def _of(self, place: int, event: Event) -> Iterator[str]:
        data, attempt = event.data, event.attempt
        match event.kind:
            case EventKind.TASK_STARTED:
                yield f"Try {attempt} began"
            case EventKind.TASK_ROUND:
                yield from self._round(self._plays[attempt], data["round"])
            case EventKind.TASK_JOINED if not self._was_split(attempt, data["round"]):
                yield from self._round(self._plays[attempt], data["round"])
            case EventKind.TASK_CONCLUDED:
                yield from _concluded(self._plays[attempt])
            case EventKind.TASK_CAPTURED:
                yield from self._captured(event)
            case EventKind.TASK_USED:
                yield f"A run of {_name(data.get('profile'))} left no result"
            case EventKind.TASK_CHECKED:
                yield from _checked(data, combined=self._tree not in ("", data.get("tree", "")))
            case EventKind.TASK_LOOKED_AT if self._last_look.get(_commit(event)) == place:
                yield from _looked_at(data)
            case EventKind.TASK_HANDED_OVER:
                yield f"The forge was asked to land commit {_commit(event)}"
            case EventKind.TASK_PROPOSED if data["number"] not in self._proposed:
                self._proposed.add(data["number"])
                yield f"It was proposed as pull request #{data['number']}, {data['url']}"
            case EventKind.TASK_REVIEWED:
                yield from _reviewed(data)
            case EventKind.TASK_DECIDED:
                yield _decided(data)
            case EventKind.TASK_TRY_FAILED:
                yield f"So try {data['next']} was to follow{_because(data['why'])}"
            case EventKind.TASK_REOPENED:
                yield "A person had it tried again"
            case kind if kind in ENDS and place != self._last_end:
                why = data.get("explanation") or data["reason"]
                yield f"It ended then, {kind.removeprefix('task.')}{_because(why)}"

    def _was_split(self, attempt: int, number: int) -> bool:
        rounds = self._plays[attempt].rounds
        return any(each.number == number and each.subtasks for each in rounds)

    def _captured(self, event: Event) -> Iterator[str]:
        data, self._tree = event.data, event.data["tree"]
        if event.attempt in self._plays and self._plays[event.attempt].concluded:
            yield f"Its result went on as commit {data['head'][:12]} of this task"
        else:
            size = _size(len(data.get("files", ())), data)
            yield f"{_name(data.get('profile'))} left {size}, as commit {data['head'][:12]}"
        yield from (f"Of that was left out: {_clipped(note)}" for note in data.get("notes", ()))

    def _round(self, one: Played, number: int) -> Iterator[str]:
        for each in one.rounds:
            if each.number == number and each.asks:
                yield from _asks(each, one.standing(number))
                if _plans(each) and any(_plans(r) for r in one.rounds if r.number == number + 1):
                    yield "No split was made of that, and another one was asked for"
            elif each.number == number:
                yield from self._split(each)

    def _split(self, one: Round) -> Iterator[str]:
        if one.subtasks:
            names = ", ".join(f"{subtask.id} {_clipped(subtask.title)}" for subtask in one.subtasks)
            into = count(len(one.subtasks), "task")
            yield f"Round {one.number} split it into {into}: {names}{_saying(one.reason)}"
        if one.joined is None:
            yield from (self._subtask_now(subtask) for subtask in one.subtasks)
            return
        yield from map(_subtask, one.subtasks)
        yield from _joined(one.joined)

    def _subtask_now(self, subtask: Subtask) -> str:
        status = self._subtasks.get(subtask.id)
        if status is None:
            return f"Task {subtask.id} has not ended"
        return f"Task {subtask.id}, {_clipped(status.title)}, {_stands(status)}"


def _plans(one: Round) -> bool:
    return any(asked.role == Role.PLAN for asked in one.asks)


def _is_look(event: Event) -> bool:
    return event.kind is EventKind.TASK_LOOKED_AT


def _commit(event: Event) -> str:
    return str(event.data.get("head", ""))[:12]


# Of a pattern


def _asks(one: Round, standing: Standing) -> Iterator[str]:
    asked = ", ".join(map(_task_of, one.asks))
    until = ", until one passes the checks" if one.until == "green" else ""
    yield f"Round {one.number} asked {asked}{until}"
    for each in one.asks:
        yield from _answer(each, standing)


def _task_of(asked: Asked) -> str:
    where = f" in lane {asked.lane}" if asked.lane else ""
    # What the others are asked besides the task is the same in every run.
    text = _clipped(asked.text, TOLD_MAX) if asked.role == Role.WORK else ""
    told = f', told "{text}"' if text else ""
    return f"{_name(asked.profile)} to {_VERBS.get(asked.role, asked.role)}{where}{told}"


_VERBS: Mapping[str, str] = {
    Role.WORK: "work",
    Role.REVIEW: "review",
    Role.JUDGE: "judge",
    Role.ROUTE: "choose who does it",
    Role.PLAN: "plan",
    Role.MANAGE: "manage",
}


def _answer(asked: Asked, standing: Standing) -> Iterator[str]:
    who = _name(asked.profile) + (f" in lane {asked.lane}" if asked.lane else "")
    told = [*how_it_went(asked, standing)]
    if asked.answered is not None:
        told += [*_left(asked.answered), *what_it_said(asked.answered)]
    yield from (f"{who} {each}" for each in told)


def how_it_went(asked: Asked, standing: Standing) -> Iterator[str]:
    """Give what is remarkable of how an agent's run went, in words that follow its name."""
    answered = asked.answered
    interrupted = [each for each in asked.uncounted if each.outcome != "not needed"]
    if interrupted:
        times, why = count(len(interrupted), "time"), _listed([e.outcome for e in interrupted])
        yield f"was interrupted {times} ({why}), which does not count"
    if answered is None and standing is Standing.OPEN:
        yield "has not answered yet"
    elif answered is None and standing is Standing.BROKEN_OFF:
        yield "had not answered when the try ended"
    elif answered is None or answered.outcome == "stopped":
        yield "was stopped, since it was not needed any more"
    elif answered.outcome != "done":
        yield f"failed ({answered.reason or answered.outcome}){_saying(answered.words)}"


def what_it_said(answered: Answered) -> Iterator[str]:
    """Give what an agent's answer says, and what is to be held against it."""
    if answered.problem:
        yield f"gave an answer that could not be used: {_clipped(answered.problem)}"
    elif told := _said(answered.result):
        yield told
    yield from (f"is flagged: {_clipped(flag)}" for flag in answered.flags)
    if answered.left:
        yield f"was only to read; what it changed was thrown away: {_listed(answered.left)}"


def _left(answered: Answered) -> Iterator[str]:
    if answered.refused:
        yield f"left what could not be taken: {_clipped(answered.refused)}"
    elif answered.commit:
        still = ", as it was before" if answered.files and not answered.moved else ""
        size = _size(answered.files, vars(answered))
        yield f"left {size}{still}{_checks_of(answered.checks, answered.failing)}"


def _checks_of(judgement: str, failing: Sequence[str]) -> str:
    match judgement:
        case "":
            return ", which was not checked"
        case "passed":
            return ", and the checks passed"
        case "unverified":
            return ", and there is no check of it"
        case _:
            words = "did not pass" if judgement == "failed" else "could not be run"
            return f", and checks {words}: {_quoted(failing)}"


def _said(result: Mapping[str, Any]) -> str:
    """Return what a structured answer says, in a part of a sentence; empty: nothing to tell."""
    match result.get("schema"):
        case contract.CHOICE:
            return _ranked(result)
        case contract.ROUTE:
            return f"chose {_name(result['profile'])}{_saying(result.get('reason'))}"
        case contract.HANDOFF:
            return f"passed the work on to {_name(result['to'])}{_saying(result.get('reason'))}"
        case contract.SUBPLAN:
            tasks = count(len(result["tasks"]), "task")
            return f"answered with {tasks}{_saying(result.get('rationale'))}"
        case contract.LEDGER:
            return _kept(result)
        case contract.RESULT if result["outcome"] != "done":
            return f"says that it is {result['outcome']}{_saying(result.get('summary'))}"
        case _:
            return ""


def _ranked(choice: Mapping[str, Any]) -> str:
    scores = choice.get("scores", {})
    names = [f"{each} ({scores[each]:g})" if each in scores else each for each in choice["ranking"]]
    out = "".join(
        f"; it would disqualify {_clipped(each['id'])}{_because(each['reason'])}"
        for each in choice.get("disqualified", ())
    )
    return f"ranked {_listed(names)}, the best first{_saying(choice.get('reason'))}{out}"


def _kept(ledger: Mapping[str, Any]) -> str:
    if ledger["satisfied"]["answer"]:
        return f"is satisfied{_saying(ledger['satisfied'].get('reason'))}"
    loop = "sees it going in circles" if ledger["in_loop"]["answer"] else ""
    progress = "progress" if ledger["progress"]["answer"] else "no progress"
    wrong = ledger.get("what_went_wrong")
    following = ledger.get("next")
    parts = [
        loop,
        f"sees {progress}",
        f"says what went wrong{_saying(wrong)}" if wrong else "",
        f"named {_name(following['profile'])} as next{_saying(following['instruction'])}"
        if following
        else "",
    ]
    return "; ".join(filter(None, parts))


def _subtask(subtask: Subtask) -> str:
    how = {True: "has landed", False: "did not land", None: "has not ended"}[subtask.landed]
    return f"Task {subtask.id}, {_clipped(subtask.title)}, {how}{_because(subtask.words)}"


def _joined(joined: Joined) -> Iterator[str]:
    if joined.problem:
        yield f"Nothing was split: {_clipped(joined.problem)}"
    elif joined.checks:
        what = f"its own checks were run on commit {joined.commit[:12]} with what had landed"
        yield f"Then {what}{_checks_of(joined.checks, joined.failing)}"
    else:
        yield "So its own checks were not run on what had landed"


def _concluded(one: Played) -> Iterator[str]:
    end = one.concluded
    assert end is not None
    bound = ", since a bound was reached" if end.result == "exhausted" else ""
    yield f"The pattern ended, {end.result}{bound}{_because(end.words)}"
    yield from what_decided(end.facts)


def what_decided(facts: Mapping[str, Any]) -> Iterator[str]:
    """Give what a pattern's facts say of how it came to its end."""
    for each in facts.get("candidates", ()):
        if each.get("out"):
            yield f"The candidate of lane {each['lane']} was out: {_clipped(each['out'])}"
    if labels := facts.get("labels"):
        named = _listed([f"lane {lane} as {label}" for label, lane in labels.items()])
        yield f"The judge was shown {named}, without names"
    if ignored := (facts.get("judge") or {}).get("ignored"):
        yield f"The judge's answer was ignored: {_clipped(ignored)}"
    if winner := facts.get("winner"):
        yield f"The candidate of lane {winner} was taken"
    if route := facts.get("route"):
        by = f"by {route['by']}" if route["by"] != "fallback" else "as the fallback"
        yield f"It went to {_name(route['profile'])}, chosen {by}{_because(route['reason'])}"
    if "stalls" in facts:
        yield from _course(facts)


def _course(facts: Mapping[str, Any]) -> Iterator[str]:
    rounds, resets = count(facts.get("rounds", 0), "round"), count(facts.get("resets", 0), "time")
    stalls = count(facts["stalls"], "stall")
    yield f"The ledger was kept for {rounds}; the plan was made anew {resets}; {stalls} at the end"
    if acted := facts.get("acted"):
        yield f"In this order acted: {_listed(acted, most=len(acted))}"
    if best := facts.get("best"):
        failing = best.get("failing") or ()
        how = f"fails {_quoted(failing)}" if failing else "fails no check"
        yield f"The best that was made, commit {best['commit'][:12]}, {how}"


# Of every task


def _checked(data: Mapping[str, Any], *, combined: bool) -> Iterator[str]:
    receipts, judgement = data.get("receipts", ()), data["judgement"]
    where = "On the tree with what landed meanwhile, its" if combined else "Its"
    bad = [each for each in receipts if each["found"] in (Found.FAILED, Found.NOT_RUN)]
    if not receipts:
        yield f"{where} result was not verified: the task has no check"
    elif bad:
        yield f"{where} checks did not pass ({judgement.replace('_', ' ')}): {_receipts(bad)}"
    else:
        yield f"{where} checks passed ({count(len(receipts), 'check')})"
    excused = [each["check"] for each in receipts if each["found"] == Found.FAILED_ON_BASE]
    if excused:
        yield f"Not held against it, since they fail without its change, too: {_quoted(excused)}"
    if flaky := data.get("flaky"):
        yield f"Of the checks some are flaky: {_listed(flaky)}"


def _receipts(bad: Iterable[Mapping[str, Any]]) -> str:
    return _listed([f"`{_clipped(each['check'])}` ({_how(each)})" for each in bad])


def _how(receipt: Mapping[str, Any]) -> str:
    if receipt.get("exit_code") is None:
        return str(receipt["found"]).replace("_", " ")
    return f"exit code {receipt['exit_code']}"


def _looked_at(data: Mapping[str, Any]) -> Iterator[str]:
    found = [f"{_clipped(each['name'])} {each['state']}" for each in data.get("checks", ())]
    if found:
        yield f"Checks of others on commit {data['head'][:12]}: {_listed(found)}"


def _reviewed(data: Mapping[str, Any]) -> Iterator[str]:
    decision, who = data["decision"], _name(data.get("reviewer") or data.get("profile"))
    if decision == "none":
        yield f"It was not reviewed{_because(data.get('summary') or data.get('problem'))}"
        return
    if decision == "invalid":
        yield f"{who} reviewed it, and gave no valid verdict{_because(data.get('problem'))}"
        return
    yield f"{who} reviewed it and says {decision}{_saying(data.get('summary'))}"
    for issue in data.get("issues", ()):
        if issue["must_fix"]:
            place = f" in {_clipped(issue['file'])}" if issue.get("file") else ""
            yield f"It wants fixed{place}: {_clipped(issue['problem'])}"


def _decided(data: Mapping[str, Any]) -> str:
    verbs = {"approve": "approved it", "revise": "sent it back", "reject": "rejected it"}
    return f"{_name(data['by'])} {verbs[data['decision']]}{_saying(data['words'])}"


# Words


def _size(files: int, data: Mapping[str, Any]) -> str:
    if not files:
        return "no change"
    return f"{count(files, 'file')}, +{data.get('insertions', 0)} -{data.get('deletions', 0)}"


def _name(name: Any) -> str:  # Any: JSON
    return _clipped(name or "") or "an agent"


def _because(why: Any) -> str:  # Any: JSON
    words = _clipped(why or "").rstrip(".")
    return f": {words}" if words else ""


def _saying(words: Any) -> str:  # Any: JSON
    said = _clipped(words or "")
    return f', saying "{said}"' if said else ""


def _listed(names: Sequence[Any], most: int = NAMES_MAX) -> str:  # Any: JSON
    shown = [_clipped(name) for name in names[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _quoted(names: Sequence[Any]) -> str:  # Any: JSON
    return _listed([f"`{_clipped(name)}`" for name in names])


def _clipped(words: Any, most: int = QUOTED_MAX) -> str:  # Any: JSON
    line = one_line(str(words))
    return line if len(line) <= most else f"{line[: most - 1]}…"
