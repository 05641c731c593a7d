"""GitHub's rules and check runs, which the hub has not: seen by the adapter, and run again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from commandcenter.core.forge import (
    CheckState,
    ExternalCheck,
    Forge,
    Protection,
    StatusState,
    Way,
)
from commandcenter.testing.forges import BareGround
from commandcenter.testing.github_server import GitHubServer, required_checks, rule
from commandcenter.testing.weather import Scene


@dataclass
class Site:
    server: GitHubServer
    ground: BareGround
    head: str
    number: int

    @property
    def forge(self) -> Forge:
        return self.ground.forge

    async def checks(self) -> list[ExternalCheck]:
        return [*await self.forge.external_checks(self.number, self.head)]

    async def states(self) -> dict[str, CheckState]:
        return {each.name: each.state for each in await self.checks()}


@pytest.fixture
async def site(github: GitHubServer, github_ground: BareGround) -> Site:
    return await proposed(github, github_ground)


async def proposed(github: GitHubServer, github_ground: BareGround) -> Site:
    head = await github_ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    made = await github_ground.forge.propose(
        head_branch="task-1", base_branch="main", title="T", body="B"
    )
    return Site(github, github_ground, head, made.number)


@pytest.fixture
async def bare(github: GitHubServer, github_bare_ground: BareGround) -> Site:
    return await proposed(github, github_bare_ground)


async def test_rules_and_a_protected_branch_demand_their_checks_together(site: Site) -> None:
    await site.ground.require("main", "ci/build")
    site.server.rules = [required_checks("ci/test", "ci/build"), rule("deletion")]

    protection = await site.forge.protection("main")

    assert protection == Protection(("ci/build", "ci/test"), way=Way.MERGE)


@pytest.mark.parametrize(
    ("kind", "parameters", "way"),
    [
        ("deletion", {}, Way.PUSH),
        ("non_fast_forward", {}, Way.PUSH),
        (
            "pull_request",
            {
                "dismiss_stale_reviews_on_push": False,
                "require_code_owner_review": False,
                "require_last_push_approval": False,
                "required_approving_review_count": 0,
                "required_review_thread_resolution": False,
            },
            Way.MERGE,
        ),
    ],
)
async def test_a_rule_says_whether_the_branch_takes_a_push(
    site: Site, kind: str, parameters: dict[str, object], way: Way
) -> None:
    site.server.rules = [rule(kind, **parameters)]

    assert await site.forge.protection("main") == Protection(way=way)


async def test_an_account_without_rules_has_none(github_scene: Scene) -> None:
    words = "Upgrade to GitHub Pro or make this repository public to enable this feature."
    github_scene.weather.answers("GET", "/rules/branches/main", 403, {"message": words})

    assert await github_scene.forge.protection("main") == Protection()


@pytest.mark.parametrize(
    ("conclusion", "state"),
    [
        (None, CheckState.PENDING),
        ("action_required", CheckState.PENDING),
        ("success", CheckState.PASSED),
        ("neutral", CheckState.PASSED),
        ("skipped", CheckState.PASSED),
        ("failure", CheckState.FAILED),
        ("cancelled", CheckState.FAILED),
        ("timed_out", CheckState.FAILED),
    ],
)
async def test_a_check_run_passed_failed_or_is_waited_for(
    site: Site, conclusion: str | None, state: CheckState
) -> None:
    site.server.check_run(site.head, "build", conclusion)

    assert await site.states() == {"build": state}


async def test_check_runs_and_statuses_are_shown_together_and_all_of_them(site: Site) -> None:
    for number in range(101):
        site.server.check_run(site.head, f"job-{number}", "success")
    site.server.check_run(site.head, "commandcenter/checks", "success")
    await site.ground.report(site.head, "ci/build", StatusState.FAILURE, "broken")

    states = await site.states()

    assert len(states) == 102
    assert states["ci/build"] is CheckState.FAILED


async def test_what_a_check_run_says_and_where_is_told(site: Site) -> None:
    site.server.check_run(site.head, "build", "failure", words="2 tests failed")

    [check] = await site.checks()

    assert (check.summary, check.url) == (
        "2 tests failed",
        "https://github.example/acme/project/runs/1",
    )


@pytest.mark.parametrize("workflow", [None, 77])
async def test_a_failed_check_run_is_run_again(site: Site, workflow: int | None) -> None:
    site.server.check_run(site.head, "build", "failure", workflow=workflow)
    site.server.check_run(site.head, "test", "failure", workflow=workflow)
    failed = await site.checks()

    asked = await site.forge.rerun(site.number, failed)
    again = await site.checks()

    assert list(asked) == ["build", "test"]
    assert {each.state for each in again} == {CheckState.PENDING}
    assert {each.run for each in again}.isdisjoint(each.run for each in failed)


async def test_a_token_that_may_not_read_check_runs_sees_the_jobs_of_actions(
    bare: Site,
) -> None:
    bare.server.shows_checks = False
    bare.server.check_run(bare.head, "build", "failure", workflow=77)
    bare.server.check_run(bare.head, "test", "success", workflow=78)
    bare.server.check_run(bare.head, "other app", "success")
    failed = [each for each in await bare.checks() if each.state is CheckState.FAILED]

    asked = await bare.forge.rerun(bare.number, failed)

    assert list(asked) == ["build"]
    assert await bare.states() == {"build": CheckState.PENDING, "test": CheckState.PASSED}


async def test_what_the_forge_does_not_run_again_is_not_said_to(site: Site) -> None:
    site.server.takes_reruns = False
    site.server.check_run(site.head, "build", "failure")
    await site.ground.report(site.head, "ci/build", StatusState.FAILURE)

    assert list(await site.forge.rerun(site.number, await site.checks())) == []
