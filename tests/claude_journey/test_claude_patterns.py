"""Every pattern with the real Claude Code CLI, against the scripted model server, in one run.

`review` is in `test_claude_journey.py`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.testing import claude_code
from commandcenter.testing.desk import Desk, Ended
from commandcenter.testing.model_server import ModelServer, SeenRequest
from commandcenter.testing.scene import Sample, batch, plan, task

MERGED = ("completed", "merged")
CLI = claude_code.find()
pytestmark = [
    pytest.mark.claude,
    pytest.mark.slow,
    pytest.mark.skipif(CLI is None, reason=claude_code.MISSING),
]
FIRST, SECOND = "claude-sonnet-4-5", "claude-haiku-4-5"
PROFILES = f"""
[roles]
work = "first"

[profiles.first]
agent = "claude"
model = "{FIRST}"

[profiles.second]
agent = "claude"
model = "{SECOND}"
environment = {{ AUTHOR = "second" }}
"""


def _task(number: int, name: str, pattern: str, *, handoff: str = "none", check: str = "") -> str:
    file = f"{name}.txt"
    return task(
        f"1.{number}",
        name,
        files=[file],
        text=f"Write it into `{file}`.",
        checks=[check or f"grep -qx done {file}"],
        fields={"Pattern": pattern, "Handoff": handoff, "Review": "none"},
    )


PLAN = plan(
    batch(
        1,
        _task(1, "chained", 'chain("draft it", second: "finish it")'),
        _task(2, "routed", "route(first, second, by=agent)"),
        _task(
            3, "voted", "vote(2, agents=[first, second], judge=first)", check="test -s voted.txt"
        ),
        _task(4, "planned", "plan(max_tasks=2)"),
        _task(5, "handed", "single", handoff="[second], max=1"),
        _task(6, "managed", "magentic(team=[first, second], manager=first, rounds=4)"),
        mode="parallel",
    )
)


def _says(name: str, prompt: str, *turns: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "match": {"prompt": prompt}, "turns": list(turns)}


def _writes(path: str, content: str, words: str) -> tuple[dict[str, Any], ...]:
    # By the shell, since the CLI's own tool writes over no file that it has not read.
    return {"do": [{"shell": f"echo {content} > {path}"}]}, {"text": words}


def _ledger(part: str = "") -> dict[str, Any]:
    no, yes = {"answer": False, "reason": "r"}, {"answer": True, "reason": "r"}
    following = {"next": {"profile": "second", "instruction": part}} if part else {}
    return {
        "schema": "cc.ledger/1",
        "facts": {"given": [], "lookup": [], "derive": [], "guess": []},
        "plan": ["Half of it, then the rest."],
        "satisfied": no if part else yes,
        "in_loop": no,
        "progress": yes,
        **following,
    }


ROUTE = {"schema": "cc.route/1", "profile": "second", "reason": "It knows such files."}
SUBPLAN = {
    "schema": "cc.subplan/1",
    "rationale": "One half each.",
    "tasks": [
        {"id": "a", "title": "Begin", "instructions": "Begin it.", "files": ["planned.txt"]},
        {
            "id": "b",
            "title": "End",
            "instructions": "End it.",
            "depends_on": ["a"],
            "files": ["planned.txt"],
        },
    ],
}
HANDOFF = {
    "schema": "cc.handoff/1",
    "to": "second",
    "reason": "It is not mine.",
    "summary": "I began it.",
}


def _choice(best: str, other: str) -> dict[str, Any]:
    return {"schema": "cc.choice/1", "ranking": [best, other], "reason": "It names its author."}


SCENARIOS = [
    _says("chain-1", "Stage 1 of 2", *_writes("chained.txt", "draft", "A draft is there.")),
    _says("chain-again", "Stage 2 of 2.*came back", *_writes("chained.txt", "done", "Mended.")),
    _says("chain-2", "Stage 2 of 2", *_writes("chained.txt", "nearly", "I call it finished.")),
    # It says it in words, and does not use the tool when the CLI insists: words are good enough.
    _says(
        "router",
        "# Routing for task 1.2",
        {"text": f"I choose:\n\n```json\n{json.dumps(ROUTE)}\n```"},
        {"text": "I have said it."},
    ),
    _says("routed", "# Task 1.2", *_writes("routed.txt", "done", "Done.")),
    _says(
        "judge-a", "# Judgement for.*Candidate A.{0,400}by second", {"answer": _choice("A", "B")}
    ),
    _says("judge-b", "# Judgement for", {"answer": _choice("B", "A")}),
    _says(
        "candidate",
        "# Task 1.3",
        {"do": [{"shell": 'echo "by ${AUTHOR:-nobody}" > voted.txt'}]},
        {"text": "Mine is the best."},
    ),
    _says("planner", "# Planning for", {"do": [{"read": "README.md"}]}, {"answer": SUBPLAN}),
    _says("part-a", "# Task 1.4-1", *_writes("planned.txt", "begun", "Begun.")),
    _says("part-b", "# Task 1.4-2", {"do": [{"shell": "echo done >> planned.txt"}]}),
    _says("handed-on", "Passed on to you", *_writes("handed.txt", "done", "Finished.")),
    _says(
        "hands-on",
        "# Task 1.5",
        {"do": [{"write": {"path": "handed.txt", "content": "begun\n"}}]},
        # The other way to answer.
        {"do": [{"shell": f"echo '{json.dumps(HANDOFF)}' > \"$CC_RESULT_FILE\""}]},
        {"text": "It is with somebody else now."},
    ),
    _says("manager-1", "# Management for.*Nobody has worked", {"answer": _ledger("Make a half.")}),
    _says("manager-3", "# Management for.*All checks pass", {"answer": _ledger()}),
    _says("manager-2", "# Management for", {"answer": _ledger("Make the rest.")}),
    _says("half", "Make a half", *_writes("managed.txt", "half", "Half of it is there.")),
    _says("rest", "Make the rest", *_writes("managed.txt", "done", "All of it is there.")),
]


@dataclass(frozen=True)
class Played:
    """What came of the run, and what the model was asked."""

    ended: Ended
    files: dict[str, str]
    requests: list[SeenRequest]

    def asked(self, task_id: str) -> list[str]:
        """Return who was asked, round by round: `work:first work:second`."""
        rounds = self.ended.data("task.round", task_id)
        return [
            " ".join(f"{ask['role']}:{ask['profile']}" for ask in told.get("asks", ()))
            for told in rounds
        ]

    def problems(self, task_id: str) -> list[str]:
        """Return what was wrong with the answers."""
        return [each.get("problem", "") for each in self.ended.data("task.answered", task_id)]

    def heard(self, scenario: str) -> str:
        """Return the conversation to which the first answer of a scenario belongs, as JSON."""
        first = next(each for each in self.requests if (each.scenario, each.turn) == (scenario, 0))
        return json.dumps(json.loads(first.body)["messages"])

    def tools(self, scenario: str) -> set[str]:
        """Return the tools that the agents of a scenario have."""
        bodies = [json.loads(each.body) for each in self.requests if each.scenario == scenario]
        return {tool["name"] for body in bodies for tool in body["tools"]}

    def concluded(self, task_id: str) -> dict[str, Any]:
        """Return how the pattern ended."""
        (told,) = self.ended.data("task.concluded", task_id)
        return dict(told)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One run of all patterns, which the tests look at."""
    return asyncio.run(_play(tmp_path_factory.mktemp("patterns")))


