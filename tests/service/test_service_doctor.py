"""What the doctor says of the machine, each thing in order and out of order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette

from commandcenter import app
from commandcenter.core.errors import InputError
from commandcenter.core.run import Finding, Health, RunStatus, State, Submission
from commandcenter.service import Service
from commandcenter.service.clock import Clock, Reading, read_clock
from commandcenter.service.programs import NoVersion, version
from commandcenter.settings import Settings, load
from commandcenter.store.condition import condition
from commandcenter.system import listening
from commandcenter.testing.scene import Sample

PLAN = "## Batch 1: One\n\n### Task 1.1: Wait\n\n**Verification:**\n- `true`\n"
HOUR_S = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "home").mkdir()
    environ = {
        "COMMANDCENTER_DATA_DIR": str(tmp_path / "data"),
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PORT": "0",
    }
    return load(environ)


def on(settings: Settings, **variables: str) -> Settings:
    return replace(settings, environ={**settings.environ, **variables})


async def found(settings: Settings, name: str) -> Finding:
    async with app.reading(settings) as service:
        (one,) = [each for each in await service.doctor() if each.name == name]
    return one


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def only(folder: Path, *names: str) -> str:
    """Return a PATH on which only these of the machine's programs are."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    return str(folder)


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 127", "cannot be run"), ("echo git version 2.30.1", "git 2.30.1 cannot")],
)
async def test_a_git_that_is_too_old_or_does_not_work_is_missing(
    settings: Settings, tmp_path: Path, script: str, words: str
) -> None:
    program(tmp_path / "bin" / "git", script)

    git = await found(on(settings, PATH=str(tmp_path / "bin")), "git")

    assert (git.health, words in git.detail) == (Health.MISSING, True)


async def test_without_git_everything_else_is_still_looked_at(
    settings: Settings, tmp_path: Path
) -> None:
    async with app.reading(on(settings, PATH=only(tmp_path / "bin"))) as service:
        findings = {each.name: each for each in await service.doctor()}

    assert findings["git"].health is Health.MISSING
    assert findings["git"].hint == "Install git 2.38 or newer."
    assert findings["database"].health is Health.OK
    assert [
        each for each in findings.values() if each.health is not Health.OK and not each.hint
    ] == []


async def test_no_service_starts_without_git_since_its_tasks_would_fail(
    settings: Settings, tmp_path: Path
) -> None:
    lacking = on(settings, PATH=only(tmp_path / "bin"))

    with pytest.raises(InputError, match="`git` cannot be run") as refused:
        async with app.running(lacking, host="127.0.0.1", port=0, api=lambda _: Starlette()):
            raise AssertionError

    assert refused.value.hint
    assert not (settings.data_dir / "service.json").exists()


@pytest.mark.parametrize(
    ("text", "health", "words"),
    [
        ("", Health.OK, "no credential helper"),
        ("[credential]\nhelper = store\n", Health.OK, "a credential helper"),
        ("[http]\nsslVerify = false\n", Health.DEGRADED, "http.sslVerify is off"),
        ("[broken\n", Health.MISSING, "bad config line 1"),
    ],
)
async def test_git_settings_that_weaken_or_stop_fetching_are_named(
    settings: Settings, tmp_path: Path, text: str, health: Health, words: str
) -> None:
    (tmp_path / "home" / ".gitconfig").write_text(text)
    path = only(tmp_path / "bin", "git")
    program(tmp_path / "bin" / "ssh", "exit 1")

    finding = await found(on(settings, PATH=path, GIT_CONFIG_NOSYSTEM="1"), "git settings")

    assert (finding.health, words in finding.detail) == (health, True)
    assert bool(finding.hint) == (health is not Health.OK)


async def test_a_machine_without_ssh_is_degraded(settings: Settings, tmp_path: Path) -> None:
    finding = await found(on(settings, PATH=only(tmp_path / "bin", "git")), "git settings")

    assert finding.health is Health.DEGRADED
    assert finding.hint == "apt install openssh-client"


@pytest.mark.parametrize(
    ("script", "health", "words"),
    [
        ("echo '2.1.330 (Claude Code)'", Health.OK, "claude 2.1.330; agent claude, credential"),
        ("echo broken >&2; exit 3", Health.DEGRADED, "--version` ended with 3: broken"),
        ("echo hello", Health.DEGRADED, "says no version: 'hello'"),
    ],
)
async def test_an_agents_program_is_told_with_its_version(
    settings: Settings, tmp_path: Path, script: str, health: Health, words: str
) -> None:
    claude = program(tmp_path / "bin" / "claude", script)
    path = f"{claude.parent}:{os.environ['PATH']}"

    finding = await found(on(settings, PATH=path, ANTHROPIC_API_KEY="key"), "`claude`")

    assert (finding.health, words in finding.detail) == (health, True)
    assert bool(finding.hint) == (health is not Health.OK)


async def test_a_program_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    silent = program(tmp_path / "bin" / "silent", "exec sleep 600")

    with pytest.raises(NoVersion, match=r"did not end within 0\.2 s"):
        await version(silent, os.environ, timeout_s=0.2)


