"""Whom a task goes to: rules first, then one agent, then the fallback."""

from __future__ import annotations

import pytest

from commandcenter.core.agent import Role
from commandcenter.core.pattern import READ_ONLY, Goal, Reply, Result, Route, Rule
from commandcenter.core.plan import Task
from commandcenter.patterns import flow_of
from commandcenter.patterns.route import fits
from commandcenter.testing.playing import (
    Played,
    answered,
    broken,
    goal,
    left,
    play,
    task,
    unusable,
)

PROFILES = ("docs", "code")
ROUTE = Route(PROFILES, rules=(Rule("docs/**", "docs"),))


def played(*answers: Reply, pattern: Route = ROUTE, of: Goal | None = None) -> Played:
    return play(flow_of(pattern, of or goal()), *answers)


def test_a_rule_that_fits_chooses_and_nobody_is_asked() -> None:
    result = played(left("t1"), of=goal(task("docs/a.md", "docs/b/c.md")))

    assert [(ask.role, ask.profile) for ask in result.asks] == [(Role.WORK, "docs")]
    assert result.end is not None
    assert result.end.facts["route"]["by"] == "rule"


@pytest.mark.parametrize(
    ("pattern", "about", "fitting"),
    [
        ("docs/**", task("docs/a.md", "src/a.py"), False),
        ("docs/**", task(), False),
        ("*.md", task("docs/a.md", "README.md"), True),
        ("src/*.py", task("src/deep/a.py"), False),
        ("Area=UI", task(area="ui "), True),
        ("area=ui", task(area="api"), False),
        ("area=ui", task(), False),
    ],
)
def test_a_glob_must_match_all_files_and_a_label_its_value(
    pattern: str, about: Task, fitting: bool
) -> None:
    assert fits(Rule(pattern, "docs"), about) is fitting


def test_without_a_rule_one_agent_that_only_reads_is_asked() -> None:
    result = played(answered("cc.route/1", profile="code", reason="It is code."), left("t1"))

    router, worker = result.asks
    assert (router.role, router.lane, router.options, router.gate) == (
        Role.ROUTE,
        READ_ONLY,
        PROFILES,
        False,
    )
    assert worker.profile == "code"
    assert result.end is not None
    assert result.end.facts["route"] == {
        "profile": "code",
        "by": "agent",
        "reason": "It is code.",
    }


@pytest.mark.parametrize(
    "answer",
    [
        unusable(),
        broken(),
        answered("cc.route/1", profile="root", reason=""),
        Reply(broken().outcome, result={"schema": "cc.route/1", "profile": "code"}),
    ],
)
def test_a_router_that_cannot_be_used_leaves_the_fallback(answer: Reply) -> None:
    with_fallback = Route(PROFILES, fallback="docs")

    assert played(answer, pattern=with_fallback).asks[1].profile == "docs"
    rejected = played(answer).end
    assert rejected is not None
    assert rejected.result is Result.REJECTED


def test_nobody_is_asked_when_the_pattern_has_it_so() -> None:
    end = played(pattern=Route(PROFILES, fallback="docs", ask=False))

    assert [ask.profile for ask in end.asks] == ["docs"]


def test_neither_rule_nor_agent_nor_fallback_is_a_rejection_without_a_run() -> None:
    result = played(pattern=Route(PROFILES, ask=False))

    assert result.asks == []
    assert result.end is not None
    assert result.end.words == "Nobody was chosen: no rule fits, and there is no fallback."


def test_who_was_chosen_is_asked_once_more_with_the_log() -> None:
    red = left("t1", failing=["tests"])

    result = played(red, red, of=goal(task("docs/a.md")))

    assert [ask.profile for ask in result.asks] == ["docs", "docs"]
    assert result.end is not None
    assert result.end.result is Result.REJECTED
