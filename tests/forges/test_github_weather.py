"""GitHub's adapter when the forge is slow, or takes less than it might; for all: test_weather."""

from __future__ import annotations

import pytest

from commandcenter.core.errors import ForgeError
from commandcenter.core.forge import Decision, Issue, Review
from commandcenter.testing.forges import BareGround
from commandcenter.testing.weather import Scene


@pytest.fixture
def scene(github_scene: Scene) -> Scene:
    return github_scene


def _ground(scene: Scene) -> BareGround:
    assert isinstance(scene.ground, BareGround)
    return scene.ground


async def test_a_refusal_to_judge_ones_own_proposal_becomes_a_comment(scene: Scene) -> None:
    number, head = await scene.proposed()
    scene.weather.answers(
        "GET", "/user", 403, {"message": "Resource not accessible by integration"}
    )

    published = await scene.forge.review(number, Review(head, Decision.APPROVE, "Good."))

    assert published == "comment"
    [seen] = await _ground(scene).reviews(number)
    assert "Approved" in seen.body


async def test_a_refused_line_comment_goes_into_the_summary(scene: Scene) -> None:
    number, head = await scene.proposed()
    scene.weather.answers(
        "POST",
        f"/pulls/{number}/reviews",
        422,
        {"message": "Unprocessable Entity", "errors": ["Line could not be resolved"]},
    )
    issue = Issue("wrong", file="a.txt", line=1)

    await scene.forge.review(number, Review(head, Decision.REVISE, "Look.", (issue,)))

    [seen] = await _ground(scene).reviews(number)
    assert "`a.txt:1`: wrong" in seen.body
    assert await _ground(scene).line_comments(number) == []


async def test_a_list_that_ignores_the_head_filter_gives_no_foreign_proposal(
    scene: Scene,
) -> None:
    foreign, _ = await scene.proposed("task-1")
    await scene.ground.commit("task-2", {"b.txt": "b\n"}, onto="main")
    everything = (await scene.ground.client.get("pulls")).json()
    scene.weather.answers("GET", "/pulls", 200, everything)

    made = await scene.forge.propose(
        head_branch="task-2", base_branch="main", title="Another", body=""
    )

    assert made.number != foreign
    assert (await scene.forge.proposal(foreign)).title == "A task"


async def test_the_token_follows_no_link_to_another_host(scene: Scene) -> None:
    link = '<https://evil.example/repos/acme/project/pulls?page=2>; rel="next"'
    scene.weather.answers("GET", "/pulls", 200, [], Link=link)

    with pytest.raises(ForgeError, match="another host"):
        await scene.forge.proposals()
