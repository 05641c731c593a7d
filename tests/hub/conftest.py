from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.types import ASGIApp

from commandcenter.hub import HubRepository, create_hub
from commandcenter.store.database import migrate, open_engine, prepare_sqlite, sqlite_url
from commandcenter.store.hub import HubStore
from commandcenter.system.git import Git
from commandcenter.testing.forges import make_bare, write_commit
from commandcenter.testing.github_contract import Checked, Contract

TOKENS = {"token-of-the-author": "author", "token-of-the-reviewer": "reviewer"}


@dataclass
class Desk:
    """A hub without a network: requests go straight into the application."""

    folder: Path
    git: Git
    repository: HubRepository
    start: str

    def engine(self) -> sa.Engine:
        return open_engine(sqlite_url(self.folder / "hub.db"))

    def app(self, engine: sa.Engine) -> Starlette:
        known = {(self.repository.owner, self.repository.name): self.repository}
        return create_hub(HubStore(engine), lambda *name: known.get(name), self.git, TOKENS)

    async def commit(self, branch: str, files: dict[str, str], onto: str, words: str = "A") -> str:
        return await write_commit(self.git, self.repository.git_dir, branch, files, words, onto)

    async def plumb(self, *args: str) -> str:
        return (await self.git.run(*args, git_dir=self.repository.git_dir)).text


class Api:
    """Calls the repository on a hub, as one user."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.path = "/repos/acme/project"

    async def __call__(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return await self.client.request(method, f"{self.path}{path}", **kwargs)

    async def opened(self, branch: str, base: str = "main", **more: Any) -> dict[str, Any]:
        body = {"title": f"Title of {branch}", "body": "Words.", "head": branch, "base": base}
        answer = await self("POST", "/pulls", json=body | more)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


def client_of(
    app: Any, token: str | None = "token-of-the-author", root: str = "http://hub.test"
) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url=root, headers=headers)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository and a migrated database, made once and copied by every test."""
    folder = tmp_path_factory.mktemp("template") / "hub"
    prepare_sqlite(folder / "hub.db")
    engine = open_engine(sqlite_url(folder / "hub.db"))
    migrate(engine)
    engine.dispose()
    return folder, asyncio.run(make_bare(Git(), folder / "project.git"))


@pytest.fixture
def desk(tmp_path: Path, template: tuple[Path, str]) -> Desk:
    made, start = template
    folder = tmp_path / "hub"
    shutil.copytree(made, folder)
    repository = HubRepository("acme", "project", folder / "project.git")
    return Desk(folder, Git(), repository, start)


@pytest.fixture
async def app(desk: Desk, contract: Contract | None) -> AsyncIterator[ASGIApp]:
    """The hub, every call of which is checked against GitHub's description if that can be had."""
    engine = desk.engine()
    checked = Checked(desk.app(engine), contract, requests=False) if contract else None
    yield checked or desk.app(engine)
    engine.dispose()
    assert checked is None or checked.findings == []


@pytest.fixture
async def api(app: ASGIApp) -> AsyncIterator[Api]:
    async with client_of(app) as client:
        yield Api(client)


@pytest.fixture
async def reviewer(app: ASGIApp) -> AsyncIterator[Api]:
    async with client_of(app, "token-of-the-reviewer") as client:
        yield Api(client)


@pytest.fixture
def make_client() -> Callable[..., httpx.AsyncClient]:
    return client_of
