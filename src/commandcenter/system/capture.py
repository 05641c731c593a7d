"""Takes what an agent left in its workspace into the vault, as one commit.

Only files count: no git runs in the workspace, no link is followed, nothing of it is executed.
Every object is written and checked in quarantine before the vault sees it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.change import Change
from commandcenter.core.errors import CaptureRefused, GitError
from commandcenter.core.workspace import Contents
from commandcenter.system.beneath import open_beneath
from commandcenter.system.git import Git
from commandcenter.system.scan import (
    FILES_MAX,
    Copy,
    Delete,
    Entry,
    Findings,
    Folder,
    Found,
    Scan,
    reading,
    shown,
)
from commandcenter.system.vault import Identity, RefUpdate, Vault

FILE_BYTES_MAX = 100 * 2**20
TOTAL_BYTES_MAX = 512 * 2**20
NOTES_MAX = 50

_BATCH_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_IGNORE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _File:
    """A file that differs from the base."""

    path: bytes
    mode: str
    id: str


@dataclass(frozen=True, slots=True)
class _Stream:
    """A piece of input for fast-import, and how much content it holds."""

    blobs: bytes
    files: tuple[_File, ...]
    size_bytes: int


async def capture(
    git: Git,
    vault: Vault,
    contents: Contents,
    base: str,
    *,
    ref: str,
    message: str,
    author: Identity,
    committer: Identity,
    date: int,
    protect: Collection[str] = (),
) -> Change:
    """Return what the workspace made of `base`, as a commit at `ref` (see `task_ref`).

    The workspace must be dead. The same files and values give the same commit; a second call with
    the same `ref` returns the first one's commit, without its notes. A tree that equals the base's
    gives an empty change and no ref. `date` is in seconds since 1970. `protect` holds paths,
    folders or patterns that may not differ.

    Raises:
        CaptureRefused: something the agent left cannot be taken; its words are for the agent.
    """
    first = await vault.ref(ref)
    if first is not None:
        await vault.secure(ref)
        return await _recorded(vault, base, first)
    tree = await _base_tree(vault, base)
    root = os.open(_root(contents), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        async with vault.quarantine() as folder:
            overlay = contents.upper is not None
            found = await _find(git, vault, Scan(root, tree, overlay=overlay), folder)
            annex = vault.make_annex(folder / "imported")
            files = await _import_files(git, annex, root, found, tree, len(base))
            note = _notes(found, files, tree)
            if not files and not found.moves:
                return _unchanged(base, tree, note)
            blobs = _packs(annex)
            head = await _import_commit(
                git, annex, base, found, files, _header(message, author, committer, date)
            )
            # A pack is checked against what is there already, so the contents go before the commit.
            # Times cannot tell the order: two packs may have the same one, and clocks jump.
            packs = (*blobs, *(pack for pack in _packs(annex) if pack not in blobs))
            return await _admit(vault, annex, packs, base, head, ref, note, protect)
    finally:
        os.close(root)


async def _admit(
    vault: Vault,
    annex: Path,
    packs: Sequence[Path],
    base: str,
    head: str,
    ref: str,
    notes: tuple[str, ...],
    protect: Collection[str],
) -> Change:
    change = await _change(vault, base, head, notes, at=annex)
    if change.empty:
        return change
    _refuse_protected(change.files, protect)
    await vault.admit(packs)
    if not await vault.update_refs([RefUpdate(ref, head, None)]):
        first = await vault.ref(ref)
        assert first is not None
        return await _recorded(vault, base, first)
    return change


def _packs(annex: Path) -> tuple[Path, ...]:
    return tuple((annex / "objects/pack").glob("*.pack"))


async def _recorded(vault: Vault, base: str, head: str) -> Change:
    parent = await vault.resolve(f"{head}^")
    if parent != base:
        raise GitError(f"Another base was captured under this name: {parent}, not {base}.")
    return await _change(vault, base, head, ())


async def _change(
    vault: Vault, base: str, head: str, notes: tuple[str, ...], *, at: Path | None = None
) -> Change:
    files = await vault.numstat(base, head, at=at)
    return Change(
        base=base,
        head=head if files else base,
        tree=await vault.tree_of(head, at=at),
        files=tuple(file.path for file in files),
        insertions=sum(file.insertions for file in files),
        deletions=sum(file.deletions for file in files),
        notes=notes,
    )


def _unchanged(base: str, tree: Mapping[bytes, Entry], notes: tuple[str, ...]) -> Change:
    return Change(base=base, head=base, tree=tree[b""].id, files=(), notes=notes)


def _root(contents: Contents) -> Path:
    root = contents.upper or contents.tree
    assert root is not None, "contents have neither an upper directory nor a tree"
    return root


async def _base_tree(vault: Vault, base: str) -> dict[bytes, Entry]:
    """Return every path of the base, folders too; the root is the empty path."""
    listing = await vault.git.run("ls-tree", "-r", "-t", "-z", base, git_dir=vault.path)
    tree = {b"": Entry("040000", await vault.tree_of(base))}
    for line in listing.stdout.split(b"\0")[:-1]:
        head, _, path = line.partition(b"\t")
        mode, _, name = head.decode().split(" ")
        tree[path] = Entry(mode, name)
    return tree


# Finding


async def _find(git: Git, vault: Vault, scan: Scan, folder: Path) -> Findings:
    """Go through the tree level by level, not into folders that are ignored."""
    ignoring = await _Ignoring.make(git, vault, scan, folder)
    level = [Folder(b"", b"", b"")]
    while level:
        children = await asyncio.to_thread(_enter, scan, ignoring, level)
        unknown = [child.path for child in children if child.is_new and not child.submodule]
        ignored = await ignoring.ignored(unknown, folders=True)
        level = [child for child in children if child.path not in ignored]
    found = await asyncio.to_thread(scan.finish)
    untracked = [file.path for file in found.files if not file.tracked]
    ignored = await ignoring.ignored(untracked)
    found.files = [file for file in found.files if file.path not in ignored]
    _refuse_many(len(untracked) - len(ignored))
    return found


def _enter(scan: Scan, ignoring: _Ignoring, level: Sequence[Folder]) -> list[Folder]:
    children = []
    for folder in level:
        children += scan.enter(folder)
        ignoring.learn(folder.path, scan.rules(folder))
    return children


class _Ignoring:
    """Asks git which paths are ignored, in a skeleton that holds nothing but `.gitignore` files."""

    def __init__(self, git: Git, annex: Path, skeleton: bytes, blobs: Mapping[str, bytes]) -> None:
        self._git = git
        self._annex = annex
        self._skeleton = skeleton
        self._blobs = blobs
        self._rules = False

    @classmethod
    async def make(cls, git: Git, vault: Vault, scan: Scan, folder: Path) -> _Ignoring:
        skeleton = folder / "skeleton"
        skeleton.mkdir()
        blobs = await _blobs(vault, scan.base_rules())
        return cls(git, vault.make_annex(folder / "ignoring"), os.fsencode(skeleton), blobs)

    def learn(self, path: bytes, rules: bytes | str | None) -> None:
        """Take in the `.gitignore` of a folder: its content, or the id of the base's."""
        content = self._blobs.get(rules, b"") if isinstance(rules, str) else rules
        if content:
            place = os.path.join(self._skeleton, path)
            os.makedirs(place, exist_ok=True)
            Path(os.fsdecode(place), ".gitignore").write_bytes(content)
            self._rules = True

    async def ignored(self, paths: Sequence[bytes], *, folders: bool = False) -> set[bytes]:
        """Return which of the untracked paths are ignored."""
        if not paths or not self._rules:
            return set()
        if folders:
            # A rule that ends with a slash only fits what really is a folder.
            await asyncio.to_thread(self._make_folders, paths)
        try:
            answer = await self._git.run(
                f"--work-tree={os.fsdecode(self._skeleton)}",
                *("check-ignore", "-z", "--stdin", "--no-index"),
                git_dir=self._annex,
                # A path that begins with a colon would be read as an instruction.
                stdin=b"".join(b"./%b\0" % path for path in paths),
                check=False,
                timeout_s=_IGNORE_TIMEOUT_S,
            )
        except GitError as error:
            raise CaptureRefused(
                "The rules in .gitignore take too long to follow.", hint="Make them simpler."
            ) from error
        if answer.exit_code not in (0, 1):
            raise CaptureRefused(f"The .gitignore files cannot be followed: {answer.complaint}")
        return {path.removeprefix(b"./") for path in answer.stdout.split(b"\0")[:-1]}

    def _make_folders(self, paths: Sequence[bytes]) -> None:
        for path in paths:
            os.makedirs(os.path.join(self._skeleton, path), exist_ok=True)


