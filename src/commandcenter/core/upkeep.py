"""What may be reclaimed, and why or why not; what everything in the data folder is. Decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import IO

from commandcenter.core.ledger import Standing

DAY_MS = 24 * 3600 * 1000
SUBMITTING_MS = DAY_MS
"""A submission that takes longer than this is none any more."""


class Thing(StrEnum):
    """What `gc` looks at."""

    BRANCH = "branch"
    WORKSPACE = "workspace"
    BASE = "base"
    IMAGE = "image"
    CAPTURE = "capture"
    REF = "ref"
    SALVAGE = "salvage"
    LOGS = "logs"
    OBJECTS = "objects"
    VAULT = "vault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Ruling:
    """Whether something may go, and why or why not."""

    free: bool
    why: str


@dataclass(frozen=True)
class Item:
    """One thing that `gc` looked at."""

    what: Thing
    name: str
    size_bytes: int
    """How much of the disk it takes; 0 for what only names something."""
    free: bool
    """Whether it may go; after a collection: whether it has gone."""
    why: str


@dataclass(frozen=True)
class Salvaged:
    """Work of a task that did not land, and that can be restored."""

    id: str
    """`RUN/TASK/N/WHAT`: `capture` of a try, `work` of a workspace, or `branch`."""
    run: str
    task: str
    commit: str
    """Empty when it is a folder of files that cannot be taken as a commit."""
    size_bytes: int
    """Of its bundle or folder; 0 for a capture, which the vault holds."""
    why: str
    since_ms: int


@dataclass(frozen=True)
class Restored:
    """A branch that was made of work that did not land."""

    id: str
    repository: str
    branch: str
    commit: str


@dataclass(frozen=True)
class Files:
    """The files of work that did not land, as a tar archive."""

    archive: IO[bytes]
    """At its beginning; the caller closes it."""
    left_out: tuple[str, ...]
    """Paths that are no plain files or links, or that git would take for its own."""


def of_workspace(*, known: bool, used: bool) -> Ruling:
    """Decide about a workspace: whether a task of ours has it, and has not been settled."""
    if not known:
        return Ruling(False, "no run of this data folder made it")
    if used:
        return Ruling(False, "its task has not ended")
    return Ruling(True, "its task has ended; what only it holds is salvaged first")


def of_base(*, used: bool) -> Ruling:
    """Decide about a base."""
    if used:
        return Ruling(False, "a workspace lies on it")
    return Ruling(True, "no workspace lies on it; it is made again when one needs it")


def of_image(*, current: bool, running: int, used_ms: int, now_ms: int, kept_days: int) -> Ruling:
    """Decide about an image that was made for commands; `running` runs have not ended."""
    if current:
        return Ruling(False, "commands run in it")
    if running:
        return Ruling(False, "a run that has not ended may need it")
    if now_ms - used_ms < kept_days * DAY_MS:
        return Ruling(False, f"images are kept for {kept_days} days after they were last used")
    return Ruling(True, "it was not used of late; it is made again when a run needs it")


def of_pin(*, used: bool) -> Ruling:
    """Decide about a ref that pins the base of a task."""
    if used:
        return Ruling(False, "its task has not ended")
    return Ruling(True, "its task has ended")


def of_capture(*, known: bool, run_ended: bool, landed: bool | None) -> Ruling:
    """Decide about a captured try; `landed` is None when the upstream does not answer."""
    if not known:
        return Ruling(False, "the ledger does not know it")
    if not run_ended:
        return Ruling(False, "its run has not ended")
    if landed is None:
        return Ruling(False, "the upstream does not answer, so nobody knows whether it landed")
    if not landed:
        return Ruling(False, "its work is not on the target: restore or drop it yourself")
    return Ruling(True, "the target holds it")


def of_salvage(*, folder: bool, landed: bool | None, age_ms: int, kept_days: int) -> Ruling:
    """Decide about salvaged work: it goes by itself only when the target holds it."""
    if folder:
        return Ruling(False, "its files cannot be captured: restore or drop it yourself")
    if landed is None:
        return Ruling(False, "the upstream does not answer, so nobody knows whether it landed")
    if not landed:
        return Ruling(False, "nothing else holds this work: restore or drop it yourself")
    if age_ms < kept_days * DAY_MS:
        return Ruling(False, f"the target holds it; it is kept for {kept_days} days")
    return Ruling(True, f"the target holds it, and it is older than {kept_days} days")


def of_logs(*, ended_ms: int, now_ms: int, kept_days: int) -> Ruling:
    """Decide about the logs of a run; `ended_ms` is 0 while it has not ended."""
    if not ended_ms:
        return Ruling(False, "its run has not ended")
    if now_ms - ended_ms < kept_days * DAY_MS:
        return Ruling(False, f"logs are kept for {kept_days} days after the run's end")
    return Ruling(True, f"its run ended more than {kept_days} days ago")


def of_branch(
    whose: Standing, *, run_ended: bool | None, result: bool, landed: bool, age_ms: int
) -> Ruling:
    """Decide about a branch upstream; `run_ended` is None when no run of this id was stored."""
    if run_ended is False:
        return Ruling(False, "its run has not ended")
    if run_ended is None and age_ms < SUBMITTING_MS:
        return Ruling(False, "its run may be about to start")
    match whose:
        case Standing.FREE:
            return Ruling(True, "it is gone already")
        case Standing.FOREIGN:
            return Ruling(False, "it holds a commit that is not CommandCenter's")
        case Standing.OURS if result and not landed:
            return Ruling(False, "it holds a result that the target does not hold")
        case Standing.OURS if landed:
            return Ruling(True, "its run has ended, and the target holds it")
        case Standing.OURS:
            return Ruling(True, "its run has ended, and the vault holds what is on it")


def of_objects(*, runs: int, borrowers: int) -> Ruling:
    """Decide about what no ref of a vault reaches."""
    if runs:
        return Ruling(False, "runs that have not ended use its vault")
    if borrowers:
        return Ruling(False, "workspaces or bases borrow from its vault")
    return Ruling(True, "no ref reaches it, and nobody borrows from its vault")


@dataclass(frozen=True)
class Known:
    """What the ledger and the store say about the data folder."""

    vaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Name of a folder to its upstream."""
    workspaces: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Name of a folder to its key: what is held."""
    aside: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The same for those that were put aside."""
    runs: frozenset[str] = frozenset()
    bundles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Path below `salvage/` to the id of what is kept there."""


_TOP: Mapping[str, str] = MappingProxyType(
    {
        r"commandcenter\.sqlite(-wal|-shm|-journal)?": "the database",
        r"commandcenter\.log(\.\d+)?": "the service's log",
        r"\.gitignore": "has a repository that the folder is in ignore it",
        r"owner\.lock": "says who owns the folder",
        r"service\.(json|new)": "says where the service answers",
        r"\.service\.json-.*": "an address that was being told when a crash came",
        r"parked\.(json|new)": "says until when a model provider is left alone",
        r"hub-token(-person)?": "a token of the hub",
        r"\.hub-token-.*": "a token that was being made when a crash came",
        r"vaults|workspaces|containers|dagger|logs|salvage": "a folder of ours",
    }
)
_VAULT = r"lock|repository\.git|new\.git|quarantine|attic"
_CONTAINERS = (
    *("vaults", "vaults/*", "workspaces", "workspaces/ws", "workspaces/aside"),
    *("containers", "containers/ws", "containers/aside", "dagger", "dagger/ws", "dagger/aside"),
    *("workspaces/bases", "workspaces/bases/*", "logs", "salvage", "salvage/*", "salvage/*/*"),
)
"""Folders that hold several things of ours: below any other, all is what the folder is."""


def is_container(path: PurePosixPath) -> bool:
    """Say whether a folder, by its path in the data folder, holds several things of ours."""
    depth = len(path.parts)
    return any(each.count("/") + 1 == depth and path.match(each) for each in _CONTAINERS)


def explain(path: PurePosixPath, known: Known) -> str:
    """Return what a path below the data folder is; empty when nothing of ours explains it."""
    top, *below = path.parts
    if not below:
        return next((words for name, words in _TOP.items() if re.fullmatch(name, top)), "")
    match top:
        case "vaults":
            return _explain_vault(below, known)
        case "workspaces" | "containers" | "dagger":
            return _explain_workspaces(below, known)
        case "logs":
            return f"logs of run {below[0]}" if below[0] in known.runs else ""
        case "salvage":
            return _explain_salvage("/".join(below), known)
        case _:
            return ""


def _explain_vault(below: list[str], known: Known) -> str:
    name, *inside = below
    if inside and not re.fullmatch(_VAULT, inside[0]):
        return ""
    if name in known.vaults:
        return f"the private copy of {known.vaults[name]}"
    if re.fullmatch(r".*-[0-9a-f]{12}", name):
        return "the private copy of an upstream that no run has: a submission was refused"
    return ""


def _explain_workspaces(below: list[str], known: Known) -> str:
    match below:
        case ["ws" | "aside" | "bases"]:
            return "a folder of ours"
        case ["ws", name, *_] if name in known.workspaces:
            return f"the workspace {known.workspaces[name]}"
        case ["aside", name, *_] if name in known.aside:
            return f"the workspace {known.aside[name]}, which was put aside"
        case ["bases", vault] if re.fullmatch(r"[0-9a-f]{16}", vault):
            return "the bases of a vault"
        case ["bases", _, name, *_] if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
            return "a base: a commit's files, shared read-only"
        case ["bases", _, name, *_] if re.fullmatch(r"new-[0-9a-f]{32}", name):
            return "a base that is being made or removed; a start removes what a crash left"
        case ["fixed", *_]:
            return "what every workspace sees read-only"
        case ["builds", *_]:
            return "what the building of images printed"
        case ["scratch", *_]:
            return "a workspace that is being removed or tried; a start removes what a crash left"
        case _:
            return ""


def _explain_salvage(below: str, known: Known) -> str:
    folders = {parent for each in known.bundles for parent in PurePosixPath(each).parents}
    if PurePosixPath(below) in folders:
        return "a folder of ours"
    whole = re.sub(r"\.new(\.lock)?$", ".bundle", below)
    return f"salvaged work: {known.bundles[whole]}" if whole in known.bundles else ""
