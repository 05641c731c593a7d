"""The whole pipeline with the real Claude Code CLI, against the scripted model server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.testing import claude_code
from commandcenter.testing.claude_code import REAL_KEY
from commandcenter.testing.desk import Desk
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.model_server import ModelServer
from commandcenter.testing.scene import Sample

PLAN = """
# Greetings

## Batch 1: One

### Task 1.1: Write the greeter

**Files:**
- Create: `greet.py`

**Implementation:** Write `greet.py` that prints a greeting. TASK:greet

**Verification:**
- `python3 greet.py | grep -i hello`
"""


def _verdict(decision: str, *issues: dict[str, object]) -> str:
    answer = {"decision": decision, "summary": f"I say {decision}.", "issues": list(issues)}
    return f"Here is my verdict.\n\n```json\n{json.dumps(answer)}\n```"


SCENARIOS: list[dict[str, Any]] = [
    {
        "name": "asks-for-a-change",
        "match": {"prompt": r"You review a change.*\+print\(.hello.\)"},
        "turns": [
            {"do": [{"read": "greet.py"}], "text": "I read it first."},
            {
                "text": _verdict(
                    "revise",
                    {
                        "problem": "Say it louder.",
                        "severity": "major",
                        "must_fix": True,
                        "file": "greet.py",
                        "line": 1,
                    },
                )
            },
        ],
    },
    {
        "name": "approves",
        "match": {"prompt": r"You review a change.*\+print\(.HELLO.\)"},
        "turns": [{"answer": {"decision": "approve", "summary": "I say approve.", "issues": []}}],
    },
    {
        "name": "louder",
        "match": {"prompt": r"A reviewer read your change"},
        "turns": [
            {"do": [{"write": {"path": "greet.py", "content": "print('HELLO')\n"}}]},
            {"text": "It is louder now."},
        ],
    },
    {
        "name": "first",
        "match": {"prompt": r"# Task 1\.1"},
        "turns": [
            {
                "text": "I write the file.",
                "do": [{"write": {"path": "greet.py", "content": "print('hello')\n"}}],
                "usage": [1000, 50],
            },
            {"do": [{"shell": "python3 greet.py && env | grep -c ANTHROPIC_API_KEY"}]},
            {"text": "It works."},
        ],
    },
]


@pytest.mark.claude
@pytest.mark.slow
async def test_claude_code_lands_a_change_that_its_reviewer_sent_back_once(tmp_path: Path) -> None:
    await _lands_greeter(tmp_path, "local")


@pytest.mark.claude
@pytest.mark.slow
async def test_claude_code_lands_a_change_from_containers(tmp_path: Path, engine: Dockerd) -> None:
    await _lands_greeter(tmp_path, "container", DOCKER_HOST=engine.environment["DOCKER_HOST"])


@pytest.mark.claude
@pytest.mark.slow
@pytest.mark.dagger_engine
async def test_claude_code_lands_a_change_from_dagger(
    tmp_path: Path, dagger: Mapping[str, str]
) -> None:
    found = {name: value for name, value in dagger.items() if name != "PATH"}
    await _lands_greeter(tmp_path, "dagger", **found)


async def _lands_greeter(folder: Path, mode: str, **environment: str) -> None:
    claude = claude_code.find()
    if claude is None:
        pytest.skip(claude_code.MISSING)
    sample = await Sample.make(folder / "sample")
    async with ModelServer(SCENARIOS) as model:
        installation = claude_code.installation(folder / "own", claude, model.url)
        settings = installation.settings(**claude_code.environment(folder / "own"), **environment)
        async with running(settings, host="127.0.0.1", port=0, api=create_api) as service:
            desk = Desk(service.url, installation, folder)
            ended = await desk.run(sample, PLAN, patience_s=120, execution_mode=mode)
            used = await desk.get(f"/{ended.execution_id}/usage")

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    task = ended.tasks["1.1"]
    assert (task["attempt"], task["review"]) == (2, "approve")
    assert task["checks"]["judgement"] == "passed"
    assert [each["decision"] for each in ended.data("task.reviewed", "1.1")] == [
        "revise",
        "approve",
    ]
    assert await sample.read("greet.py") == "print('HELLO')"
    assert await sample.branches() == ("main",)
    # It is told of the egress proxy, and asks it for nothing: not even for its model.
    assert not [*installation.data_dir.rglob("*.egress.log")]
    keys = {request.headers.get("x-api-key") for request in model.requests if request.scenario}
    assert keys == {REAL_KEY}
    assert [(each["profile"], each["asked"]) for each in used] == [("claude", 4)]
    assert used[0]["tokens"] == task["tokens"]
    assert task["tokens"]["input"] >= 1000
    assert await judge_stopped(installation) == ()
