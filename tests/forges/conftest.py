from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from commandcenter.forges.github import GitHub
from commandcenter.hub import HubRepository, create_hub
from commandcenter.store.database import migrate, open_engine, prepare_sqlite, sqlite_url
from commandcenter.store.hub import HubStore
from commandcenter.system.git import Git
from commandcenter.testing.forges import BareGround, make_bare, served
from commandcenter.testing.github_contract import Checked, Contract

TOKENS = {"token-of-the-author": "author", "token-of-the-reviewer": "reviewer"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository and a migrated database, made once and copied by every test."""
    folder = tmp_path_factory.mktemp("template") / "hub"
    prepare_sqlite(folder / "hub.db")
    engine = open_engine(sqlite_url(folder / "hub.db"))
    migrate(engine)
    engine.dispose()
    asyncio.run(make_bare(Git(), folder / "project.git"))
    return folder


@pytest.fixture
async def ground(
    tmp_path: Path, template: Path, contract: Contract | None
) -> AsyncIterator[BareGround]:
    git = Git()
    folder = tmp_path / "hub"
    shutil.copytree(template, folder)
    repository = HubRepository("acme", "project", folder / "project.git")
    engine = open_engine(sqlite_url(folder / "hub.db"))
    repositories = {("acme", "project"): repository}
    hub = create_hub(
        HubStore(engine), lambda owner, name: repositories.get((owner, name)), git, TOKENS
    )
    checked = Checked(hub, contract) if contract else None
    # No TLS context: making one takes longer than most of these tests.
    async with (
        served(checked or hub) as url,
        httpx.AsyncClient(trust_env=False, verify=False) as shared,
    ):
        author, reviewer, stranger = (
            GitHub(url, "acme", "project", token, client=shared)
            for token in (*TOKENS, "no-token-of-ours")
        )
        client = httpx.AsyncClient(
            base_url=f"{url}/repos/acme/project/",
            headers={"Authorization": "Bearer token-of-the-author"},
            trust_env=False,
            verify=False,
        )
        async with client:
            yield BareGround(author, reviewer, stranger, repository.git_dir, client, git)
    engine.dispose()
    assert checked is None or checked.findings == []
