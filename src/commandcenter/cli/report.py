"""`commandcenter report`: what became of a run, to be read, sent or kept."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import click

from commandcenter.cli.client import reading
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.wording import size
from commandcenter.core.errors import InputError
from commandcenter.settings import Settings


@click.command()
@click.argument("run")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["md", "html", "json"]),
    help="By default that of the file's name, else md.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Write it into this file instead."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
@invocation
def report(
    invocation: Invocation,
    run: str,
    format_: str | None,
    as_json: bool,
    output: Path | None,
    force: bool,
) -> int:
    """Tell all that became of RUN: what landed, what did not and why, checks, times, cost."""
    if as_json and format_ not in (None, "json"):
        raise click.UsageError("Give either --json or another --format.")
    wanted = "json" if as_json else format_ or _named(output)
    if output is not None:
        _require_writable(output, force=force)
    content = asyncio.run(_report(invocation.settings(), run, wanted))
    if output is None:
        sys.stdout.write(content.decode())
    else:
        _write(content, output)
        print(f"The report is in {output} ({size(len(content))}).")
    return 0


def _named(output: Path | None) -> str:
    suffixes = {".html": "html", ".htm": "html", ".json": "json"}
    return suffixes.get(output.suffix.lower(), "md") if output else "md"


async def _report(settings: Settings, run: str, format_: str) -> bytes:
    async with reading(settings) as client:
        answer = await client.get(f"/{run}/report", format=format_)
    return answer.content if answer.content.endswith(b"\n") else answer.content + b"\n"


def _require_writable(output: Path, *, force: bool) -> None:
    """Refuse before a large run is read for nothing."""
    if output.is_dir():
        raise InputError(f"{output} is a folder.", hint=f"name a file: {output / 'report.html'}")
    if output.exists() and not force:
        raise InputError(f"{output} is there already.", hint="overwrite it: --force")
    if not output.parent.is_dir():
        raise InputError(f"There is no folder {output.parent}.", hint="make it, or name another")


def _write(content: bytes, output: Path) -> None:
    """Write a file whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(
            dir=output.parent, prefix=".report-", delete=False
        ) as file:
            try:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.replace(file.name, output)
            except OSError:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise InputError(
            f"{output} cannot be written: {error.strerror}.", hint="name another file"
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
