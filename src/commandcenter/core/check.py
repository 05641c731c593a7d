"""Checks and what they found. Only a `Verdict` on exactly that tree can merge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Check:
    """A command that the orchestrator runs on a captured tree, in a workspace of its own."""

    name: str
    command: str
    """Run by `/bin/sh -c` in the root of the checkout."""
    timeout_s: float = 1800.0

    def digest(self, mode: str) -> str:
        """Name the check, with the kind of workspace that it runs in, as no other one is named."""
        parts = json.dumps([mode, self.name, self.command, self.timeout_s])
        return hashlib.sha256(parts.encode()).hexdigest()


class Found(StrEnum):
    """What one check found."""

    PASSED = "passed"
    FAILED = "failed"
    FAILED_ON_BASE = "failed_on_base"
    """It failed, and it failed on the base too: reported, not held against the task."""
    NOT_RUN = "not_run"
    """It could not be run (no such program, limit, stopped). Never counts as passed."""


@dataclass(frozen=True)
class Receipt:
    """Evidence of one check on one tree."""

    check: str
    command: str
    tree: str
    found: Found
    exit_code: int | None
    duration_s: float
    log_sha256: str
    words: str = ""
    """The last lines that it printed (at most 4,000 characters), for the agent and people."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Receipt:  # Any: JSON written by `to_json`
        """Return what `to_json` stored."""
        return Receipt(**{**record, "found": Found(record["found"])})


class Judgement(StrEnum):
    """The result of all checks together."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not_run"
    UNVERIFIED = "unverified"
    """The task has no check: said aloud everywhere, merged only since the plan gave none."""


@dataclass(frozen=True)
class Verdict:
    """What the checks found on exactly one tree."""

    tree: str
    judgement: Judgement
    receipts: tuple[Receipt, ...] = ()

    @property
    def mergeable(self) -> bool:
        """Say whether this tree may land as far as checks are concerned."""
        return self.judgement in (Judgement.PASSED, Judgement.UNVERIFIED)

    @property
    def failed(self) -> frozenset[str]:
        """Return the names of the checks that keep this tree from landing."""
        held = (Found.FAILED, Found.NOT_RUN)
        return frozenset(each.check for each in self.receipts if each.found in held)

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Verdict:  # Any: JSON written by `to_json`
        """Return what `to_json` stored; other keys are ignored."""
        receipts = tuple(map(Receipt.from_json, record["receipts"]))
        return Verdict(record["tree"], Judgement(record["judgement"]), receipts)


def judge(tree: str, receipts: Sequence[Receipt]) -> Verdict:
    """Return the verdict of these receipts on this tree.

    Failed beats not run, not run beats passed; no receipt at all is `unverified`.
    """
    assert all(receipt.tree == tree for receipt in receipts)
    found = {receipt.found for receipt in receipts}
    if Found.FAILED in found:
        judgement = Judgement.FAILED
    elif Found.NOT_RUN in found:
        judgement = Judgement.NOT_RUN
    elif found:
        judgement = Judgement.PASSED
    else:
        judgement = Judgement.UNVERIFIED
    return Verdict(tree, judgement, tuple(receipts))
