"""Markdown as blocks with line numbers: sections, fields, list items and code spans.

Structure comes from a CommonMark parser. Expressions are used on the text of one block only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.tree import SyntaxTreeNode
from mdit_py_plugins.front_matter import front_matter_plugin

_LABEL = re.compile(r"\s*(\*\*|__|\*|_)([^*_`]{1,60}?)(:?)\1\s*(:?)(?:\s+|$)(.*)", re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_SPAN_MAX = 10_000
"""Code spans are looked for in so many characters of one block, for the sake of time."""
_PREFIX = re.compile(r"^(?:\s*(?:>|[-*+]\s|\d{1,9}[.)]\s))*\s*")


@dataclass(frozen=True)
class Block:
    """A block of the document."""

    kind: str
    """The parser's name: `heading`, `paragraph`, `list_item`, `fence`, `table`, ..."""
    line: int
    """1-based."""
    end: int
    """The last line, included."""
    text: str = ""
    """Of a heading, paragraph or cell: its text as written. Of code: its content."""
    info: str = ""
    """Of a fence: its language. Of a heading: its level."""
    markup: str = ""
    children: tuple[Block, ...] = ()

    @property
    def level(self) -> int:
        """Return the level of a heading, 1 to 6."""
        return int(self.info)

    def walk(self) -> Iterator[Block]:
        """Give it and all blocks inside it, in reading order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Line:
    """A line of a paragraph, or another short text, and where it stands."""

    text: str
    line: int


@dataclass
class Field:
    """A label such as **Files:** with the text beside it and the blocks below it."""

    name: str
    """Lower case, with single blanks and without the colon."""
    line: int
    texts: list[Line] = field(default_factory=list)
    """The text beside the label, and the lines that continue it."""
    blocks: list[Block] = field(default_factory=list)
    """List items, paragraphs, code and tables below it."""

    @property
    def value(self) -> str:
        """Return the text beside the label, as one line."""
        return " ".join(t.text.strip() for t in self.texts).strip()


def parse(text: str) -> tuple[Block, ...]:
    """Return the top-level blocks of a document."""
    root = SyntaxTreeNode(_parser().parse(text))
    return tuple(_block(node, 1) for node in root.children)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table").use(front_matter_plugin)
    # Text is read as written, so the costly part of the parser is not needed.
    parser.core.ruler.disable(["inline"])
    parser.block.ruler.before(
        "paragraph", "label", _ends_what_is_above, {"alt": ["paragraph", "blockquote"]}
    )
    return parser


def _ends_what_is_above(state: StateBlock, line: int, _: int, silent: bool) -> bool:
    """Say whether a line is a label outside the list item, quotation or table directly above it.

    CommonMark takes it for the last words of that item unless a blank line is between them, and
    **Depends on:** directly below a list of files would be no field.
    """
    if not silent:
        return False
    text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
    outside = state.sCount[line] < state.blkIndent or state.parentType == "blockquote"
    outside = outside or (state.parentType == "table" and "|" not in text)
    return outside and label(text) is not None


def _block(node: SyntaxTreeNode, line: int) -> Block:
    start, end = node.map if node.map else (line - 1, line)
    children = [child for child in node.children if child.type != "inline"]
    text = "".join(child.content for child in node.children if child.type == "inline")
    is_heading = node.type == "heading" and not _underlined_text(node.markup, text)
    return Block(
        "paragraph" if node.type == "heading" and not is_heading else node.type,
        start + 1,
        max(end, start + 1),
        text if node.is_nested else node.content,
        node.tag[1:] if is_heading else ("" if node.is_nested else node.info),
        node.markup,
        tuple(_block(child, start + 1) for child in children),
    )


def _underlined_text(markup: str, text: str) -> bool:
    """Say whether dashes directly below text made it a heading that nobody meant.

    A rule, or an empty list item, below **Commit:** would else end the task.
    """
    return markup in ("-", "=") and ("\n" in text or label(text) is not None)


def fields(
    blocks: Sequence[Block],
    headings: frozenset[str] = frozenset(),
    begins: Callable[[str], bool] = lambda _: True,
) -> list[Field]:
    """Return the labelled fields among these blocks, in order.

    A field begins with a bold or emphasised label that ends in a colon, at the start of a line of
    a paragraph or list item, or with a heading that is one of `headings`. It lasts to the next.
    A list below a label is its own: there an item begins a field only if `begins` says so of its
    name, and **Create:** in a list of files does not.
    """
    return _collected(blocks, headings, begins).found


def labels_inside_items(blocks: Sequence[Block]) -> list[Field]:
    """Return the labels further down in list items, which begin no field: they are of the item."""
    return _collected(blocks, frozenset(), lambda _: True).inside


def _collected(
    blocks: Sequence[Block], headings: frozenset[str], begins: Callable[[str], bool]
) -> _Collector:
    collector = _Collector(headings, begins)
    for block in blocks:
        collector.add(block)
    return collector


class _Collector:
    """Cuts a run of blocks into fields."""

    def __init__(self, headings: frozenset[str], begins: Callable[[str], bool]) -> None:
        self.found: list[Field] = []
        self.inside: list[Field] = []
        self._headings = headings
        self._begins = begins
        self._open: Field | None = None

    def add(self, block: Block) -> None:
        """Add a block to the open field, or open the fields that it begins."""
        match block.kind:
            case "heading":
                self._heading(block)
            case "paragraph":
                self._paragraph(block)
            case "bullet_list" | "ordered_list":
                above = self._open
                for item in block.children:
                    self._item(item, above)
            case "hr":
                self._open = None
            case _:
                self._keep(block)

    def _heading(self, block: Block) -> None:
        name = _name(block.text)
        self._open = self._begin(name, block.line) if name in self._headings else None

    def _paragraph(self, block: Block) -> None:
        lines = text_lines(block)
        begun = False
        rest: list[Line] = []
        for line in lines:
            if labelled := label(line.text):
                self._open = self._begin(labelled[0], line.line)
                begun = True
                self._open.texts.append(Line(labelled[1], line.line))
            elif begun and self._open is not None:
                self._open.texts.append(line)
            else:
                rest.append(line)
        if rest:
            # What stands before the first label still belongs to the field above.
            self._keep_before(block, rest, begun)

    def _keep_before(self, block: Block, rest: list[Line], begun: bool) -> None:
        target = self._open if not begun else None
        if target is not None:
            text = "\n".join(line.text for line in rest)
            target.blocks.append(Block(block.kind, rest[0].line, rest[-1].line, text))

    def _item(self, item: Block, above: Field | None) -> None:
        first = item.children[0] if item.children else None
        begun = label(text_lines(first)[0].text) if first and first.kind == "paragraph" else None
        of_list = above is not None and self._open is above
        if begun is not None and not (of_list and not self._begins(begun[0])):
            for child in item.children:
                self.add(child)
        else:
            self._inside(item)
            self._keep(item)

    def _inside(self, item: Block) -> None:
        lines = [n for b in item.walk() if b.kind == "paragraph" for n in text_lines(b)]
        named = ((label(line.text), line.line) for line in lines if line.line > item.line)
        self.inside += [Field(found[0], line) for found, line in named if found]

    def _keep(self, block: Block) -> None:
        if self._open is not None:
            self._open.blocks.append(block)

    def _begin(self, name: str, line: int) -> Field:
        begun = Field(name, line)
        self.found.append(begun)
        return begun


def label(text: str) -> tuple[str, str] | None:
    """Return the name and the rest of a line that begins with a label, `**Name:** rest`."""
    found = _LABEL.match(text)
    if found is None or not (found[3] or found[4]):
        return None
    return _name(found[2]), found[5].strip()


def _name(text: str) -> str:
    return " ".join(text.replace("*", "").strip().rstrip(":").casefold().split())


def text_lines(block: Block) -> list[Line]:
    """Return the lines of a paragraph, each with its number."""
    return [Line(text, block.line + n) for n, text in enumerate(block.text.split("\n"))]


def spans(text: str) -> list[str]:
    """Return the contents of the code spans in a text, in order."""
    return [_inner(found[2]) for found in _SPAN.finditer(text[:_SPAN_MAX])]


def without_spans(text: str, mark: str = "") -> str:
    """Return a text with each code span replaced by a mark."""
    return _SPAN.sub(lambda _: mark, text[:_SPAN_MAX]) + text[_SPAN_MAX:]


def _inner(text: str) -> str:
    """Strip one blank on each side, as CommonMark does, and join lines."""
    flat = text.replace("\n", " ")
    if len(flat) > 2 and flat.startswith(" ") and flat.endswith(" ") and flat.strip():
        return flat[1:-1]
    return flat


def closed(fence: Block, lines: Sequence[str]) -> bool:
    """Say whether a fenced code block ends with a fence of its own."""
    if fence.end <= fence.line:
        return False
    last = _PREFIX.sub("", lines[fence.end - 1]).strip()
    return len(last) >= len(fence.markup) and set(last) == {fence.markup[0]}


def source(lines: Sequence[str], start: int, end: int) -> str:
    """Return the lines of the document from `start` to `end`, both included, as written."""
    return "\n".join(lines[max(start, 1) - 1 : end]).strip("\n").rstrip()