async def _play(folder: Path) -> Played:
    assert CLI is not None
    sample = await Sample.make(folder / "sample")
    async with ModelServer(SCENARIOS) as model:
        installation = claude_code.installation(folder / "own", CLI, model.url, PROFILES)
        settings = installation.settings(**claude_code.environment(folder / "own"))
        async with running(settings, host="127.0.0.1", port=0, api=create_api) as service:
            desk = Desk(service.url, installation, folder)
            ended = await desk.run(sample, PLAN, patience_s=150)
    files = {path: await sample.read(path) for path in await sample.paths()}
    return Played(ended, files, model.requests)


def test_every_task_lands_and_no_answer_is_asked_for_twice(played: Played) -> None:
    assert played.ended.faults == ""
    others = dict.fromkeys(["1.1", "1.2", "1.3", "1.4-1", "1.4-2", "1.5", "1.6"], MERGED)
    assert played.ended.ends() == {**others, "1.4": ("completed", "joined")}
    tasks = ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]
    assert {problem for each in tasks for problem in played.problems(each)} == {""}


def test_a_chain_resumes_who_is_asked_again_and_begins_each_stage_anew(played: Played) -> None:
    assert played.asked("1.1") == ["work:first", "work:second", "work:second"]
    assert played.files["chained.txt"] == "done"
    # What a stage says is told to the next one, but not what it did.
    assert "A draft is there." in played.heard("chain-2")
    assert "tool_use" not in played.heard("chain-2")
    assert "tool_use" in played.heard("chain-again")
    assert "I call it finished." in played.heard("chain-again")


