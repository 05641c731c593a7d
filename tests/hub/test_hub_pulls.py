from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

MAIN = "refs/heads/main"


async def test_a_pull_request_has_the_fields_that_github_documents(desk: Any, api: Any) -> None:
    head = await desk.commit("task", {"a.txt": "a\nb\n"}, desk.start)

    pull = await api.opened("task", draft=True)

    assert pull["number"] == 1
    assert pull["state"] == "open"
    assert pull["html_url"] == "http://hub.test/acme/project/pull/1"
    assert pull["user"]["login"] == "author"
    assert pull["head"]["sha"] == head
    assert (pull["head"]["ref"], pull["head"]["label"]) == ("task", "acme:task")
    assert pull["head"]["repo"]["full_name"] == "acme/project"
    assert (pull["base"]["ref"], pull["base"]["sha"]) == ("main", desk.start)
    assert pull["draft"] is True
    assert (pull["merged"], pull["mergeable"], pull["mergeable_state"]) == (False, True, "draft")
    assert (pull["merged_at"], pull["closed_at"], pull["merge_commit_sha"]) == (None, None, None)
    assert pull["created_at"].endswith("Z")
    counts = ("commits", "additions", "deletions", "changed_files")
    assert [pull[name] for name in counts] == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"head": "task", "base": "main"}, "title"),
        ({"title": " ", "head": "task", "base": "main"}, "title"),
        ({"title": "t", "base": "main"}, "head"),
        ({"title": "t", "head": "task"}, "base"),
        ({"title": "t", "head": "nowhere", "base": "main"}, "head"),
        ({"title": "t", "head": "task", "base": "nowhere"}, "base"),
        ({"title": "t", "head": "else:task", "base": "main"}, "head"),
        ({"title": "t", "head": "ta*", "base": "main"}, "head"),
        ({"title": "t", "head": "../main", "base": "main"}, "head"),
        ({"title": "t", "head": "task~0", "base": "main"}, "head"),
        ({"title": "t", "head": "--all", "base": "main"}, "head"),
        ({"title": "t" * 257, "head": "task", "base": "main"}, "title"),
        ({"title": "t", "head": "task", "base": "main", "body": "x" * 65_537}, "body"),
        ({"title": "t\0", "head": "task", "base": "main"}, "title"),
        ({"title": "\ud800", "head": "task", "base": "main"}, "title"),
    ],
)
async def test_a_wrong_field_is_named(
    desk: Any, api: Any, body: dict[str, str], field: str
) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)

    answer = await api("POST", "/pulls", content=json.dumps(body))

    assert answer.status_code == 422
    assert answer.json()["message"] == "Validation Failed"
    assert answer.json()["errors"][0]["field"] == field
    assert (await api("GET", "/pulls")).json() == []


async def test_a_field_of_another_type_is_refused(desk: Any, api: Any) -> None:
    answer = await api("POST", "/pulls", json={"title": 1, "head": "task", "base": "main"})
    assert answer.status_code == 422
    assert "'properties/title', 1 is not a string" in answer.json()["message"]


