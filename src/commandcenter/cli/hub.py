"""`commandcenter hub`: the pull requests of the built-in forge, in the terminal."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import httpx
from rich.text import Text

from commandcenter.app import HUB_PATH, HUB_PERSON_TOKEN, reading_hub
from commandcenter.cli import wording
from commandcenter.cli.client import live
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.summary import console, plain_table
from commandcenter.core.errors import InputError, NotFound, WorldError
from commandcenter.settings import Settings

Json = Any  # Any: JSON in GitHub's shapes
T = TypeVar("T")
_STYLES = {"open": "green", "merged": "magenta", "closed": "red"}
_VERDICTS = {
    "success": "green",
    "failure": "red",
    "error": "red",
    "APPROVED": "green",
    "CHANGES_REQUESTED": "red",
}
_DIFF = {"+": "green", "-": "red", "@": "cyan"}
_PAGE = 100
_ANSWER_S = 60.0
_PULL = re.compile(r"(?:(?P<repository>[\w.-]+)#)?(?P<number>[1-9][0-9]{0,8})")


@click.group()
def hub() -> None:
    """Pull requests on the built-in forge: list them, show one, read its diff.

    A pull request is named by its number, or by REPOSITORY#NUMBER where there are several.
    """


@hub.command("list")
@click.option(
    "--state",
    type=click.Choice(["open", "closed", "all"]),
    default="open",
    show_default=True,
    help="Which ones; closed are merged ones, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the hub's answers.")
@invocation
def list_(invocation: Invocation, state: str, as_json: bool) -> int:
    """List pull requests, newest first."""
    found = _asked(invocation, lambda client: _list(client, state))
    if as_json:
        print(json.dumps(found))
    else:
        _show_list(found, state)
    return 0


@hub.command()
@click.argument("pull")
@click.option("--json", "as_json", is_flag=True, help="Print the hub's answers.")
@invocation
def show(invocation: Invocation, pull: str, as_json: bool) -> int:
    """Show a pull request with its files, checks, reviews and comments."""
    found = _asked(invocation, lambda client: _whole(client, pull))
    if as_json:
        print(json.dumps(found))
    else:
        for line in _lines(found):
            console().print(line, soft_wrap=True)
    return 0


@hub.command()
@click.argument("pull")
@invocation
def diff(invocation: Invocation, pull: str) -> int:
    """Print what a pull request changes."""
    text = _asked(invocation, lambda client: _diff(client, pull))
    if not sys.stdout.isatty():
        # As git wrote it, so that it can be applied.
        sys.stdout.write(text)
        return 0
    for line in text.splitlines():
        console().print(Text(wording.clean(line), _DIFF.get(line[:1], "")), soft_wrap=True)
    return 0


@hub.command()
@invocation
def token(invocation: Invocation) -> int:
    """Print a token for clients of GitHub's API, which read, review and merge here as you.

    Their base URL is the address of `commandcenter serve`, followed by /hub.
    """
    settings = invocation.settings()
    _asked(invocation, lambda client: client.get(f"{HUB_PATH}/user"))
    print((settings.data_dir / HUB_PERSON_TOKEN).read_text())
    return 0


def _asked(invocation: Invocation, question: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with _client(invocation.settings()) as client:
            try:
                return await question(client)
            except httpx.TransportError as error:
                raise WorldError("The service does not answer any more.") from error

    return asyncio.run(ask())


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the hub: the live service's, or one of this process."""
    url = await live(settings)
    if url is None:
        async with reading_hub(settings) as app:
            transport = httpx.ASGITransport(app)
            async with _as_person(settings, "http://127.0.0.1", transport) as client:
                yield client
    else:
        async with _as_person(settings, url, None) as client:
            yield client


def _as_person(
    settings: Settings, url: str, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    token = (settings.data_dir / HUB_PERSON_TOKEN).read_text()
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        transport=transport,
        trust_env=False,
        timeout=_ANSWER_S,
    )


async def _get(client: httpx.AsyncClient, path: str, **query: str | int) -> httpx.Response:
    answer = await client.get(f"{HUB_PATH}{path}", params=query)
    if answer.status_code == 404:
        raise NotFound("The hub has no such pull request.", hint="see: commandcenter hub list")
    if answer.is_error:
        raise WorldError(f"The hub answered {answer.status_code}: {answer.json()['message']}")
    return answer


async def _every(client: httpx.AsyncClient, path: str, **query: str | int) -> list[Json]:
    """Return all entries of a list, page by page."""
    found: list[Json] = []
    page = 1
    while True:
        answer = await _get(client, path, per_page=_PAGE, page=page, **query)
        found += answer.json()
        if "next" not in answer.links:
            return found
        page += 1


async def _list(client: httpx.AsyncClient, state: str) -> list[Json]:
    found = []
    for repository in await _every(client, "/user/repos"):
        found += await _every(client, f"/repos/{repository['full_name']}/pulls", state=state)
    return sorted(found, key=lambda pull: str(pull["created_at"]), reverse=True)


