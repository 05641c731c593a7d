"""What the hub answers: values in, JSON in GitHub's shapes out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from commandcenter.core.forge import StatusState
from commandcenter.core.pull_request import (
    Comment,
    CommitStatus,
    Hook,
    LineComment,
    Merged,
    PullRequest,
    PullReview,
)
from commandcenter.hub.history import ChangedFile, Commit, Signature, Size
from commandcenter.hub.records import HubRepository
from commandcenter.hub.refusal import RefusalError

DOCUMENTATION = "https://docs.github.com/rest"
_OWNER = "OWNER"
_MEMBER = "COLLABORATOR"

Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Links:
    """Makes addresses, as the client reached us."""

    root: str
    """Where the hub is served, without a slash at the end."""
    repository: HubRepository

    @property
    def name(self) -> str:
        """Give `owner/name`."""
        return f"{self.repository.owner}/{self.repository.name}"

    @property
    def api(self) -> str:
        """Give the repository's address in the API."""
        return f"{self.root}/repos/{self.name}"

    @property
    def html(self) -> str:
        """Give the repository's address for people."""
        return f"{self.root}/{self.name}"


def refusal_json(refusal: RefusalError) -> Json:
    """Return the body of an error."""
    body: Json = {"message": refusal.message}
    if refusal.errors:
        body["errors"] = [dict(e) if isinstance(e, Mapping) else e for e in refusal.errors]
    return body | {"documentation_url": DOCUMENTATION, "status": str(refusal.status)}


_UNKNOWN_TIME = "1970-01-01T00:00:00Z"
"""Clients insist on a time, also of what the hub has no record of."""
_RELATED: Mapping[str, str] = MappingProxyType(
    {
        **{
            f"{name}_url": name
            for name in (
                *("contributors", "deployments", "downloads", "events", "forks", "hooks"),
                *("languages", "merges", "stargazers", "subscribers", "subscription", "tags"),
                "teams",
            )
        },
        "archive_url": "{archive_format}{/ref}",
        "assignees_url": "assignees{/user}",
        "blobs_url": "git/blobs{/sha}",
        "branches_url": "branches{/branch}",
        "collaborators_url": "collaborators{/collaborator}",
        "comments_url": "comments{/number}",
        "commits_url": "commits{/sha}",
        "compare_url": "compare/{base}...{head}",
        "contents_url": "contents/{+path}",
        "git_commits_url": "git/commits{/sha}",
        "git_refs_url": "git/refs{/sha}",
        "git_tags_url": "git/tags{/sha}",
        "issue_comment_url": "issues/comments{/number}",
        "issue_events_url": "issues/events{/number}",
        "issues_url": "issues{/number}",
        "keys_url": "keys{/key_id}",
        "labels_url": "labels{/name}",
        "milestones_url": "milestones{/number}",
        "notifications_url": "notifications{?since,all,participating}",
        "pulls_url": "pulls{/number}",
        "releases_url": "releases{/id}",
        "statuses_url": "statuses/{sha}",
        "trees_url": "git/trees{/sha}",
    }
)
"""Where clients expect what belongs to a repository, below its own address."""
_COUNTS = (
    *("forks", "forks_count", "network_count", "open_issues", "open_issues_count", "size"),
    *("stargazers_count", "subscribers_count", "watchers", "watchers_count"),
)
_FEATURES = (
    *("has_discussions", "has_downloads", "has_issues", "has_pages", "has_projects", "has_wiki"),
)


def user_json(login: str, root: str) -> Json:
    """Return a user."""
    api = f"{root}/users/{login}"
    return {
        "login": login,
        "id": _number_of(login),
        "node_id": f"U_{_number_of(login)}",
        "avatar_url": "",
        "gravatar_id": "",
        "url": api,
        "html_url": f"{root}/{login}",
        "followers_url": f"{api}/followers",
        "following_url": f"{api}/following{{/other_user}}",
        "gists_url": f"{api}/gists{{/gist_id}}",
        "starred_url": f"{api}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{api}/subscriptions",
        "organizations_url": f"{api}/orgs",
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events{{/privacy}}",
        "received_events_url": f"{api}/received_events",
        "type": "User",
        "site_admin": False,
    }


def account_json(login: str, root: str) -> Json:
    """Return the user who asks, as GitHub tells one about oneself."""
    unsaid = ("name", "company", "location", "email", "hireable", "bio")
    counts = ("public_repos", "public_gists", "followers", "following")
    return {
        **user_json(login, root),
        "blog": "",
        **dict.fromkeys(unsaid),
        **dict.fromkeys(counts, 0),
        "created_at": _UNKNOWN_TIME,
        "updated_at": _UNKNOWN_TIME,
    }


