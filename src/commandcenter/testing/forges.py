"""One behavioural suite that every forge adapter passes, over HTTP, and the ground it stands on.

Subclass `ForgeSuite` in a test module that has a fixture `ground`:

    class TestGitHubOnTheHub(ForgeSuite):
        \"\"\"The adapter against the embedded forge.\"\"\"
"""

# ruff: noqa: D102 - the name of a test is its promise

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.external_checks import Clear, Demand, Rerun, Seen, Step, Wait, next_step
from commandcenter.core.forge import (
    CheckState,
    Decision,
    Forge,
    Issue,
    Proposal,
    ProposalState,
    Protection,
    Review,
    Severity,
    StatusState,
)
from commandcenter.core.merge_queue import Strategy
from commandcenter.system.git import Git

_WHO = "Somebody <somebody@example.invalid>"
_FIRST_COMMIT_S = 1_700_000_000


@dataclass(frozen=True)
class SeenReview:
    """A review as the forge shows it to others."""

    author: str
    state: str
    commit: str
    body: str


@dataclass(frozen=True)
class SeenLineComment:
    """A comment on a line as the forge shows it to others."""

    path: str
    line: int
    body: str


@dataclass(frozen=True)
class SeenStatus:
    """The newest status of a context as the forge shows it to others."""

    state: str
    description: str


class Ground(Protocol):
    """A repository on a forge with a branch `main`, and eyes that do not belong to the adapter."""

    forge: Forge
    """The adapter as the author."""
    reviewer: Forge
    """The adapter as somebody else."""
    stranger: Forge
    """The adapter with a token that is wrong."""

    async def commit(
        self, branch: str, files: Mapping[str, str], *, onto: str, message: str = "A change"
    ) -> str:
        """Push a commit that writes these files on top of a branch or commit; return its id."""

    async def push(self, branch: str, commit: str) -> None:
        """Push a commit to a branch, by force."""

    async def tip(self, branch: str) -> str | None:
        """Return where a branch is."""

    async def merged(self, base: str, head: str) -> str:
        """Push to `base` a merge commit of both branches; return its id."""

    async def contains(self, branch: str, commit: str) -> bool:
        """Say whether the branch contains the commit."""

    async def reviews(self, number: int) -> list[SeenReview]:
        """Return the reviews, oldest first."""

    async def line_comments(self, number: int) -> list[SeenLineComment]:
        """Return the line comments, oldest first."""

    async def comments(self, number: int) -> list[str]:
        """Return the conversation, oldest first."""

    async def statuses(self, commit: str) -> dict[str, SeenStatus]:
        """Return the newest status of each context."""

    async def require(self, branch: str, check: str) -> None:
        """Have the forge require a check of what is merged into a branch."""

    async def report(self, commit: str, check: str, state: StatusState, words: str = "") -> None:
        """Report how a check went, as somebody's CI does, from `https://ci.example/CHECK`."""


@dataclass(frozen=True)
class GitGround:
    """The half of a ground that is git: a bare repository on this disk."""

    forge: Forge
    reviewer: Forge
    stranger: Forge
    git_dir: Path
    client: httpx.AsyncClient
    """Calls the API of the repository: its base URL is that of the repository, with a slash."""
    git: Git

    async def commit(
        self, branch: str, files: Mapping[str, str], *, onto: str, message: str = "A change"
    ) -> str:
        """Push a commit that writes these files on top of a branch or commit; return its id."""
        parent = await self.tip(onto) or onto
        return await write_commit(self.git, self.git_dir, branch, files, message, parent)

    async def push(self, branch: str, commit: str) -> None:
        """Push a commit to a branch, by force."""
        await self.git.run("update-ref", f"refs/heads/{branch}", commit, git_dir=self.git_dir)

    async def tip(self, branch: str) -> str | None:
        """Return where a branch is."""
        ref = f"refs/heads/{branch}"
        found = await self.git.run(
            "for-each-ref", "--format=%(objectname)", ref, git_dir=self.git_dir
        )
        return found.text or None

    async def merged(self, base: str, head: str) -> str:
        """Push to `base` a merge commit of both branches; return its id."""
        ours, theirs = await self.tip(base), await self.tip(head)
        assert ours is not None
        assert theirs is not None
        tree = await self._plumb("merge-tree", "--write-tree", ours, theirs)
        commit = await self._plumb("commit-tree", tree, "-p", ours, "-p", theirs, "-m", "Merge")
        await self.push(base, commit)
        return commit

    async def contains(self, branch: str, commit: str) -> bool:
        """Say whether the branch contains the commit."""
        args = ("merge-base", "--is-ancestor", commit, f"refs/heads/{branch}")
        return (await self.git.run(*args, git_dir=self.git_dir, check=False)).exit_code == 0

    async def listed(self, path: str, **asked: str) -> list[dict[str, Any]]:  # Any: JSON
        """Return what the forge lists under a path of the repository."""
        answer = await self.client.get(path, params={"per_page": "100", **asked})
        listed: list[dict[str, Any]] = answer.raise_for_status().json()
        return listed

    async def _plumb(self, *args: str) -> str:
        environment = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "Somebody"), ("EMAIL", "somebody@example.invalid"))
        }
        done = await self.git.run(*args, git_dir=self.git_dir, environment=environment)
        return done.text