async def test_a_program_is_asked_without_your_home_or_keys(tmp_path: Path) -> None:
    telling = program(
        tmp_path / "bin" / "telling", 'echo "1.0-$HOME-$ANTHROPIC_API_KEY"; >"$HOME/x"'
    )
    home = tmp_path / "mine"
    home.mkdir()
    environ = {**os.environ, "HOME": str(home), "ANTHROPIC_API_KEY": "sk-secret"}

    said = await version(telling, environ)

    assert said.startswith("1.0-")
    assert str(home) not in said
    assert "sk-secret" not in said
    assert list(home.iterdir()) == []


async def test_a_sign_in_that_agents_cannot_use_is_told_with_the_way_out(
    settings: Settings, tmp_path: Path
) -> None:
    claude = program(tmp_path / "bin" / "claude", "echo 2.1.330")
    there = on(settings, PATH=f"{claude.parent}:{os.environ['PATH']}")
    before = await found(there, "`claude`")
    (tmp_path / "home" / ".claude").mkdir()
    (tmp_path / "home" / ".claude" / ".credentials.json").write_text("{}")

    after = await found(there, "`claude`")

    assert "stays out of sandboxes" not in before.hint
    assert after.hint == f"{before.hint}; your own sign-in of Claude Code stays out of sandboxes"
    assert "`claude setup-token`" in after.hint
    assert "no model credential is set" in after.detail


async def test_a_disk_without_room_is_degraded(settings: Settings) -> None:
    disk = await found(replace(settings, disk_free_min_bytes=2**60), "disk")

    assert (disk.health, "commandcenter gc" in disk.hint) == (Health.DEGRADED, True)


async def test_a_database_that_is_whole_is_told_with_its_size(settings: Settings) -> None:
    database = await found(settings, "database")

    assert database.health is Health.OK
    assert sqlite3.sqlite_version in database.detail
    assert database.detail.endswith("no damage")


async def test_a_damaged_database_is_missing_and_says_how_to_save_what_can_be_read(
    settings: Settings,
) -> None:
    async with app.reading(settings):
        pass
    path = settings.data_dir / "commandcenter.sqlite"
    damage(path, "cc_events")

    database = await found(settings, "database")

    assert database.health is Health.MISSING
    assert "; damaged: " in database.detail
    assert f"sqlite3 {path} .recover" in database.hint


async def test_a_database_that_cannot_be_opened_for_damage_is_refused_with_the_way_out(
    settings: Settings,
) -> None:
    async with app.reading(settings):
        pass
    path = settings.data_dir / "commandcenter.sqlite"
    damage(path, "cc_migrations")

    with pytest.raises(InputError, match="is damaged: ") as refused:
        await app.reading(settings).__aenter__()

    assert f"sqlite3 {path} .recover" in refused.value.hint


def damage(path: Path, table: str) -> None:
    """Write nonsense over the page that a table begins with, as a bad disk might."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(query, (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)


@contextlib.contextmanager
def long_log(path: Path) -> Iterator[None]:
    """Keep a write-ahead log from being taken in, and have it large."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM cc_runs").fetchall()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("CREATE TABLE IF NOT EXISTS other (x)")
        os.truncate(f"{path}-wal", 300 * 2**20)
        yield


async def test_a_write_ahead_log_that_is_kept_from_being_taken_in_is_degraded(
    settings: Settings,
) -> None:
    async with app.reading(settings):
        pass
    with long_log(settings.data_dir / "commandcenter.sqlite"):
        database = await found(settings, "database")

    assert database.health is Health.DEGRADED
    assert "its write-ahead log 0.3 GiB" in database.detail
    assert "end that program" in database.hint


def test_a_database_too_large_to_look_through_is_not_called_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE many (x)")
        rows = ((f"row {number}",) for number in range(20_000))
        connection.executemany("INSERT INTO many VALUES (?)", rows)
        connection.commit()

    assert condition(path).checked
    assert not condition(path, timeout_s=0).checked


async def test_a_clock_behind_what_was_written_before_is_degraded(settings: Settings) -> None:
    async with app.reading(settings):
        pass
    before = await found(settings, "clock")
    path = settings.data_dir / "commandcenter.log"
    path.write_text("")
    os.utime(path, (time.time() + HOUR_S, time.time() + HOUR_S))

    clock = await found(settings, "clock")

    assert before.health is Health.OK
    assert clock.health is Health.DEGRADED
    assert f" before {path} was written" in clock.detail
    assert "timedatectl" in clock.hint


def test_a_clock_behind_the_newest_event_is_degraded(tmp_path: Path) -> None:
    newest_ms = round((time.time() + HOUR_S) * 1000)

    clock = Clock(read_clock()).finding(tmp_path, newest_ms)

    assert clock.health is Health.DEGRADED
    assert clock.detail.endswith("before the newest event of a run")


