"""The composition root: one service a data folder, which leaves nothing when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from commandcenter import app
from commandcenter.core.errors import AlreadyRunning, InputError, NotFound
from commandcenter.core.run import Health, Phase, State, Submission
from commandcenter.service import Service
from commandcenter.settings import Settings, load
from commandcenter.testing import dagger_engine
from commandcenter.testing.scene import Sample

LOOPS_OWN = ("asyncio", "ThreadPoolExecutor")
"""The event loop's pool, which ends with the loop."""
PLAN = "## Batch 1: One\n\n### Task 1.1: Wait\n\n**Verification:**\n- `true`\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"COMMANDCENTER_DATA_DIR": str(tmp_path / "data"), "PATH": os.environ["PATH"]})


def api(service: Service) -> Starlette:
    return Starlette(routes=[Route("/", lambda request: PlainTextResponse("here"))])


def running(settings: Settings, port: int = 0) -> AbstractAsyncContextManager[app.Running]:
    return app.running(settings, host="127.0.0.1", port=port, api=api)


async def test_a_service_answers_where_it_says_and_says_so_while_it_lives(
    settings: Settings,
) -> None:
    announced = settings.data_dir / "service.json"
    async with running(settings) as service:
        told = json.loads(announced.read_text())
        assert told == {"url": service.url, "pid": os.getpid()}
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(service.url)).text == "here"
    assert not announced.exists()


async def test_a_second_service_is_sent_to_the_first(settings: Settings) -> None:
    async with running(settings) as first:
        with pytest.raises(AlreadyRunning) as refused:
            await running(settings).__aenter__()
        assert refused.value.url == first.url
        assert (settings.data_dir / "service.json").exists()


async def test_after_the_first_service_ended_another_one_starts(settings: Settings) -> None:
    for _ in range(2):
        async with running(settings) as service:
            assert await service.service.runs() == ()


async def test_what_a_killed_service_announced_is_not_believed(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "service.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    with pytest.raises(InputError, match="cannot be used"):
        await taken_port(settings)
    assert not (settings.data_dir / "service.json").exists()


async def taken_port(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        await running(settings, other.getsockname()[1]).__aenter__()


async def test_a_taken_port_is_named_and_the_folder_stays_free(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"Port \d+ of 127.0.0.1 cannot be used"):
        await taken_port(settings)
    async with running(settings):
        pass


async def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = load({"COMMANDCENTER_DATA_DIR": str(tmp_path / "file" / "data")})
    with pytest.raises(InputError, match="cannot be made"):
        await running(settings).__aenter__()


async def test_the_hubs_token_is_kept_and_is_its_owners_alone(settings: Settings) -> None:
    path = settings.data_dir / "hub-token"
    async with running(settings):
        token = path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(token) >= 40
    async with app.reading(settings):
        assert path.read_text() == token
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700


async def test_the_hub_lets_nobody_in_without_the_token(settings: Settings) -> None:
    async with running(settings) as service, httpx.AsyncClient(trust_env=False) as client:
        for header in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}):
            answer = await client.get(f"{service.url}/hub/user", headers=header)
            assert answer.status_code in (401, 404)


async def test_a_reader_reads_and_starts_nothing(settings: Settings) -> None:
    async with app.reading(settings) as service:
        assert await service.runs() == ()
        with pytest.raises(NotFound):
            await service.run("exec_1")
        with pytest.raises(InputError, match="No service is running"):
            await service.submit(Submission(plan_path="plan.md"))
        with pytest.raises(InputError, match="No service is running"):
            await service.retry("exec_1")


