"""What a change that could not be merged is told: where, against whom, and the lines themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from commandcenter.core.markdown import block, code

FILES_MAX = 20
OTHERS_MAX = 5
EXCERPT_MAX = 6_000
"""Most characters of conflicting lines that an agent is shown."""
_OURS, _THEIRS = "<<<<<<< ", ">>>>>>> "


@dataclass(frozen=True)
class Clash:
    """A change and what landed meanwhile changed the same lines."""

    files: tuple[str, ...]
    task: str = "the change"
    """Whose change it is, as people name it."""
    others: tuple[str, ...] = ()
    """What landed meanwhile and touches these files, newest first; as people name it."""
    excerpt: str = ""
    """The lines, in Markdown: first what landed, then those of the change."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return {
            "files": list(self.files),
            "whose": self.task,
            "others": list(self.others),
            "excerpt": self.excerpt,
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Clash:  # Any: JSON written by `to_json`
        """Return what `to_json` stored; older records have the files and, in `with`, task ids."""
        others = record.get("others", [f"task {task}" for task in record.get("with", ())])
        return Clash(
            tuple(record["files"]),
            record.get("whose", Clash.task),
            tuple(others),
            record.get("excerpt", ""),
        )

    @property
    def words(self) -> str:
        """Return in one clause who conflicts with whom, and where."""
        files = ", ".join(self.files[:FILES_MAX])
        others = f", of {', '.join(self.others[:OTHERS_MAX])}" if self.others else ""
        return f"{self.task} conflicts with what landed meanwhile in: {files}{others}"

    @property
    def feedback(self) -> str:
        """Return what the agent is told that does the task again on top of what landed."""
        files = "".join(f"- {code(path)}\n" for path in self.files[:FILES_MAX])
        others = "".join(f"- {other}\n" for other in self.others[:OTHERS_MAX])
        parts = [
            "Your earlier change could not be merged, since other work landed meanwhile and both "
            f"touch the same lines of:\n\n{files}",
            f"The other work is:\n\n{others}" if others else "",
            "You start again from the present state, which has the other work. Do the task on top "
            "of it, and keep what the other work did.",
            f"The lines, first as they landed, then as you had them:\n\n{self.excerpt}"
            if self.excerpt
            else "",
        ]
        return "\n\n".join(part.strip() for part in parts if part)


def excerpt(files: Mapping[str, str]) -> str:
    """Return the conflicting lines of merged files, by path, in Markdown and bounded."""
    parts: list[str] = []
    left = EXCERPT_MAX
    for path, text in files.items():
        lines = "\n".join(_conflicting(text.splitlines()))
        if lines and left > 0:
            shown = lines if len(lines) <= left else f"{lines[:left]}\n[cut off]"
            parts.append(f"{code(path)}\n\n{block(shown)}")
            left -= len(shown)
    return "\n\n".join(parts)


def _conflicting(lines: list[str]) -> Iterator[str]:
    """Give the lines between git's markers, and the markers in words."""
    inside = False
    for line in lines:
        if line.startswith(_OURS):
            inside = True
            yield f"{_OURS}landed meanwhile"
        elif line.startswith(_THEIRS) and inside:
            inside = False
            yield f"{_THEIRS}your earlier change"
        elif inside:
            yield line
