"""The whole pipeline with the real Claude Code CLI, against the scripted model server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.settings import load
from commandcenter.testing.model_server import ModelServer

REAL_KEY = "the-real-key-of-the-service"
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


def _claude() -> Path | None:
    if found := shutil.which("claude"):
        return Path(found)
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    bundled = Path(spec.origin).parent / "_bundled" / "claude"
    return bundled if bundled.exists() else None


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
        "turns": [{"text": _verdict("approve")}],
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


def _git(*args: str | Path) -> str:
    done = subprocess.run(["git", *map(str, args)], capture_output=True, text=True, check=True)
    return done.stdout


def _repository(folder: Path) -> tuple[Path, Path]:
    origin, clone = folder / "origin.git", folder / "clone"
    _git("init", "--quiet", "--bare", "--initial-branch=main", origin)
    _git("clone", "--quiet", origin, clone)
    _git("-C", clone, "checkout", "--quiet", "-b", "main")
    (clone / "README.md").write_text("Greetings.\n")
    _git("-C", clone, "add", ".")
    identity = ("-c", "user.name=User", "-c", "user.email=user@example.com")
    _git("-C", clone, *identity, "commit", "--quiet", "-m", "Start")
    _git("-C", clone, "push", "--quiet", "origin", "main")
    (clone / "plan.md").write_text(PLAN)
    return origin, clone


async def _finished(client: httpx.AsyncClient, run: str) -> dict[str, object]:
    async with asyncio.timeout(120):
        while True:
            status: dict[str, object] = (await client.get(f"/{run}/status")).json()
            if status["completed_at"]:
                return status
            await client.get(f"/{run}/events", params={"format": "json", "wait": 1})


@pytest.mark.claude
@pytest.mark.slow
async def test_claude_code_lands_a_change_that_its_reviewer_sent_back_once(tmp_path: Path) -> None:
    claude = _claude()
    if claude is None:
        pytest.skip("there is no Claude Code CLI; `make agents` installs it")
    origin, clone = _repository(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "claude").symlink_to(claude)
    async with ModelServer(SCENARIOS) as model:
        config = tmp_path / "config.toml"
        config.write_text(f'[providers.anthropic]\nbase_url = "{model.url}"\n')
        environ = {
            "HOME": str(tmp_path),
            "PATH": f"{tools}:/usr/bin:/bin",
            "ANTHROPIC_API_KEY": REAL_KEY,
            "COMMANDCENTER_DATA_DIR": str(tmp_path / "data"),
        }
        settings = load(environ, config=config)
        async with (
            running(settings, host="127.0.0.1", port=0, api=create_api) as service,
            httpx.AsyncClient(base_url=f"{service.url}/api/v1/autonomous", timeout=60) as client,
        ):
            answer = await client.post("/start", json={"plan_path": str(clone / "plan.md")})
            assert answer.status_code == 200, answer.text
            status = await _finished(client, answer.json()["execution_id"])
            batches = (await client.get(f"/{status['execution_id']}/batches")).json()

    assert status["status"] == "completed", batches
    (task,) = batches[0]["tasks"]
    assert (task["attempt"], task["review"]) == (2, "approve")
    assert task["checks"]["judgement"] == "passed"
    assert _git("-C", origin, "show", "main:greet.py") == "print('HELLO')\n"
    assert _git("-C", origin, "branch", "--list").split() == ["*", "main"]
    keys = {request.headers.get("x-api-key") for request in model.requests if request.scenario}
    assert keys == {REAL_KEY}
    assert task["tokens"]["input"] >= 1000
