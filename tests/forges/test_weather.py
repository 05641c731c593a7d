"""Every adapter when the forge is slow, limited, broken or half-heard."""

from __future__ import annotations

import contextlib
import logging

import httpx
import pytest

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import Decision, Review
from commandcenter.testing.weather import Answer, Scene

TOKEN = "token-of-the-author"


@pytest.fixture(params=["github", "gitea", "gitlab"])
def scene(request: pytest.FixtureRequest) -> Scene:
    scene: Scene = request.getfixturevalue(f"{request.param}_scene")
    return scene


async def test_a_merge_whose_answer_got_lost_is_found(scene: Scene) -> None:
    number, head = await scene.proposed()
    scene.weather.loses_the_answer(scene.calls.merge_method, scene.merge(number))

    commit = await scene.forge.merge(number, head=head)

    assert await scene.ground.tip("main") == commit
    assert scene.weather.count(scene.calls.merge_method, scene.merge(number)) == 1


async def test_a_merge_waits_until_the_forge_knows_whether_it_can(scene: Scene) -> None:
    number, head = await scene.proposed()
    await scene.forge.proposal(number)
    for _ in range(3):
        scene.weather.changes("GET", scene.one(number), **scene.calls.undecided)

    commit = await scene.forge.merge(number, head=head)

    assert await scene.ground.tip("main") == commit
    assert scene.waits[:3] == [0.25, 0.5, 1.0]


async def test_a_merge_does_not_wait_for_ever(scene: Scene) -> None:
    number, head = await scene.proposed()
    for _ in range(20):
        scene.weather.changes("GET", scene.one(number), **scene.calls.undecided)

    with contextlib.suppress(ForgeError):
        await scene.forge.merge(number, head=head)

    assert scene.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


async def test_a_merge_that_the_forge_refuses_stays_refused(scene: Scene) -> None:
    number, head = await scene.proposed()
    words = {"message": "Required status check is expected."}
    scene.weather.answers(scene.calls.merge_method, scene.merge(number), 405, words)

    with pytest.raises(ForgeError, match="Required status check") as refused:
        await scene.forge.merge(number, head=head)
    assert refused.value.refusal is Refusal.UNMERGEABLE


async def test_a_push_between_the_look_and_the_merge_is_told_from_a_conflict(scene: Scene) -> None:
    number, head = await scene.proposed()
    pushed = await scene.ground.commit("task-1", {"a.txt": "sneaked in\n"}, onto="task-1")
    # It is asked twice, since some forges look first when they are asked.
    for _ in range(2):
        await scene.forge.proposal(number)
    scene.weather.waiting.append(("GET", scene.one(number), _stale(scene, pushed, head)))

    with pytest.raises(ForgeError) as refused:
        await scene.forge.merge(number, head=head)

    assert refused.value.refusal is Refusal.MOVED
    assert scene.weather.count(scene.calls.merge_method, scene.merge(number)) == 1
    assert await scene.ground.contains("main", head) is False


async def test_a_proposal_whose_answer_got_lost_is_found_by_its_branch(scene: Scene) -> None:
    await scene.ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    scene.weather.loses_the_answer("POST", scene.calls.every)

    with pytest.raises(ForgeError, match="no answer"):
        await scene.forge.propose(head_branch="task-1", base_branch="main", title="A", body="B")
    made = await scene.forge.propose(head_branch="task-1", base_branch="main", title="A", body="B")

    assert [proposal.number for proposal in await scene.forge.proposals()] == [made.number]


async def test_reading_is_tried_again_when_the_forge_stumbles(scene: Scene) -> None:
    number, _ = await scene.proposed()
    scene.weather.answers("GET", scene.one(number), 502, {"message": "Server Error"})
    scene.weather.answers("GET", scene.one(number), 503, {"message": "Server Error"})

    proposal = await scene.forge.proposal(number)

    assert proposal.number == number
    assert scene.waits == [0.5, 1.0]


async def test_a_forge_that_stays_down_is_an_error(scene: Scene) -> None:
    number, _ = await scene.proposed()
    for _ in range(9):
        scene.weather.answers("GET", scene.one(number), 502, {"message": "Server Error"})

    with pytest.raises(ForgeError) as failed:
        await scene.forge.proposal(number)

    assert failed.value.status == 502
    assert len(scene.waits) == 3


async def test_a_write_is_not_sent_twice_when_the_forge_stumbles(scene: Scene) -> None:
    number, _ = await scene.proposed()
    scene.weather.answers("POST", scene.comments(number), 502, {"message": "Server Error"})

    with pytest.raises(ForgeError) as failed:
        await scene.forge.comment(number, "hello")

    assert failed.value.status == 502
    assert scene.waits == []


