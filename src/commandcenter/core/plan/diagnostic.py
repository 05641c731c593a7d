"""What is wrong with a plan, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PlanSeverity(StrEnum):
    """How much a diagnostic weighs: an error stops the plan before anything starts."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Diagnostic:
    """One thing to say about a plan. Its text is `plan.md:42:3: error[P004]: message`."""

    code: str
    """`P…` is an error, `W…` a warning: see docs/plan-format.md."""
    message: str
    line: int = 1
    column: int = 1
    hint: str = ""
    subject: str = ""
    """The words on that line that it is about; the column is where they begin."""
    path: str = "plan"

    @property
    def severity(self) -> PlanSeverity:
        """Return how much it weighs, which its code says."""
        return PlanSeverity.ERROR if self.code.startswith("P") else PlanSeverity.WARNING

    @property
    def is_error(self) -> bool:
        """Say whether it stops the plan."""
        return self.severity is PlanSeverity.ERROR

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}"
        text = f"{place}: {self.severity}[{self.code}]: {self.message}"
        return f"{text}\nhint: {self.hint}" if self.hint else text
