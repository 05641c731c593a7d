"""Reads which files a task declares: `- Create: path`, code spans, line ranges."""

from __future__ import annotations

import re
from collections.abc import Iterator

from commandcenter.core.plan import Diagnostic, FileOp, FileUse
from commandcenter.readers.markdown import Block, Field, Line, spans, text_lines, without_spans

FIELD = re.compile(
    r"files?"
    r"|(?:new|test|created|modified|changed|deleted) files?"
    r"|files? (?:to |to be )?(?:(?:create|modif|updat|chang|delet|remov|edit|touch|add|test)\w*"
    r"(?: ?[/&,] ?| and | or )?)+"
)
_OPS = {
    "creat": FileOp.CREATE,
    "add": FileOp.CREATE,
    "new": FileOp.CREATE,
    "modif": FileOp.MODIFY,
    "updat": FileOp.MODIFY,
    "edit": FileOp.MODIFY,
    "chang": FileOp.MODIFY,
    "delet": FileOp.DELETE,
    "remov": FileOp.DELETE,
    "test": FileOp.TEST,
    "read": FileOp.READ,
    "refer": FileOp.READ,
}
_WORD = re.compile(
    r"\s*[*_]*(?P<op>create|add|new|modify|update|edit|change|delete|remove|tests?|read|reference)"
    r"(?: file)?[*_]*\s*:[*_]*\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RANGE = re.compile(r"(?<=[^:/\\]):(?P<lines>~?L?\d+(?:-L?\d+)?(?:,\s*L?\d+(?:-L?\d+)?)*)$")
_NOTE = re.compile(
    r"\s+\((?:new|modified|modify|create|created|update|updated|delete|deleted|edit|existing"
    r"|optional|if \w[^()]*)\)$",
    re.IGNORECASE,
)
_WHY = re.compile(r"\s+(?:[-–—]|→|<-|#)\s+")
_NOTHING = re.compile(r"(none|n/?a|-|–|—|tbd)\.?", re.IGNORECASE)
_JOINED = re.compile(r"\s*(?:,|and|&|\+|/|;|or)?\s*(?::~?\d+(?:-\d+)?)?\s*", re.IGNORECASE)


def files(field: Field) -> tuple[list[FileUse], list[Diagnostic]]:
    """Return the files that a field declares, and the items in it that are no path."""
    found: list[FileUse] = []
    doubts: list[Diagnostic] = []
    for line, op in _entries(field):
        paths = _paths(line.text)
        if not paths and not _NOTHING.fullmatch(line.text.strip()):
            shown = line.text.strip()[:60]
            message = f"`{shown}` is not a path, so it is not taken as a file"
            doubts.append(Diagnostic("W108", message, line.line, subject=shown))
        found += [FileUse(path, op, lines, line.line) for path, lines in paths]
    return found, doubts


def file_uses(text: str, line: int) -> list[FileUse]:
    """Return the files that a table cell declares."""
    return [FileUse(path, FileOp.UNKNOWN, lines, line) for path, lines in _paths(text)]


def _entries(field: Field) -> Iterator[tuple[Line, FileOp]]:
    default = _op(field.name)
    for line in field.texts:
        if line.text.strip():
            yield _entry(line, default)
    for block in field.blocks:
        if block.kind == "list_item":
            yield from _item(block, default)


def _item(item: Block, default: FileOp) -> Iterator[tuple[Line, FileOp]]:
    """Give the entry of a list item; one that is only `Create:` speaks for those inside it."""
    op = default
    for child in item.children:
        if child.kind == "paragraph":
            # Only its first line is the entry: what follows explains it.
            line, op = _entry(text_lines(child)[0], default)
            if line.text.strip():
                yield line, op
        else:
            for inner in child.children:
                yield from _item(inner, op)


def _entry(line: Line, default: FileOp) -> tuple[Line, FileOp]:
    text = re.sub(r"^\s*\[[ xX]\]\s+", "", line.text)
    if found := _WORD.match(text):
        return Line(found["rest"].strip(), line.line), _op(found["op"])
    return Line(text.strip(), line.line), default


def _op(text: str) -> FileOp:
    hits = {op for stem, op in _OPS.items() if re.search(rf"\b{stem}", text, re.IGNORECASE)}
    return hits.pop() if len(hits) == 1 else FileOp.UNKNOWN


def _paths(text: str) -> list[tuple[str, str]]:
    """Return the paths in an entry, each with its line range."""
    quoted = _quoted(text) if spans(text) else None
    candidates = quoted if quoted is not None else _plain(text)
    return [_ranged(c) for c in candidates if _path_like(c, quoted is not None)]


def _quoted(text: str) -> list[str]:
    """Return the code spans at the start: those after other words belong to the explanation."""
    pieces = without_spans(text, "\0").split("\0")
    taken: list[str] = []
    for span, before, after in zip(spans(text), pieces, pieces[1:], strict=False):
        if taken and not _JOINED.fullmatch(before):
            break
        number = re.match(r":~?\d+(?:-\d+)?", after)
        taken.append(span.strip() + (number[0] if number else ""))
    return taken


def _plain(text: str) -> list[str]:
    bare = _NOTE.sub("", _WHY.split(text.strip())[0]).strip()
    parts = [p.strip() for p in bare.split(", ")]
    # A comma inside a name is rarer than a list of paths, but only paths make a list.
    if len(parts) > 1 and all(_path_like(p, False) and " " not in p for p in parts):
        return parts
    return [bare] if bare else []


def _ranged(path: str) -> tuple[str, str]:
    found = _RANGE.search(path)
    return (path[: found.start()], found["lines"]) if found else (path, "")


def _path_like(text: str, quoted: bool) -> bool:
    if not text or "://" in text or _NOTHING.fullmatch(text):
        return False
    if " " not in text:
        return quoted or bool(re.search(r"[/\\.~]|^[A-Z]\w+$|^\w+$", text))
    # With blanks it needs a folder or an ending: `file with spaces & (special).txt`.
    return "/" in text or bool(re.search(r"\.\w{1,8}$", _RANGE.sub("", text)))