async def _blobs(vault: Vault, ids: Sequence[str]) -> dict[str, bytes]:
    if not ids:
        return {}
    request = "\n".join(ids).encode() + b"\n"
    output = (await vault.git.run("cat-file", "--batch", git_dir=vault.path, stdin=request)).stdout
    blobs, at = {}, 0
    for name in ids:
        start = output.index(b"\n", at) + 1
        end = start + int(output[at:start].split()[2])
        blobs[name] = output[start:end]
        at = end + 1
    return blobs


# Reading and writing


async def _import_files(
    git: Git,
    annex: Path,
    root: int,
    found: Findings,
    base: Mapping[bytes, Entry],
    id_length: int,
) -> list[_File]:
    """Write the blobs of all files that differ, in pieces that fit into memory."""
    known = {entry.id for entry in base.values()}
    reader = _Reader(root, known, id_length)
    _refuse_large(found.files, await _sizes(git, annex, found.files))
    changed: list[_File] = []
    total = 0
    pieces = reader.pieces(found.files)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        changed += piece.files
        total += piece.size_bytes
        _refuse_many(len(changed))
        if total > TOTAL_BYTES_MAX:
            raise CaptureRefused(
                f"The changed files are larger than {TOTAL_BYTES_MAX // 2**20} MiB together.",
                hint="Remove what was generated, or name it in .gitignore.",
            )
        if piece.blobs:
            await _fast_import(git, annex, piece.blobs)
    return changed