async def _path(client: httpx.AsyncClient, pull: str) -> str:
    """Return where a pull request is that a person named."""
    named = _PULL.fullmatch(pull)
    if named is None:
        raise InputError(
            f"`{pull}` names no pull request.", hint="give a number, or REPOSITORY#NUMBER"
        )
    names = {each["name"]: each["full_name"] for each in await _every(client, "/user/repos")}
    wanted = named["repository"]
    if wanted is None and len(names) > 1:
        known = ", ".join(f"{name}#{named['number']}" for name in names)
        raise InputError(
            f"There are several repositories with a pull request {pull} to be found in.",
            hint=f"say which one: {known}",
        )
    chosen = names.get(wanted) if wanted else next(iter(names.values()), None)
    if chosen is None:
        raise NotFound("The hub has no such repository.", hint="see: commandcenter hub list")
    return f"/repos/{chosen}/pulls/{named['number']}"


async def _whole(client: httpx.AsyncClient, pull: str) -> dict[str, Json]:
    path = await _path(client, pull)
    found = (await _get(client, path)).json()
    repository = path.rpartition("/pulls/")[0]
    status = await _get(client, f"{repository}/commits/{found['head']['sha']}/status")
    return {
        "pull": found,
        "files": await _every(client, f"{path}/files"),
        "statuses": status.json()["statuses"],
        "reviews": await _every(client, f"{path}/reviews"),
        "line_comments": await _every(client, f"{path}/comments"),
        "comments": await _every(client, f"{repository}/issues/{found['number']}/comments"),
    }


async def _diff(client: httpx.AsyncClient, pull: str) -> str:
    path = await _path(client, pull)
    answer = await client.get(
        f"{HUB_PATH}{path}", headers={"Accept": "application/vnd.github.diff"}
    )
    if answer.status_code == 404:
        raise NotFound("The hub has no such pull request.", hint="see: commandcenter hub list")
    return answer.text


def _state(pull: Json) -> str:
    return "merged" if pull["merged_at"] else str(pull["state"])


def _show_list(found: Sequence[Json], state: str) -> None:
    if not found:
        ended = "; ended ones: commandcenter hub list --state all" if state == "open" else ""
        print(f"There is no {'' if state == 'all' else f'{state} '}pull request{ended}")
        return
    table = plain_table()
    for name in ("Pull request", "State", "Since"):
        table.add_column(name, no_wrap=True)
    table.add_column("Title", overflow="fold", min_width=10)
    table.add_column("Branch", overflow="fold")
    for pull in found:
        state = _state(pull)
        table.add_row(
            f"{pull['base']['repo']['name']}#{pull['number']}",
            Text(state, _STYLES[state]),
            wording.date(pull["created_at"]),
            Text(wording.one_line(pull["title"])),
            Text(wording.one_line(pull["head"]["ref"])),
        )
    console().print(table)


def _lines(found: dict[str, Json]) -> Iterator[Text]:
    pull = found["pull"]
    state = _state(pull)
    yield Text(f"#{pull['number']} {wording.one_line(pull['title'])}", "bold")
    yield Text.assemble(
        (state, _STYLES[state]),
        f", {wording.one_line(pull['head']['ref'])} into {wording.one_line(pull['base']['ref'])}, "
        f"by {pull['user']['login']}, {wording.date(pull['created_at'])}",
    )
    if urlsplit(pull["html_url"]).port is not None:
        # Else no service is running, and nobody answers there.
        yield Text(pull["html_url"])
    if pull["merged_at"]:
        yield Text(f"merged as {pull['merge_commit_sha'][:12]}, {wording.date(pull['merged_at'])}")
    yield Text(f"\n{wording.clean(pull['body'] or '').strip()}")
    yield from _section("Files", map(_file, found["files"]))
    yield from _section("Checks", map(_status, found["statuses"]))
    yield from _section("Reviews", map(_review, found["reviews"]))
    yield from _section("On lines", map(_line_comment, found["line_comments"]))
    yield from _section("Comments", map(_comment, found["comments"]))


def _section(title: str, entries: Iterator[Text]) -> Iterator[Text]:
    listed = [*entries]
    if listed:
        yield Text(f"\n{title}", "bold")
        yield from listed


def _file(file: Json) -> Text:
    counts = f"+{file['additions']} -{file['deletions']}"
    return Text(f"  {file['status']:9} {counts:>12}  {wording.one_line(file['filename'])}")


def _status(status: Json) -> Text:
    words = wording.one_line(status["description"] or "")
    return Text.assemble(
        "  ",
        (status["state"], _VERDICTS.get(status["state"], "")),
        f"  {status['context']}  {words}",
    )


def _review(review: Json) -> Text:
    words = wording.clean(review["body"] or "").strip().replace("\n", "\n    ")
    return Text.assemble(
        "  ",
        (review["state"].lower().replace("_", " "), _VERDICTS.get(review["state"], "")),
        f" by {review['user']['login']} of {review['commit_id'][:12]}\n    {words}",
    )


def _line_comment(comment: Json) -> Text:
    words = wording.clean(comment["body"]).strip().replace("\n", "\n    ")
    return Text(f"  {wording.one_line(comment['path'])}:{comment['line']}\n    {words}")


def _comment(comment: Json) -> Text:
    words = wording.clean(comment["body"]).strip().replace("\n", "\n    ")
    return Text(f"  {comment['user']['login']}, {wording.date(comment['created_at'])}\n    {words}")
