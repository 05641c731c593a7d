"""Clients that were made for GitHub, on the hub: they list, read, review and merge."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import github
import pytest

from commandcenter.testing.forges import served

OCTOKIT = "@octokit/rest@21.1.1"
SCRIPT = """
import { Octokit } from "@octokit/rest";
const [baseUrl, auth] = process.argv.slice(2);
const octokit = new Octokit({ baseUrl, auth });
const [repository] = (await octokit.rest.repos.listForAuthenticatedUser()).data;
const at = { owner: repository.owner.login, repo: repository.name };
const open = { ...at, state: "open", per_page: 1 };
const pulls = await octokit.paginate(octokit.rest.pulls.list, open);
const pull_number = pulls[pulls.length - 1].number;
const pull = (await octokit.rest.pulls.get({ ...at, pull_number })).data;
const files = (await octokit.rest.pulls.listFiles({ ...at, pull_number })).data;
await octokit.rest.pulls.createReview({
  ...at, pull_number, event: "APPROVE", body: "Fine.", commit_id: pull.head.sha,
  comments: [{ path: files[0].filename, line: 1, side: "RIGHT", body: "This line." }],
});
await octokit.rest.issues.createComment({ ...at, issue_number: pull_number, body: "I merge." });
const merged = (await octokit.rest.pulls.merge({ ...at, pull_number, sha: pull.head.sha })).data;
const reviews = (await octokit.rest.pulls.listReviews({ ...at, pull_number })).data;
const after = (await octokit.rest.pulls.get({ ...at, pull_number })).data;
const head = { ...at, ref: pull.head.sha };
const status = (await octokit.rest.repos.getCombinedStatusForRef(head)).data;
console.log(JSON.stringify({
  listed: pulls.length, title: pull.title, mergeable: pull.mergeable,
  files: files.map((file) => file.filename), reviews: reviews.map((review) => review.state),
  sha: merged.sha, merged: after.merged, status: status.state,
}));
"""


@pytest.fixture
async def url(desk: Any, api: Any, app: Any) -> AsyncIterator[str]:
    """The address of a hub with two open pull requests, #1 of which has a status."""
    for name in ("one", "two"):
        await desk.commit(name, {f"{name}.txt": "x\n"}, desk.start)
        pull = await api.opened(name)
        status = {"state": "success", "context": "checks"}
        await api("POST", f"/statuses/{pull['head']['sha']}", json=status)
    async with served(app) as url:
        yield url


def _by_pygithub(url: str) -> dict[str, Any]:
    token = github.Auth.Token("token-of-the-reviewer")
    with github.Github(base_url=url, auth=token, retry=None) as client:
        (repository,) = client.get_user().get_repos()
        pulls = [*repository.get_pulls(state="open")]
        pull = repository.get_pull(pulls[-1].number)
        files = [file.filename for file in pull.get_files()]
        commit = repository.get_commit(pull.head.sha)
        pull.create_review(
            commit=commit,
            body="Fine.",
            event="APPROVE",
            comments=[{"path": files[0], "line": 1, "side": "RIGHT", "body": "This line."}],
        )
        pull.create_issue_comment("I merge.")
        status = commit.get_combined_status().state
        merged = pull.merge(sha=pull.head.sha)
        return {
            "listed": len(pulls),
            "title": pull.title,
            "mergeable": pull.mergeable,
            "files": files,
            "reviews": [review.state for review in pull.get_reviews()],
            "sha": merged.sha,
            "merged": repository.get_pull(pull.number).merged,
            "status": status,
        }


def _by_octokit(url: str, folder: Path) -> dict[str, Any]:
    install = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", OCTOKIT)
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    (folder / "script.mjs").write_text(SCRIPT)
    done = subprocess.run(
        ("node", "script.mjs", url, "token-of-the-reviewer"),
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def _has_landed(desk: Any, api: Any, told: dict[str, Any]) -> None:
    assert await desk.plumb("rev-parse", "refs/heads/main") == told["sha"]
    comments = (await api("GET", "/issues/1/comments")).json()
    lines = (await api("GET", "/pulls/1/comments")).json()
    assert [each["body"] for each in comments] == ["I merge."]
    assert [(each["path"], each["line"]) for each in lines] == [("one.txt", 1)]
    assert {name: value for name, value in told.items() if name != "sha"} == {
        "listed": 2,
        "title": "Title of one",
        "mergeable": True,
        "files": ["one.txt"],
        "reviews": ["APPROVED"],
        "merged": True,
        "status": "success",
    }


async def test_pygithub_lists_reads_reviews_and_merges(desk: Any, api: Any, url: str) -> None:
    await _has_landed(desk, api, await asyncio.to_thread(_by_pygithub, url))


@pytest.mark.slow
async def test_octokit_lists_reads_reviews_and_merges(
    desk: Any, api: Any, url: str, tmp_path: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm: apt install npm")

    await _has_landed(desk, api, await asyncio.to_thread(_by_octokit, url, tmp_path))
