"""Drafts and labels, in each forge's own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from commandcenter.core.forge import Forge, Proposal
from commandcenter.testing.forges import BareGround, GitGround
from commandcenter.testing.gitea_server import GiteaGround
from commandcenter.testing.gitlab_server import GitLabGround


@dataclass
class Site:
    ground: GitGround
    labels: Callable[[int], Awaitable[list[str]]]

    @property
    def forge(self) -> Forge:
        return self.ground.forge

    async def proposed(self, *, draft: bool, title: str = "Add a") -> Proposal:
        if await self.ground.tip("task-1") is None:
            await self.ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        return await self.forge.propose(
            head_branch="task-1", base_branch="main", title=title, body="B", draft=draft
        )


@pytest.fixture
def on_github(github_ground: BareGround) -> Site:
    async def labels(number: int) -> list[str]:
        return [each["name"] for each in await github_ground.listed(f"issues/{number}/labels")]

    return Site(github_ground, labels)


@pytest.fixture
def on_gitea(gitea_ground: GiteaGround) -> Site:
    async def labels(number: int) -> list[str]:
        return [each["name"] for each in await gitea_ground.listed(f"issues/{number}/labels")]

    return Site(gitea_ground, labels)


@pytest.fixture
def on_gitlab(gitlab_ground: GitLabGround) -> Site:
    async def labels(number: int) -> list[str]:
        answer = await gitlab_ground.client.get(f"merge_requests/{number}")
        return [*answer.json()["labels"]]

    return Site(gitlab_ground, labels)


@pytest.fixture(params=["github", "gitea", "gitlab"])
def site(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue(f"on_{request.param}")
    return site


async def test_a_draft_is_made_ready_once_and_can_then_be_merged(site: Site) -> None:
    made = await site.proposed(draft=True)

    await site.forge.ready(made.number)
    await site.forge.ready(made.number)
    now = await site.forge.proposal(made.number)
    await site.forge.merge(made.number, head=made.head)

    assert (made.draft, now.draft, now.title) == (True, False, "Add a")
    assert await site.ground.contains("main", made.head)


async def test_a_draft_stays_one_when_it_is_proposed_again(site: Site) -> None:
    made = await site.proposed(draft=True)
    await site.proposed(draft=True, title=made.title)
    unchanged = await site.forge.proposal(made.number)
    again = await site.proposed(draft=True, title="Add a and b")
    await site.forge.ready(made.number)
    ready = await site.proposed(draft=True, title="Add a and b")

    assert (again.number, again.draft) == (made.number, True)
    assert unchanged.title == made.title
    assert again.title.endswith("Add a and b")
    assert (ready.draft, ready.title) == (False, "Add a and b")


async def test_what_is_no_draft_is_none(site: Site) -> None:
    made = await site.proposed(draft=False, title="Draft a plan")

    await site.forge.ready(made.number)

    assert not made.draft
    assert (await site.forge.proposal(made.number)).title == "Draft a plan"


async def test_labels_are_made_once_and_added(site: Site) -> None:
    made = await site.proposed(draft=False)

    await site.forge.label(made.number, [])
    await site.forge.label(made.number, ["commandcenter", "an agent's"])
    await site.forge.label(made.number, ["commandcenter"])

    assert sorted(await site.labels(made.number)) == ["an agent's", "commandcenter"]
