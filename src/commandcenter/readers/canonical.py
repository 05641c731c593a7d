"""Reads `cc.plan/1` JSON: the canonical form, as `plan show --json` prints it."""

from __future__ import annotations

import json
from dataclasses import replace

import yaml

from commandcenter.core.plan import SCHEMA, Diagnostic, Fault, Origin, PlanRecordError, from_json
from commandcenter.readers.reader import PlanText, Reader, ReadResult


class Canonical:
    """Reader of the canonical form."""

    name = "canonical"

    def score(self, text: str, path: str) -> float:
        """Say 1 for JSON: its first character is a brace, or the file is called so."""
        return 1.0 if text.lstrip().startswith("{") or path.casefold().endswith(".json") else 0.0

    def read(self, source: PlanText) -> ReadResult:
        """Return the plan; every key that is wrong is named, with its line."""
        try:
            plan = from_json(source.text)
        except json.JSONDecodeError as error:
            hint = "a plan in JSON has the form that `plan show --json` prints"
            message = f"not JSON: {error.msg}"
            return _refused(Diagnostic("P016", message, error.lineno, error.colno, hint=hint))
        except (RecursionError, ValueError):
            return _refused(Diagnostic("P016", "not JSON that can be read: too deep or too big"))
        except PlanRecordError as error:
            return _refused(*_diagnostics(error.faults, source.text))
        if plan.source.dialect:
            return ReadResult(plan)
        origin = Origin(source.path, source.sha256, self.name)
        return ReadResult(replace(plan, source=origin))


READER: Reader = Canonical()


def _refused(*found: Diagnostic) -> ReadResult:
    return ReadResult(None, found)


def _diagnostics(faults: tuple[Fault, ...], text: str) -> list[Diagnostic]:
    root = _marks(text)
    hint = f"see docs/plan-format.md for {SCHEMA}"
    found = []
    for fault in faults:
        line, column = _place(root, fault.path)
        found.append(Diagnostic("P017", str(fault), line, column, hint=hint))
    return found


def _marks(text: str) -> yaml.Node | None:
    """Return the document with line marks: JSON is YAML, save for a few odd characters."""
    try:
        return yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return None


def _place(node: yaml.Node | None, path: tuple[str | int, ...]) -> tuple[int, int]:
    """Return line and column of the deepest part of the path that is there."""
    mark = node.start_mark if node is not None else None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break
            mark, node = pair[0].start_mark, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
