"""The GitLab adapter against a stand-in that lives by that forge's rules."""

from __future__ import annotations

import pytest

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import (
    CheckState,
    Decision,
    ExternalCheck,
    Issue,
    ProposalState,
    Protection,
    Review,
    StatusState,
    Way,
)
from commandcenter.forges.gitlab import inert
from commandcenter.testing.forges import ForgeSuite
from commandcenter.testing.gitlab_server import PAGE_MAX, GitLabGround, GitLabServer
from commandcenter.testing.weather import Scene


@pytest.fixture
def ground(gitlab_ground: GitLabGround) -> GitLabGround:
    return gitlab_ground


class TestGitLab(ForgeSuite):
    """The whole suite, over HTTP."""

    page_entries = PAGE_MAX


async def _proposed(
    ground: GitLabGround, *, title: str = "A task", body: str = "Words."
) -> tuple[int, str]:
    head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    made = await ground.forge.propose(
        head_branch="task-1", base_branch="main", title=title, body=body
    )
    return made.number, head


async def test_the_forge_itself_would_open_a_merge_request_without_a_change(
    ground: GitLabGround,
) -> None:
    main = await ground.tip("main")
    assert main is not None
    await ground.push("task-1", main)

    answer = await ground.client.post(
        "merge_requests",
        json={"source_branch": "task-1", "target_branch": "main", "title": "Nothing"},
    )

    assert answer.status_code == 201


async def test_the_forge_itself_does_what_a_line_of_a_note_orders(ground: GitLabGround) -> None:
    number, _ = await _proposed(ground)

    await ground.client.post(f"merge_requests/{number}/notes", json={"body": "So:\n/close\n"})

    assert (await ground.forge.proposal(number)).state is ProposalState.CLOSED


@pytest.mark.parametrize(
    "order", ["/close", "Words.\n/close now", "A\r/close", "/\rclose", " /close"]
)
async def test_no_words_of_an_agent_are_an_order(ground: GitLabGround, order: str) -> None:
    number, head = await _proposed(ground, body=order)
    issue = Issue(order, file="a.txt", line=1, suggestion=order)

    await ground.forge.comment(number, order)
    await ground.reviewer.review(number, Review(head, Decision.REVISE, order, (issue,), order))

    assert (await ground.forge.proposal(number)).state is ProposalState.OPEN
    assert len(await ground.comments(number)) == 1


def test_what_is_no_order_is_left_as_it_is() -> None:
    words = "a/b, // and\n- /close\n> /etc\n1/2"
    assert inert(words) == words


async def test_a_comment_on_an_unchanged_line_says_where_that_line_was(
    ground: GitLabGround,
) -> None:
    numbers = "".join(f"line {n}\n" for n in range(1, 101))
    changed = "line 0\n" + numbers.replace("line 50\n", "line fifty\n")
    head = await ground.commit("task-1", {"numbers.txt": changed}, onto="main")
    made = await ground.forge.propose(
        head_branch="task-1", base_branch="main", title="A task", body=""
    )
    issues = (Issue("kept", file="numbers.txt", line=52), Issue("new", file="numbers.txt", line=51))

    await ground.reviewer.review(made.number, Review(head, Decision.REVISE, "Look.", issues))

    remarks = await ground.line_comments(made.number)
    assert [(remark.path, remark.line) for remark in remarks] == [
        ("numbers.txt", 52),
        ("numbers.txt", 51),
    ]


async def test_another_verdict_withdraws_the_approval(ground: GitLabGround) -> None:
    number, head = await _proposed(ground)
    await ground.reviewer.review(number, Review(head, Decision.APPROVE, "Good."))

    await ground.reviewer.review(number, Review(head, Decision.REVISE, "On second thought."))

    assert [review.state for review in await ground.reviews(number)] == ["COMMENTED"] * 2
    assert (await ground.statuses(head))["commandcenter/review"].state == "failure"


async def test_an_approval_of_an_older_head_approves_nothing(ground: GitLabGround) -> None:
    number, reviewed = await _proposed(ground)
    await ground.commit("task-1", {"a.txt": "sneaked in\n"}, onto="task-1")

    published = await ground.reviewer.review(number, Review(reviewed, Decision.APPROVE, "Good."))

    assert published == "comment"
    [seen] = await ground.reviews(number)
    assert seen.state == "COMMENTED"


async def test_a_push_between_the_look_and_the_approval_is_not_approved(
    ground: GitLabGround, gitlab_reviewer: Scene
) -> None:
    number, reviewed = await _proposed(ground)
    await ground.commit("task-1", {"a.txt": "sneaked in\n"}, onto="task-1")
    weather = gitlab_reviewer.weather
    weather.changes("GET", gitlab_reviewer.one(number), sha=reviewed)

    published = await gitlab_reviewer.forge.review(
        number, Review(reviewed, Decision.APPROVE, "Good.")
    )

    assert published == "comment"
    assert weather.count("POST", "/approve") == 1
    assert [review.state for review in await ground.reviews(number)] == ["COMMENTED"]


async def test_who_may_not_approve_says_so_in_a_note_and_the_status(
    ground: GitLabGround, gitlab: GitLabServer
) -> None:
    gitlab.approvers = frozenset({"somebody-else"})
    number, head = await _proposed(ground)

    published = await ground.reviewer.review(number, Review(head, Decision.APPROVE, "Good."))

    assert published == "comment"
    assert (await ground.statuses(head))["commandcenter/review"].state == "success"


