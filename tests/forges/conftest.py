from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from commandcenter.forges.gitea import Gitea
from commandcenter.forges.github import GitHub
from commandcenter.forges.gitlab import GitLab
from commandcenter.hub import HubRepository, create_hub
from commandcenter.hub.history import open_history
from commandcenter.store.database import migrate, open_engine, prepare_sqlite, sqlite_url
from commandcenter.store.hub import HubStore
from commandcenter.system.git import Git
from commandcenter.testing.forges import BareGround, make_bare, served
from commandcenter.testing.gitea_server import GiteaGround, GiteaPulls, GiteaServer
from commandcenter.testing.github_contract import Checked, Contract
from commandcenter.testing.github_server import GitHubServer
from commandcenter.testing.gitlab_server import GitLabGround, GitLabPulls, GitLabServer
from commandcenter.testing.weather import Calls, Scene, behind

AUTHOR, REVIEWER, STRANGER = "token-of-the-author", "token-of-the-reviewer", "no-token-of-ours"
TOKENS = {AUTHOR: "author", REVIEWER: "reviewer"}


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
    kept: tuple[HubRepository, HubStore], contract: Contract | None
) -> AsyncIterator[BareGround]:
    async with _ground(kept[0], _hub(kept), contract) as ground:
        yield ground


@pytest.fixture
def github(kept: tuple[HubRepository, HubStore]) -> GitHubServer:
    """GitHub with rules and check runs; its pull requests are the hub's."""
    return GitHubServer(_hub(kept))


@pytest.fixture
async def github_ground(
    github: GitHubServer, kept: tuple[HubRepository, HubStore], contract: Contract | None
) -> AsyncIterator[BareGround]:
    async with _ground(kept[0], github.application(), contract) as ground:
        yield ground


@pytest.fixture
async def github_bare_ground(
    github: GitHubServer, kept: tuple[HubRepository, HubStore], contract: Contract | None
) -> AsyncIterator[BareGround]:
    """The same, for answers of which only those fields are made that are read."""
    async with _ground(kept[0], github.application(), contract, answers=False) as ground:
        yield ground


def _hub(kept: tuple[HubRepository, HubStore]) -> ASGIApp:
    repository, records = kept
    repositories = {("acme", "project"): repository}
    return create_hub(records, lambda owner, name: repositories.get((owner, name)), Git(), TOKENS)


@asynccontextmanager
async def _ground(
    repository: HubRepository, app: ASGIApp, contract: Contract | None, *, answers: bool = True
) -> AsyncIterator[BareGround]:
    checked = Checked(app, contract, answers=answers) if contract else None
    # No TLS context: making one takes longer than most of these tests.
    async with (
        served(checked or app) as url,
        httpx.AsyncClient(trust_env=False, verify=False) as shared,
    ):
        author, reviewer, stranger = (
            GitHub(url, "acme", "project", token, client=shared)
            for token in (AUTHOR, REVIEWER, STRANGER)
        )
        client = httpx.AsyncClient(
            base_url=f"{url}/repos/acme/project/",
            headers={"Authorization": "Bearer token-of-the-author"},
            trust_env=False,
            verify=False,
        )
        async with client:
            yield BareGround(author, reviewer, stranger, repository.git_dir, client, Git())
    assert checked is None or checked.findings == []


def now_ms() -> int:
    return time.time_ns() // 10**6


async def no_pause(_seconds: float) -> None:
    """Wait for the forge without waiting: the stand-ins need no time, only to be asked again."""
    await asyncio.sleep(0)


@pytest.fixture
def kept(tmp_path: Path, template: Path) -> Iterator[tuple[HubRepository, HubStore]]:
    """A repository with the records of its pull requests, for the hub or a stand-in of a forge."""
    folder = tmp_path / "forge"
    shutil.copytree(template, folder)
    engine = open_engine(sqlite_url(folder / "hub.db"))
    yield HubRepository("acme", "project", folder / "project.git"), HubStore(engine)
    engine.dispose()


