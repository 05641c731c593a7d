"""`commandcenter gc`: free what is held elsewhere, and say of the rest why not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import click

from commandcenter.api.schema import GcAnswer, ItemAnswer
from commandcenter.cli import journal
from commandcenter.cli.client import owning
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.wording import one_line, size
from commandcenter.core.upkeep import Thing
from commandcenter.settings import Settings

_NAMED = 5
"""Things that are named of those that are kept, or go, for the same reason."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def gc(invocation: Invocation, dry_run: bool, as_json: bool) -> int:
    """Free what ended runs left and something else holds; say of the rest why it stays.

    Nothing goes that is the only copy of somebody's work, or that a live run uses.
    """
    settings = invocation.settings()
    journal.keep(settings.data_dir)
    found = asyncio.run(_collect(settings, dry_run=dry_run))
    if as_json:
        print(found.model_dump_json())
    else:
        _show(found)
    return 0


async def _collect(settings: Settings, *, dry_run: bool) -> GcAnswer:
    async with owning(settings) as client:
        return await client.gc(dry_run=dry_run)


def _show(found: GcAnswer) -> None:
    for heading, free in ((_freed(found), True), ("Stays:", False)):
        groups = _by_reason([item for item in found.items if item.free is free])
        if groups or free:
            print(heading)
        for (what, why), items in groups.items():
            total = size(sum(item.size_bytes for item in items))
            print(f"  {_counted(len(items), what)}, {total}: {one_line(why)}")
            for item in items[:_NAMED]:
                print(f"    {one_line(item.name)}")
            if len(items) > _NAMED:
                print(f"    and {len(items) - _NAMED} more; --json names all")


def _freed(found: GcAnswer) -> str:
    total = size(found.freed_bytes)
    if not any(item.free for item in found.items):
        return "There is nothing to free."
    return f"Would free {total}:" if found.dry_run else f"Freed {total}:"


def _by_reason(items: Sequence[ItemAnswer]) -> dict[tuple[Thing, str], list[ItemAnswer]]:
    groups: dict[tuple[Thing, str], list[ItemAnswer]] = {}
    for item in items:
        groups.setdefault((item.what, item.why), []).append(item)
    return groups


_NOUNS: Mapping[Thing, tuple[str, str]] = {
    Thing.BRANCH: ("branch", "branches"),
    Thing.LOGS: ("logs of 1 run", "logs of {} runs"),
    Thing.OBJECTS: ("unreachable objects of 1 vault", "unreachable objects of {} vaults"),
    Thing.SALVAGE: ("piece of salvaged work", "pieces of salvaged work"),
    Thing.UNKNOWN: ("thing that is not ours", "things that are not ours"),
}


def _counted(number: int, what: Thing) -> str:
    """Return a number with its noun: `1 branch`, `logs of 2 runs`."""
    one, many = _NOUNS.get(what, (what, f"{what}s"))
    words = one if number == 1 else many
    return words.format(number) if "1" in one else f"{number} {words}"
