from __future__ import annotations

import base64
import shutil
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount


async def test_a_token_is_needed_and_says_who_one_is(app: Any, make_client: Any) -> None:
    pair = base64.b64encode(b"anyone:token-of-the-reviewer").decode()
    async with make_client(app, None) as client:
        nobody = await client.get("/user")
        wrong = await client.get("/user", headers={"Authorization": "Bearer wrong"})
        odd = await client.get("/user", headers={"Authorization": "Basic %%%"})
        basic = await client.get("/user", headers={"Authorization": f"Basic {pair}"})
        old = await client.get("/user", headers={"Authorization": "token token-of-the-author"})

    assert [nobody.status_code, wrong.status_code, odd.status_code] == [401, 401, 401]
    assert wrong.json()["message"] == "Bad credentials"
    assert (basic.json()["login"], old.json()["login"]) == ("reviewer", "author")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"nonsense"])
async def test_broken_json_is_refused(api: Any, body: bytes) -> None:
    answer = await api("POST", "/pulls", content=body)
    assert (answer.status_code, answer.json()["message"]) == (400, "Problems parsing JSON")


async def test_a_body_that_is_no_object_or_too_large_is_refused(api: Any) -> None:
    listed = await api("POST", "/pulls", content=b"[]")
    large = await api("POST", "/pulls", content=b" " * (5 * 2**20))
    assert (listed.status_code, large.status_code) == (400, 413)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/pulls/1"),
        ("GET", "/pulls/99999999999999999999"),
        ("GET", "/pulls/one"),
        ("GET", "/pulls/1/reviews"),
        ("GET", "/pulls/1/merge"),
        ("POST", "/issues/1/comments"),
        ("DELETE", "/pulls/1"),
        ("GET", "/branches/nowhere"),
        ("GET", "/git/ref/heads/nowhere"),
        ("GET", "/nothing/here"),
    ],
)
async def test_what_is_not_there_is_404_in_githubs_shape(api: Any, method: str, path: str) -> None:
    body = {"body": "x"} if method == "POST" else None
    answer = await api(method, path, json=body)
    assert answer.status_code == 404
    assert set(answer.json()) == {"message", "documentation_url", "status"}


async def test_an_unknown_repository_is_404(api: Any) -> None:
    api.path = "/repos/acme/else"
    assert (await api("GET", "/pulls")).status_code == 404


async def test_a_repository_whose_directory_is_gone_is_503(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")
    shutil.rmtree(desk.repository.git_dir)

    answer = await api("GET", "/pulls/1")

    assert answer.status_code == 503
    assert str(desk.folder) not in answer.text


async def test_lists_have_pages_and_links(desk: Any, api: Any) -> None:
    for n in range(5):
        await desk.commit(f"task-{n}", {"a.txt": f"{n}\n"}, desk.start)
        await api.opened(f"task-{n}")

    asked = {"per_page": "2", "page": "2", "state": "all", "head": ""}
    answer = await api("GET", "/pulls", params=asked)
    following = await api.client.get(answer.links["next"]["url"])

    assert [pull["number"] for pull in answer.json()] == [3, 2]
    assert set(answer.links) == {"first", "prev", "next", "last"}
    assert [pull["number"] for pull in following.json()] == [1]
    assert set(following.links) == {"first", "prev"}


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, [3, 2]),
        ({"state": "all"}, [3, 2, 1]),
        ({"state": "closed"}, [1]),
        ({"direction": "asc"}, [2, 3]),
        ({"sort": "updated", "direction": "desc"}, [2, 3]),
        ({"head": "acme:task-3"}, [3]),
        ({"head": "else:task-3"}, []),
        ({"base": "main"}, [3, 2]),
        ({"base": "else"}, []),
        ({"per_page": "x", "page": "-1"}, [3, 2]),
        ({"page": "999999999"}, []),
    ],
)
async def test_lists_are_filtered_and_sorted(
    desk: Any, api: Any, asked: dict[str, str], numbers: list[int]
) -> None:
    for n in (1, 2, 3):
        await desk.commit(f"task-{n}", {"a.txt": f"{n}\n"}, desk.start)
        await api.opened(f"task-{n}")
    await api("PATCH", "/pulls/1", json={"state": "closed"})
    await api("PATCH", "/pulls/2", json={"title": "Touched last"})

    listed = (await api("GET", "/pulls", params=asked)).json()

    assert [pull["number"] for pull in listed] == numbers


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("APPROVE", "Can not approve your own pull request"),
        ("REQUEST_CHANGES", "Can not request changes on your own pull request"),
    ],
)
async def test_nobody_judges_their_own_pull_request(
    desk: Any, api: Any, event: str, words: str
) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")

    answer = await api("POST", "/pulls/1/reviews", json={"event": event, "body": "I am good"})

    assert (answer.status_code, answer.json()["errors"]) == (422, [words])
    assert (await api("GET", "/pulls/1/reviews")).json() == []


