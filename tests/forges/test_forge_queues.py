"""Forges with a merge queue of their own: what is put into it, and what becomes of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate
from graphql.utilities import find_breaking_changes

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import ProposalState, Queued, Way
from commandcenter.forges.github_graphql import QUERIES, graphql_url
from commandcenter.testing import github_contract
from commandcenter.testing.forges import BareGround, GitGround
from commandcenter.testing.gitea_server import GiteaGround
from commandcenter.testing.github_server import SCHEMA, GitHubServer, merge_queue
from commandcenter.testing.gitlab_server import GitLabGround, GitLabServer


@dataclass
class Site:
    ground: GitGround
    waiting: list[int]
    land: Callable[[int], Awaitable[None]]
    throw_out: Callable[[int, str], None]

    async def proposed(self) -> tuple[int, str]:
        head = await self.ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        made = await self.ground.forge.propose(
            head_branch="task-1", base_branch="main", title="T", body="B"
        )
        return made.number, head


@pytest.fixture
def on_github(github: GitHubServer, github_ground: BareGround) -> Site:
    github.rules = [merge_queue()]

    async def land(number: int) -> None:
        await github.land(number, "token-of-the-reviewer")

    return Site(github_ground, github.waiting, land, github.throw_out)


@pytest.fixture
def on_gitlab(gitlab: GitLabServer, gitlab_ground: GitLabGround) -> Site:
    gitlab.trains = True

    async def land(number: int) -> None:
        await gitlab.drive(number, "reviewer")

    return Site(gitlab_ground, gitlab.train, land, gitlab.throw_off)


@pytest.fixture(params=["github", "gitlab"])
def site(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue(f"on_{request.param}")
    return site


async def test_a_branch_with_a_queue_says_so(site: Site) -> None:
    protection = await site.ground.forge.protection("main")

    assert (protection.way, protection.required) == (Way.QUEUE, ())


async def test_what_is_put_into_the_queue_twice_is_in_it_once_and_is_merged_by_the_forge(
    site: Site,
) -> None:
    number, head = await site.proposed()
    before = await site.ground.forge.queued(number)

    await site.ground.forge.enqueue(number, head=head)
    await site.ground.forge.enqueue(number, head=head)
    inside = await site.ground.forge.queued(number)
    listed = [*site.waiting]
    await site.land(number)

    assert before == Queued(False)
    assert inside == Queued(True)
    assert listed == [number]
    assert (await site.ground.forge.proposal(number)).state is ProposalState.MERGED
    assert await site.ground.contains("main", head)


async def test_another_commit_than_was_meant_is_not_put_into_the_queue(site: Site) -> None:
    number, head = await site.proposed()
    await site.ground.commit("task-1", {"b.txt": "b\n"}, onto=head)

    with pytest.raises(ForgeError) as refused:
        await site.ground.forge.enqueue(number, head=head)

    assert refused.value.refusal is Refusal.MOVED
    assert site.waiting == []


async def test_what_the_queue_threw_out_says_why_and_each_time_is_told_from_the_last(
    site: Site,
) -> None:
    number, head = await site.proposed()
    await site.ground.forge.enqueue(number, head=head)
    site.throw_out(number, "the pipeline failed")
    first = await site.ground.forge.queued(number)
    await site.ground.forge.enqueue(number, head=head)
    again = await site.ground.forge.queued(number)
    site.throw_out(number, "it conflicts")
    second = await site.ground.forge.queued(number)

    assert (first.inside, again.inside, second.inside) == (False, True, False)
    assert "the pipeline failed" in first.reason
    assert "it conflicts" in second.reason
    assert "" != first.removal == again.removal != second.removal


async def test_a_conflict_is_not_put_into_githubs_queue(on_github: Site) -> None:
    number, head = await on_github.proposed()
    await on_github.ground.commit("main", {"a.txt": "another\n"}, onto="main")

    with pytest.raises(ForgeError, match="unmergeable state") as refused:
        await on_github.ground.forge.enqueue(number, head=head)

    assert refused.value.refusal is Refusal.UNMERGEABLE


async def test_a_wrong_token_is_refused_in_graphql_as_well(on_github: Site) -> None:
    number, _ = await on_github.proposed()

    with pytest.raises(ForgeError) as refused:
        await on_github.ground.stranger.queued(number)

    assert refused.value.refusal is Refusal.TOKEN


async def test_a_branch_with_a_queue_takes_no_merge_beside_it(on_github: Site) -> None:
    number, head = await on_github.proposed()

    with pytest.raises(ForgeError, match="merge queue") as refused:
        await on_github.ground.forge.merge(number, head=head)

    assert refused.value.refusal is Refusal.UNMERGEABLE


async def test_a_forge_without_queues_puts_nothing_into_one(gitea_ground: GiteaGround) -> None:
    with pytest.raises(ForgeError, match="no merge queue"):
        await gitea_ground.forge.enqueue(1, head="c" * 40)
    with pytest.raises(ForgeError, match="no merge queue"):
        await gitea_ground.forge.queued(1)


@pytest.mark.parametrize(
    ("api", "url"),
    [
        ("https://api.github.com", "https://api.github.com/graphql"),
        ("https://ghe.example/api/v3/", "https://ghe.example/api/graphql"),
    ],
)
def test_graphql_is_asked_where_the_forge_answers_it(api: str, url: str) -> None:
    assert graphql_url(api) == url


async def test_what_is_asked_by_graphql_and_answered_here_is_githubs(tmp_path: Path) -> None:
    if reason := github_contract.lacking():
        pytest.skip(reason)
    published = build_schema(
        github_contract.fetch(tmp_path, github_contract.GRAPHQL).read_text(), assume_valid=True
    )
    wrong = parse(QUERIES[1].replace("expectedHeadOid", "expectedHead"))
    ours = build_schema(SCHEMA)

    assert [validate(published, parse(query)) for query in QUERIES] == [[], [], []]
    assert len(validate(published, wrong)) == 1
    assert [each.description for each in find_breaking_changes(ours, published)] == []
