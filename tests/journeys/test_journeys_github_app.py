"""A run whose origin is on GitHub over https, as a GitHub App: pushed, proposed and landed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from commandcenter.core.pull_request import RepositoryName
from commandcenter.forges.github_app import NEEDED
from commandcenter.hub import HubRepository, create_hub
from commandcenter.store.database import migrate, open_engine, prepare_sqlite, sqlite_url
from commandcenter.store.hub import HubStore
from commandcenter.system.git import Git
from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.forges import served
from commandcenter.testing.github_apps import GitHubApps, Installed
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

PROJECT = RepositoryName("acme", "project")
BOT = "night-shift[bot]"
PERSON = "the-token-of-a-person"
"""The hub's, behind the App's GitHub."""


@dataclass
class OnGitHub:
    """A repository whose origin is on GitHub, and a service that acts there as an App."""

    apps: GitHubApps
    sample: Sample
    installation: Installation
    key: bytes
    ended: list[str]
    """Tokens that were taken back."""

    def tokens(self) -> list[str]:
        """Return every token that was ever given out."""
        return [*self.ended, *self.apps.issued]

    def secrets(self) -> list[bytes]:
        """Return what must be nowhere, as it is and as git sends it."""
        plain = [token.encode() for token in self.tokens()]
        sent = [base64.b64encode(b"x-access-token:" + token) for token in plain]
        return [*plain, *sent, self.key.splitlines()[1]]

    async def pulls(self) -> list[dict[str, Any]]:
        """Return all pull requests, as a person sees them."""
        transport = httpx.ASGITransport(self.apps.hub)
        signed = {"Authorization": f"Bearer {PERSON}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://hub.test") as client:
            answer = await client.get("/repos/acme/project/pulls?state=all", headers=signed)
        listed: list[dict[str, Any]] = answer.raise_for_status().json()
        return listed

    def take_back(self) -> None:
        """End all tokens, as GitHub may at any time."""
        self.ended += self.apps.issued
        self.apps.revoke_all()


@pytest.fixture
async def github(tmp_path: Path) -> AsyncIterator[OnGitHub]:
    sample = await Sample.make(tmp_path / "sample")
    prepare_sqlite(tmp_path / "hub.db")
    engine = open_engine(sqlite_url(tmp_path / "hub.db"))
    migrate(engine)
    served_there = HubRepository(*("acme", "project"), sample.upstream)
    repositories = {("acme", "project"): served_there}
    logins = {"of-the-app": BOT, PERSON: "person"}
    hub = create_hub(HubStore(engine), lambda *name: repositories.get(name), Git(), logins)
    key = generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    apps = GitHubApps(
        hub,
        key.public_key(),
        "of-the-app",
        installations=[Installed(7, [PROJECT], dict(NEEDED))],
        git_dirs={PROJECT: sample.upstream},
    )
    file = tmp_path / "app.pem"
    file.touch(mode=0o600)
    file.write_bytes(pem)
    async with served(apps) as url:
        await sample.run("remote", "set-url", "origin", f"{url}/acme/project.git")
        forge = (
            f'kind = "github"\ngithub_api = "{url}"\ngithub_app_id = "{apps.app_id}"\n'
            f'github_app_private_key_file = "{file}"'
        )
        installation = Installation.make(tmp_path / "own", forge=forge)
        yield OnGitHub(apps, sample, installation, pem, [])
    engine.dispose()


@pytest.fixture
async def desk(github: OnGitHub, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk at a service of its own, which is another thread's, as GitHub is this one's."""
    service = Service(github.installation)
    await asyncio.to_thread(service.__enter__)
    try:
        yield Desk(service.url, github.installation, tmp_path)
    finally:
        await asyncio.to_thread(service.__exit__, None, None, None)
    assert await judge_stopped(github.installation) == ()


@pytest.mark.slow
async def test_a_run_lands_as_the_app_and_keeps_no_secret_of_it(
    github: OnGitHub, desk: Desk
) -> None:
    tasks = [task(f"1.{n}", f"File {n}", files=[f"{n}.txt"]) for n in (1, 2)]

    run = await desk.start(github.sample, plan(batch(1, *tasks)))
    await desk.until(f"/{run}/tasks/1.1", lambda t: t["status"] == "completed", 120)
    github.take_back()
    ended = await desk.until(f"/{run}/status", lambda s: s["status"] != "in_progress", 120)
    told = json.dumps(await desk.get(f"/{run}/events?format=json&limit=10000"))

    assert ended["status"] == "completed", ended
    assert {"1.txt", "2.txt"} < set(await github.sample.paths())
    pulls = await github.pulls()
    assert {(pull["user"]["login"], bool(pull["merged_at"])) for pull in pulls} == {(BOT, True)}
    assert len(github.tokens()) >= 2
    everything = kept(github.installation.folder) + told.encode() + json.dumps(pulls).encode()
    # The control: what is kept would be found.
    assert b"acme/project" in everything
    for secret in github.secrets():
        assert secret not in everything


def kept(folder: Path) -> bytes:
    """Return all that is in the files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return b"".join(path.read_bytes() for path in files)
