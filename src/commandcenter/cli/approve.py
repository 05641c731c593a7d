"""`commandcenter approve`, `comment` and `reject`: a person's word on what is ready to land."""

from __future__ import annotations

import getpass
from typing import Any

import click

from commandcenter.api.schema import StatusAnswer
from commandcenter.cli import journal
from commandcenter.cli.client import serving
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.settings import Settings

_GOES_ON = "hint: it goes on with: commandcenter run --resume {run}, or commandcenter serve"
_words = click.option("-m", "--message", default="", help="Words for the pull request.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")


@click.command()
@click.argument("run")
@click.argument("task", required=False)
@_words
@_json
@invocation
def approve(invocation: Invocation, run: str, task: str | None, message: str, as_json: bool) -> int:
    """Let the change of TASK land; without TASK, every one of RUN that waits for approval."""
    return _say(invocation.settings(), "approve", run, task, message, as_json=as_json)


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("-m", "--message", required=True, help="What to change.")
@_json
@invocation
def comment(invocation: Invocation, run: str, task: str, message: str, as_json: bool) -> int:
    """Send the change of TASK, which waits for approval, back to its agent."""
    return _say(invocation.settings(), "comment", run, task, message, as_json=as_json)


@click.command()
@click.argument("run")
@click.argument("task")
@_words
@_json
@invocation
def reject(invocation: Invocation, run: str, task: str, message: str, as_json: bool) -> int:
    """Refuse the change of TASK, which waits for approval; its work stays salvaged."""
    return _say(invocation.settings(), "reject", run, task, message, as_json=as_json)


def _say(
    settings: Settings, what: str, run: str, task: str | None, message: str, *, as_json: bool
) -> int:
    journal.keep(settings.data_dir)
    body = {"task": task, "words": message, "by": _who()}
    until_stopped(lambda stop: _post(settings, f"/{run}/{what}", body, stop, as_json=as_json))
    return 0


async def _post(
    settings: Settings, path: str, body: dict[str, Any], stop: Stop, *, as_json: bool
) -> None:
    async with serving(settings) as client:
        stop.listen()
        answer = await client.post(path, body)
        if as_json:
            print(answer.text)
            return
        status = StatusAnswer.model_validate_json(answer.content)
        print(f"Said, and told to the pull request. Run {status.execution_id} goes on.")
        if client.embedded:
            print(_GOES_ON.format(run=status.execution_id))


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "a person"