def repository_json(links: Links) -> Json:
    """Return a repository."""
    repository = links.repository
    return {
        "id": _number_of(links.name),
        "node_id": f"R_{_number_of(links.name)}",
        "name": repository.name,
        "full_name": links.name,
        "private": True,
        "owner": user_json(repository.owner, links.root),
        "html_url": links.html,
        "description": None,
        "fork": False,
        "url": links.api,
        **{name: f"{links.api}/{path}" for name, path in _RELATED.items()},
        **dict.fromkeys(("clone_url", "git_url", "ssh_url", "svn_url"), links.html),
        **dict.fromkeys(("homepage", "language", "license", "mirror_url")),
        **dict.fromkeys(_COUNTS, 0),
        **dict.fromkeys(_FEATURES, False),
        **dict.fromkeys(("created_at", "pushed_at", "updated_at"), _UNKNOWN_TIME),
        "default_branch": repository.default_branch,
        "visibility": "private",
        "archived": False,
        "disabled": False,
        "allow_merge_commit": True,
        "allow_squash_merge": True,
        "allow_rebase_merge": True,
        "allow_auto_merge": False,
        "delete_branch_on_merge": False,
        "permissions": {"admin": True, "push": True, "pull": True},
    }


def pull_json(pull: PullRequest, links: Links) -> Json:
    """Return a pull request as it is in lists."""
    api = f"{links.api}/pulls/{pull.number}"
    html = f"{links.html}/pull/{pull.number}"
    issue = f"{links.api}/issues/{pull.number}"
    statuses = f"{links.api}/statuses/{pull.head}"
    merged = pull.ending if isinstance(pull.ending, Merged) else None
    ended = iso(pull.ending.at_ms) if pull.ending else None
    return {
        "url": api,
        "id": pull.number,
        "node_id": f"PR_{_number_of(links.name)}_{pull.number}",
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "issue_url": issue,
        "commits_url": f"{api}/commits",
        "review_comments_url": f"{api}/comments",
        "review_comment_url": f"{links.api}/pulls/comments{{/number}}",
        "comments_url": f"{issue}/comments",
        "statuses_url": statuses,
        "number": pull.number,
        "state": "open" if pull.ending is None else "closed",
        "locked": False,
        "active_lock_reason": None,
        "title": pull.title,
        "user": user_json(pull.author, links.root),
        "body": pull.body or None,
        "labels": [],
        "milestone": None,
        "created_at": iso(pull.created_ms),
        "updated_at": iso(pull.updated_ms),
        "closed_at": ended,
        "merged_at": ended if merged else None,
        "merge_commit_sha": merged.commit if merged else None,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "head": _end_json(pull.head_branch, pull.head, links),
        "base": _end_json(pull.base_branch, pull.base, links),
        "_links": {
            "self": {"href": api},
            "html": {"href": html},
            "issue": {"href": issue},
            "comments": {"href": f"{issue}/comments"},
            "review_comments": {"href": f"{api}/comments"},
            "review_comment": {"href": f"{links.api}/pulls/comments{{/number}}"},
            "commits": {"href": f"{api}/commits"},
            "statuses": {"href": statuses},
        },
        "author_association": _association(pull.author, links),
        "auto_merge": None,
        "draft": pull.draft,
    }


def whole_pull_json(
    pull: PullRequest,
    links: Links,
    *,
    mergeable: bool | None,
    size: Size,
    comments: int,
    line_comments: int,
) -> Json:
    """Return a pull request as it is when asked for alone."""
    merged = pull.ending if isinstance(pull.ending, Merged) else None
    return pull_json(pull, links) | {
        "merged": merged is not None,
        "mergeable": mergeable,
        "rebaseable": mergeable,
        "mergeable_state": _mergeable_state(pull, mergeable),
        "merged_by": user_json(merged.by, links.root) if merged and merged.by else None,
        "comments": comments,
        "review_comments": line_comments,
        "maintainer_can_modify": False,
        "commits": size.commits,
        "additions": size.insertions,
        "deletions": size.deletions,
        "changed_files": size.files,
    }


