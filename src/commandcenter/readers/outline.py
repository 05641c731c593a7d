"""Cuts a document of the CommandCenter dialect into batches and tasks, not yet understood."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from commandcenter.core.plan import Diagnostic
from commandcenter.readers.ids import ABOUT, NUMBER, TASK_ID, counted
from commandcenter.readers.markdown import Block, source

_TASK = re.compile(
    rf"\W*?(?:\[(?P<box>[ xX])\]\s*)?Task\s*#?\s*(?P<id>{TASK_ID})(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_BATCH = re.compile(
    r"\W*?(?P<kind>Batch|Phase)\s*#?\s*"
    r"(?P<id>\d+(?:\.\d+)*[A-Za-z]?|[A-Z](?=\s*[:.(–—-]|\s*$))(?!\w)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_NAMELESS = re.compile(
    r"\W*?(?P<kind>Task|Batch)\s*#?\s*(?P<end>(?::|[–—-]\s).*)?", re.IGNORECASE | re.DOTALL
)
_WORDED = re.compile(
    r"\W*?(?P<kind>Task|Batch|Phase)\s+(?P<word>[A-Za-z][\w.-]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_HEADLINE = re.compile(
    r"list|breakdown|details?|description|index|table|tracking|template|structure|format|groups?"
    r"|sequence|flow|execution|definitions?|priorit(?:y|ies)|goals?|context",
    re.IGNORECASE,
)
"""Words after `Task` that make it a headline over tasks."""
_NUMBERED = re.compile(r"\W*?(?P<id>\d+(?:\.\d+)+[A-Za-z]?)(?!\w)[\s:.)–—-]+\S.*", re.DOTALL)
_SEPARATOR = re.compile(r"\s*[:.)\]–—-]")
_DONE = re.compile(r"✅|☑|✔\ufe0f?|\((?:completed?|done)\)|\[(?:completed?|done)\]", re.IGNORECASE)
_COUNT = re.compile(r"\(\d+ tasks?\)", re.IGNORECASE)
_ROW_ID = re.compile(rf"[*`~]*(?:Task\s+)?(?P<id>{NUMBER})[*`~]*", re.IGNORECASE)
_SUM = re.compile(r"\W*(?:total|sum|all|overall)\b.*", re.IGNORECASE)


@dataclass
class Lines:
    """Blocks of one owner, and the runs of lines that they cover."""

    blocks: list[Block] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)

    def text(self, lines: Sequence[str]) -> str:
        """Return what stands there, as written, with a blank line between runs."""
        parts = [source(lines, start, end) for start, end in self.runs]
        return "\n\n".join(part for part in parts if part.strip())


@dataclass(eq=False)
class BatchDraft:
    """A heading of a batch and the blocks below it that belong to no task."""

    kind: str
    number: str
    title: str
    line: int
    level: int
    done: bool = False
    end: int = 0
    body: Lines = field(default_factory=Lines)
    parent: BatchDraft | None = None
    """The phase in which this batch lies."""
    implied: bool = False
    """Whether no heading made it: it holds tasks outside any batch."""
    separated: bool = True
    """Whether a colon or the like stands between number and title."""


@dataclass(eq=False)
class TaskDraft:
    """A heading or table row of a task and the blocks below it."""

    id: str
    title: str
    line: int
    batch: BatchDraft
    level: int = 0
    done: bool = False
    end: int = 0
    body: Lines = field(default_factory=Lines)
    row: dict[str, str] | None = None
    """Cells by the lower-case header of their column, when it is a table row."""


@dataclass
class Outline:
    """The batches and tasks of a document in reading order."""

    title: str = ""
    batches: list[BatchDraft] = field(default_factory=list)
    tasks: list[TaskDraft] = field(default_factory=list)
    loose: Lines = field(default_factory=Lines)
    """What belongs to no batch."""
    diagnostics: list[Diagnostic] = field(default_factory=list)


def outline(blocks: Sequence[Block], last_line: int) -> Outline:
    """Return the outline of a document. No task is left out: one outside a batch gets one."""
    cutter = _Cutter(blocks, last_line)
    for position, block in enumerate(blocks):
        cutter.add(block, position)
    return cutter.finish()


class _Cutter:
    """Goes through the blocks once, and gives each to the task, batch or document it is in."""

    def __init__(self, blocks: Sequence[Block], last_line: int) -> None:
        self.found = Outline()
        self._blocks = blocks
        self._last_line = last_line
        self._batch: BatchDraft | None = None
        self._left: Block | None = None
        """The heading that ended the last batch, while no other has begun."""
        self._task: TaskDraft | None = None
        self._owner: Lines = self.found.loose
        self._run_start = 1
        self._by_heading = {
            m["id"].casefold()
            for b in blocks
            if b.kind == "heading" and (m := _TASK.fullmatch(b.text.replace("**", "")))
        }
        self._series = {task_id.rpartition(".")[0] for task_id in self._by_heading}

    def add(self, block: Block, position: int) -> None:
        """Give a block to its owner, or begin a new one."""
        if block.kind == "heading":
            self._heading(block, position)
        elif block.kind == "table" and self._task is None and self._table(block):
            return
        elif block.kind == "front_matter":
            self._run_start = block.end + 1
        else:
            self._owner.blocks.append(block)

    def finish(self) -> Outline:
        """Close what is open and return the outline."""
        self._close(self._last_line + 1)
        if self._batch is not None:
            self._batch.end = self._last_line
        return self.found

    def _heading(self, block: Block, position: int) -> None:
        text = block.text.replace("**", "").strip()
        if match := _TASK.fullmatch(text):
            self._begin_task(block, match)
        elif (match := _BATCH.fullmatch(text)) and self._is_batch(match, position):
            self._begin_batch(block, match)
        else:
            self._doubt(block, text, position)
            self._other(block, text)

    def _is_batch(self, match: re.Match[str], position: int) -> bool:
        """Say whether it begins a batch; `Phase 2 Summary` does so only if it has tasks."""
        bare = _separated(match["rest"]) or match["kind"].casefold() == "batch"
        named = any(b.number == match["id"] for b in self.found.batches)
        about = named or ABOUT.search(match["rest"])
        return bare or not about or self._holds_task(position)

    def _holds_task(self, position: int) -> bool:
        level = self._blocks[position].level
        for block in self._blocks[position + 1 :]:
            if block.kind == "heading":
                if _TASK.fullmatch(block.text.replace("**", "")):
                    return True
                if block.level <= level:
                    return False
            elif block.kind == "table" and task_rows(block):
                return True
        return False

    def _begin_batch(self, block: Block, match: re.Match[str]) -> None:
        self._close(block.line)
        kind = match["kind"].casefold()
        begun = BatchDraft(
            kind,
            match["id"],
            _clean(match["rest"]),
            block.line,
            block.level,
            bool(_DONE.search(match["rest"])),
            parent=self._enclosing(kind, block.level),
            separated=_separated(match["rest"]),
        )
        if not begun.separated:
            self._say("W126", f"{kind} {begun.number} has no colon after its number", block)
        if self._batch is not None:
            self._batch.end = block.line - 1
        self.found.batches.append(begun)
        self._batch, self._left = begun, None
        self._open(begun.body, block.line + 1)

    def _enclosing(self, kind: str, level: int) -> BatchDraft | None:
        above: BatchDraft | None = self._batch if self._left is None else None
        while above is not None and above.level >= level:
            above = above.parent
        return above if kind == "batch" and above is not None and above.kind == "phase" else None

    def _begin_task(self, block: Block, match: re.Match[str]) -> None:
        self._close(block.line)
        rest = match["rest"]
        if rest.strip() and not _SEPARATOR.match(rest) and _clean(rest):
            message = f"task {match['id']} has no colon after its number"
            self._say("W126", message, block, "it is taken as a task; write `Task N.M: Title`")
        done = bool(_DONE.search(rest)) or (match["box"] or "").casefold() == "x"
        batch = self._home(block, match["id"])
        self._task = TaskDraft(match["id"], _clean(rest), block.line, batch, block.level, done)
        self.found.tasks.append(self._task)
        self._open(self._task.body, block.line + 1)

    def _home(self, block: Block, task_id: str) -> BatchDraft:
        """Return the batch for a task found here: the last one, or one made for it."""
        if self._batch is None:
            first = not any(_BATCH.fullmatch(b.text) for b in self._blocks if b.kind == "heading")
            number, title = ("1", "Tasks") if first else ("0", "Before the first batch")
            self._batch = BatchDraft("batch", number, title, block.line, 7, implied=True)
            self.found.batches.append(self._batch)
            if not first:
                message = f"task {task_id} stands before the first batch; batch 0 is made for it"
                self._say("W115", message, block, "put it below a heading `## Batch N: Title`")
        elif self._left is not None:
            message = (
                f"task {task_id} stands below `{self._left.text.strip()[:40]}`;"
                f" it stays in {self._batch.kind} {self._batch.number}"
            )
            self._say("W114", message, block, "put it below the heading of its batch")
            self._left = None
        return self._batch

    def _other(self, block: Block, text: str) -> None:
        """Keep a heading inside what is open when it is deeper, else close that."""
        if not self.found.title and block.level == 1 and self._batch is None:
            self.found.title = _clean(text)
            self._close(block.line)
            self._open(self.found.loose, block.line + 1)
            return
        if self._task is not None and block.level > self._task.level:
            self._owner.blocks.append(block)
            return
        ends_batch = self._batch is not None and block.level <= self._batch.level
        if self._task is not None or ends_batch:
            self._close(block.line)
            inside = self._batch is not None and not ends_batch
            owner = self._batch.body if inside and self._batch else self.found.loose
            self._left = block if ends_batch and self._left is None else self._left
            self._open(owner, block.line)
        self._owner.blocks.append(block)

    def _table(self, block: Block) -> bool:
        """Take the rows of a table of tasks as tasks; say whether it was one."""
        rows = [r for r in task_rows(block) if r.cells["task"].casefold() not in self._by_heading]
        if not rows:
            return False
        self._close(block.line)
        self._nameless_rows(block)
        for row in rows:
            batch = self._home(row.block, row.cells["task"])
            status = row.cells.get("status", "")
            done = bool(_DONE.search(" ".join(row.cells.values()))) or bool(
                re.match(r"\W*(completed?|done)\b", status, re.IGNORECASE)
            )
            line = row.block.line
            draft = TaskDraft(row.cells["task"], row.title, line, batch, 7, done, line)
            draft.row = row.cells
            self.found.tasks.append(draft)
        inside = self._batch is not None and self._left is None
        owner = self._batch.body if inside and self._batch else self.found.loose
        self._open(owner, block.end + 1)
        return True

    def _nameless_rows(self, table: Block) -> None:
        for line in [b for b in table.walk() if b.kind == "tr"][1:]:
            first = _clean(line.children[0].text) if line.children else ""
            if first and not _ROW_ID.fullmatch(first) and not _SUM.fullmatch(first):
                message = "this row of a table of tasks has no number"
                self._say("P003", message, replace(line, text=first), "write it as `1.1`")

    def _doubt(self, block: Block, text: str, position: int) -> None:
        if match := _NAMELESS.fullmatch(text):
            kind = match["kind"].casefold()
            hint = f"write `{match['kind'].capitalize()} 1: Title`"
            if match["end"] or kind == "task":
                self._say("P003", f"this {kind} has no number", block, hint)
        elif match := _WORDED.fullmatch(text):
            self._worded(block, match, position)
        elif (match := _NUMBERED.fullmatch(text)) and self._is_missed(block, match["id"]):
            message = f"{match['id']} stands among tasks, but is none without the word `Task`"
            hint = f"write `Task {match['id']}: Title`, or leave its number out"
            self._say("P003", message, block, hint)

    def _worded(self, block: Block, match: re.Match[str], position: int) -> None:
        """Refuse `Task ten: Title` and `Batch One`; `Task list:` is a headline."""
        kind, word, rest = match["kind"].casefold(), match["word"], match["rest"]
        colon = rest.lstrip().startswith(":")
        number = counted(word)
        meant = _separated(rest) or kind == "task" if number else colon and kind != "phase"
        about = not number and (_HEADLINE.fullmatch(word) or ABOUT.match(word))
        if (meant and not about) or (colon and kind == "phase" and self._holds_task(position)):
            hint = f"write `{kind.capitalize()} {number or 1}: Title`; or leave out the colon"
            self._say("P003", f"`{word}` is no number of a {kind}", block, hint)
        elif colon and kind == "task":
            message = "this heading looks like a task, but has no number, so it is none"
            self._say("W116", message, block, "write `Task N.M: Title`")

    def _is_missed(self, block: Block, task_id: str) -> bool:
        """Say whether a bare `1.2 Title` stands where `Task 1.2: Title` is to be expected."""
        inside = self._task is not None and block.level > self._task.level
        batch = self._batch if self._left is None else None
        within = batch is not None and (batch.implied or block.level > batch.level)
        known = task_id.casefold() in self._by_heading
        return within and not inside and not known and task_id.rpartition(".")[0] in self._series

    def _say(self, code: str, message: str, block: Block, hint: str = "") -> None:
        subject = block.text.strip().split("\n")[0][:60]
        self.found.diagnostics.append(
            Diagnostic(code, message, block.line, hint=hint, subject=subject)
        )

    def _open(self, owner: Lines, line: int) -> None:
        self._owner, self._run_start = owner, line

    def _close(self, line: int) -> None:
        """End the run of the current owner before this line."""
        if line > self._run_start:
            self._owner.runs.append((self._run_start, line - 1))
        if self._task is not None:
            self._task.end = line - 1
        self._task = None


@dataclass(frozen=True)
class Row:
    """A row of a table of tasks."""

    block: Block
    cells: dict[str, str]
    title: str


def task_rows(table: Block) -> list[Row]:
    """Return the rows of a table of tasks: its first column is of ids, and is called so."""
    lines = [b for b in table.walk() if b.kind == "tr"]
    header = [cell.text.strip().casefold() for cell in lines[0].children] if lines else []
    if len(header) < 2 or header[0] not in ("task", "tasks", "id", "task id", "#", "no.", "nr"):
        return []
    found = []
    for line in lines[1:]:
        values = [cell.text.strip() for cell in line.children]
        if values and (match := _ROW_ID.fullmatch(_clean(values[0]))):
            cells = dict(zip(header[1:], values[1:], strict=False)) | {"task": match["id"]}
            if header[0] in ("task", "tasks", "task id") or "." in match["id"]:
                found.append(Row(line, cells, _clean(_described(cells, header, values))))
    return found


def _separated(rest: str) -> bool:
    """Say whether a title is set off from its number, or there is none."""
    return bool(_SEPARATOR.match(rest)) or not _clean(rest)


def _described(cells: dict[str, str], header: list[str], values: list[str]) -> str:
    named = ("title", "name", "description", "summary", "what")
    return next((cells[n] for n in named if cells.get(n)), values[1] if len(values) > 1 else "")


def _clean(text: str) -> str:
    """Return a title without marks of progress, counts and separators."""
    bare = _COUNT.sub("", _DONE.sub("", text.replace("**", "")))
    return " ".join(re.sub(r"^[\s:.)\]–—-]+", "", bare).split())