@dataclass(frozen=True)
class BareGround(GitGround):
    """A ground that is seen through GitHub's REST dialect."""

    async def reviews(self, number: int) -> list[SeenReview]:
        """Return the reviews, oldest first."""
        return [
            SeenReview(each["user"]["login"], each["state"], each["commit_id"], each["body"])
            for each in await self.listed(f"pulls/{number}/reviews")
        ]

    async def line_comments(self, number: int) -> list[SeenLineComment]:
        """Return the line comments, oldest first."""
        return [
            SeenLineComment(each["path"], each["line"], each["body"])
            for each in await self.listed(f"pulls/{number}/comments")
        ]

    async def comments(self, number: int) -> list[str]:
        """Return the conversation, oldest first."""
        return [each["body"] for each in await self.listed(f"issues/{number}/comments")]

    async def statuses(self, commit: str) -> dict[str, SeenStatus]:
        """Return the newest status of each context."""
        answer = await self.client.get(f"commits/{commit}/status")
        return {
            each["context"]: SeenStatus(each["state"], each["description"] or "")
            for each in answer.raise_for_status().json()["statuses"]
        }

    async def require(self, branch: str, check: str) -> None:
        """Have the forge require a check of what is merged into a branch."""
        wanted = {
            "required_status_checks": {"strict": False, "contexts": [check]},
            **dict.fromkeys(("enforce_admins", "required_pull_request_reviews", "restrictions")),
        }
        answer = await self.client.put(f"branches/{branch}/protection", json=wanted)
        answer.raise_for_status()

    async def report(self, commit: str, check: str, state: StatusState, words: str = "") -> None:
        """Report how a check went, as somebody's CI does, from `https://ci.example/CHECK`."""
        body = {"context": check, "state": state.value, "description": words}
        told = body | {"target_url": f"https://ci.example/{check}"}
        (await self.client.post(f"statuses/{commit}", json=told)).raise_for_status()


async def make_bare(git: Git, git_dir: Path) -> str:
    """Make a bare repository with one commit on `main`; return its id."""
    await git.run("init", "--quiet", "--bare", "-b", "main", str(git_dir), git_dir=None)
    return await write_commit(
        git, git_dir, "main", {"README.md": "# A project\n", "numbers.txt": _NUMBERS}, "Start", None
    )


async def write_commit(
    git: Git,
    git_dir: Path,
    branch: str,
    files: Mapping[str, str],
    message: str,
    parent: str | None,
    *,
    force: bool = True,
) -> str:
    """Write a commit of these files on top of `parent`, move the branch to it, return its id.

    Raises:
        GitError: the branch has moved on from `parent`, and `force` is not given.
    """
    lines = [f"commit refs/heads/{branch}".encode(), b"mark :1"]
    lines += [f"committer {_WHO} {_FIRST_COMMIT_S} +0000".encode(), _data(message)]
    lines += [f"from {parent}".encode()] if parent else []
    for path, content in files.items():
        lines += [f"M 100644 inline {path}".encode(), _data(content)]
    stream = b"\n".join([*lines, b"", b"get-mark :1", b""])
    options = ("--quiet", "--force") if force else ("--quiet",)
    made = await git.run("fast-import", *options, git_dir=git_dir, stdin=stream)
    return made.text


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a loopback port of its own; give the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # asyncio does this only for sockets whose protocol is named; without it, each answer with
        # a body waits 40 ms for the client's delayed acknowledgement of the headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.up.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.down.set()
            await serving


