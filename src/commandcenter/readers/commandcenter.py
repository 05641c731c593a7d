"""Reads the native dialect: `## Batch N: Title`, `### Task N.M: Title`, and fields below them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from commandcenter.core.plan import (
    TASKS_MAX,
    Batch,
    Diagnostic,
    Done,
    FileUse,
    Mode,
    Origin,
    Plan,
    Reference,
    Span,
    Step,
    Task,
    Verification,
    WorkspaceMode,
)
from commandcenter.core.plan.spelling import closest
from commandcenter.readers import files as file_lists
from commandcenter.readers.frontmatter import FrontMatter, read_front_matter
from commandcenter.readers.markdown import (
    Block,
    Field,
    Line,
    fields,
    labels_inside_items,
    parse,
    spans,
    text_lines,
)
from commandcenter.readers.outline import BatchDraft, Outline, TaskDraft, outline
from commandcenter.readers.reader import PlanText, Reader, ReadResult
from commandcenter.readers.references import Named, References, references
from commandcenter.readers.swallowed import Seen, Unseen, open_fences, swallowed, unseen
from commandcenter.readers.verification import verification

_HEADINGS = re.compile(r"^\s{0,3}#{1,6}\s.*?\b(Batch|Task|Phase)\s+[\w.-]*\d", re.IGNORECASE)
_DEPENDS = frozenset(
    {"depends on", "depends", "dependencies", "dependency", "depend on", "blocked by"}
)
_VERIFY = re.compile(
    r"verif(?:y|ication)\b.*|how to verify|validat(?:e|ion)(?: commands?)?"
    r"|acceptance(?: criteria| tests?)?|tests?|testing|test (?:plan|commands?|steps?|cases?)"
)
_COMMIT = frozenset({"commit", "commit message"})
_TOGETHER = frozenset({"pattern", "handoff", "roles"})
_LABELS = _TOGETHER | {"agent", "review", "limits", "auto merge", "priority", "status"}
_MODE = frozenset({"execution mode", "mode"})
_OWN_LABEL_MAX = 60
"""Most characters of a field that nobody knows and that is a label all the same."""
_KNOWN = _DEPENDS | _COMMIT | _LABELS | {"verification", "files", "execution mode"}
_TASK_HEADINGS = frozenset(
    {"files", "verification", "acceptance criteria", "dependencies", "depends on", "commit"}
)
_BOX = re.compile(r"\s*\[(?P<state>.)\](?P<optional>\*?)\s+(?P<title>.*)", re.DOTALL)
_SHA = re.compile(r"[0-9a-f]{7,40}")
_WORKSPACES = {
    "local": WorkspaceMode.LOCAL,
    "worktree": WorkspaceMode.LOCAL,
    "container": WorkspaceMode.CONTAINER,
    "dagger": WorkspaceMode.DAGGER,
}
_STATUS = (
    (re.compile(r"(✅|☑|✔|completed?\b|done\b|merged\b|finished\b)"), Done.DONE),
    (re.compile(r"(\d+)\s*/\s*\1\b"), Done.DONE),
    (re.compile(r"in[ _-]progress\b|started\b|wip\b"), Done.IN_PROGRESS),
    (re.compile(r"skip(ped)?\b"), Done.SKIPPED),
    (re.compile(r"cancell?ed\b|abandoned\b"), Done.CANCELLED),
    (
        re.compile(r"to-?do\b|pending\b|not \w+|planned\b|ready\b|open\b|draft\b|active\b"),
        Done.TODO,
    ),
    (re.compile(r"failed\b|blocked\b|incomplete\b|partial(ly)?\b|\d+\s*/\s*\d+"), Done.TODO),
)


class CommandCenter:
    """Reader of the native dialect."""

    name = "commandcenter"

    def score(self, text: str, path: str) -> float:
        """Say 0.9 when a heading names a task or batch, else little: it is the last resort."""
        return 0.9 if any(_HEADINGS.match(line) for line in text.split("\n")) else 0.1

    def read(self, source: PlanText) -> ReadResult:
        """Return the plan; without a single task there is none, and the reason."""
        return _Reading(source).result()


READER: Reader = CommandCenter()


class _Reading:
    """One reading of one document; collects what is to say on the way."""

    def __init__(self, source: PlanText) -> None:
        self._source = source
        self._lines = source.text.split("\n")
        self._blocks = parse(source.text)
        self._said: list[Diagnostic] = []
        self._outline = outline(self._blocks, len(self._lines))
        self._ids = _ids(self._outline)
        self._states: dict[int, Done] = {}
        self._tasks = {t.id.casefold(): t.id for t in reversed(self._outline.tasks)}

    def result(self) -> ReadResult:
        """Return the plan and what there is to say."""
        front = self._front_matter()
        tasks = [t for t in self._outline.tasks if t.row is None]
        lines = {n for t in tasks for n in range(t.line, t.end + 1)}
        hidden = unseen(self._blocks, lines, self._tasks)
        self._said += [*self._outline.diagnostics, *front.diagnostics]
        self._said += open_fences(self._blocks, self._lines)
        if not self._outline.tasks:
            self._said.append(_nothing(self._blocks, hidden))
            return ReadResult(None, tuple(self._said))
        if max(len(self._outline.tasks), len(self._outline.batches)) > TASKS_MAX:
            message = f"the plan has more than {TASKS_MAX} tasks or batches"
            return ReadResult(None, (Diagnostic("P014", message, hint="split it up"),))
        self._said += swallowed(hidden, self._seen())
        self._loose_fields()
        self._idle_batches()
        batches = tuple(self._batch(n, d) for n, d in enumerate(self._outline.batches, 1))
        plan = Plan(
            title=self._outline.title or front.title,
            context=self._outline.loose.text(self._lines),
            source=Origin(self._source.path, self._source.sha256, CommandCenter.name),
            defaults=front.defaults,
            batches=batches,
            tasks=tuple(self._task(draft) for draft in self._outline.tasks),
        )
        return ReadResult(plan, tuple(self._said))

    def _front_matter(self) -> FrontMatter:
        first = self._blocks[0] if self._blocks else None
        if first is not None and first.kind == "front_matter":
            return read_front_matter(first.text, first.line + 1)
        found = FrontMatter()
        head = self._lines[:50]
        if head[0].strip() == "---" and any(line.startswith("commandcenter:") for line in head):
            message = "front matter is never closed"
            found.diagnostics.append(Diagnostic("P012", message, hint="end it with `---`"))
        return found

    def _seen(self) -> Seen:
        used = {id(task.batch) for task in self._outline.tasks}
        batches = self._outline.batches
        parents = {id(batch.parent) for batch in batches}
        return Seen(
            frozenset(self._tasks),
            frozenset(b.number.casefold() for b in batches),
            tuple(
                range(b.line, b.end + 1)
                for b in batches
                if id(b) not in used and id(b) not in parents
            ),
        )

    def _loose_fields(self) -> None:
        """Warn of fields that mean something, but stand where they mean nothing."""
        for one in fields(self._outline.loose.blocks):
            if one.name in _MODE | _TOGETHER | _DEPENDS:
                message = f"`{one.name}` stands outside any batch and is not used"
                hint = "put it below the heading of a batch or task"
                self._say("W122", message, one.line, hint, one.name)

    def _idle_batches(self) -> None:
        """Refuse a batch that has something to do, but no task in which it would be done."""
        used = {id(task.batch) for task in self._outline.tasks}
        used |= {id(batch.parent) for batch in self._outline.batches}
        for draft in self._outline.batches:
            if id(draft) in used or self._batch_state(draft).settled:
                continue
            if lines := _work(draft.body.blocks):
                message = f"{draft.kind} {draft.number} has no task, so this would not be done"
                hint = "write `### Task N.M: Title` above it; or **Status:** completed, if it is"
                self._say("P018", message, lines[0], hint)

    # Batches

    def _batch(self, ordinal: int, draft: BatchDraft) -> Batch:
        found = fields(draft.body.blocks, begins=_begins_in_list)
        self._spelling(found)
        self._inside(draft.body.blocks)
        named = references([f for f in found if f.name in _DEPENDS])
        mode, workspace = self._mode([f for f in found if f.name in _MODE])
        self._unclear(named, f"batch {draft.number}", "it waits for the batch before it, too")
        nested = any(b.parent is draft for b in self._outline.batches)
        return Batch(
            id=self._ids[id(draft)],
            title=draft.title,
            ordinal=ordinal,
            kind="container" if nested else draft.kind,
            description=draft.body.text(self._lines),
            depends_on=self._batch_references(named, draft),
            follows_previous=not named.given or named.all_before,
            mode=mode,
            workspace=workspace,
            labels=_labels(found),
            span=Span(draft.line, max(draft.end, draft.line)),
            label_lines=_label_lines(found),
        )

    def _batch_references(self, named: References, draft: BatchDraft) -> tuple[Reference, ...]:
        found: dict[str, Reference] = {}
        if named.all_before:
            earlier = self._outline.batches[: self._outline.batches.index(draft)]
            found |= {i: Reference(i, draft.line) for i in (self._ids[id(b)] for b in earlier)}
        for one in named.named:
            for target in self._batches_named(one):
                found.setdefault(target, Reference(target, one.line))
        return tuple(found.values())

    def _batches_named(self, one: Named) -> list[str]:
        """Return the ids of the batches that this names; what is unknown stays as written."""
        drafts = self._outline.batches
        numbers = [d.number.casefold() for d in drafts]
        if one.last and {one.id.casefold(), one.last.casefold()} <= set(numbers):
            low, high = numbers.index(one.id.casefold()), numbers.index(one.last.casefold())
            return [self._ids[id(d)] for d in drafts[low : high + 1]]
        same = [d for d in drafts if d.number.casefold() == one.id.casefold()]
        same = [d for d in same if d.kind == one.kind] or same
        if not same:
            return [one.id] if not one.last else [one.id, one.last]
        inner = [self._ids[id(d)] for d in drafts if d.parent is same[0]]
        return [self._ids[id(same[0])], *inner]

    def _mode(self, found: Sequence[Field]) -> tuple[Mode, WorkspaceMode | None]:
        mode, workspace = Mode.SEQUENTIAL, None
        for one in found:
            words = re.findall(r"[a-z]+", _plain(one).casefold())
            known = [w for w in words if w in _WORKSPACES or w in list(Mode)]
            kinds = {_WORKSPACES[w] for w in known if w in _WORKSPACES}
            orders = {Mode(w) for w in known if w in list(Mode)}
            if not known or len(kinds) > 1 or len(orders) > 1:
                hint = closest(words[0] if words else "", [*_WORKSPACES, *Mode])
                hint = hint or "write parallel or sequential, and local, container or dagger"
                message = f"execution mode `{_plain(one)[:60]}` is not understood"
                self._say("P013", message, one.line, hint, _plain(one))
            mode = Mode.PARALLEL if orders == {Mode.PARALLEL} else mode
            workspace = kinds.pop() if len(kinds) == 1 else workspace
        return mode, workspace

    # Tasks

    def _task(self, draft: TaskDraft) -> Task:
        return self._row_task(draft) if draft.row is not None else self._heading_task(draft)

    def _heading_task(self, draft: TaskDraft) -> Task:
        found = fields(draft.body.blocks, _TASK_HEADINGS, _begins_in_list)
        self._spelling(found)
        self._inside(draft.body.blocks)
        named = references([f for f in found if f.name in _DEPENDS])
        self._unclear(named, f"task {draft.id}", "it waits for the task before it, too")
        steps = self._steps(draft, found)
        commit, labels = self._commit(found, dict(_labels(found)))
        return Task(
            id=draft.id,
            title=draft.title,
            batch=self._ids[id(draft.batch)],
            instructions=draft.body.text(self._lines),
            depends_on=self._task_references(named, draft),
            follows_previous=not named.given or named.all_before,
            files=tuple(self._files(found)),
            verification=tuple(self._verification(found)),
            steps=steps,
            done=self._done(draft, found, steps),
            commit=commit,
            labels=MappingProxyType(labels),
            span=Span(draft.line, max(draft.end, draft.line)),
            label_lines=_label_lines(found),
        )

    def _row_task(self, draft: TaskDraft) -> Task:
        row = draft.row or {}
        uses = [
            use
            for name, text in row.items()
            if file_lists.FIELD.fullmatch(name)
            for use in file_lists.file_uses(text, draft.line)
        ]
        depends = [text for name, text in row.items() if name in _DEPENDS and text]
        named = references(
            [Field("depends on", draft.line, [Line(t, draft.line)]) for t in depends]
        )
        self._unclear(named, f"task {draft.id}", "it waits for the task before it, too")
        return Task(
            id=draft.id,
            title=draft.title,
            batch=self._ids[id(draft.batch)],
            instructions="\n".join(f"{k}: {v}" for k, v in row.items() if v and k != "task"),
            depends_on=self._task_references(named, draft),
            follows_previous=not named.given,
            files=tuple(uses),
            done=Done.DONE if draft.done else self._batch_state(draft.batch),
            span=Span(draft.line, draft.line),
        )

    def _task_references(self, named: References, draft: TaskDraft) -> tuple[Reference, ...]:
        found: dict[str, Reference] = {}
        for one in named.named:
            if one.kind in ("batch", "phase"):
                message = f"task {draft.id} depends on {one.kind} {one.id}; a task names tasks"
                hint = "put **Dependencies:** below the heading of its batch"
                self._say("P004", message, one.line, hint, one.id)
                continue
            for target in self._tasks_named(one):
                found.setdefault(target, Reference(target, one.line))
        return tuple(found.values())

    def _tasks_named(self, one: Named) -> list[str]:
        low, high = one.id.casefold(), one.last.casefold()
        if low in self._tasks and high in self._tasks:
            order = list(dict.fromkeys(t.id.casefold() for t in self._outline.tasks))
            return [self._tasks[i] for i in order[order.index(low) : order.index(high) + 1]]
        named = [one.id, one.last] if one.last else [one.id]
        return [self._tasks.get(i.casefold(), i) for i in named]

    def _files(self, found: Sequence[Field]) -> list[FileUse]:
        uses: dict[tuple[str, str], FileUse] = {}
        for one in found:
            if file_lists.FIELD.fullmatch(one.name):
                listed, doubts = file_lists.files(one)
                self._said += doubts
                for use in listed:
                    uses.setdefault((use.path, use.op), use)
        return list(uses.values())

    def _verification(self, found: Sequence[Field]) -> list[Verification]:
        items: list[Verification] = []
        for one in found:
            if _VERIFY.fullmatch(one.name):
                typed, doubts = verification(one)
                items += typed
                self._said += doubts
        return items

    def _steps(self, draft: TaskDraft, found: Sequence[Field]) -> tuple[Step, ...]:
        """Return the checkboxes of a task, save those that list files or verification."""
        apart = {
            (block.line, block.end)
            for one in found
            if _VERIFY.fullmatch(one.name) or file_lists.FIELD.fullmatch(one.name)
            for top in one.blocks
            for block in top.walk()
        }
        return tuple(
            step
            for item in _list_items(draft.body.blocks)
            if (item.line, item.end) not in apart
            for step in self._step(item, draft)
        )

    def _step(self, item: Block, draft: TaskDraft) -> Iterable[Step]:
        first = item.children[0] if item.children else None
        box = _BOX.fullmatch(first.text) if first and first.kind == "paragraph" else None
        if first is None or box is None:
            return
        state = box["state"]
        if state in " xX~-/":
            yield Step(box["title"].split("\n")[0].strip(), state in "xX", item.line)
        elif not state.isdigit():
            message = f"task {draft.id} has a box in the unknown state `[{state}]`"
            self._say("P030", message, item.line, "write `[ ]` or `[x]`", f"[{state}]")

    def _done(self, draft: TaskDraft, found: Sequence[Field], steps: tuple[Step, ...]) -> Done:
        said = self._status(found, f"task {draft.id}")
        if said is not None:
            return said
        ticked = bool(steps) and all(step.done for step in steps)
        return Done.DONE if draft.done or ticked else self._batch_state(draft.batch)

    def _batch_state(self, draft: BatchDraft) -> Done:
        """Return the state that a batch gives to those of its tasks that have none."""
        if id(draft) not in self._states:
            said = self._status(fields(draft.body.blocks, begins=_begins_in_list), "")
            above = self._batch_state(draft.parent) if draft.parent is not None else Done.TODO
            state = (Done.DONE if draft.done else above) if said is None else said
            self._states[id(draft)] = state if state.settled else Done.TODO
        return self._states[id(draft)]

    def _status(self, found: Sequence[Field], whose: str) -> Done | None:
        for one in found:
            if one.name == "status":
                text = _plain(one).casefold()
                for pattern, done in _STATUS:
                    if pattern.match(text):
                        return done
                if whose:
                    message = f"status `{_plain(one)[:40]}` of {whose} is not understood"
                    hint = "it counts as to do; write completed, skipped or pending"
                    self._say("W124", message, one.line, hint, _plain(one))
        return None

    def _commit(self, found: Sequence[Field], labels: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return the commit message asked for; a bare commit id is a label, not a message."""
        for one in found:
            if one.name in _COMMIT:
                message = _message(one)
                if _SHA.fullmatch(message):
                    return "", labels | {"commit": message}
                return message, labels
        return "", labels

    # What both have

    def _spelling(self, found: Sequence[Field]) -> None:
        for one in found:
            near = closest(one.name, _KNOWN) if _odd(one.name) else ""
            if near and _alike(one.name, near):
                message = f"`{one.name}` is not a field that is known"
                self._say("W127", message, one.line, near, "")

    def _inside(self, blocks: Sequence[Block]) -> None:
        for one in labels_inside_items(blocks):
            if not _odd(one.name):
                message = f"`{one.name}` stands inside a list item, so it is no field and not used"
                hint = "write it at the margin, as far left as the list"
                self._say("W128", message, one.line, hint, "")

    def _unclear(self, named: References, whose: str, effect: str) -> None:
        for piece in named.unclear:
            shown = piece.text[:60]
            message = f"`{shown}` names nothing that {whose} could wait for; {effect}"
            self._say("W104", message, piece.line, "name ids, or `None`", shown)

    def _say(self, code: str, message: str, line: int, hint: str = "", subject: str = "") -> None:
        self._said.append(Diagnostic(code, message, line, hint=hint, subject=subject))


