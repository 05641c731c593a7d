"""`commandcenter doctor`: what this machine can and cannot do."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from commandcenter.api.schema import FindingAnswer
from commandcenter.cli.client import reading
from commandcenter.cli.failure import FAILED
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.summary import console
from commandcenter.cli.wording import one_line
from commandcenter.core.run import Health
from commandcenter.settings import Settings

_FINDINGS = TypeAdapter(list[FindingAnswer])
_STYLES = {Health.OK: "green", Health.DEGRADED: "yellow", Health.MISSING: "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def doctor(invocation: Invocation, as_json: bool) -> int:
    """Check what CommandCenter needs of this machine. Exit code 1 when something is missing."""
    return asyncio.run(_doctor(invocation.settings(), as_json=as_json))


async def _doctor(settings: Settings, *, as_json: bool) -> int:
    async with reading(settings) as client:
        answer = await client.get_doctor()
    findings = _FINDINGS.validate_json(answer.content)
    if as_json:
        print(answer.text)
    else:
        _show(findings)
    missing = any(finding.health is Health.MISSING for finding in findings)
    return FAILED if missing else 0


async def modes(settings: Settings) -> Mapping[str, FindingAnswer]:
    """Return what is found of each mode, in a data folder that is there for it alone."""
    with tempfile.TemporaryDirectory(prefix="cc-doctor-") as aside:
        async with reading(replace(settings, data_dir=Path(aside))) as client:
            answer = await client.get_doctor()
    findings = _FINDINGS.validate_json(answer.content)
    return {each.name[5:]: each for each in findings if each.name.startswith("mode ")}


def _show(findings: Sequence[FindingAnswer]) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.health, _STYLES[finding.health]),
            finding.name,
            Text(one_line(finding.detail)),
        )
        if finding.hint:
            table.add_row("", "", Text(f"hint: {one_line(finding.hint)}"))
    console().print(table)