class _Server(uvicorn.Server):
    """A server that says when it is up, ends at once when told, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.down = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """Wait for the end instead of looking ten times a second."""
        await self.down.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:  # Any: a context manager's generator
        """Leave signals to the test runner."""
        yield


class ForgeSuite:
    """What any forge adapter must do. See `Ground` for what the fixture gives."""

    page_entries = 100
    """Entries of the longest page that the forge gives."""

    async def test_a_proposal_carries_all_it_was_given(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")

        proposal = await _propose(ground, "task-1", title="Add a", body="It adds a.")

        assert (proposal.title, proposal.body) == ("Add a", "It adds a.")
        assert (proposal.head_branch, proposal.base_branch) == ("task-1", "main")
        assert (proposal.head, proposal.state) == (head, ProposalState.OPEN)
        assert proposal.url.startswith("http")
        assert proposal == await ground.forge.proposal(proposal.number)

    async def test_proposing_twice_gives_the_same_proposal(self, ground: Ground) -> None:
        await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")

        first = await _propose(ground, "task-1")
        second = await _propose(ground, "task-1")

        assert first == second
        assert len(await ground.forge.proposals()) == 1

    async def test_proposing_again_updates_title_and_body(self, ground: Ground) -> None:
        await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        first = await _propose(ground, "task-1", title="One", body="one")

        await _propose(ground, "task-1", title="Two", body="two")

        now = await ground.forge.proposal(first.number)
        assert (now.title, now.body) == ("Two", "two")

    async def test_parallel_proposing_gives_one_proposal(self, ground: Ground) -> None:
        await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")

        made = await asyncio.gather(*(_propose(ground, "task-1") for _ in range(4)))

        assert len({proposal.number for proposal in made}) == 1

    async def test_parallel_proposals_of_different_branches_get_different_numbers(
        self, ground: Ground
    ) -> None:
        branches = [f"task-{n}" for n in range(8)]
        for branch in branches:
            await ground.commit(branch, {f"{branch}.txt": "x\n"}, onto="main")

        made = await asyncio.gather(*(_propose(ground, branch) for branch in branches))

        assert len({proposal.number for proposal in made}) == len(branches)
        assert [proposal.head_branch for proposal in made] == branches

    async def test_a_closed_proposal_is_not_used_again(self, ground: Ground) -> None:
        await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        first = await _propose(ground, "task-1")
        await ground.forge.close(first.number)

        second = await _propose(ground, "task-1")

        assert second.number != first.number
        assert (await ground.forge.proposal(first.number)).state is ProposalState.CLOSED

    async def test_a_merged_proposal_is_not_used_again(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        first = await _propose(ground, "task-1")
        await ground.forge.merge(first.number, head=head)
        await ground.commit("task-1", {"b.txt": "b\n"}, onto="task-1")

        second = await _propose(ground, "task-1")

        assert second.number != first.number
        assert (await ground.forge.proposal(first.number)).head == head

    async def test_a_branch_with_a_similar_name_keeps_its_own_proposal(
        self, ground: Ground
    ) -> None:
        branches = ["run-a/task-1.1", "run-b/task-1.1", "run-b/task-1.10"]
        for branch in branches:
            await ground.commit(branch, {"a.txt": f"{branch}\n"}, onto="main")

        made = [await _propose(ground, branch) for branch in branches]

        assert len({proposal.number for proposal in made}) == 3
        for branch, proposal in zip(branches, made, strict=True):
            assert list(await ground.forge.proposals(head_branch=branch)) == [proposal]

    async def test_nothing_to_propose_is_refused(self, ground: Ground) -> None:
        main = await ground.tip("main")
        assert main is not None
        await ground.push("task-1", main)

        with pytest.raises(ForgeError) as refused:
            await _propose(ground, "task-1")
        assert refused.value.refusal is Refusal.NOTHING_NEW
        assert list(await ground.forge.proposals()) == []

    async def test_those_that_are_open_are_listed_alone(self, ground: Ground) -> None:
        for branch in ("task-1", "task-2", "task-3"):
            await ground.commit(branch, {f"{branch}.txt": "a\n"}, onto="main")
        one, two, three = [await _propose(ground, f"task-{n}") for n in (1, 2, 3)]
        await ground.forge.close(two.number)

        listed = await ground.forge.proposals(only_open=True)

        assert list(listed) == [three, one]
        assert len(await ground.forge.proposals()) == 3

    async def test_an_unknown_branch_is_refused(self, ground: Ground) -> None:
        with pytest.raises(ForgeError) as refused:
            await _propose(ground, "never-pushed")
        assert refused.value.refusal is Refusal.ABSENT

    async def test_an_unknown_number_is_refused(self, ground: Ground) -> None:
        with pytest.raises(ForgeError) as refused:
            await ground.forge.proposal(999_999)
        assert refused.value.refusal is Refusal.ABSENT

    async def test_a_wrong_token_is_refused(self, ground: Ground) -> None:
        with pytest.raises(ForgeError) as refused:
            await ground.stranger.proposals()
        assert refused.value.refusal is Refusal.TOKEN
        assert "token" in refused.value.hint

    async def test_a_push_moves_the_head(self, ground: Ground) -> None:
        await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        head = await ground.commit("task-1", {"a.txt": "b\n"}, onto="task-1")

        assert (await ground.forge.proposal(proposal.number)).head == head

    async def test_a_fast_forward_of_the_base_is_seen_as_merged(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        await ground.push("main", head)

        now = await ground.forge.proposal(proposal.number)
        assert (now.state, now.head) == (ProposalState.MERGED, head)
        assert await ground.forge.merge(proposal.number, head=head) == head

    async def test_a_pushed_merge_commit_is_seen_as_merged(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        await ground.commit("main", {"b.txt": "b\n"}, onto="main")

        commit = await ground.merged("main", "task-1")
        await ground.commit("main", {"c.txt": "c\n"}, onto="main")

        assert (await ground.forge.proposal(proposal.number)).state is ProposalState.MERGED
        assert await ground.forge.merge(proposal.number, head=head) == commit

    async def test_a_merge_lands_the_head_on_the_base(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        await ground.commit("main", {"b.txt": "b\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        commit = await ground.forge.merge(proposal.number, head=head)

        assert await ground.tip("main") == commit
        assert await ground.contains("main", head)
        assert (await ground.forge.proposal(proposal.number)).state is ProposalState.MERGED

    async def test_merging_twice_gives_the_same_commit(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        first = await ground.forge.merge(proposal.number, head=head)
        second = await ground.forge.merge(proposal.number, head=head)

        assert first == second

    async def test_a_merge_of_an_older_head_is_refused(self, ground: Ground) -> None:
        reviewed = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        await ground.commit("task-1", {"a.txt": "sneaked in\n"}, onto="task-1")
        before = await ground.tip("main")

        with pytest.raises(ForgeError) as refused:
            await ground.forge.merge(proposal.number, head=reviewed)

        assert refused.value.refusal is Refusal.MOVED
        assert await ground.tip("main") == before

    async def test_a_conflict_is_refused(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "mine\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        before = await ground.commit("main", {"a.txt": "theirs\n"}, onto="main")

        with pytest.raises(ForgeError) as refused:
            await ground.forge.merge(proposal.number, head=head)

        assert refused.value.refusal is Refusal.UNMERGEABLE
        assert await ground.tip("main") == before
        assert (await ground.forge.proposal(proposal.number)).state is ProposalState.OPEN

    async def test_a_closed_proposal_does_not_merge(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        await ground.forge.close(proposal.number)

        with pytest.raises(ForgeError) as refused:
            await ground.forge.merge(proposal.number, head=head)
        assert refused.value.refusal is Refusal.UNMERGEABLE

    async def test_closing_what_has_ended_is_fine(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        await ground.forge.merge(proposal.number, head=head)

        await ground.forge.close(proposal.number)
        await ground.forge.close(proposal.number)

        assert (await ground.forge.proposal(proposal.number)).state is ProposalState.MERGED

    async def test_anothers_proposal_is_approved(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        published = await ground.reviewer.review(proposal.number, _review(head, Decision.APPROVE))

        assert published == "approve"
        [seen] = await ground.reviews(proposal.number)
        assert (seen.state, seen.commit) == ("APPROVED", head)
        assert (await ground.statuses(head))["commandcenter/review"].state == "success"

    async def test_anothers_proposal_gets_changes_requested(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        published = await ground.reviewer.review(proposal.number, _review(head, Decision.REVISE))

        [seen] = await ground.reviews(proposal.number)
        assert published == _PUBLISHED_AS[seen.state]
        assert "Changes requested" in seen.body
        assert (await ground.statuses(head))["commandcenter/review"].state == "failure"

    @pytest.mark.parametrize(
        ("decision", "words", "state"),
        [
            (Decision.APPROVE, "Approved", "success"),
            (Decision.REVISE, "Changes requested", "failure"),
            (Decision.REJECT, "Rejected", "failure"),
        ],
    )
    async def test_the_review_of_ones_own_proposal_is_a_comment_and_a_status(
        self, ground: Ground, decision: Decision, words: str, state: str
    ) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        published = await ground.forge.review(proposal.number, _review(head, decision))

        assert published == "comment"
        [seen] = await ground.reviews(proposal.number)
        assert (seen.state, seen.commit) == ("COMMENTED", head)
        assert words in seen.body
        assert (await ground.statuses(head))["commandcenter/review"].state == state

    async def test_a_review_stays_with_the_commit_it_was_given_to(self, ground: Ground) -> None:
        reviewed = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        pushed = await ground.commit("task-1", {"a.txt": "b\n"}, onto="task-1")

        await ground.reviewer.review(proposal.number, _review(reviewed, Decision.APPROVE))

        [seen] = await ground.reviews(proposal.number)
        assert seen.commit == reviewed
        assert "commandcenter/review" in await ground.statuses(reviewed)
        assert await ground.statuses(pushed) == {}

    async def test_publishing_a_review_twice_shows_it_once(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        review = _review(head, Decision.REVISE)

        first = await ground.reviewer.review(proposal.number, review)
        second = await ground.reviewer.review(proposal.number, review)

        assert first == second
        assert len(await ground.reviews(proposal.number)) == 1

    async def test_issues_are_shown_on_their_lines_or_else_in_the_summary(
        self, ground: Ground
    ) -> None:
        changed = _NUMBERS.replace("line 10\n", "line ten\n")
        head = await ground.commit("task-1", {"numbers.txt": changed}, onto="main")
        proposal = await _propose(ground, "task-1")
        issues = (
            Issue("on the change", Severity.BLOCKER, file="numbers.txt", line=10),
            Issue("far from it", file="numbers.txt", line=90),
            Issue("another file", file="README.md", line=1, suggestion="leave it"),
            Issue("about all of it", must_fix=False),
        )

        await ground.reviewer.review(
            proposal.number, Review(head, Decision.REVISE, "Look.", issues, "second-agent")
        )

        [remark] = await ground.line_comments(proposal.number)
        assert (remark.path, remark.line) == ("numbers.txt", 10)
        assert "on the change" in remark.body
        [seen] = await ground.reviews(proposal.number)
        assert "far from it" in seen.body
        assert "`numbers.txt:90`" in seen.body
        assert "leave it" in seen.body
        assert "about all of it" in seen.body
        assert "on the change" not in seen.body

    async def test_the_newest_status_of_a_context_counts(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")

        for state in (StatusState.PENDING, StatusState.FAILURE, StatusState.SUCCESS):
            await ground.forge.set_status(
                head, context="commandcenter/checks", state=state, description=state.value
            )
        await ground.forge.set_status(
            head, context="other", state=StatusState.ERROR, description="x" * 500
        )

        seen = await ground.statuses(head)
        assert seen["commandcenter/checks"] == SeenStatus("success", "success")
        assert seen["other"].state in ("error", "failure")
        assert seen["other"].description == "x" * 140

    async def test_a_branch_that_nobody_protected_demands_nothing(self, ground: Ground) -> None:
        await ground.commit("release/1", {"a.txt": "a\n"}, onto="main")

        assert await ground.forge.protection("main") == Protection()
        assert await ground.forge.protection("release/1") == Protection()
        assert await ground.forge.protection("no/such/branch") == Protection()

    async def test_a_required_check_is_waited_for_until_it_passes(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number
        await ground.require("main", "ci/build")

        expected = await _step(ground, number, head)
        await ground.report(head, "ci/build", StatusState.PENDING, "It runs.")
        running = await _step(ground, number, head)
        await ground.report(head, "ci/build", StatusState.FAILURE, "2 tests failed")
        failed = await _step(ground, number, head)
        await ground.report(head, "ci/build", StatusState.SUCCESS, "All is well.")
        passed = await _step(ground, number, head)

        assert isinstance(expected, Wait)
        assert running == Wait(("ci/build",))
        assert isinstance(failed, Rerun)
        [check] = failed.checks
        assert (check.name, check.state) == ("ci/build", CheckState.FAILED)
        assert (check.summary, check.url) == ("2 tests failed", "https://ci.example/ci/build")
        assert passed == Clear()

    async def test_each_run_of_a_check_is_told_from_the_others(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number

        await ground.report(head, "ci/build", StatusState.FAILURE)
        [first] = await ground.forge.external_checks(number, head)
        await ground.report(head, "ci/build", StatusState.FAILURE)
        [second] = await ground.forge.external_checks(number, head)

        assert first.state is second.state is CheckState.FAILED
        assert first.run != second.run

    async def test_our_own_statuses_are_no_checks_of_others(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number
        await ground.forge.set_status(
            head, context="commandcenter/checks", state=StatusState.FAILURE, description="Ours."
        )

        assert list(await ground.forge.external_checks(number, head)) == []

    async def test_checks_of_one_commit_say_nothing_of_another(self, ground: Ground) -> None:
        first = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number
        await ground.report(first, "ci/build", StatusState.SUCCESS)
        second = await ground.commit("task-1", {"b.txt": "b\n"}, onto=first)

        assert list(await ground.forge.external_checks(number, second)) == []

    async def test_what_somebody_reported_cannot_be_run_again(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number
        await ground.report(head, "ci/build", StatusState.FAILURE)
        checks = await ground.forge.external_checks(number, head)

        assert list(await ground.forge.rerun(number, checks)) == []

    async def test_what_the_forge_is_told_to_squash_is_one_commit(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number

        commit = await ground.forge.merge(number, head=head, strategy=Strategy.SQUASH)

        assert await ground.tip("main") == commit
        assert not await ground.contains("main", head)
        assert (await ground.forge.proposal(number)).state is ProposalState.MERGED

    async def test_the_forge_merges_nothing_before_its_required_check_passed(
        self, ground: Ground
    ) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        number = (await _propose(ground, "task-1")).number
        await ground.require("main", "ci/build")
        await ground.report(head, "ci/build", StatusState.FAILURE)

        with pytest.raises(ForgeError) as refused:
            await ground.forge.merge(number, head=head)
        await ground.report(head, "ci/build", StatusState.SUCCESS)
        await ground.forge.merge(number, head=head)

        assert refused.value.refusal is Refusal.UNMERGEABLE
        assert await ground.contains("main", head)

    async def test_a_repeated_comment_is_shown_once(self, ground: Ground) -> None:
        await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")

        for body in ("one", "one", "two", "two"):
            await ground.forge.comment(proposal.number, body)

        assert await ground.comments(proposal.number) == ["one", "two"]

    async def test_words_of_every_language_arrive_unharmed(self, ground: Ground) -> None:
        words = "日本語 — «ё» \U0001f680 <b>&amp;</b> \"'`\\ \t%2F"
        await ground.commit("aufgabe/größe-日本", {"größe/日本.txt": "ü\n"}, onto="main")

        made = await _propose(ground, "aufgabe/größe-日本", title=words, body=f"{words}\n\n{words}")
        await ground.forge.comment(made.number, words)

        now = await ground.forge.proposal(made.number)
        assert (now.title, now.body) == (words, f"{words}\n\n{words}")
        assert now.head_branch == "aufgabe/größe-日本"
        assert await ground.comments(made.number) == [words]
        assert list(await ground.forge.proposals(head_branch="aufgabe/größe-日本")) == [now]
        await ground.forge.delete_branch("aufgabe/größe-日本")
        assert await ground.tip("aufgabe/größe-日本") is None

    async def test_words_that_no_forge_takes_are_replaced(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        words = "bad\udcff\ud800\0 byte"

        made = await _propose(ground, "task-1", title=words + "t" * 300, body=words)
        await ground.forge.comment(made.number, words)
        await ground.reviewer.review(
            made.number,
            Review(head, Decision.APPROVE, words, (Issue(words, file="a.txt", line=1),), words),
        )

        assert made.title.startswith("bad")
        assert made.title.endswith("t")
        assert made.body.endswith(" byte")
        assert len(await ground.line_comments(made.number)) == 1

    async def test_a_long_body_is_cut_with_a_note(self, ground: Ground) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")

        proposal = await _propose(ground, "task-1", body="ü" * 70_000)
        await ground.forge.comment(proposal.number, "x" * 70_000)
        await ground.forge.review(proposal.number, Review(head, Decision.REVISE, "long " * 20_000))

        assert len(proposal.body) == 65_536
        assert "was cut" in proposal.body[-100:]
        [comment] = await ground.comments(proposal.number)
        assert len(comment) == 65_536
        [review] = await ground.reviews(proposal.number)
        assert len(review.body) == 65_536

    async def test_deleting_a_branch_twice_is_fine(self, ground: Ground) -> None:
        await ground.commit("feature/task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "feature/task-1")

        await ground.forge.delete_branch("feature/task-1")
        await ground.forge.delete_branch("feature/task-1")

        assert await ground.tip("feature/task-1") is None
        assert (await ground.forge.proposal(proposal.number)).state is ProposalState.CLOSED

    async def test_a_merged_proposal_stays_merged_after_its_branch_is_gone(
        self, ground: Ground
    ) -> None:
        head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
        proposal = await _propose(ground, "task-1")
        await ground.push("main", head)

        await ground.forge.delete_branch("task-1")

        now = await ground.forge.proposal(proposal.number)
        assert (now.state, now.head) == (ProposalState.MERGED, head)

    async def test_a_list_longer_than_a_page_is_complete(self, ground: Ground) -> None:
        count = self.page_entries + 1
        await ground.commit("task", {"a.txt": "a\n"}, onto="main")
        numbers = []
        for _ in range(count):
            proposal = await _propose(ground, "task")
            numbers.append(proposal.number)
            await ground.forge.close(proposal.number)

        listed = await ground.forge.proposals(head_branch="task")

        assert [proposal.number for proposal in listed] == sorted(numbers, reverse=True)


_PUBLISHED_AS = {"CHANGES_REQUESTED": "request_changes", "COMMENTED": "comment"}
"""What is said of a review that asks for changes is what the forge shows: some cannot ask."""
_NUMBERS = "".join(f"line {n}\n" for n in range(1, 101))


async def _propose(
    ground: Ground, branch: str, *, title: str = "A task", body: str = "What it does."
) -> Proposal:
    return await ground.forge.propose(
        head_branch=branch, base_branch="main", title=title, body=body
    )


async def _step(ground: Ground, number: int, head: str) -> Step:
    """Return what is to be done about the checks that are shown of a commit."""
    protection = await ground.forge.protection("main")
    checks = await ground.forge.external_checks(number, head)
    seen = Seen(head, 1)
    return next_step(Demand.REQUIRED, protection, checks, seen, now_ms=1, wait_ms=1000)


def _review(commit: str, decision: Decision) -> Review:
    return Review(commit, decision, "What I think.", reviewer="second-agent")


def _data(text: str) -> bytes:
    content = text.encode()
    return b"data %d\n%s" % (len(content), content)
