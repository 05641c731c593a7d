"""Journeys that do not begin: each is refused with a sentence and a hint, and leaves no trace."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.core.agent import Profile
from commandcenter.core.errors import InputError
from commandcenter.service.doctor import Doctor, find_program
from commandcenter.stages.job import Options
from commandcenter.system.git import Git
from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.scene import Installation, Sample, batch, fingerprint, plan, task
from commandcenter.workspaces.local import Local

GOOD = plan(batch(1, task("1.1", "A file", files=["a.txt"])))


async def refused(desk: Desk, sample: Sample, body: dict[str, Any]) -> dict[str, Any]:
    """Post this; it must be refused, and nothing may come of it."""
    before = (await desk.get(""), _kept(desk.installation), fingerprint(sample.upstream))
    answer = await desk.post("/start", body)
    after = (await desk.get(""), _kept(desk.installation), fingerprint(sample.upstream))
    assert answer.status_code in (400, 404, 409, 422), answer.text
    assert after == before
    problem: dict[str, Any] = answer.json()
    assert problem["detail"]
    return problem


def _kept(installation: Installation) -> list[Path]:
    folders = ("vaults", "workspaces/ws", "logs")
    return sorted(path for each in folders for path in (installation.data_dir / each).glob("*"))


PLANS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "the plan is empty"),
    "prose": ("# A plan\n\nWe should do things.\n", "no task"),
    "binary": (b"\x00\xff\xfe\x01", "not text"),
    "cyclic": (
        plan(
            batch(
                1,
                task("1.1", "A", files=["a"], after=["1.2"]),
                task("1.2", "B", files=["b"], after=["1.1"]),
            )
        ),
        "1.1",
    ),
    "duplicate task": (plan(batch(1, task("1.1", "A"), task("1.1", "B"))), "1.1"),
    "duplicate batch": (plan(batch(1, task("1.1", "A")), batch(1, task("1.2", "B"))), "Batch 1"),
    "unknown dependency": (plan(batch(1, task("1.1", "A", after=["7.7"]))), "7.7"),
    "absolute path": (plan(batch(1, task("1.1", "A", files=["/etc/passwd"]))), "/etc/passwd"),
    "climbing path": (plan(batch(1, task("1.1", "A", files=["../a"]))), "../a"),
    "git's folder": (plan(batch(1, task("1.1", "A", files=[".git/config"]))), ".git/config"),
}


@pytest.mark.parametrize("name", PLANS)
async def test_a_wrong_plan_is_refused_with_its_place(desk: Desk, name: str) -> None:
    sample = await desk.sample()
    content, words = PLANS[name]
    body = desk.body(sample, "")
    Path(body["plan_path"]).write_bytes(content if isinstance(content, bytes) else content.encode())

    problem = await refused(desk, sample, body)

    told = [problem["detail"], *(each["message"] for each in problem["diagnostics"])]
    assert words.lower() in " ".join(told).lower()
    assert any(each["severity"] == "error" for each in problem["diagnostics"])


Change = Callable[[Path, Sample], Awaitable[dict[str, Any]]]


async def _missing_plan(folder: Path, sample: Sample) -> dict[str, Any]:
    return {"plan_path": str(folder / "none.md")}


async def _folder_as_plan(folder: Path, sample: Sample) -> dict[str, Any]:
    return {"plan_path": str(folder)}


async def _no_repository(folder: Path, sample: Sample) -> dict[str, Any]:
    plain = folder / "plain"
    plain.mkdir()
    return {"repository": str(plain)}


async def _missing_repository(folder: Path, sample: Sample) -> dict[str, Any]:
    return {"repository": str(folder / "nowhere")}


async def _unborn(folder: Path, sample: Sample) -> dict[str, Any]:
    await sample.git.run("init", "-q", str(folder / "unborn"), git_dir=None)
    return {"repository": str(folder / "unborn")}


async def _unreachable(folder: Path, sample: Sample) -> dict[str, Any]:
    await sample.run("remote", "set-url", "origin", str(folder / "gone.git"))
    return {}


async def _detached(folder: Path, sample: Sample) -> dict[str, Any]:
    await sample.run("checkout", "--quiet", "--detach")
    return {}


def _given(**body: Any) -> Change:
    async def change(folder: Path, sample: Sample) -> dict[str, Any]:
        return body

    return change


WRONG: dict[str, tuple[Change, str]] = {
    "missing plan": (_missing_plan, "Plan file not found"),
    "folder as plan": (_folder_as_plan, "cannot be read"),
    "not a repository": (_no_repository, "not a git repository"),
    "missing repository": (_missing_repository, "nowhere"),
    "unborn branch": (_unborn, "no commit yet"),
    "unreachable upstream": (_unreachable, "does not answer"),
    "detached head": (_detached, "detached"),
    "unknown target": (_given(into="mian"), "mian"),
    "unknown mode": (_given(execution_mode="moon"), "moon"),
    "unknown profile": (_given(agent="scriptd"), "scriptd"),
    "unknown reviewer": (_given(reviewer="nobody"), "nobody"),
    "no such batch": (_given(start_batch=9), "9"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_request_is_refused_with_a_hint(desk: Desk, name: str) -> None:
    sample = await desk.sample()
    change, words = WRONG[name]
    body = {**desk.body(sample, GOOD), **await change(desk.folder, sample)}

    problem = await refused(desk, sample, body)

    assert words in problem["detail"]
    assert problem["hint"]


async def test_a_plan_and_no_plan_are_both_refused(desk: Desk) -> None:
    sample = await desk.sample()

    for body in ({}, {"plan_path": "a", "plan": {}}, {"plan": {"schema": "cc.plan/9"}}):
        await refused(desk, sample, {"repository": str(sample.checkout), **body})


async def _told(host: Host, *arguments: str, **environment: str) -> tuple[int, str]:
    command = host.start(*arguments, **environment)
    printed, _ = await asyncio.to_thread(command.communicate, timeout=60)
    return command.returncode, printed


async def _refused_run(host: Host, words: str, *options: str, **environment: str) -> None:
    sample = await Sample.make(host.folder / "sample")
    before = fingerprint(host.folder / "sample")
    path = host.installation.write_plan(GOOD)

    code, printed = await _told(
        host, "run", str(path), "--repo", str(sample.checkout), *options, **environment
    )
    _, listed = await _told(host, "status", "--json")

    assert (code, json.loads(listed)) == (2, [])
    assert words in printed
    assert "hint: " in printed
    assert fingerprint(host.folder / "sample") == before
    assert _kept(host.installation) == []
    assert not (host.installation.data_dir / "service.json").exists()


@pytest.mark.slow
async def test_a_missing_agent_program_is_named(host: Host) -> None:
    with host.installation.config.open("a") as config:
        config.write('[profiles.absent]\nagent = "shell"\ncommand = "x"\nprograms = ["no-agent"]\n')
    await _refused_run(host, "no-agent", "--agent", "absent")


@pytest.mark.slow
async def test_a_missing_model_credential_is_named(host: Host) -> None:
    programs = host.folder / "bin"
    programs.mkdir()
    (programs / "claude").write_text("#!/bin/sh\n")
    (programs / "claude").chmod(0o755)
    path = f"{programs}:{host.installation.environment()['PATH']}"
    await _refused_run(host, "no model credential", "--agent", "claude", PATH=path)


@pytest.mark.slow
async def test_github_without_a_token_is_refused_before_anything_is_done(host: Host) -> None:
    text = host.installation.config.read_text()
    host.installation.config.write_text(text.replace('kind = "hub"', 'kind = "github"'))
    await _refused_run(host, "GitHub")


async def test_a_port_that_is_taken_starts_no_service(tmp_path: Path) -> None:
    installation = Installation.make(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port}") as raised:
            async with running(
                installation.settings(), host="127.0.0.1", port=port, api=create_api
            ):
                raise AssertionError

    assert "--port" in raised.value.hint
    assert not (installation.data_dir / "service.json").exists()


async def test_a_machine_without_a_sandbox_is_refused_with_what_to_install(tmp_path: Path) -> None:
    settings = Installation.make(tmp_path).settings()
    git = Git()
    unfit = Local(tmp_path / "workspaces", git, rungs=())
    doctor = Doctor(settings, git, {"local": unfit}, find_program(settings))
    scripted = Options(settings.profile("scripted"), Profile("none", "shell", command="x"))

    with pytest.raises(InputError, match="cannot be isolated") as raised:
        await doctor.require("local", scripted)

    assert "apt install bubblewrap" in raised.value.hint