async def test_a_start_and_a_stop_leave_no_thread_process_or_socket(settings: Settings) -> None:
    async with running(settings):
        pass  # what is made once and kept: the loop's own threads
    this = psutil.Process()
    before = set(threading.enumerate())
    sockets = len(this.net_connections())
    # A container engine of other tests may be among them.
    children = set(this.children(recursive=True))
    async with running(settings):
        pass
    names = {thread.name for thread in set(threading.enumerate()) - before}
    left = [name for name in names if not name.startswith(LOOPS_OWN)]
    assert left == []
    assert set(this.children(recursive=True)) - children == set()
    assert len(this.net_connections()) == sockets
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_the_doctor_finds_what_is_there_and_what_is_missing(settings: Settings) -> None:
    async with app.reading(settings) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    assert findings["git"].health is Health.OK
    assert findings["database"].health is Health.OK
    assert findings["disk"].health in (Health.OK, Health.DEGRADED)
    assert "GiB free" in findings["disk"].detail
    limits = findings["limits local"]
    assert "disk watched" in limits.detail
    assert (limits.health is Health.OK) == ("memory kept by the kernel" in limits.detail)
    assert bool(limits.hint) == (limits.health is Health.DEGRADED)
    claude = findings["`claude`"]
    assert (claude.health, bool(claude.hint)) == (Health.DEGRADED, True)
    assert "nobody configured" in claude.detail
    assert findings["network"].detail == "agents and checks reach nothing"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ('[roles]\nwork = "claude"\n', {}),
        ('[profiles.claude]\nmodel = "opus"\n', {}),
        ("", {"ANTHROPIC_API_KEY": "a-key"}),
    ],
)
async def test_an_agent_that_somebody_wants_is_missing_when_its_program_is(
    settings: Settings, tmp_path: Path, text: str, variables: dict[str, str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    environ = {**settings.environ, **variables, "PATH": "/usr/bin:/bin"}
    async with app.reading(load(environ, config=config)) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    assert findings["`claude`"].health is Health.MISSING


async def test_the_doctor_names_the_hosts_that_may_be_reached(
    settings: Settings, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[egress]\nallow = ["a.test", "*.b.test:8443", "forge"]\n'
        '[profiles.closed]\nagent = "shell"\ncommand = "true"\negress = ["none"]\n'
    )
    async with app.reading(load(settings.environ, config=config)) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    detail = findings["network"].detail
    assert "reach a.test, *.b.test:8443, github.com" in detail
    assert "more hosts; profiles of their own egress: closed" in detail


def with_npm(settings: Settings, folder: Path, says: str, text: str) -> Settings:
    """Return settings of a machine whose only package manager is an npm that says this."""
    config, npm = folder / "config.toml", folder / "bin" / "npm"
    config.write_text(text)
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\n[ "$2" = list ] || printf "{says}"\n')
    npm.chmod(0o755)
    git = shutil.which("git", path=settings.environ["PATH"])
    (npm.parent / "git").symlink_to(git or "git")
    return load({**settings.environ, "PATH": str(npm.parent)}, config=config)


@pytest.mark.parametrize(
    "text",
    [
        '[egress]\nallow = ["registries"]\n',
        '[profiles.own]\nagent = "shell"\ncommand = "true"\negress = ["registries"]\n',
    ],
)
async def test_the_doctor_tells_what_registries_stand_for_and_who_says_so(
    settings: Settings, tmp_path: Path, text: str
) -> None:
    async with app.reading(
        with_npm(settings, tmp_path, "https://mirror.test:8443/npm", text)
    ) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    network = findings["network"]
    assert "registries stands for mirror.test:8443 (from npm)" in network.detail
    assert "private network is refused unless [egress.addresses]" in network.detail
    assert network.health is Health.OK


@pytest.mark.parametrize(
    ("says", "hint"),
    [
        ("https://someone:hunter2@mirror.test/npm", "npm: the credential for mirror.test stays"),
        ("nonsense", "npm: npm_config_registry names what is no web address"),
    ],
)
async def test_the_doctor_tells_what_registries_cannot_stand_for(
    settings: Settings, tmp_path: Path, says: str, hint: str
) -> None:
    asked = with_npm(settings, tmp_path, says, '[egress]\nallow = ["registries"]\n')
    async with app.reading(asked) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    network = findings["network"]
    assert network.health is Health.DEGRADED
    assert network.hint.startswith(hint)
    assert "hunter2" not in repr(findings)


@pytest.mark.parametrize(("mode", "health"), [("local", "degraded"), ("container", "missing")])
async def test_a_mode_that_does_not_work_is_a_failure_only_if_it_is_the_one_in_use(
    settings: Settings, tmp_path: Path, mode: str, health: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'mode = "{mode}"\n')
    path = tmp_path / "path"
    path.mkdir()
    (path / "git").symlink_to(shutil.which("git") or "/usr/bin/git")
    environ = {**settings.environ, "PATH": str(path)}
    async with app.reading(load(environ, config=config)) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    container = findings["mode container"]
    assert container.health.value == health
    assert "There is no `docker`" in container.detail
    assert "apt install" in container.hint


async def test_the_doctor_starts_no_dagger_engine_to_look_and_says_so(
    settings: Settings, tmp_path: Path
) -> None:
    client = dagger_engine.client(tmp_path / "bin" / "dagger", tmp_path / "engine")
    environ = {**settings.environ, "PATH": f"{client.parent}:{os.environ['PATH']}"}
    async with app.reading(load(environ)) as service:
        findings = {finding.name: finding for finding in await service.doctor()}

    assert findings["mode dagger"].health.value == "ok"
    assert "not tried" in findings["mode dagger"].detail
    assert "memory not limited" in findings["limits dagger"].detail
    assert not (tmp_path / "engine").exists()


async def test_the_doctor_looks_at_every_profile_whatever_it_says(
    settings: Settings, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[profiles.odd]\nagent = "nobody"\n'
        '[profiles.bare]\nagent = "shell"\n'
        '[profiles.good]\nagent = "shell"\ncommand = "true"\n'
        '[profiles.gone]\nagent = "shell"\ncommand = "x"\nprograms = ["no-such-program"]\n'
    )
    odd = load(settings.environ, config=config)
    async with app.reading(odd) as service:
        findings = {finding.name: finding for finding in await service.doctor()}
    assert "There is no agent plug-in `nobody`" in findings["`odd`"].detail
    assert findings["`bare`"].detail == "the profile has no command"
    assert findings["`good`"].health is Health.OK
    assert "no-such-program" in findings["`gone`"].detail


async def test_without_a_service_what_was_in_progress_is_recovering(
    settings: Settings, tmp_path: Path
) -> None:
    upstream = (await Sample.make(tmp_path / "project", remote=False)).checkout
    (tmp_path / "plan.md").write_text(PLAN)
    submission = Submission(
        plan_path=str(tmp_path / "plan.md"),
        repository=str(upstream),
        agent_command="sleep 600",
    )
    async with running(settings) as service:
        started = await service.service.submit(submission)
        run = started.execution_id
        await in_progress(service.service, run)

    async with app.reading(settings) as reader:
        status, report = await reader.run(run), await reader.report(run)
    assert (status.status, status.phase) == (State.IN_PROGRESS, Phase.RECOVERING)
    assert [task.phase for task in status.tasks] == [Phase.RECOVERING]
    assert (report.going, report.run) == (True, status)
    assert report.commands == ("commandcenter serve", f"commandcenter run --resume {run}")
    assert report.tasks[0].tries[0].end_ms == 0

    async with running(settings) as service:
        assert (await service.service.run(run)).phase is None
        cancelled = await service.service.cancel(run)
        while not cancelled.ended_ms:
            await service.service.wait_for_events(run, after=0, timeout_s=1)
            cancelled = await service.service.run(run)
    assert cancelled.status is State.CANCELLED


async def in_progress(service: Service, run: str) -> None:
    after = 0
    while (await service.run(run)).tasks[0].state is not State.IN_PROGRESS:
        for event in await service.wait_for_events(run, after=after, timeout_s=1):
            after = event.seq
