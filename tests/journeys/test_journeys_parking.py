"""A journey on which the model provider is busy: nobody begins, and nobody fails over it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.testing.desk import Desk
from commandcenter.testing.model_server import ModelServer, scenario
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

LATER = {"status": 429, "headers": {"retry-after": "3600"}}
BUSY = {"no_tools": True, "turns": [{"text": "Yes.", "fault": LATER}]}
READY = {"no_tools": True, "turns": [{"text": "Yes."}]}
AGENT = """
[limits]
tries = 1

[profiles.asking]
agent = "shell"
command = '''python3 -c "
import json, os, urllib.request
asked = {'model': 'm', 'max_tokens': 9, 'messages': [{'role': 'user', 'content': 'Ready?'}]}
urllib.request.urlopen(os.environ['CC_MODEL_URL'] + '/v1/messages', json.dumps(asked).encode())
open(os.environ['CC_SESSION'] + '.txt', 'w').write('It was.')
"'''

[profiles.patient]
agent = "shell"
command = '''python3 -c "
import json, os, time, urllib.request
asked = {'model': 'm', 'max_tokens': 9, 'messages': [{'role': 'user', 'content': 'Ready?'}]}
while True:
    try:
        url = os.environ['CC_MODEL_URL'] + '/v1/messages'
        urllib.request.urlopen(url, json.dumps(asked).encode())
        break
    except OSError:
        time.sleep(0.2)
open('said.txt', 'w').write('It was.')
"'''
"""
"""Agents that may not fail once: one does when its model does not answer, one asks on and on."""
WORDS = "the model provider anthropic (429, rate limit) until "


@asynccontextmanager
async def serving(
    installation: Installation, folder: Path, **environment: str
) -> AsyncIterator[Desk]:
    settings = installation.settings(ANTHROPIC_API_KEY="a-key", **environment)
    async with running(settings, host="127.0.0.1", port=0, api=create_api) as service:
        yield Desk(service.url, installation, folder)


async def both_wait(desk: Desk, run: str) -> None:
    def waits(tasks: Any) -> bool:
        return all(str(each["waiting_for"]).startswith(WORDS) for each in tasks)

    await desk.until(f"/{run}/tasks", waits, patience_s=90)


def let_the_time_pass(record: Path) -> None:
    stored = json.loads(record.read_text())
    stored["providers"]["anthropic"]["until_ms"] = 0
    record.write_text(json.dumps(stored))


@pytest.mark.slow
async def test_while_the_provider_is_busy_no_agent_begins_and_no_try_is_used_up(
    tmp_path: Path,
) -> None:
    sample = await Sample.make(tmp_path / "sample")
    asking = [task(f"1.{n}", f"Ask {n}", text="Ask whether it is ready.") for n in (1, 2)]
    async with ModelServer([BUSY]) as server:
        more = f'{AGENT}\n[providers.anthropic]\nbase_url = "{server.url}"\n'
        installation = Installation.make(tmp_path / "own", workers=1, more=more)
        async with serving(installation, tmp_path) as desk:
            text = plan(batch(1, *asking, mode="parallel"))
            run = await desk.start(sample, text, agent="asking", reviewer="none")
            await both_wait(desk, run)
            busy = await desk.get(f"/{run}/status")
            asked = len(server.requests)
        async with serving(installation, tmp_path) as desk:
            await both_wait(desk, run)
            asked_again = len(server.requests)
        server.scenarios = (scenario(READY),)
        let_the_time_pass(installation.data_dir / "parked.json")
        async with serving(installation, tmp_path) as desk:
            ended = await desk.until(f"/{run}/status", lambda each: each["completed_at"], 90)

    assert f"No agent begins now: work waits for {WORDS}" in "\n".join(busy["notes"])
    assert asked_again == asked
    assert (ended["status"], ended["tasks_completed"]) == ("completed", 2)
    assert not [note for note in ended["notes"] if "provider" in note]


@pytest.mark.slow
async def test_an_agent_at_work_goes_on_over_a_restart_and_its_answer_ends_the_pause(
    tmp_path: Path,
) -> None:
    sample = await Sample.make(tmp_path / "sample")
    async with ModelServer([BUSY]) as server:
        more = f'{AGENT}\n[providers.anthropic]\nbase_url = "{server.url}"\n'
        installation = Installation.make(tmp_path / "own", workers=1, more=more)
        async with serving(installation, tmp_path) as desk:
            asking = plan(batch(1, task("1.1", "Ask", text="Ask whether it is ready.")))
            run = await desk.start(sample, asking, agent="patient", reviewer="none")
            await desk.until(f"/{run}/status", lambda each: WORDS in "".join(each["notes"]), 90)
        parked = json.loads((installation.data_dir / "parked.json").read_text())["providers"]
        server.scenarios = (scenario(READY),)
        async with serving(installation, tmp_path) as desk:
            ended = await desk.until(f"/{run}/status", lambda each: each["completed_at"], 90)
            (told,) = await desk.get(f"/{run}/tasks")
        kept = json.loads((installation.data_dir / "parked.json").read_text())["providers"]

    assert (ended["status"], told["attempt"]) == ("completed", 1)
    assert (set(parked), kept) == ({"anthropic"}, {})


@pytest.mark.slow
async def test_a_profile_is_answered_by_its_own_provider_while_another_one_is_busy(
    tmp_path: Path,
) -> None:
    sample = await Sample.make(tmp_path / "sample")
    asking = plan(batch(1, task("1.1", "Ask", text="Ask whether it is ready.")))
    async with ModelServer([BUSY]) as busy, ModelServer([READY]) as ready:
        more = (
            f'{AGENT}\n[profiles.asking_another]\nagent = "shell"\nprovider = "another"\n'
            f"command = {AGENT.split('command = ')[1].split('[profiles')[0]}\n"
            f'[providers.anthropic]\nbase_url = "{busy.url}"\n'
            f'[providers.another]\nbase_url = "{ready.url}"\n'
            'api_key_variable = "ANOTHER_KEY"\n'
        )
        installation = Installation.make(tmp_path / "own", more=more)
        async with serving(installation, tmp_path, ANOTHER_KEY="another-key") as desk:
            held = await desk.start(sample, asking, agent="asking", reviewer="none")
            await both_wait(desk, held)
            ended = await desk.run(
                sample, asking, agent="asking_another", reviewer="none", patience_s=90
            )
            used = await desk.get(f"/{ended.execution_id}/usage")
            await desk.post(f"/{held}/cancel")
            await desk.until(f"/{held}/status", lambda each: each["completed_at"], 90)

    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert {each.headers["x-api-key"] for each in ready.requests} == {"another-key"}
    assert {each.headers["x-api-key"] for each in busy.requests} == {"a-key"}
    assert [each["profile"] for each in used] == ["asking_another"]