@pytest.fixture
def gitea(kept: tuple[HubRepository, HubStore]) -> GiteaServer:
    repository, records = kept
    return GiteaServer(GiteaPulls(open_history(repository, Git()), records, now_ms), TOKENS)


@pytest.fixture
async def gitea_ground(gitea: GiteaServer) -> AsyncIterator[GiteaGround]:
    async with (
        served(gitea.application()) as url,
        httpx.AsyncClient(trust_env=False, verify=False) as shared,
        httpx.AsyncClient(
            base_url=f"{url}/api/v1/repos/acme/project/",
            headers={"Authorization": f"token {AUTHOR}"},
            trust_env=False,
            verify=False,
        ) as client,
    ):
        author, reviewer, stranger = (
            Gitea(f"{url}/api/v1", "acme", "project", token, client=shared, pause=no_pause)
            for token in (AUTHOR, REVIEWER, STRANGER)
        )
        git_dir = gitea.pulls.repository.git_dir
        yield GiteaGround(author, reviewer, stranger, git_dir, client, Git(), gitea)


@pytest.fixture
def gitlab(kept: tuple[HubRepository, HubStore]) -> GitLabServer:
    repository, records = kept
    return GitLabServer(GitLabPulls(open_history(repository, Git()), records, now_ms), TOKENS)


@pytest.fixture
async def gitlab_ground(gitlab: GitLabServer) -> AsyncIterator[GitLabGround]:
    async with (
        served(gitlab.application()) as url,
        httpx.AsyncClient(trust_env=False, verify=False) as shared,
        httpx.AsyncClient(
            base_url=f"{url}/api/v4/projects/acme%2Fproject/",
            headers={"Authorization": f"Bearer {AUTHOR}"},
            trust_env=False,
            verify=False,
        ) as client,
    ):
        author, reviewer, stranger = (
            GitLab(f"{url}/api/v4", "acme", "project", token, client=shared, pause=no_pause)
            for token in (AUTHOR, REVIEWER, STRANGER)
        )
        git_dir = gitlab.pulls.repository.git_dir
        yield GitLabGround(author, reviewer, stranger, git_dir, client, Git(), gitlab)


_COMMENTS = "/issues/{}/comments"
GITHUB = Calls("/pulls/{}", "/pulls", _COMMENTS, "/pulls/{}/merge", "PUT", {"mergeable": None})
GITEA = Calls("/pulls/{}", "/pulls", _COMMENTS, "/pulls/{}/merge", "POST", {"mergeable": False})
_ONE = "/merge_requests/{}"
GITLAB = Calls(
    *(_ONE, "/merge_requests", f"{_ONE}/notes", f"{_ONE}/merge", "PUT"),
    {"detailed_merge_status": "checking"},
)


@pytest.fixture
async def github_scene(ground: BareGround) -> AsyncIterator[Scene]:
    url = str(ground.client.base_url).removesuffix("/repos/acme/project/")
    async with behind(ground, GITHUB, GitHub, url, AUTHOR) as scene:
        yield scene


@pytest.fixture
async def gitea_scene(gitea_ground: GiteaGround) -> AsyncIterator[Scene]:
    url = str(gitea_ground.client.base_url).removesuffix("/repos/acme/project/")
    async with behind(gitea_ground, GITEA, Gitea, url, AUTHOR) as scene:
        yield scene


@pytest.fixture
async def gitlab_scene(gitlab_ground: GitLabGround) -> AsyncIterator[Scene]:
    url = str(gitlab_ground.client.base_url).partition("/projects/")[0]
    async with behind(gitlab_ground, GITLAB, GitLab, url, AUTHOR) as scene:
        yield scene


@pytest.fixture
async def gitlab_reviewer(gitlab_ground: GitLabGround) -> AsyncIterator[Scene]:
    """The same for the reviewer's adapter."""
    url = str(gitlab_ground.client.base_url).partition("/projects/")[0]
    async with behind(gitlab_ground, GITLAB, GitLab, url, REVIEWER) as scene:
        yield scene
