"""`commandcenter salvage`: work that did not land, given back or dropped."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import click
from rich.text import Text

from commandcenter.api.schema import SalvageAnswer
from commandcenter.cli import journal, wording
from commandcenter.cli.client import owning, reading
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.summary import console, plain_table
from commandcenter.core.errors import InputError
from commandcenter.settings import Settings


@click.group()
def salvage() -> None:
    """Work that did not land: list it, restore it, drop it."""


@salvage.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def list_(invocation: Invocation, as_json: bool) -> int:
    """List what failed, cancelled and lost tries had made."""
    found = asyncio.run(_list(invocation.settings()))
    if as_json:
        print(f"[{','.join(each.model_dump_json() for each in found)}]")
    else:
        _show(found)
    return 0


async def _list(settings: Settings) -> list[SalvageAnswer]:
    async with reading(settings) as client:
        return await client.salvage()


def _show(found: Sequence[SalvageAnswer]) -> None:
    if not found:
        print("There is none: nothing was made that did not land.")
        return
    table = plain_table()
    for name in ("Id", "Since", "Commit", "Size"):
        table.add_column(name, no_wrap=True)
    table.add_column("What", overflow="fold", min_width=10)
    for each in found:
        table.add_row(
            Text(wording.one_line(each.id)),
            wording.date(each.since),
            each.commit[:12] if each.commit else "files",
            wording.size(each.size_bytes) if each.size_bytes else "",
            Text(wording.one_line(each.why)),
        )
    console().print(table)


@salvage.command()
@click.argument("id_", metavar="ID")
@click.option("--repo", help="Folder or URL of the repository; by default the run's own.")
@click.option("--branch", help="Name of the new branch; by default salvage/RUN/...")
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Unpack the files into this new folder, instead of making a branch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def restore(
    invocation: Invocation,
    id_: str,
    repo: str | None,
    branch: str | None,
    to: Path | None,
    as_json: bool,
) -> int:
    """Make a new branch of ID, or unpack its files. No checkout is touched."""
    settings = invocation.settings()
    journal.keep(settings.data_dir)
    if to is not None:
        if repo or branch:
            raise InputError("Either a branch is made, or files are unpacked.", hint="drop --to")
        asyncio.run(_unpack(settings, id_, to))
        return 0
    where = os.path.abspath(repo) if repo and os.path.isdir(repo) else repo
    asyncio.run(_restore(settings, id_, where, branch, as_json=as_json))
    return 0


async def _restore(
    settings: Settings, id_: str, repository: str | None, branch: str | None, *, as_json: bool
) -> None:
    async with owning(settings) as client:
        made = await client.restore({"id": id_, "repository": repository, "branch": branch})
    if as_json:
        print(made.model_dump_json())
        return
    print(f"The branch {made.branch} is in {made.repository}, at {made.commit[:12]}.")


async def _unpack(settings: Settings, id_: str, to: Path) -> None:
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} is there already.", hint="name a folder that is new or empty")
    with tempfile.TemporaryFile() as archive:
        async with owning(settings) as client:
            left_out = await client.fetch_files(id_, archive)
        archive.seek(0)
        number = extract(archive, to)
    print(f"{wording.count(number, 'file')} in {to}.")
    if left_out:
        print(f"Left out, being neither files nor links: {wording.count(left_out, 'path')}.")


def extract(archive: IO[bytes], to: Path) -> int:
    """Unpack plain files and links into an empty folder; return how many.

    Links come last, so that nothing is written through one.
    """
    to.mkdir(parents=True, exist_ok=True)
    number = 0
    with tarfile.open(fileobj=archive, mode="r:") as members:
        inside = [member for member in members if _is_below(member.name)]
        files = [member for member in inside if member.isreg()]
        links = [member for member in inside if member.issym()]
        for member in (*files, *links):
            place = to / member.name
            if os.path.lexists(place):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.isreg():
                _write(members, member, place)
            else:
                place.symlink_to(member.linkname)
            number += 1
    return number


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    content = members.extractfile(member)
    assert content is not None
    with content, place.open("xb") as file:
        shutil.copyfileobj(content, file)
    place.chmod(0o755 if member.mode & 0o100 else 0o644)


@salvage.command()
@click.argument("id_", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@invocation
def drop(invocation: Invocation, id_: str, yes: bool) -> int:
    """Remove ID for good."""
    settings = invocation.settings()
    journal.keep(settings.data_dir)
    if not yes:
        _confirm(id_)
    asyncio.run(_drop(settings, id_))
    print(f"It is gone: {id_}")
    return 0


def _confirm(id_: str) -> None:
    if not sys.stdin.isatty():
        raise InputError("Nobody can be asked here.", hint=f"salvage drop {id_} --yes")
    click.confirm(f"Remove {id_} for good? Nothing else may hold this work", abort=True)


async def _drop(settings: Settings, id_: str) -> None:
    async with owning(settings) as client:
        await client.drop(id_)
