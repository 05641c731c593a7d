"""One profile among several is chosen, which then does the task."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.contract import ROUTE
from commandcenter.core.markdown import code
from commandcenter.core.pattern import (
    READ_ONLY,
    Answer,
    Ask,
    Conclusion,
    Flow,
    Goal,
    Reply,
    Result,
    Route,
    Rule,
    Step,
)
from commandcenter.core.plan import Task
from commandcenter.core.plan.paths import matches
from commandcenter.core.words import one_line
from commandcenter.patterns.single import done_by
from commandcenter.patterns.work import alone


@dataclass(frozen=True)
class Choice:
    """Whom a task goes to."""

    profile: str
    by: str
    """`rule`, `agent` or `fallback`."""
    reason: str

    @property
    def facts(self) -> dict[str, Any]:
        """Return it for people."""
        return {"profile": self.profile, "by": self.by, "reason": self.reason}


def route(goal: Goal, pattern: Route) -> Flow:
    """Choose a profile, and have it do the task.

    The first rule that fits chooses, and nobody is asked: a glob fits when the task declares files
    and it matches all of them. Else one read-only agent is asked, if the pattern has it so; an
    answer that cannot be used leaves the fallback, and without one the task is rejected. Nobody is
    asked again: what was chosen is in the facts.

    Source: Anthropic 2024, Building effective agents: routing.
    """
    choice = _by_rule(goal.task, pattern) or (yield from _chosen(pattern))
    if isinstance(choice, str):
        return Conclusion(Result.REJECTED, choice, feedback=choice)
    ended = yield from done_by(goal, choice.profile)
    words = f"It went to {code(choice.profile)} ({choice.reason}). {ended.words}"
    return replace(ended, words=words, facts={**ended.facts, "route": choice.facts})


def _by_rule(task: Task, pattern: Route) -> Choice | None:
    rule = next((rule for rule in pattern.rules if fits(rule, task)), None)
    return Choice(rule.profile, "rule", f"by the rule {code(rule.pattern)}") if rule else None


def fits(rule: Rule, task: Task) -> bool:
    """Say whether a rule is about a task."""
    name, equals, value = (part.strip().casefold() for part in rule.pattern.partition("="))
    if equals:
        return any(
            name == label.casefold() and value == text.strip().casefold()
            for label, text in task.labels.items()
        )
    paths = [use.path.removeprefix("./") for use in task.files]
    return bool(paths) and all(matches(rule.pattern, path) for path in paths)


def _chosen(pattern: Route) -> Generator[Step, Answer, Choice | str]:
    """Return whom an agent or the fallback chooses, or why nobody is chosen."""
    if not pattern.ask:
        return _fallback(pattern, "no rule fits")
    reply = yield from alone(_ask(pattern))
    profile = _named(reply)
    if profile in pattern.profiles:
        reason = one_line(str((reply.result or {}).get("reason", ""))) or "an agent chose it"
        return Choice(profile, "agent", reason)
    why = reply.problem or reply.reason or "it names none of the profiles"
    return _fallback(pattern, f"the router's answer could not be used: {why.rstrip('.')}")


def _named(reply: Reply) -> str:
    answered = reply.outcome is Outcome.DONE and reply.result is not None
    return str((reply.result or {}).get("profile", "")) if answered else ""


def _fallback(pattern: Route, why: str) -> Choice | str:
    if pattern.fallback:
        return Choice(pattern.fallback, "fallback", why)
    return f"Nobody was chosen: {why}, and there is no fallback."


def _ask(pattern: Route) -> Ask:
    names = "\n".join(f"- {code(name)}" for name in pattern.profiles)
    return Ask(
        Role.ROUTE,
        "Do not do the task. Choose which one of these profiles is to do it, and say why in one "
        f"sentence:\n\n{names}",
        lane=READ_ONLY,
        answers=(ROUTE,),
        options=pattern.profiles,
        gate=False,
    )
