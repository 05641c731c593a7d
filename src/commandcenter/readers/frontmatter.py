"""Reads YAML front matter: what a plan sets for all of its tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml

from commandcenter.core.agent import Role
from commandcenter.core.merge_queue import Strategy
from commandcenter.core.pattern import Handoff
from commandcenter.core.plan import Defaults, Diagnostic, ReviewPolicy, TaskLimits
from commandcenter.core.plan.model import YES_OR_NO
from commandcenter.core.plan.notation import handoff_text
from commandcenter.core.plan.spelling import closest

_OURS = ("commandcenter", "title", "defaults")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_TAG = "tag:yaml.org,2002:"


@dataclass
class FrontMatter:
    """What the front matter says, and what is wrong with it."""

    title: str = ""
    defaults: Defaults = field(default_factory=Defaults)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def read_front_matter(text: str, first_line: int) -> FrontMatter:
    """Return what YAML front matter sets; `first_line` is the line on which `text` begins.

    Front matter without a key `commandcenter` belongs to another program: it may hold what it
    likes, and only its title is used.
    """
    found = FrontMatter()
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first_line + (mark.line if mark else 0)
        problem = getattr(error, "problem", None) or "it cannot be read"
        found.diagnostics.append(Diagnostic("P012", f"front matter is not YAML: {problem}", line))
        return found
    except RecursionError:
        found.diagnostics.append(Diagnostic("P012", "front matter is nested too deep", first_line))
        return found
    _Settings(found, first_line).read(root)
    return found


class _Settings:
    """Takes the nodes of a front matter apart, with the line of each."""

    def __init__(self, found: FrontMatter, first_line: int) -> None:
        self._found = found
        self._first_line = first_line

    def read(self, root: yaml.Node | None) -> None:
        """Fill in what the root says."""
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            self._fault(root, "front matter is not a list of `key: value`")
            return
        keys = {k.value: k for k, _ in root.value if isinstance(k, yaml.ScalarNode)}
        ours = "commandcenter" in keys
        if not ours and "defaults" in keys:
            hint = "add `commandcenter: 1` above it"
            self._fault(keys["defaults"], "`defaults` needs the key `commandcenter`", hint)
        for key, value in self._pairs(root, "front matter") if ours else root.value:
            if key.value == "title" and isinstance(value, yaml.ScalarNode):
                self._found.title = value.value
            elif ours:
                self._top(key, value)

    def _top(self, key: yaml.Node, value: yaml.Node) -> None:
        match key.value:
            case "commandcenter":
                if value.value != "1":
                    self._fault(value, "this reads front matter of version 1 only")
            case "defaults":
                self._defaults(value)
            case _:
                self._unknown(key, _OURS)

    def _defaults(self, node: yaml.Node) -> None:
        readings: dict[str, Callable[[yaml.Node], Any]] = {
            "agent": self._text,
            "review": self._review,
            "verify": self._texts,
            "limits": self._limits,
            "auto_merge": self._yes_or_no,
            "strategy": self._strategy,
            "pattern": self._text,
            "handoff": self._handoff,
            "roles": self._roles,
        }
        said: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in self._pairs(node, "defaults"):
            if key.value not in readings:
                self._unknown(key, tuple(readings))
                continue
            said[key.value] = readings[key.value](value)
            lines[key.value] = self._first_line + key.start_mark.line
        self._found.defaults = Defaults(**said, lines=MappingProxyType(lines))

    def _handoff(self, node: yaml.Node) -> str:
        """Return whom work may be passed on to, in the words of a label."""
        if isinstance(node, yaml.ScalarNode):
            return self._text(node)
        if isinstance(node, yaml.SequenceNode):
            return handoff_text(Handoff(self._texts(node)))
        to: tuple[str, ...] = ()
        most: int | None = None
        for key, value in self._pairs(node, "handoff"):
            match key.value:
                case "to":
                    to = self._texts(value)
                case "max":
                    most = self._whole(value)
                case _:
                    self._unknown(key, ("to", "max"))
        return handoff_text(Handoff(to) if most is None else Handoff(to, most))

    def _roles(self, node: yaml.Node) -> Mapping[str, str]:
        roles = {}
        for key, value in self._pairs(node, "roles"):
            if key.value not in tuple(Role):
                self._unknown(key, tuple(Role))
            elif name := self._text(value).strip():
                roles[key.value] = name
        return MappingProxyType(roles)

    def _review(self, node: yaml.Node) -> ReviewPolicy | None:
        if isinstance(node, yaml.ScalarNode):
            if node.tag == f"{_TAG}bool" and node.value.casefold() in ("false", "no", "off"):
                return ReviewPolicy(0)
            rounds = self._whole(node)
            return None if rounds is None else ReviewPolicy(rounds)
        given, reviewer = None, ""
        for key, value in self._pairs(node, "review"):
            match key.value:
                case "rounds":
                    given = self._whole(value)
                case "reviewer":
                    reviewer = self._text(value)
                case _:
                    self._unknown(key, ("rounds", "reviewer"))
        return ReviewPolicy(given, reviewer)

    def _limits(self, node: yaml.Node) -> TaskLimits:
        attempts, timeout_s, budget_usd = None, None, None
        for key, value in self._pairs(node, "limits"):
            match key.value:
                case "attempts":
                    attempts = self._whole(value)
                case "timeout":
                    timeout_s = self._duration(value)
                case "budget_usd":
                    budget_usd = self._number(value)
                case _:
                    self._unknown(key, ("attempts", "timeout", "budget_usd"))
        return TaskLimits(attempts, timeout_s, budget_usd)

    def _texts(self, node: yaml.Node) -> tuple[str, ...]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return tuple(text for item in items if (text := self._text(item).strip()))

    def _pairs(self, node: yaml.Node, name: str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, f"`{name}` is not a list of `key: value`")
            return
        seen = set[str]()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, f"a key of `{name}` is not a word")
            elif key.value in seen:
                self._fault(key, f"`{key.value}` is there twice")
            else:
                seen.add(key.value)
                yield key, value

    def _text(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode) and node.tag != f"{_TAG}null":
            return str(node.value)
        self._fault(node, "this is not text")
        return ""

    def _yes_or_no(self, node: yaml.Node) -> bool | None:
        said = YES_OR_NO.get(node.value.casefold()) if isinstance(node, yaml.ScalarNode) else None
        if said is None:
            self._fault(node, "this is neither yes nor no")
        return said

    def _strategy(self, node: yaml.Node) -> Strategy | None:
        said = node.value if isinstance(node, yaml.ScalarNode) else ""
        if said in tuple(Strategy):
            return Strategy(said)
        self._fault(node, "this is no strategy", f"write one of {', '.join(Strategy)}")
        return None

    def _whole(self, node: yaml.Node) -> int | None:
        # Six digits are more than any limit; a longer one would take Python long to read.
        if isinstance(node, yaml.ScalarNode) and re.fullmatch(r"\d{1,6}", node.value, re.ASCII):
            return int(node.value)
        self._fault(node, "this is not a whole number")
        return None

    def _number(self, node: yaml.Node) -> float | None:
        number = r"\d{1,9}(\.\d{1,9})?"
        if isinstance(node, yaml.ScalarNode) and re.fullmatch(number, node.value, re.ASCII):
            return float(node.value)
        self._fault(node, "this is not a number")
        return None

    def _duration(self, node: yaml.Node) -> float | None:
        text = node.value[:20] if isinstance(node, yaml.ScalarNode) else ""
        if found := _DURATION.fullmatch(text.strip()):
            return float(found[1]) * _SECONDS[found[2]]
        self._fault(node, "this is not a duration", "write `45m`, `2h` or `90s`")
        return None

    def _unknown(self, key: yaml.Node, known: tuple[str, ...]) -> None:
        hint = closest(str(key.value), known) or f"known are {', '.join(known)}"
        self._fault(key, f"unknown key `{str(key.value)[:60]}`", hint)

    def _fault(self, node: yaml.Node, message: str, hint: str = "") -> None:
        line = self._first_line + node.start_mark.line
        column = node.start_mark.column + 1
        self._found.diagnostics.append(Diagnostic("P012", message, line, column, hint=hint))
