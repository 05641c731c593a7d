from __future__ import annotations

import contextlib
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

TOKENS = {"token-of-the-author": "author", "token-of-the-reviewer": "reviewer"}


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[BareGround]:
    git = Git()
    repository = HubRepository("acme", "project", tmp_path / "project.git")
    await make_bare(git, repository.git_dir)
    database = tmp_path / "hub.db"
    prepare_sqlite(database)
    engine = open_engine(sqlite_url(database))
    migrate(engine)
    repositories = {("acme", "project"): repository}
    hub = create_hub(
        HubStore(engine), lambda owner, name: repositories.get((owner, name)), git, TOKENS
    )
    async with served(hub) as url, contextlib.AsyncExitStack() as stack:
        forges = [
            await stack.enter_async_context(
                contextlib.aclosing(GitHub(url, "acme", "project", token))
            )
            for token in (*TOKENS, "no-token-of-ours")
        ]
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"{url}/repos/acme/project/",
                headers={"Authorization": "Bearer token-of-the-author"},
                trust_env=False,
            )
        )
        author, reviewer, stranger = forges
        yield BareGround(author, reviewer, stranger, repository.git_dir, client, git)
    engine.dispose()