async def test_a_second_open_pull_request_of_a_branch_is_refused(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")

    answer = await api("POST", "/pulls", json={"title": "t", "head": "acme:task", "base": "main"})

    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["message"] == "A pull request already exists for acme:task."


async def test_a_branch_with_another_history_is_refused(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, None)
    answer = await api("POST", "/pulls", json={"title": "t", "head": "task", "base": "main"})
    assert answer.status_code == 422
    assert "no history in common" in answer.json()["errors"][0]["message"]


async def test_a_branch_set_back_to_its_base_is_closed_and_not_merged(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")

    await desk.plumb("update-ref", "refs/heads/task", desk.start)

    pull = (await api("GET", "/pulls/1")).json()
    assert (pull["state"], pull["merged"]) == ("closed", False)


async def test_a_branch_that_vanishes_unmerged_is_closed(desk: Any, api: Any) -> None:
    head = await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")

    await desk.plumb("update-ref", "-d", "refs/heads/task")

    pull = (await api("GET", "/pulls/1")).json()
    assert (pull["state"], pull["merged"], pull["head"]["sha"]) == ("closed", False, head)


async def test_what_landed_unseen_is_merged_even_when_its_branch_is_gone(
    desk: Any, api: Any
) -> None:
    head = await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")

    await desk.plumb("update-ref", MAIN, head)
    await desk.plumb("update-ref", "-d", "refs/heads/task")

    [pull] = (await api("GET", "/pulls", params={"state": "all"})).json()
    assert pull["merged_at"] is not None
    assert pull["merge_commit_sha"] == head
    files = (await api("GET", "/pulls/1/files")).json()
    assert [file["filename"] for file in files] == ["a.txt"]


async def test_half_of_a_branch_on_the_base_is_not_merged(desk: Any, api: Any) -> None:
    first = await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")
    head = await desk.commit("task", {"b.txt": "b\n"}, first)

    await desk.plumb("update-ref", MAIN, first)

    pull = (await api("GET", "/pulls/1")).json()
    assert (pull["state"], pull["head"]["sha"], pull["commits"]) == ("open", head, 1)


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
async def test_every_merge_method_lands_the_same_files(desk: Any, api: Any, method: str) -> None:
    first = await desk.commit("task", {"a.txt": "a\n"}, desk.start, "First")
    head = await desk.commit("task", {"b.txt": "b\n"}, first, "Second")
    main = await desk.commit("main", {"c.txt": "c\n"}, desk.start)
    await api.opened("task")

    answer = await api("PUT", "/pulls/1/merge", json={"sha": head, "merge_method": method})

    assert answer.status_code == 200
    commit = answer.json()["sha"]
    assert await desk.plumb("rev-parse", MAIN) == commit
    files = (await desk.plumb("ls-tree", "--name-only", commit)).split()
    assert files == ["README.md", "a.txt", "b.txt", "c.txt", "numbers.txt"]
    assert (await api("GET", "/pulls/1/merge")).status_code == 204
    pull = (await api("GET", "/pulls/1")).json()
    assert (pull["merge_commit_sha"], pull["merged_by"]["login"]) == (commit, "author")
    count = {"merge": "3", "squash": "1", "rebase": "2"}[method]
    assert await desk.plumb("rev-list", "--count", f"{main}..{commit}") == count
    await desk.plumb("fsck", "--strict")


async def test_a_squash_carries_all_messages_and_a_rebase_keeps_them(desk: Any, api: Any) -> None:
    first = await desk.commit("task", {"a.txt": "a\n"}, desk.start, "First")
    await desk.commit("task", {"b.txt": "b\n"}, first, "Second")
    await desk.plumb("update-ref", "refs/heads/other", "refs/heads/task")
    await desk.plumb("update-ref", "refs/heads/base", desk.start)
    await api.opened("task")
    await api.opened("other", "base")

    await api("PUT", "/pulls/1/merge", json={"merge_method": "squash"})
    await api("PUT", "/pulls/2/merge", json={"merge_method": "rebase"})

    squashed = await desk.plumb("log", "-1", "--format=%B", MAIN)
    assert squashed.strip() == "Title of task (#1)\n\nFirst\n\nSecond"
    replayed = await desk.plumb("log", "-2", "--format=%s by %an", "refs/heads/base")
    assert replayed == "Second by Somebody\nFirst by Somebody"


async def test_a_draft_and_a_conflict_do_not_merge(desk: Any, api: Any) -> None:
    await desk.commit("draft", {"a.txt": "a\n"}, desk.start)
    await desk.commit("clash", {"README.md": "mine\n"}, desk.start)
    main = await desk.commit("main", {"README.md": "theirs\n"}, desk.start)
    await api.opened("draft", draft=True)
    pull = await api.opened("clash")

    answers = [await api("PUT", f"/pulls/{n}/merge", json={}) for n in (1, 2)]

    assert [answer.status_code for answer in answers] == [405, 405]
    assert (pull["mergeable"], pull["mergeable_state"]) == (False, "dirty")
    assert await desk.plumb("rev-parse", MAIN) == main
    assert (await api("GET", "/pulls/2/merge")).status_code == 404


async def test_asking_whether_it_merges_writes_nothing(desk: Any, api: Any) -> None:
    await desk.commit("task", {"numbers.txt": "1\n"}, desk.start)
    await desk.commit("main", {"README.md": "2\n"}, desk.start)
    before = await desk.plumb("count-objects", "-v")

    pull = await api.opened("task")

    assert pull["mergeable"] is True
    assert await desk.plumb("count-objects", "-v") == before


async def test_parallel_merges_land_one_after_another(desk: Any, api: Any) -> None:
    heads = [await desk.commit(f"task-{n}", {f"{n}.txt": "x\n"}, desk.start) for n in range(6)]
    for n in range(6):
        await api.opened(f"task-{n}")

    answers = await asyncio.gather(
        *(api("PUT", f"/pulls/{n + 1}/merge", json={"sha": head}) for n, head in enumerate(heads))
    )

    assert [answer.status_code for answer in answers] == [200] * 6
    assert await desk.plumb("rev-list", "--count", "--first-parent", MAIN) == "7"


async def test_a_squash_that_landed_before_a_crash_is_seen_as_merged(
    desk: Any, app: Any, api: Any
) -> None:
    from commandcenter.core.pull_request import RepositoryName
    from commandcenter.store.hub import HubStore

    head = await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")
    tree = await desk.plumb("rev-parse", f"{head}^{{tree}}")
    commit = await desk.plumb(
        "-c", "user.name=x", "-c", "user.email=x", "commit-tree", tree, "-p", desk.start, "-m", "S"
    )
    engine = desk.engine()
    store, key = HubStore(engine), RepositoryName("acme", "project")
    pull = store.pull(key, 1)
    assert pull is not None
    assert store.save_pull(key, replace(pull, merging=commit)) is not None
    engine.dispose()

    before = (await api("GET", "/pulls/1")).json()
    await desk.plumb("update-ref", MAIN, commit)
    after = (await api("GET", "/pulls/1")).json()

    assert before["merged"] is False
    assert (after["merged"], after["merge_commit_sha"]) == (True, commit)


async def test_title_body_base_and_state_can_be_changed(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await desk.plumb("update-ref", "refs/heads/release", desk.start)
    await api.opened("task")

    changes = {"title": "New", "body": None, "base": "release", "state": "closed"}
    refused = await api("PATCH", "/pulls/1", json=changes | {"base": "nowhere"})
    for name in ("title", "body", "base", "state"):
        await api("PATCH", "/pulls/1", json={name: changes[name]})

    pull = (await api("GET", "/pulls/1")).json()
    assert refused.status_code == 422
    assert (pull["title"], pull["body"], pull["state"]) == ("New", None, "closed")
    assert pull["base"]["ref"] == "release"


async def test_a_closed_pull_request_opens_again_unless_another_took_its_place(
    desk: Any, api: Any
) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")
    await api("PATCH", "/pulls/1", json={"state": "closed"})

    again = await api("PATCH", "/pulls/1", json={"state": "open"})
    await api("PATCH", "/pulls/1", json={"state": "closed"})
    await api.opened("task")
    refused = await api("PATCH", "/pulls/1", json={"state": "open"})

    assert again.json()["state"] == "open"
    assert refused.status_code == 422
    assert "already exists" in refused.json()["errors"][0]["message"]


async def test_a_merged_pull_request_does_not_open_again(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")
    await api("PUT", "/pulls/1/merge", json={})

    assert (await api("PATCH", "/pulls/1", json={"state": "open"})).status_code == 422
    assert (await api("PATCH", "/pulls/1", json={"title": "Later"})).json()["title"] == "Later"


async def test_files_and_commits_are_listed_like_git_sees_them(desk: Any, api: Any) -> None:
    first = await desk.commit("task", {"ü/b.txt": "new\n", "README.md": "x\n"}, desk.start, "One")
    stream = (
        f"commit refs/heads/task\ncommitter A <a@b> 1700000001 +0000\ndata 3\nTwo\nfrom {first}\n"
        "R numbers.txt moved.txt\nM 120000 inline link\ndata 1\nx\n"
        "M 100644 inline bin\ndata 2\n\0\0\nD README.md\n"
    )
    await desk.git.run(
        "fast-import", "--quiet", git_dir=desk.repository.git_dir, stdin=stream.encode()
    )
    await api.opened("task")

    files = {each["filename"]: each for each in (await api("GET", "/pulls/1/files")).json()}
    commits = (await api("GET", "/pulls/1/commits")).json()

    assert {name: file["status"] for name, file in files.items()} == {
        "README.md": "removed",
        "bin": "added",
        "link": "added",
        "moved.txt": "renamed",
        "ü/b.txt": "added",
    }
    assert files["moved.txt"]["previous_filename"] == "numbers.txt"
    assert files["ü/b.txt"]["patch"] == "@@ -0,0 +1 @@\n+new"
    assert (files["README.md"]["deletions"], files["ü/b.txt"]["additions"]) == (1, 1)
    assert "patch" not in files["bin"]
    assert [each["commit"]["message"] for each in commits] == ["One", "Two"]
    assert commits[1]["commit"]["committer"]["date"] == "2023-11-14T22:13:21Z"


async def test_a_file_that_becomes_a_link_keeps_the_patches_in_step(desk: Any, api: Any) -> None:
    stream = (
        f"commit refs/heads/task\ncommitter A <a@b> 1700000001 +0000\ndata 1\nT\n"
        f"from {desk.start}\nM 120000 inline README.md\ndata 1\nx\n"
        "M 100644 inline numbers.txt\ndata 2\nz\n\n"
    )
    await desk.git.run(
        "fast-import", "--quiet", git_dir=desk.repository.git_dir, stdin=stream.encode()
    )
    await api.opened("task")

    files = {each["filename"]: each for each in (await api("GET", "/pulls/1/files")).json()}

    assert files["README.md"]["status"] == "changed"
    assert files["numbers.txt"]["patch"].endswith("+z")


async def test_diff_and_patch_come_as_text(desk: Any, api: Any) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start, "Add a")
    await api.opened("task")

    diff = await api("GET", "/pulls/1", headers={"Accept": "application/vnd.github.diff"})
    patch = await api("GET", "/pulls/1", headers={"Accept": "application/vnd.github.patch"})

    assert diff.text.startswith("diff --git a/a.txt b/a.txt\n")
    assert "+a" in diff.text
    assert "Subject: [PATCH] Add a" in patch.text


async def test_a_repository_whose_branches_lie_elsewhere_is_served_alike(
    desk: Any, make_client: Any, api: Any
) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    for branch in ("main", "task"):
        await desk.plumb("update-ref", f"refs/upstream/heads/{branch}", f"refs/heads/{branch}")
        await desk.plumb("update-ref", "-d", f"refs/heads/{branch}")
    desk.repository = replace(desk.repository, heads="refs/upstream/heads/")
    engine = desk.engine()
    async with make_client(desk.app(engine)) as client:
        api.client = client
        await api.opened("task")
        answer = await api("PUT", "/pulls/1/merge", json={})
        branches = (await api("GET", "/branches")).json()
    engine.dispose()

    assert await desk.plumb("rev-parse", "refs/upstream/heads/main") == answer.json()["sha"]
    assert [branch["name"] for branch in branches] == ["main", "task"]


async def test_a_restart_on_the_same_database_keeps_everything(
    desk: Any, make_client: Any, api: Any, reviewer: Any
) -> None:
    head = await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api.opened("task")
    line = {"path": "a.txt", "line": 1, "body": "here"}
    review = {"event": "APPROVE", "body": "fine", "comments": [line]}
    await reviewer("POST", "/pulls/1/reviews", json=review)
    await api("POST", "/issues/1/comments", json={"body": "hello"})
    await api("POST", f"/statuses/{head}", json={"state": "success", "context": "c"})
    paths = [
        "/pulls?state=all", "/pulls/1", "/pulls/1/reviews", "/pulls/1/comments",
        "/issues/1/comments", f"/commits/{head}/statuses",
    ]  # fmt: skip
    before = [(await api("GET", path)).json() for path in paths]

    engine = desk.engine()
    async with make_client(desk.app(engine)) as client:
        api.client = client
        after = [(await api("GET", path)).json() for path in paths]
        await desk.commit("next", {"b.txt": "b\n"}, desk.start)
        following = await api.opened("next")
    engine.dispose()

    assert after == before
    assert all(before)
    assert following["number"] == 2


async def test_two_hubs_on_one_database_give_each_pull_request_its_own_number(
    desk: Any, app: Any, make_client: Any, api: Any
) -> None:
    for n in range(10):
        await desk.commit(f"task-{n}", {f"{n}.txt": "x\n"}, desk.start)
    engine = desk.engine()
    async with make_client(desk.app(engine)) as other:
        path = "/repos/acme/project/pulls"
        answers = await asyncio.gather(
            *(
                client.post(path, json={"title": "t", "head": f"task-{n}", "base": "main"})
                for n in range(10)
                for client in (api.client, other)
            )
        )
    engine.dispose()

    made = [answer.json()["number"] for answer in answers if answer.status_code == 201]
    assert sorted(made) == list(range(1, 11))
    assert sum(answer.status_code == 422 for answer in answers) == 10