async def test_a_review_that_was_cut_off_is_completed_and_nothing_said_twice(
    ground: GitLabGround, gitlab_reviewer: Scene
) -> None:
    number, head = await _proposed(ground)
    issue = Issue("wrong", file="a.txt", line=1)
    review = Review(head, Decision.REVISE, "Look.", (issue,))
    gitlab_reviewer.weather.answers("POST", "/notes", 502, {"message": "Bad Gateway"})

    with pytest.raises(ForgeError):
        await gitlab_reviewer.forge.review(number, review)
    await gitlab_reviewer.forge.review(number, review)

    assert len(await ground.line_comments(number)) == 1
    assert len(await ground.reviews(number)) == 1


async def test_a_refused_line_comment_goes_into_the_summary(
    ground: GitLabGround, gitlab_reviewer: Scene
) -> None:
    number, head = await _proposed(ground)
    refused = {"message": '400 Bad request - Note {:line_code=>["can\'t be blank"]}'}
    gitlab_reviewer.weather.answers("POST", "/discussions", 400, refused)
    issue = Issue("wrong", file="a.txt", line=1)

    await gitlab_reviewer.forge.review(number, Review(head, Decision.REVISE, "Look.", (issue,)))

    [seen] = await ground.reviews(number)
    assert "`a.txt:1`: wrong" in seen.body
    assert await ground.line_comments(number) == []


async def test_a_merge_request_that_never_gets_a_head_is_still_listed(
    ground: GitLabGround, gitlab_reviewer: Scene
) -> None:
    number, _ = await _proposed(ground)
    shown = (await ground.client.get("merge_requests")).json()
    headless = [each | {"sha": None, "diff_refs": None} for each in shown]
    gitlab_reviewer.weather.answers("GET", "/merge_requests", 200, headless)

    [listed] = await gitlab_reviewer.forge.proposals()

    assert (listed.number, listed.head) == (number, "")


async def test_what_is_pending_can_be_made_pending_again(ground: GitLabGround) -> None:
    _, head = await _proposed(ground)

    for _ in range(2):
        await ground.forge.set_status(
            head, context="checks", state=StatusState.PENDING, description="They run."
        )

    assert (await ground.statuses(head))["checks"].state == "pending"


async def test_a_status_of_a_commit_that_is_nowhere_is_refused(ground: GitLabGround) -> None:
    with pytest.raises(ForgeError) as refused:
        await ground.forge.set_status(
            "0" * 40, context="checks", state=StatusState.SUCCESS, description=""
        )
    assert refused.value.refusal is Refusal.ABSENT


async def test_a_draft_does_not_merge_and_it_is_said_why(ground: GitLabGround) -> None:
    number, head = await _proposed(ground, title="Draft: not yet")

    with pytest.raises(ForgeError, match="draft_status") as refused:
        await ground.forge.merge(number, head=head)
    assert refused.value.refusal is Refusal.UNMERGEABLE


async def test_a_project_whose_pipelines_must_succeed_requires_all_jobs(
    gitlab: GitLabServer, gitlab_ground: GitLabGround
) -> None:
    gitlab.pipeline_must_succeed = True

    assert await gitlab_ground.forge.protection("main") == Protection(some=True)


@pytest.mark.parametrize(
    ("levels", "way"),
    [
        ([{"access_level": 30}], Way.PUSH),
        ([{"access_level": 40}], Way.MERGE),
        ([{"access_level": 0}], Way.MERGE),
        ([{"access_level": 0}, {"access_level": 40, "user_id": 3}], Way.PUSH),
    ],
)
async def test_a_protected_branch_takes_a_push_of_who_may(
    gitlab: GitLabServer, gitlab_ground: GitLabGround, levels: list[dict[str, int]], way: Way
) -> None:
    gitlab.push_levels["release/1"] = levels

    assert (await gitlab_ground.forge.protection("release/1")).way is way


@pytest.mark.parametrize(
    ("status", "allow_failure", "state"),
    [
        ("success", False, CheckState.PASSED),
        ("skipped", False, CheckState.PASSED),
        ("failed", True, CheckState.PASSED),
        ("manual", True, CheckState.PASSED),
        ("manual", False, CheckState.PENDING),
        ("running", False, CheckState.PENDING),
        ("failed", False, CheckState.FAILED),
        ("canceled", False, CheckState.FAILED),
    ],
)
async def test_a_job_passed_failed_or_is_waited_for(
    gitlab: GitLabServer,
    gitlab_ground: GitLabGround,
    status: str,
    allow_failure: bool,
    state: CheckState,
) -> None:
    head = await gitlab_ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    gitlab.run_job(head, "build", status, allow_failure=allow_failure)

    [check] = await gitlab_ground.forge.external_checks(1, head)

    assert (check.name, check.state) == ("build", state)


async def test_failed_jobs_are_run_again_and_reported_statuses_are_not(
    gitlab: GitLabServer, gitlab_ground: GitLabGround
) -> None:
    head = await gitlab_ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    made = await gitlab_ground.forge.propose(
        head_branch="task-1", base_branch="main", title="T", body="B"
    )
    gitlab.run_job(head, "build", "failed", "exit code 1")
    await gitlab_ground.report(head, "ci/other", StatusState.FAILURE)
    failed = await gitlab_ground.forge.external_checks(made.number, head)

    asked = await gitlab_ground.forge.rerun(made.number, failed)
    now = {each.name: each for each in await gitlab_ground.forge.external_checks(1, head)}

    assert list(asked) == ["build"]
    assert now["build"].state is CheckState.PENDING
    assert now["ci/other"].state is CheckState.FAILED


async def test_a_commit_without_a_pipeline_has_nothing_to_run_again(
    gitlab_ground: GitLabGround,
) -> None:
    await gitlab_ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    made = await gitlab_ground.forge.propose(
        head_branch="task-1", base_branch="main", title="T", body="B"
    )
    failed = ExternalCheck("build", CheckState.FAILED, "1")

    assert list(await gitlab_ground.forge.rerun(made.number, [failed])) == []