@pytest.mark.parametrize(
    "review",
    [
        {},
        {"event": "MAYBE"},
        {"event": "COMMENT"},
        {"event": "COMMENT", "body": "x" * 65_537},
        {"event": "COMMENT", "body": "x", "commit_id": "0" * 40},
        {"event": "COMMENT", "body": "x", "commit_id": "HEAD"},
        {"event": "COMMENT", "comments": [{"path": "numbers.txt", "line": 90, "body": "x"}]},
        {"event": "COMMENT", "comments": [{"path": "README.md", "line": 1, "body": "x"}]},
        {"event": "COMMENT", "comments": [{"path": "numbers.txt", "line": "5", "body": "x"}]},
        {"event": "COMMENT", "comments": ["x"]},
        {"event": "COMMENT", "comments": {"path": "x"}},
    ],
)
async def test_a_review_that_does_not_fit_is_refused_whole(
    desk: Any, api: Any, reviewer: Any, review: dict[str, Any]
) -> None:
    await desk.commit("task", {"numbers.txt": "other\n" * 20}, desk.start)
    await api.opened("task")
    answer = await reviewer("POST", "/pulls/1/reviews", json=review)

    assert answer.status_code == 422
    assert (await api("GET", "/pulls/1/reviews")).json() == []
    assert (await api("GET", "/pulls/1/comments")).json() == []


async def test_both_sides_of_the_diff_can_be_commented(desk: Any, api: Any, reviewer: Any) -> None:
    head = await desk.commit("task", {"README.md": "# Another\nmore\n"}, desk.start)
    await api.opened("task")
    comments = [
        {"path": "README.md", "line": 2, "body": "added"},
        {"path": "README.md", "line": 1, "side": "LEFT", "body": "removed"},
    ]

    answer = await reviewer(
        "POST", "/pulls/1/reviews", json={"event": "COMMENT", "comments": comments}
    )

    assert (answer.status_code, answer.json()["commit_id"]) == (200, head)
    seen = (await api("GET", "/pulls/1/comments")).json()
    assert [(each["side"], each["line"]) for each in seen] == [("RIGHT", 2), ("LEFT", 1)]


async def test_statuses_add_up(desk: Any, api: Any) -> None:
    path = f"/statuses/{desk.start}"
    states = []
    for context, state in [("a", "pending"), ("a", "success"), ("b", "error"), ("b", "success")]:
        await api("POST", path, json={"context": context, "state": state})
        combined = (await api("GET", "/commits/main/status")).json()
        states.append((combined["state"], combined["total_count"]))

    assert states == [("pending", 1), ("success", 1), ("failure", 2), ("success", 2)]
    every = (await api("GET", f"/commits/{desk.start}/statuses")).json()
    assert [each["context"] for each in every] == ["b", "b", "a", "a"]


@pytest.mark.parametrize(
    ("commit", "body"),
    [
        ("0" * 40, {"state": "success"}),
        ("main", {"state": "success"}),
        ("start", {"state": "great"}),
        ("start", {"state": "success", "description": "x" * 141}),
    ],
)
async def test_a_status_that_does_not_fit_is_refused(
    desk: Any, api: Any, commit: str, body: dict[str, str]
) -> None:
    name = desk.start if commit == "start" else commit
    assert (await api("POST", f"/statuses/{name}", json=body)).status_code == 422


async def test_branches_can_be_read_and_deleted_but_not_the_default_one(
    desk: Any, api: Any
) -> None:
    head = await desk.commit("feature/one", {"a.txt": "a\n"}, desk.start)

    reference = (await api("GET", "/git/ref/heads/feature/one")).json()
    branch = (await api("GET", "/branches/feature/one")).json()
    answers = [
        await api("DELETE", f"/git/refs/heads/{name}")
        for name in ("feature", "feature/one", "feature/one", "main")
    ]

    assert reference["object"]["sha"] == branch["commit"]["sha"] == head
    assert [answer.status_code for answer in answers] == [422, 204, 422, 422]
    assert answers[2].json()["message"] == "Reference does not exist"
    assert [each["name"] for each in (await api("GET", "/branches")).json()] == ["main"]


async def test_links_follow_where_the_hub_is_mounted(desk: Any, app: Any, make_client: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    outer = Starlette(routes=[Mount("/hub", app)])
    async with make_client(outer, root="http://127.0.0.1:8001/hub") as client:
        made = await client.post(
            "/repos/acme/project/pulls", json={"title": "t", "head": "task", "base": "main"}
        )
        listed = await client.get("/repos/acme/project/pulls?state=all&per_page=1&page=2")
        page = await client.get(made.json()["html_url"])
        again = await client.get(made.json()["url"])
        diff = await client.get(made.json()["diff_url"])

    assert made.json()["html_url"] == "http://127.0.0.1:8001/hub/acme/project/pull/1"
    assert listed.links["first"]["url"].startswith("http://127.0.0.1:8001/hub/repos/acme")
    assert [page.status_code, again.status_code, diff.status_code] == [200, 200, 200]
