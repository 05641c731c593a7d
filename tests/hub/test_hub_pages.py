from __future__ import annotations

import re
from typing import Any

EVIL = "<script>alert('x')</script>\"'&"


async def test_the_page_shows_everything_and_runs_nothing(
    desk: Any, api: Any, reviewer: Any, app: Any, make_client: Any
) -> None:
    head = await desk.commit("ta'sk<b>", {"<i>.txt": f"{EVIL}\n"}, desk.start)
    await api.opened("ta'sk<b>", title=f"Title {EVIL}", body=f"Body {EVIL}")
    comments = [{"path": "<i>.txt", "line": 1, "body": f"Line {EVIL}"}]
    review = {"event": "APPROVE", "body": f"Review {EVIL}", "comments": comments}
    await reviewer("POST", "/pulls/1/reviews", json=review)
    await api("POST", "/issues/1/comments", json={"body": f"Comment {EVIL}"})
    status = {"state": "success", "context": f"c{EVIL}", "description": f"Status {EVIL}"}
    await api("POST", f"/statuses/{head}", json=status)

    async with make_client(app, None, "http://127.0.0.1:8001") as client:
        page = await client.get("/acme/project/pull/1")
        pages = await client.get("/acme/project/pulls")

    for word in ("Title", "Body", "Review", "Line", "Comment", "Status", "open", "approved"):
        assert word in page.text
    assert "class='add'>+&lt;script&gt;" in page.text
    for text in (page.text, pages.text):
        assert not re.search(r"<(script|b|i|img)\b", text)
        assert "Title &lt;script&gt;" in text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_an_ended_pull_request_says_how_it_ended(
    desk: Any, api: Any, app: Any, make_client: Any
) -> None:
    for branch in ("one", "two"):
        await desk.commit(branch, {f"{branch}.txt": "x\n"}, desk.start)
        await api.opened(branch)
    await api("PUT", "/pulls/1/merge", json={})
    await api("PATCH", "/pulls/2", json={"state": "closed"})

    async with make_client(app, None, "http://localhost") as client:
        pages = [(await client.get(f"/acme/project/pull/{n}")).text for n in (1, 2)]

    assert "<strong class=merged>merged</strong>" in pages[0]
    assert "<strong class=closed>closed</strong>" in pages[1]
    assert "one.txt" in pages[0]


async def test_a_page_asked_for_by_another_name_than_loopback_needs_the_token(
    app: Any, make_client: Any
) -> None:
    async with make_client(app, None, "http://rebound.example") as client:
        refused = await client.get("/acme/project/pulls")
        allowed = await client.get("/acme/project/pulls", auth=("", "token-of-the-author"))

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert allowed.status_code == 200


async def test_the_index_leads_to_the_repositories_that_have_pull_requests(
    desk: Any, api: Any, app: Any, make_client: Any
) -> None:
    async with make_client(app, None, "http://127.0.0.1:8001") as client:
        before = await client.get("/")
        await desk.commit("one", {"one.txt": "x\n"}, desk.start)
        await api.opened("one")
        after = await client.get("/")

    assert "no pull requests yet" in before.text
    assert "href='http://127.0.0.1:8001/acme/project/pulls'" in after.text
