"""Branches of the hub that require checks: set by GitHub's call, and kept to at a merge."""

from __future__ import annotations

from typing import Any

import pytest

BUILD = {
    "required_status_checks": {"strict": False, "contexts": ["ci/build"]},
    "enforce_admins": None,
    "required_pull_request_reviews": None,
    "restrictions": None,
}
PROTECTION = "/branches/main/protection"


async def post(api: Any, commit: str, state: str, context: str = "ci/build") -> None:
    answer = await api("POST", f"/statuses/{commit}", json={"state": state, "context": context})
    assert answer.status_code == 201


async def test_a_branch_tells_what_it_requires_until_it_is_protected_no_more(api: Any) -> None:
    before = await api("GET", PROTECTION)
    put = await api("PUT", PROTECTION, json=BUILD)
    told = await api("GET", PROTECTION)
    branch = (await api("GET", "/branches/main")).json()
    [listed] = (await api("GET", "/branches")).json()
    gone = await api("DELETE", PROTECTION)
    again = await api("DELETE", PROTECTION)
    free = (await api("GET", "/branches/main")).json()

    assert (before.status_code, before.json()["message"]) == (404, "Branch not protected")
    assert put.json() == told.json()
    assert told.json()["required_status_checks"]["contexts"] == ["ci/build"]
    assert branch["protection"]["required_status_checks"]["contexts"] == ["ci/build"]
    assert (branch["protected"], listed["protected"], free["protected"]) == (True, True, False)
    assert (gone.status_code, again.status_code) == (204, 404)


async def test_the_newest_protection_counts(api: Any) -> None:
    await api("PUT", PROTECTION, json=BUILD)
    checks = {"strict": False, "checks": [{"context": "ci/test", "app_id": 7}], "contexts": []}

    await api("PUT", PROTECTION, json=BUILD | {"required_status_checks": checks})

    told = (await api("GET", PROTECTION)).json()
    assert told["required_status_checks"]["contexts"] == ["ci/test"]


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"required_status_checks": {"strict": True, "contexts": []}}, 422),
        ({"required_status_checks": {"strict": False, "contexts": [7]}}, 422),
        ({"required_status_checks": {"strict": False, "contexts": "ci"}}, 422),
        ({"required_pull_request_reviews": {}}, 422),
        ({"restrictions": {"users": [], "teams": []}}, 422),
    ],
)
async def test_what_the_hub_would_not_keep_to_is_refused(
    api: Any, wanted: dict[str, Any], status: int
) -> None:
    answer = await api("PUT", PROTECTION, json=BUILD | wanted)

    assert answer.status_code == status
    assert (await api("GET", PROTECTION)).status_code == 404


async def test_a_branch_that_is_not_there_cannot_be_protected(api: Any) -> None:
    answer = await api("PUT", "/branches/none/at/all/protection", json=BUILD)

    assert answer.status_code == 404


async def test_nothing_merges_before_its_required_check_passed(api: Any, desk: Any) -> None:
    head = await desk.commit("task", {"a.txt": "a\n"}, "main")
    number = (await api.opened("task"))["number"]
    await api("PUT", PROTECTION, json=BUILD)

    expected = await api("PUT", f"/pulls/{number}/merge")
    await post(api, head, "success", "another")
    await post(api, head, "failure")
    failing = await api("PUT", f"/pulls/{number}/merge")
    await post(api, head, "success")
    merged = await api("PUT", f"/pulls/{number}/merge")

    assert (expected.status_code, failing.status_code) == (405, 405)
    assert expected.json()["message"] == 'Required status check "ci/build" is expected.'
    assert failing.json()["message"] == 'Required status check "ci/build" is failing.'
    assert merged.status_code == 200


async def test_a_check_of_an_older_commit_does_not_count(api: Any, desk: Any) -> None:
    first = await desk.commit("task", {"a.txt": "a\n"}, "main")
    number = (await api.opened("task"))["number"]
    await api("PUT", PROTECTION, json=BUILD)
    await post(api, first, "success")
    await desk.commit("task", {"b.txt": "b\n"}, first)

    refused = await api("PUT", f"/pulls/{number}/merge")

    assert refused.status_code == 405


async def test_a_draft_is_made_ready_by_a_call_of_the_hubs_own(api: Any, desk: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, "main")
    number = (await api.opened("task", draft=True))["number"]

    draft = await api("PUT", f"/pulls/{number}/merge")
    ready = await api("PATCH", f"/pulls/{number}", json={"draft": False})
    odd = await api("PATCH", f"/pulls/{number}", json={"draft": "no"})
    merged = await api("PUT", f"/pulls/{number}/merge")

    assert (draft.status_code, ready.json()["draft"]) == (405, False)
    assert (odd.status_code, merged.status_code) == (422, 200)


async def test_the_hub_knows_no_rules_and_no_check_runs(api: Any, desk: Any) -> None:
    rules = await api("GET", "/rules/branches/main")
    runs = await api("GET", f"/commits/{desk.start}/check-runs")
    nothing = await api("GET", f"/commits/{'0' * 40}/check-runs")

    assert (rules.json(), runs.json()) == ([], {"total_count": 0, "check_runs": []})
    assert nothing.status_code == 422
