"""The Gitea adapter against a stand-in that lives by that forge's rules."""

from __future__ import annotations

import pytest

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import Decision, Issue, ProposalState, Protection, Review, Way
from commandcenter.testing.forges import ForgeSuite
from commandcenter.testing.gitea_server import PAGE_MAX, GiteaGround, GiteaServer


@pytest.fixture
def ground(gitea_ground: GiteaGround) -> GiteaGround:
    return gitea_ground


class TestGitea(ForgeSuite):
    """The whole suite, over HTTP."""

    page_entries = PAGE_MAX


async def _proposed(ground: GiteaGround, *, title: str = "A task") -> tuple[int, str]:
    head = await ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    made = await ground.forge.propose(
        head_branch="task-1", base_branch="main", title=title, body="Words."
    )
    return made.number, head


async def test_changes_are_asked_for_by_a_review(ground: GiteaGround) -> None:
    number, head = await _proposed(ground)

    published = await ground.reviewer.review(number, Review(head, Decision.REVISE, "No."))

    assert published == "request_changes"


async def test_the_forge_itself_would_open_a_pull_request_without_a_change(
    ground: GiteaGround,
) -> None:
    main = await ground.tip("main")
    assert main is not None
    await ground.push("task-1", main)

    answer = await ground.client.post(
        "pulls", json={"head": "task-1", "base": "main", "title": "Nothing"}
    )

    assert answer.status_code == 201


async def test_the_forge_itself_forgets_where_the_head_of_a_merged_one_was(
    ground: GiteaGround,
) -> None:
    number, head = await _proposed(ground)
    await ground.forge.merge(number, head=head)
    pushed = await ground.commit("task-1", {"b.txt": "b\n"}, onto="task-1")

    shown = (await ground.client.get(f"pulls/{number}")).json()

    assert shown["head"]["sha"] == pushed
    assert (await ground.forge.proposal(number)).head == head


@pytest.mark.parametrize(
    "path", ["größe/日本.txt", "with space.txt", 'a"quote\\.txt', "tab\tin.txt", 'ends"']
)
async def test_a_remark_finds_its_file_whatever_its_name(ground: GiteaGround, path: str) -> None:
    # Lines of its content look like the head of another file.
    content = "-- a/other.txt\n++ b/other.txt\n@@ -1 +1 @@\n"
    quoted = {f'"{_escaped(path)}"': content}
    head = await ground.commit("task-1", quoted, onto="main")
    made = await ground.forge.propose(
        head_branch="task-1", base_branch="main", title="A task", body=""
    )
    issues = (Issue("wrong", file=path, line=3), Issue("elsewhere", file="other.txt", line=1))

    await ground.reviewer.review(made.number, Review(head, Decision.REVISE, "Look.", issues))

    [remark] = await ground.line_comments(made.number)
    assert (remark.path, remark.line) == (path, 3)


def _escaped(path: str) -> str:
    """Return a path as git's fast-import reads it between quotes."""
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")


async def test_a_draft_does_not_merge(ground: GiteaGround) -> None:
    number, head = await _proposed(ground, title="WIP: not yet")

    with pytest.raises(ForgeError, match="Work in progress") as refused:
        await ground.forge.merge(number, head=head)
    assert refused.value.refusal is Refusal.UNMERGEABLE


async def test_without_autodetection_a_landed_one_stays_open_and_can_be_closed(
    ground: GiteaGround, gitea: GiteaServer
) -> None:
    gitea.pulls.autodetect = False
    number, head = await _proposed(ground)
    await ground.push("main", head)

    assert (await ground.forge.proposal(number)).state is ProposalState.OPEN
    await ground.forge.close(number)
    assert (await ground.forge.proposal(number)).state is ProposalState.CLOSED


async def test_a_required_check_may_be_a_pattern(
    gitea: GiteaServer, gitea_ground: GiteaGround
) -> None:
    gitea.required["main"] = ["ci/*"]

    protection = await gitea_ground.forge.protection("main")

    assert protection == Protection(("ci/*",), globs=True)


async def test_a_branch_that_names_no_checks_requires_all_of_them(
    gitea: GiteaServer, gitea_ground: GiteaGround
) -> None:
    gitea.required["main"] = []

    assert await gitea_ground.forge.protection("main") == Protection(globs=True, some=True)


async def test_a_branch_that_takes_no_push_is_merged_into_by_the_forge(
    gitea: GiteaServer, gitea_ground: GiteaGround
) -> None:
    gitea.closed.add("main")

    assert await gitea_ground.forge.protection("main") == Protection(way=Way.MERGE)