def file_json(file: ChangedFile, links: Links, commit: str) -> Json:
    """Return one file of a pull request."""
    shape: Json = {
        "sha": file.blob,
        "filename": file.path,
        "status": file.change.value,
        "additions": file.insertions,
        "deletions": file.deletions,
        "changes": file.insertions + file.deletions,
        "blob_url": f"{links.html}/blob/{commit}/{file.path}",
        "raw_url": f"{links.html}/raw/{commit}/{file.path}",
        "contents_url": f"{links.api}/contents/{file.path}?ref={commit}",
    }
    if file.patch is not None:
        shape["patch"] = file.patch
    if file.previous_path:
        shape["previous_filename"] = file.previous_path
    return shape


def commit_json(commit: Commit, links: Links) -> Json:
    """Return a commit."""
    url = f"{links.api}/commits/{commit.id}"
    return {
        "sha": commit.id,
        "node_id": f"C_{commit.id}",
        "commit": {
            "author": _signature_json(commit.author),
            "committer": _signature_json(commit.committer),
            "message": commit.message,
            "tree": {"sha": commit.tree, "url": f"{links.api}/git/trees/{commit.tree}"},
            "url": f"{links.api}/git/commits/{commit.id}",
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": url,
        "html_url": f"{links.html}/commit/{commit.id}",
        "comments_url": f"{url}/comments",
        "author": None,
        "committer": None,
        "parents": [
            {
                "sha": parent,
                "url": f"{links.api}/commits/{parent}",
                "html_url": f"{links.html}/commit/{parent}",
            }
            for parent in commit.parents
        ],
    }


def review_json(review: PullReview, links: Links, number: int) -> Json:
    """Return a review."""
    html = f"{links.html}/pull/{number}#pullrequestreview-{review.id}"
    api = f"{links.api}/pulls/{number}"
    return {
        "id": review.id,
        "node_id": f"PRR_{review.id}",
        "user": user_json(review.author, links.root),
        "body": review.body,
        "state": review.state.value,
        "html_url": html,
        "pull_request_url": api,
        "_links": {"html": {"href": html}, "pull_request": {"href": api}},
        "submitted_at": iso(review.at_ms),
        "commit_id": review.commit,
        "author_association": _association(review.author, links),
    }


def line_comment_json(comment: LineComment, links: Links, number: int) -> Json:
    """Return a comment on a line."""
    api = f"{links.api}/pulls/comments/{comment.id}"
    html = f"{links.html}/pull/{number}#discussion_r{comment.id}"
    pull = f"{links.api}/pulls/{number}"
    return {
        "url": api,
        "id": comment.id,
        "node_id": f"PRRC_{comment.id}",
        "pull_request_review_id": comment.review,
        "diff_hunk": "",
        "path": comment.path,
        "line": comment.line,
        "original_line": comment.line,
        "side": comment.side.value,
        "subject_type": "line",
        "commit_id": comment.commit,
        "original_commit_id": comment.commit,
        "user": user_json(comment.author, links.root),
        "body": comment.body,
        "created_at": iso(comment.at_ms),
        "updated_at": iso(comment.at_ms),
        "html_url": html,
        "pull_request_url": pull,
        "author_association": _association(comment.author, links),
        "_links": {
            "self": {"href": api},
            "html": {"href": html},
            "pull_request": {"href": pull},
        },
    }


def comment_json(comment: Comment, links: Links, number: int) -> Json:
    """Return a comment in the conversation."""
    return {
        "id": comment.id,
        "node_id": f"IC_{comment.id}",
        "url": f"{links.api}/issues/comments/{comment.id}",
        "html_url": f"{links.html}/pull/{number}#issuecomment-{comment.id}",
        "issue_url": f"{links.api}/issues/{number}",
        "body": comment.body,
        "user": user_json(comment.author, links.root),
        "created_at": iso(comment.at_ms),
        "updated_at": iso(comment.at_ms),
        "author_association": _association(comment.author, links),
    }


def hook_json(hook: Hook, links: Links) -> Json:
    """Return a hook; its secret is never shown."""
    api = f"{links.api}/hooks/{hook.id}"
    secret = {"secret": "********"} if hook.secret else {}
    return {
        "type": "Repository",
        "id": hook.id,
        "name": "web",
        "active": True,
        "events": list(hook.events),
        "config": {"url": hook.url, "content_type": "json", "insecure_ssl": "0", **secret},
        **dict.fromkeys(("created_at", "updated_at"), iso(hook.created_ms)),
        "url": api,
        "test_url": f"{api}/tests",
        "ping_url": f"{api}/pings",
        "last_response": {"code": None, "status": "unused", "message": None},
    }


def status_json(status: CommitStatus, links: Links) -> Json:
    """Return a commit status."""
    return {
        "url": f"{links.api}/statuses/{status.commit}",
        "avatar_url": None,
        "id": status.id,
        "node_id": f"SC_{status.id}",
        "state": status.state.value,
        "description": status.description or None,
        "target_url": status.target_url or None,
        "context": status.context,
        "created_at": iso(status.at_ms),
        "updated_at": iso(status.at_ms),
        "creator": user_json(status.author, links.root),
    }


def combined_status_json(commit: str, newest: Sequence[CommitStatus], links: Links) -> Json:
    """Return what the newest status of each context say together."""
    url = f"{links.api}/commits/{commit}"
    return {
        "state": combined(newest).value,
        "statuses": [status_json(status, links) for status in newest],
        "sha": commit,
        "total_count": len(newest),
        "repository": repository_json(links),
        "commit_url": url,
        "url": f"{url}/status",
    }


def combined(newest: Sequence[CommitStatus]) -> StatusState:
    """Return one state for several: failure beats pending, pending beats success."""
    states = {status.state for status in newest}
    if states & {StatusState.FAILURE, StatusState.ERROR}:
        return StatusState.FAILURE
    return StatusState.SUCCESS if states == {StatusState.SUCCESS} else StatusState.PENDING


def newest_by_context(statuses: Sequence[CommitStatus]) -> tuple[CommitStatus, ...]:
    """Return the first of each context: given newest first, that is the one that counts."""
    first: dict[str, CommitStatus] = {}
    for status in statuses:
        first.setdefault(status.context, status)
    return tuple(first.values())


def reference_json(branch: str, commit: str, links: Links) -> Json:
    """Return a git reference."""
    return {
        "ref": f"refs/heads/{branch}",
        "node_id": f"REF_{_number_of(links.name + branch)}",
        "url": f"{links.api}/git/refs/heads/{branch}",
        "object": {
            "type": "commit",
            "sha": commit,
            "url": f"{links.api}/git/commits/{commit}",
        },
    }


def branch_json(branch: str, commit: str, links: Links, *, protected: bool = False) -> Json:
    """Return a branch."""
    return {
        "name": branch,
        "commit": {"sha": commit, "url": f"{links.api}/commits/{commit}"},
        "protected": protected,
    }


def whole_branch_json(
    branch: str, commit: Commit, links: Links, required: Sequence[str] | None
) -> Json:
    """Return a branch with its commit, and the checks that it requires if it is protected."""
    url = f"{links.api}/branches/{branch}"
    protected = required is not None
    return {
        **branch_json(branch, commit.id, links, protected=protected),
        "commit": commit_json(commit, links),
        "_links": {"self": url, "html": f"{links.html}/tree/{branch}"},
        "protection": {
            "enabled": protected,
            **({"required_status_checks": _required_json(required)} if required else {}),
        },
        "protection_url": f"{url}/protection",
    }


def protection_json(branch: str, required: Sequence[str], links: Links) -> Json:
    """Return how a branch is protected."""
    url = f"{links.api}/branches/{branch}/protection"
    checks = f"{url}/required_status_checks"
    return {
        "url": url,
        "required_status_checks": {
            **_required_json(required),
            "url": checks,
            "strict": False,
            "contexts_url": f"{checks}/contexts",
        },
        "enforce_admins": {"url": f"{url}/enforce_admins", "enabled": True},
    }


def _required_json(required: Sequence[str]) -> Json:
    return {
        "enforcement_level": "everyone",
        "contexts": list(required),
        "checks": [{"context": each, "app_id": None} for each in required],
    }


def iso(at_ms: int) -> str:
    """Return a time as GitHub writes it, in UTC and whole seconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _end_json(branch: str, commit: str, links: Links) -> Json:
    owner = links.repository.owner
    return {
        "label": f"{owner}:{branch}",
        "ref": branch,
        "sha": commit,
        "user": user_json(owner, links.root),
        "repo": repository_json(links),
    }


def _signature_json(signature: Signature) -> Json:
    return {"name": signature.name, "email": signature.email, "date": signature.date}


def _mergeable_state(pull: PullRequest, mergeable: bool | None) -> str:
    if mergeable is None:
        return "unknown"
    if not mergeable:
        return "dirty"
    return "draft" if pull.draft else "clean"


def _association(login: str, links: Links) -> str:
    return _OWNER if login == links.repository.owner else _MEMBER


def _number_of(name: str) -> int:
    """Return a number that stands for this name: the same on every start."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