async def _sizes(git: Git, annex: Path, files: Sequence[Found]) -> dict[str, int]:
    """Return the sizes of the base's blobs where the file is larger than a new one may be."""
    ids = {
        file.placed.id
        for file in files
        if file.size_bytes > FILE_BYTES_MAX and file.placed is not None
    }
    request = "".join(f"{name}\n" for name in sorted(ids)).encode()
    answer = (
        await git.run(
            "cat-file", "--batch-check=%(objectname) %(objectsize)", git_dir=annex, stdin=request
        )
        if ids
        else None
    )
    lines = answer.text.splitlines() if answer else []
    return {name: int(size) for name, size in (line.split(" ") for line in lines)}


def _refuse_large(files: Sequence[Found], sizes: Mapping[str, int]) -> None:
    for file in files:
        unchanged = file.placed is not None and sizes.get(file.placed.id) == file.size_bytes
        if file.size_bytes > FILE_BYTES_MAX and not unchanged:
            raise _too_large(file.path)


def _too_large(path: bytes) -> CaptureRefused:
    return CaptureRefused(
        f"`{shown(path)}` is larger than {FILE_BYTES_MAX // 2**20} MiB.",
        hint="Remove it, or name it in .gitignore.",
    )


def _refuse_many(count: int) -> None:
    if count > FILES_MAX:
        raise CaptureRefused(
            f"More than {FILES_MAX} files changed.",
            hint="Remove what was generated, or name its folder in .gitignore.",
        )


class _Reader:
    """Reads files of a hostile tree into pieces for fast-import."""

    def __init__(self, root: int, known: set[str], id_length: int) -> None:
        self._root = root
        self._known = known
        """Blobs that need not be written."""
        self._hash = hashlib.sha256 if id_length == 64 else hashlib.sha1

    def pieces(self, files: Sequence[Found]) -> Iterator[_Stream]:
        blobs, changed, size = bytearray(), list[_File](), 0
        for found in files:
            file, content = self._read(found)
            if found.placed == Entry(file.mode, file.id):
                continue
            changed.append(file)
            if file.id not in self._known:
                self._known.add(file.id)
                blobs += b"blob\ndata %d\n%b\n" % (len(content), content)
                size += len(content)
            if size > _BATCH_BYTES:
                yield _Stream(bytes(blobs), tuple(changed), size)
                blobs, changed, size = bytearray(), [], 0
        yield _Stream(bytes(blobs), tuple(changed), size)

    def _read(self, found: Found) -> tuple[_File, bytes]:
        with reading(found.path):
            content, name = self._link(found.path) if found.link else self._regular(found)
        mode = "120000" if found.link else "100755" if found.executable else "100644"
        return _File(found.path, mode, name), content

    def _link(self, path: bytes) -> tuple[bytes, str]:
        parent, _, name = path.rpartition(b"/")
        folder = open_beneath(self._root, parent or b".", directory=True)
        try:
            content = os.readlink(name, dir_fd=folder)
        finally:
            os.close(folder)
        return content, self._id(len(content), [content])

    def _regular(self, found: Found) -> tuple[bytes, str]:
        descriptor = open_beneath(self._root, found.path)
        with os.fdopen(descriptor, "rb", 0) as file:
            if found.size_bytes > FILE_BYTES_MAX:
                return b"", self._unchanged(found, _chunks(file.read))
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise _too_large(found.path)
        return content, self._id(len(content), [content])

    def _unchanged(self, found: Found, chunks: Iterator[bytes]) -> str:
        """Return the id of a file too large to take, which so must be the base's."""
        name = self._id(found.size_bytes, chunks)
        if found.placed is None or found.placed.id != name:
            raise _too_large(found.path)
        return name

    def _id(self, size: int, chunks: Sequence[bytes] | Iterator[bytes]) -> str:
        digest = self._hash(b"blob %d\0" % size)
        for chunk in chunks:
            digest.update(chunk)
        return digest.hexdigest()