def _ids(found: Outline) -> Mapping[int, str]:
    """Return the id of each batch draft: its number, told apart where phases hold batches."""
    mixed = len({b.kind for b in found.batches if not b.implied}) > 1
    return {
        id(b): f"phase-{b.number}" if mixed and b.kind == "phase" else b.number
        for b in found.batches
    }


def _work(blocks: Sequence[Block]) -> list[int]:
    """Return the lines of what looks like work: lists, tables, headings and fields, in order."""
    kinds = ("bullet_list", "ordered_list", "table", "heading")
    return sorted([b.line for b in blocks if b.kind in kinds] + [f.line for f in fields(blocks)])


def _list_items(blocks: Sequence[Block]) -> Iterable[Block]:
    for block in blocks:
        if block.kind in ("bullet_list", "ordered_list"):
            yield from (b for b in block.walk() if b.kind == "list_item")


def _labels(found: Sequence[Field]) -> Mapping[str, str]:
    kept = {one.name.replace(" ", "_"): _plain(one) for one in found if _is_label(one)}
    return MappingProxyType(kept)


def _label_lines(found: Sequence[Field]) -> Mapping[str, int]:
    kept = {one.name.replace(" ", "_"): one.line for one in found if _is_label(one)}
    return MappingProxyType(kept)


