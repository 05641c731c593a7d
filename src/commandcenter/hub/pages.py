"""Pages for people: enough to read a pull request where a summary links to it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from starlette.responses import HTMLResponse, Response

from commandcenter.core.pull_request import (
    Closed,
    Comment,
    CommitStatus,
    LineComment,
    Merged,
    PullQuery,
    PullRequest,
    PullReview,
    RepositoryName,
)
from commandcenter.hub import wire
from commandcenter.hub.rest import Call

_DIFF_CHARACTERS_MAX = 500_000
_PULLS_MAX = 100
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STYLE = """
:root{color-scheme:light dark;--line:#8886;--soft:#8882;--good:#1a7f37;--bad:#cf222e;--done:#8250df}
@media(prefers-color-scheme:dark){:root{--good:#3fb950;--bad:#f85149;--done:#a371f7}}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
pre{font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
.box{border:1px solid var(--line);border-radius:6px;padding:.75rem;margin:.5rem 0}
.diff{overflow-x:auto}.diff pre{white-space:pre}.diff span{display:block;min-height:1.45em}
.add{background:#2da44e33}.del{background:#cf222e33}.hunk{color:#57a}.file{font-weight:bold;
background:var(--soft)}.open,.success,.APPROVED{color:var(--good)}.closed,.failure,.error,
.CHANGES_REQUESTED{color:var(--bad)}.merged{color:var(--done)}.soft{opacity:.75}
code{font-family:ui-monospace,monospace}table{border-collapse:collapse;width:100%}
td{border-top:1px solid var(--line);padding:.3rem .5rem .3rem 0;vertical-align:top}
"""


def index_page(root: str, repositories: Iterable[RepositoryName]) -> Response:
    """Answer with the repositories that have pull requests."""
    rows = "".join(
        f"<tr><td><a href='{escape(root)}/{escape(str(name))}/pulls'>{escape(str(name))}</a>"
        for name in repositories
    )
    table = f"<table>{rows}</table>" if rows else "<p>There are no pull requests yet.</p>"
    return _page("Pull requests", f"<h1>Pull requests</h1>{table}")


async def pulls_page(call: Call) -> Response:
    """Answer with the newest pull requests of a repository."""
    pulls, total = await call.pulls.listed(PullQuery(limit=_PULLS_MAX))
    rows = "".join(_pull_row(pull, call.links) for pull in pulls)
    table = f"<table>{rows}</table>" if rows else "<p>There are no pull requests.</p>"
    rest = f"<p class=soft>The newest {len(pulls)} of {total}.</p>" if total > len(pulls) else ""
    name = escape(call.links.name)
    return _page(f"Pull requests of {name}", f"<h1>{name}</h1>{table}{rest}")


async def pull_page(call: Call) -> Response:
    """Answer with one pull request: words, statuses, reviews, conversation and diff."""
    pull = await call.pulls.get(call.number)
    parts = [
        _heading(pull, call.links),
        _box(escape(pull.body) or "<span class=soft>No description.</span>"),
        _statuses(wire.newest_by_context(await call.pulls.statuses(pull.head))),
        _reviews(
            await call.pulls.reviews(pull.number), await call.pulls.line_comments(pull.number)
        ),
        _comments(await call.pulls.comments(pull.number)),
        _diff(await call.pulls.history.diff(pull.base, pull.head)),
    ]
    return _page(f"{escape(pull.title)} · #{pull.number}", "".join(parts))


def _page(title: str, content: str) -> Response:
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style><main>{content}</main></html>",
        headers=_HEADERS,
    )


def _pull_row(pull: PullRequest, links: wire.Links) -> str:
    # The name comes from our own table, but links are quoted all the same.
    address = escape(f"{links.html}/pull/{pull.number}", quote=True)
    return (
        f"<tr><td>#{pull.number}<td>{_state(pull)}<td><a href='{address}'>{escape(pull.title)}</a>"
        f"<td class=soft><code>{escape(pull.head_branch)}</code><td class=soft>"
        f"{wire.iso(pull.updated_ms)}"
    )


def _heading(pull: PullRequest, links: wire.Links) -> str:
    back = escape(f"{links.html}/pulls", quote=True)
    landed = (
        f" as <code>{pull.ending.commit[:12]}</code>" if isinstance(pull.ending, Merged) else ""
    )
    return (
        f"<p><a href='{back}'>{escape(links.name)}</a></p>"
        f"<h1>{escape(pull.title)} <span class=soft>#{pull.number}</span></h1>"
        f"<p>{_state(pull)}{landed} · {escape(pull.author)} proposes "
        f"<code>{escape(pull.head_branch)}</code> (<code>{pull.head[:12]}</code>) for "
        f"<code>{escape(pull.base_branch)}</code>, {wire.iso(pull.created_ms)}</p>"
    )


def _state(pull: PullRequest) -> str:
    match pull.ending:
        case None:
            word = "open"
        case Merged():
            word = "merged"
        case Closed():
            word = "closed"
    return f"<strong class={word}>{word}</strong>"


def _statuses(statuses: Iterable[CommitStatus]) -> str:
    return _section(
        "Statuses",
        (
            f"<p><strong class={status.state.value}>{status.state.value}</strong> "
            f"<code>{escape(status.context)}</code> {escape(status.description)}</p>"
            for status in statuses
        ),
    )


def _reviews(reviews: Iterable[PullReview], remarks: Iterable[LineComment]) -> str:
    by_review: dict[int, list[LineComment]] = {}
    for remark in remarks:
        by_review.setdefault(remark.review, []).append(remark)
    return _section(
        "Reviews", (_review(review, by_review.get(review.id, ())) for review in reviews)
    )


def _review(review: PullReview, remarks: Iterable[LineComment]) -> str:
    words = review.state.value.replace("_", " ").lower()
    said = (
        f"<strong class={review.state.value}>{words}</strong> · {escape(review.author)} on "
        f"<code>{review.commit[:12]}</code>, {wire.iso(review.at_ms)}"
    )
    lines = "".join(
        _box(escape(remark.body), f"<code>{escape(remark.path)}:{remark.line}</code>")
        for remark in remarks
    )
    return _box(escape(review.body), said, lines)


def _comments(comments: Iterable[Comment]) -> str:
    return _section(
        "Comments",
        (
            _box(escape(comment.body), f"{escape(comment.author)}, {wire.iso(comment.at_ms)}")
            for comment in comments
        ),
    )


def _section(title: str, entries: Iterable[str]) -> str:
    content = "".join(entries)
    return f"<h2>{title}</h2>{content}" if content else ""


def _box(text: str, said: str = "", more: str = "") -> str:
    heading = f"<p class=soft>{said}</p>" if said else ""
    return f"<div class=box>{heading}<pre>{text}</pre>{more}</div>"


def _diff(diff: str) -> str:
    shown = diff[:_DIFF_CHARACTERS_MAX]
    cut = "<p>The rest of the diff is too long to show.</p>" if len(diff) > len(shown) else ""
    lines = "".join(_diff_line(line) for line in shown.removesuffix("\n").split("\n"))
    return f"<h2>Changes</h2><div class='box diff'><pre>{lines}</pre></div>{cut}"


def _diff_line(line: str) -> str:
    kinds = {"+": "add", "-": "del", "@": "hunk", "d": "file"}
    kind = "soft" if line.startswith(("+++ ", "--- ")) else kinds.get(line[:1], "")
    return f"<span class='{kind}'>{escape(line)}</span>"