async def _import_commit(
    git: Git,
    annex: Path,
    base: str,
    found: Findings,
    files: Sequence[_File],
    header: bytes,
) -> str:
    lines = [
        header,
        b"from %b\n" % base.encode(),
        *map(_moved, found.moves),
        *(b"M %b %b %b\n" % (f.mode.encode(), f.id.encode(), _quoted(f.path)) for f in files),
        b"\n",
    ]
    marks = annex / "marks"
    await _fast_import(git, annex, b"".join(lines), f"--export-marks={marks}")
    return marks.read_text().split()[1]


def _header(message: str, author: Identity, committer: Identity, date: int) -> bytes:
    text = message.encode(errors="surrogateescape")
    people = "".join(
        f"{role} {one.name} <{one.email}> {date} +0000\n"
        for role, one in (("author", author), ("committer", committer))
    )
    return b"commit refs/heads/main\nmark :1\n%bdata %d\n%b\n" % (people.encode(), len(text), text)


def _moved(move: Delete | Copy) -> bytes:
    match move:
        case Delete(path):
            return b"D %b\n" % _quoted(path)
        case Copy(path, tree):
            return b"M 040000 %b %b\n" % (tree.encode(), _quoted(path))


def _quoted(path: bytes) -> bytes:
    escaped = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'


async def _fast_import(git: Git, annex: Path, stream: bytes, *options: str) -> None:
    # The quarantine need not survive a power cut: what is admitted is written again, durably.
    await git.run(
        *("-c", "fastimport.unpackLimit=0", "-c", "core.fsync=none"),
        *("fast-import", "--quiet", "--force", *options),
        git_dir=annex,
        stdin=stream,
        timeout_s=600,
    )


# Judging


def _refuse_protected(files: Sequence[str], protect: Collection[str]) -> None:
    touched = [path for path in files if any(_covers(pattern, path) for pattern in protect)]
    if touched:
        names = ", ".join(f"`{shown(os.fsencode(path))}`" for path in touched[:5])
        raise CaptureRefused(
            f"These protected files may not be changed: {names}.", hint="Restore them."
        )


def _covers(pattern: str, path: str) -> bool:
    folder = pattern.rstrip("/")
    return path == folder or path.startswith(folder + "/") or fnmatch.fnmatchcase(path, pattern)


def _notes(found: Findings, files: Sequence[_File], base: Mapping[bytes, Entry]) -> tuple[str, ...]:
    notes = sorted(found.notes) + _collisions(files, base)
    left = len(notes) - NOTES_MAX
    return tuple(notes if left <= 0 else [*notes[:NOTES_MAX], f"{left} more notes."])


def _collisions(files: Sequence[_File], base: Mapping[bytes, Entry]) -> list[str]:
    """Name added files that are another file's where case does not count."""
    added = [file.path for file in files if file.path not in base]
    if not added:
        return []
    spellings: dict[bytes, bytes] = {}
    for path in (*base, *sorted(added)):
        spellings.setdefault(path.lower(), path)
    return [
        f"`{shown(path)}` and `{shown(spellings[path.lower()])}` differ only in case."
        for path in sorted(added)
        if spellings[path.lower()] != path
    ]


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK_BYTES):
        yield chunk