async def test_a_limit_is_waited_for_even_by_writes(scene: Scene) -> None:
    number, _ = await scene.proposed()
    limited = {"message": "You have exceeded a secondary rate limit."}
    scene.weather.answers("POST", scene.comments(number), 429, limited, retry_after="7")
    scene.weather.answers("POST", scene.comments(number), 429, limited)

    await scene.forge.comment(number, "hello")

    assert scene.waits == [7.0, 30.0]
    assert scene.weather.count("POST", scene.comments(number)) == 3


async def test_a_long_limit_is_told_instead_of_waited_for(scene: Scene) -> None:
    number, _ = await scene.proposed()
    limited = {"message": "API rate limit exceeded"}
    scene.weather.answers("GET", scene.one(number), 429, limited, retry_after="3600")

    with pytest.raises(ForgeError) as refused:
        await scene.forge.proposal(number)

    assert refused.value.status == 429
    assert "3600 seconds" in refused.value.hint
    assert scene.waits == []


async def test_what_has_not_changed_is_answered_from_what_was_had(scene: Scene) -> None:
    number, _ = await scene.proposed()
    scene.weather.waiting.append(("GET", scene.one(number), _tagged(scene)))
    first = await scene.forge.proposal(number)
    scene.weather.answers("GET", scene.one(number), 304, None, ETag='"one"')

    again = await scene.forge.proposal(number)

    assert again == first
    assert scene.weather.asked[-1].headers["if-none-match"] == '"one"'


async def test_what_has_changed_is_not_answered_from_what_was_had(scene: Scene) -> None:
    number, _ = await scene.proposed()
    scene.weather.waiting.append(("GET", scene.one(number), _tagged(scene)))
    await scene.forge.proposal(number)
    pushed = await scene.ground.commit("task-1", {"b.txt": "b\n"}, onto="task-1")

    assert (await scene.forge.proposal(number)).head == pushed


async def test_an_answer_that_is_no_json_is_an_error_with_a_hint(scene: Scene) -> None:
    async def page(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<p>Please log in to the proxy.")

    scene.weather.waiting.append(("GET", scene.one(1), page))

    with pytest.raises(ForgeError, match="did not answer with JSON") as refused:
        await scene.forge.proposal(1)
    assert "proxy" in refused.value.hint


async def test_an_answer_of_another_shape_is_an_error(scene: Scene) -> None:
    scene.weather.answers("GET", scene.one(1), 200, {"number": "one"})

    with pytest.raises(ForgeError, match="something else than expected"):
        await scene.forge.proposal(1)


async def test_the_token_is_sent_to_the_forge_and_is_in_no_address_error_log_or_text(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    number, head = await scene.proposed()
    await scene.forge.review(number, Review(head, Decision.REVISE, "No."))
    await scene.forge.comment(number, "Words.")
    scene.weather.answers("GET", scene.one(number), 401, {"message": "Bad credentials"})

    with pytest.raises(ForgeError) as refused:
        await scene.forge.proposal(number)

    asked = scene.weather.asked
    assert all(TOKEN in request.headers["authorization"] for request in asked)
    assert not [request for request in asked if TOKEN in str(request.url)]
    assert not [request for request in asked if TOKEN.encode() in request.content]
    assert TOKEN not in f"{refused.value!r} {refused.value.hint} {refused.value.__cause__!r}"
    assert TOKEN not in caplog.text


async def test_the_token_follows_no_redirection_to_another_host(scene: Scene) -> None:
    elsewhere = "https://evil.example/here"
    scene.weather.answers("GET", scene.one(1), 302, {}, Location=elsewhere)
    scene.weather.answers("GET", "/here", 404, {"message": "Not Found"})

    with pytest.raises(ForgeError):
        await scene.forge.proposal(1)

    last = scene.weather.asked[-1]
    assert str(last.url) == elsewhere
    assert "authorization" not in last.headers


async def test_nobody_listening_is_an_error_with_a_hint(scene: Scene) -> None:
    async def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed", request=request)

    scene.weather.waiting += [("GET", scene.one(1), nobody)] * 4

    with pytest.raises(ForgeError, match="got no answer") as failed:
        await scene.forge.proposal(1)
    assert failed.value.status is None
    assert "reach it" in failed.value.hint


def _tagged(scene: Scene) -> Answer:
    """Answer as the forge does, with an ETag."""

    async def answer(request: httpx.Request) -> httpx.Response:
        response = await scene.weather.through.handle_async_request(request)
        return httpx.Response(200, content=await response.aread(), headers={"ETag": '"one"'})

    return answer


def _stale(scene: Scene, now: str, before: str) -> Answer:
    """Answer as the forge did before a push."""

    async def answer(request: httpx.Request) -> httpx.Response:
        response = await scene.weather.through.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(200, content=content.replace(now.encode(), before.encode()))

    return answer
