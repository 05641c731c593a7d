"""The interface of a plan reader, and what goes in and comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from commandcenter.core.plan import Diagnostic, Plan


@dataclass(frozen=True)
class PlanSource:
    """The content of a plan file. The caller has read it: readers do no I/O."""

    content: str | bytes
    path: str = "plan.md"
    """Shown in diagnostics, and a hint to the dialect."""


@dataclass(frozen=True)
class PlanText:
    """A decoded plan: no byte order mark, lines end with a bare line feed."""

    text: str
    path: str
    sha256: str
    """Of the bytes as they came."""


@dataclass(frozen=True)
class ReadResult:
    """A plan, if one could be made out, and everything there is to say about it."""

    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def ok(self) -> bool:
        """Say whether the plan can be run: it is there, and nothing about it is an error."""
        return self.plan is not None and not any(d.is_error for d in self.diagnostics)


class Reader(Protocol):
    """Reads one dialect. Its module offers one as `READER`. Pure."""

    name: str

    def score(self, text: str, path: str) -> float:
        """Say how surely a text is of this dialect, from 0 (not at all) to 1."""

    def read(self, source: PlanText) -> ReadResult:
        """Return the plan, and what only this dialect can say about it.

        What holds for every plan is checked later, by `core.plan.check`.
        """