@pytest.mark.parametrize(
    ("wall_s", "steady_s", "words"),
    [
        (HOUR_S, HOUR_S, "no earlier than all that was written here"),
        (HOUR_S + 120, HOUR_S, "it was set forward by 2m00s while the service ran"),
        (HOUR_S - 120, HOUR_S, "it was set back by 2m00s while the service ran"),
    ],
)
def test_a_clock_that_was_set_while_the_service_ran_is_told(
    tmp_path: Path, wall_s: float, steady_s: float, words: str
) -> None:
    begun = read_clock()
    after = Reading(begun.wall_s + wall_s, begun.steady_s + steady_s)

    clock = Clock(begun, lambda: after).finding(tmp_path, 0)

    assert words in clock.detail


async def test_a_port_that_another_program_has_is_told_with_its_name(settings: Settings) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); input()"
    )
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdout is not None
    taken = int(await other.stdout.readline())

    port = await found(replace(settings, port=taken), "port")
    await other.communicate(b"\n")
    free = await found(replace(settings, port=taken), "port")

    assert port.health is Health.DEGRADED
    assert f"(process {other.pid}) has it" in port.detail
    assert "--port 0" in port.hint
    assert (free.health, free.detail) == (Health.OK, f"{taken} of 127.0.0.1 is free for `serve`")


async def test_the_services_own_port_is_in_order(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    configured = replace(settings, port=port)
    running = app.running(configured, host="127.0.0.1", port=port, api=lambda _: Starlette())

    async with running as service:
        (finding,) = [each for each in await service.service.doctor() if each.name == "port"]

    assert finding.health is Health.OK
    assert finding.detail.startswith("the service of this data folder answers on ")


async def test_an_address_that_is_not_of_this_machine_is_told(settings: Settings) -> None:
    port = await found(replace(settings, host="192.0.2.1", port=8001), "port")

    assert port.health is Health.DEGRADED
    assert "192.0.2.1: Cannot assign requested address" in port.detail


def test_nobody_holds_a_port_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        held = listening.holder(port)

    assert held is not None
    assert held.pid == os.getpid()
    assert listening.holder(port) is None


async def test_a_run_is_stopped_by_what_it_needs_and_by_nothing_else(
    settings: Settings, tmp_path: Path
) -> None:
    # Neither the configured mode nor the configured agent works on this machine.
    config = tmp_path / "config.toml"
    config.write_text(
        'mode = "container"\n[roles]\nwork = "claude"\n[container]\nengine = "podman"\n'
    )
    environ = {**settings.environ, "PATH": only(tmp_path / "bin", "git")}
    (tmp_path / "plan.md").write_text(PLAN)
    asked = Submission(
        plan_path=str(tmp_path / "plan.md"),
        repository=str((await Sample.make(tmp_path / "project", remote=False)).checkout),
    )
    needed = {
        "mode container": replace(asked, agent_command="true"),
        "no program `claude`": replace(asked, execution_mode="local"),
        "`claude`": replace(asked, execution_mode="local", agent_command="true", reviewer="claude"),
    }
    serving = app.running(
        load(environ, config=config), host="127.0.0.1", port=0, api=lambda _: Starlette()
    )
    async with serving as service:
        for words, submission in needed.items():
            with pytest.raises(InputError, match=words) as refused:
                await service.service.submit(submission)
            assert refused.value.hint
        none = await service.service.runs()
        fitting = replace(asked, execution_mode="local", agent_command="true")
        started = await service.service.submit(fitting)

    assert none == ()
    assert started.status == "started"


async def test_a_retry_needs_what_its_run_needs(settings: Settings, tmp_path: Path) -> None:
    tool = program(tmp_path / "tools" / "tool", "exit 3")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[limits]\ntries = 1\n[profiles.own]\nagent = "shell"\ncommand = "tool"\n'
        f'programs = ["{tool}"]\n'
    )
    (tmp_path / "plan.md").write_text(PLAN)
    asked = Submission(
        plan_path=str(tmp_path / "plan.md"),
        repository=str((await Sample.make(tmp_path / "project", remote=False)).checkout),
        agent="own",
        reviewer="none",
    )
    serving = app.running(
        load(settings.environ, config=config), host="127.0.0.1", port=0, api=lambda _: Starlette()
    )
    async with serving as service:
        run = (await service.service.submit(asked)).execution_id
        ended = await over(service.service, run)
        tool.rename(tmp_path / "tools" / "gone")
        with pytest.raises(InputError, match="there is no program") as refused:
            await service.service.retry(run)
        left = await service.service.run(run)
        (tmp_path / "tools" / "gone").rename(tool)
        again = await service.service.retry(run)

    assert refused.value.hint
    assert (ended.status, left.status) == (State.FAILED, State.FAILED)
    assert again.ended_ms == 0


async def over(service: Service, run: str) -> RunStatus:
    """Return a run when it has ended."""
    after = 0
    while not (status := await service.run(run)).ended_ms:
        for event in await service.wait_for_events(run, after=after, timeout_s=1):
            after = event.seq
    return status