def _is_label(one: Field) -> bool:
    """Say whether a field is one word for itself: known, or a plan's own, by which it routes."""
    own = _odd(one.name) and not one.blocks and 0 < len(one.value) <= _OWN_LABEL_MAX
    return one.name in _LABELS or own


def _plain(one: Field) -> str:
    """Return the text beside a label, without backticks."""
    return one.value.replace("`", "").strip()


def _message(one: Field) -> str:
    whole = spans(one.value)
    if len(whole) == 1 and one.value.startswith("`") and one.value.endswith("`"):
        return whole[0].strip()
    if one.value:
        return "\n".join(t.text.strip() for t in one.texts if t.text.strip())
    for block in one.blocks:
        for part in block.walk():
            if part.kind in ("fence", "code_block", "paragraph"):
                return part.text.strip()
    return ""


def _begins_in_list(name: str) -> bool:
    """Say whether an item with this label is a field even in a list that belongs to another.

    **Test:** is not: in a list of files it is what is done to the file.
    """
    return not _odd(name) and not name.startswith("test")


def _odd(name: str) -> bool:
    return not (name in _KNOWN or _VERIFY.fullmatch(name) or file_lists.FIELD.fullmatch(name))


def _alike(name: str, hint: str) -> bool:
    """Say whether it is a slip of the pen rather than another word."""
    meant = hint.split("`")[1]
    return abs(len(meant) - len(name)) <= 2 and name[0] == meant[0] and len(name) > 4


def _nothing(blocks: Sequence[Block], hidden: Sequence[Unseen]) -> Diagnostic:
    """Say that there is no task, what was looked for, and what came nearest."""
    message = "the plan has no task; looked for headings `### Task 1.1: Title` and tables of tasks"
    near = [f"line {u.line}: task {u.id} is in {u.where}" for u in hidden if u.kind == "task"]
    near += [f"line {line.line}: {line.text.strip()[:60]}" for line in _candidates(blocks)]
    line = hidden[0].line if hidden else 1
    hint = "nearest: " + "; ".join(near[:3]) if near else "write `### Task 1.1: Title`"
    return Diagnostic("P001", message, line, hint=hint)


def _candidates(blocks: Sequence[Block]) -> Iterable[Line]:
    telling = re.compile(r"\b(task|phase|step|stage|milestone|batch)\b|^\d+[.)]", re.IGNORECASE)
    for block in blocks:
        if block.kind == "heading" and telling.search(block.text):
            yield Line(block.text, block.line)
        for item in _list_items([block]):
            first = item.children[0] if item.children else None
            if first is not None and first.kind == "paragraph" and _BOX.fullmatch(first.text):
                yield text_lines(first)[0]
