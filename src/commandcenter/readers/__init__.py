"""Readers of plans: one module a dialect, found by its `READER`."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import import_module
from types import MappingProxyType

from commandcenter.core.plan import Diagnostic, Plan, check
from commandcenter.readers.decoding import decode
from commandcenter.readers.reader import PlanSource, PlanText, Reader, ReadResult

__all__ = ["PlanSource", "PlanText", "ReadResult", "Reader", "read_plan", "readers"]


@cache
def readers() -> MappingProxyType[str, Reader]:
    """Return the readers by the name of their dialect: every module here with a `READER`."""
    modules = [import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    found = [m.READER for m in modules if hasattr(m, "READER")]
    return MappingProxyType({reader.name: reader for reader in found})


def read_plan(source: PlanSource, dialect: str | None = None) -> ReadResult:
    """Return the plan in a source, and all that is to say about it, by line.

    The dialect is found out from the content unless it is given. A result with an error may
    still carry the plan, as far as it was understood.
    """
    decoded = decode(source)
    if isinstance(decoded, Diagnostic):
        return ReadResult(None, (replace(decoded, path=source.path),))
    if dialect is not None and dialect not in readers():
        hint = f"known are {', '.join(sorted(readers()))}"
        message = f"no reader is called `{dialect}`"
        return ReadResult(None, (Diagnostic("P015", message, hint=hint, path=source.path),))
    result = _reader(decoded, dialect).read(decoded)
    found = [*result.diagnostics, *_checked(result.plan)]
    return ReadResult(result.plan, _placed(found, decoded))


def _reader(source: PlanText, dialect: str | None) -> Reader:
    if dialect is not None:
        return readers()[dialect]
    return max(readers().values(), key=lambda r: r.score(source.text, source.path))


def _checked(plan: Plan | None) -> tuple[Diagnostic, ...]:
    return check(plan) if plan is not None else ()


def _placed(found: Iterable[Diagnostic], source: PlanText) -> tuple[Diagnostic, ...]:
    """Sort by place, with the path, and with the column where each subject stands."""
    lines = source.text.split("\n")
    placed = {_at(d, lines, source.path): None for d in found}
    return tuple(sorted(placed, key=lambda d: (d.line, d.column, d.code, d.message)))


def _at(diagnostic: Diagnostic, lines: list[str], path: str) -> Diagnostic:
    line = min(max(diagnostic.line, 1), len(lines))
    if column := _column(diagnostic.subject, lines[line - 1]):
        return replace(diagnostic, line=line, column=column, path=path)
    return replace(diagnostic, line=line, subject="", path=path)


def _column(subject: str, line: str) -> int:
    """Return where a subject stands in a line, as a whole word if it does; 0 for nowhere."""
    if not subject:
        return 0
    whole = re.search(rf"(?<![\w.]){re.escape(subject)}(?!\.?\w)", line)
    return (whole.start() if whole else line.find(subject)) + 1