def test_a_router_chooses_who_does_it(played: Played) -> None:
    assert played.asked("1.2") == ["route:first", "work:second"]
    assert played.files["routed.txt"] == "done"
    route = played.concluded("1.2")["facts"]["route"]
    assert route == {"profile": "second", "by": "agent", "reason": ROUTE["reason"]}


def test_a_judge_ranks_the_candidates_of_a_vote(played: Played) -> None:
    assert played.asked("1.3") == ["work:first work:second", "judge:first"]
    assert played.files["voted.txt"] == "by second"
    concluded = played.concluded("1.3")
    assert concluded["lane"] == 2
    assert concluded["facts"]["judge"]["reason"] == "It names its author."


def test_a_planner_splits_a_task_into_parts_that_land(played: Played) -> None:
    assert played.asked("1.4") == ["plan:first", ""]
    assert played.files["planned.txt"] == "begun\ndone"
    (split,) = played.concluded("1.4")["facts"]["splits"]
    assert split == {"tasks": ["1.4-1", "1.4-2"], "rationale": SUBPLAN["rationale"]}


def test_a_handoff_begins_a_new_conversation_in_the_same_folder(played: Played) -> None:
    assert played.asked("1.5") == ["work:first", "work:second"]
    assert played.files["handed.txt"] == "done"
    (handed,) = played.concluded("1.5")["facts"]["handoffs"]
    assert (handed["from"], handed["to"]) == ("first", "second")
    assert "tool_use" not in played.heard("handed-on")
    assert HANDOFF["summary"] in played.heard("handed-on")


def test_a_manager_begins_anew_each_round_and_its_specialist_goes_on(played: Played) -> None:
    assert played.asked("1.6") == [
        "manage:first",
        "work:second",
        "manage:first",
        "work:second",
        "manage:first",
    ]
    assert played.files["managed.txt"] == "done"
    assert "tool_use" not in played.heard("manager-2")
    assert "tool_use" not in played.heard("manager-3")
    assert "tool_use" in played.heard("rest")
    assert played.concluded("1.6")["facts"]["acted"] == ["second", "second"]


def test_who_only_reads_is_held_to_its_schema_by_the_cli(played: Played) -> None:
    held = {
        scenario: "StructuredOutput" in played.tools(scenario)
        for scenario in ("router", "planner", "manager-1", "candidate", "hands-on")
    }
    assert held == {
        "router": True,
        "planner": True,
        "manager-1": True,
        "candidate": False,
        "hands-on": False,
    }


def test_each_profile_asks_its_own_model(played: Played) -> None:
    models = {
        scenario: {
            json.loads(each.body)["model"] for each in played.requests if each.scenario == scenario
        }
        for scenario in ("router", "routed", "candidate", "rest")
    }
    assert models == {
        "router": {FIRST},
        "routed": {SECOND},
        "candidate": {FIRST, SECOND},
        "rest": {SECOND},
    }
