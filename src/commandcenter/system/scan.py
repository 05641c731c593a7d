"""Finds what changed in a tree that somebody hostile wrote. It opens no file but `.gitignore`.

Two kinds of tree: an overlay's upper directory, which holds only what changed, and a plain
checkout, which is compared with its base. Everything is named relative to an open directory, and
no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from commandcenter.core.errors import CaptureRefused
from commandcenter.system.beneath import open_beneath, read_beneath

FILES_MAX = 20_000
"""Most files of a change, ignored ones not counted."""
ENTRIES_MAX = 200_000
"""Most directory entries that are looked at beyond those of the base."""
DEPTH_MAX = 64
PATH_BYTES_MAX = 1024
CONTROL_BYTES_MAX = 2**20
"""Largest file that git reads as its own configuration."""

_CONTROL = frozenset({b".gitignore", b".gitattributes", b".gitmodules", b".mailmap"})
_GITLINK = "160000"
_TREE = "040000"
# Windows finds `.git` under these names too, with a stream or dots and blanks behind.
_NTFS_DOTGIT = re.compile(rb"(\.git|git~1)[ .]*(:.*)?", re.IGNORECASE | re.DOTALL)
# HFS+ ignores these characters in names.
_HFS_IGNORED = dict.fromkeys([0xFEFF, *range(0x200C, 0x2010), *range(0x202A, 0x202F)]) | (
    dict.fromkeys(range(0x206A, 0x2070))
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a git tree."""

    mode: str
    id: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory on the way through the tree."""

    path: bytes
    lower: bytes | None
    """The base's directory whose content shows through, if one does."""
    placed: bytes | None
    """The base's directory that is at `path` once its parents are done, if one is."""
    submodule: bool = False

    @property
    def is_new(self) -> bool:
        """Say whether nothing of the base is there."""
        return self.lower is None and self.placed is None


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file or a link that may differ from the base."""

    path: bytes
    link: bool
    size_bytes: int
    executable: bool
    placed: Entry | None
    """What is at `path` before this file is written."""
    tracked: bool
    """Whether the base has it: rules to ignore files do not apply."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Nothing of the base stays at this path."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """A directory of the base was renamed to `path`."""

    path: bytes
    tree: str


@dataclass
class Findings:
    """What the way through the tree has found so far."""

    moves: list[Delete | Copy] = field(default_factory=list)
    """In order, before any file is written."""
    files: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: int = 0


class _Kind(Enum):
    FILE = auto()
    LINK = auto()
    FOLDER = auto()
    WHITEOUT = auto()
    SPECIAL = auto()


@dataclass(frozen=True, slots=True)
class _Item:
    name: bytes
    path: bytes
    kind: _Kind
    status: os.stat_result


class Scan:
    """One way through a tree, folder by folder; the caller chooses which to enter."""

    def __init__(self, root: int, base: Mapping[bytes, Entry], *, overlay: bool) -> None:
        self.found = Findings()
        self._root = root
        self._base = base
        self._overlay = overlay
        self._seen: set[bytes] = set()
        self._left_out: list[bytes] = []

    def enter(self, folder: Folder) -> list[Folder]:
        """Take in one folder and return the folders in it.

        Raises:
            CaptureRefused: it is too deep, too large, or abuses one of git's own files.
        """
        items = list(self._items(folder))
        if folder.path and any(item.name == b".git" for item in items):
            self._leave_out(folder.path, "is a git repository of its own")
            return []
        if folder.submodule:
            if items:
                self._leave_out(folder.path, "is a submodule")
            self._seen.add(folder.path)
            return []
        self._place(folder)
        return [child for item in items for child in self._take(folder, item)]

    def rules(self, folder: Folder) -> bytes | str | None:
        """Return the folder's `.gitignore`: its content, or the id of the base's blob."""
        path = _join(folder.path, b".gitignore")
        try:
            return read_beneath(self._root, path, bytes_max=CONTROL_BYTES_MAX)
        except FileNotFoundError:
            pass
        except OSError:
            # A whiteout; anything else was refused when the folder was entered.
            return None
        if not self._overlay or folder.lower is None:
            return None
        entry = self._base.get(_join(folder.lower, b".gitignore"))
        return entry.id if entry and entry.mode.startswith("100") else None

    def base_rules(self) -> list[str]:
        """Return the ids of all `.gitignore` blobs that `rules` may name."""
        if not self._overlay:
            return []
        names = {
            entry.id
            for path, entry in self._base.items()
            if path.rpartition(b"/")[2] == b".gitignore" and entry.mode.startswith("100")
        }
        return sorted(names)

    def finish(self) -> Findings:
        """Return all findings; of a plain checkout, with what is gone."""
        if not self._overlay:
            kept = tuple(path + b"/" for path in self._left_out)
            self.found.moves += [
                Delete(path)
                for path, entry in self._base.items()
                if entry.mode != _TREE
                and path not in self._seen
                and not path.startswith(kept)
                and path not in self._left_out
            ]
        return self.found

    def _items(self, folder: Folder) -> Iterator[_Item]:
        if folder.path.count(b"/") >= DEPTH_MAX:
            raise CaptureRefused(
                f"Folders are nested more than {DEPTH_MAX} deep: {shown(folder.path)[:80]}…"
            )
        with reading(folder.path):
            descriptor = open_beneath(self._root, folder.path or b".", directory=True)
        try:
            with reading(folder.path), os.scandir(descriptor) as entries:
                for entry in entries:
                    yield from self._item(folder, os.fsencode(entry.name), descriptor)
        finally:
            os.close(descriptor)

    def _item(self, folder: Folder, name: bytes, descriptor: int) -> Iterator[_Item]:
        path = _join(folder.path, name)
        self.found.entries += 1
        if self.found.entries > ENTRIES_MAX + len(self._base):
            raise CaptureRefused(
                f"There are more than {ENTRIES_MAX} files.",
                hint="Remove what was generated, or name its folder in .gitignore.",
            )
        if len(path) > PATH_BYTES_MAX:
            raise CaptureRefused(
                f"A path is longer than {PATH_BYTES_MAX} bytes: {shown(path)[:80]}…"
            )
        status = os.lstat(name, dir_fd=descriptor)
        kind = _kind(status)
        if not is_dotgit(name):
            yield _Item(name, path, kind, status)
        elif name != b".git":
            self.found.notes.append(f"`{shown(path)}` can be mistaken for `.git`: left out.")
        elif folder.path and kind is not _Kind.WHITEOUT:
            yield _Item(name, path, kind, status)

    def _place(self, folder: Folder) -> None:
        """Put the content that shows through where the base does not have it already."""
        if not self._overlay or folder.lower == folder.placed:
            # A new folder can stand where the base has a file.
            if self._overlay and folder.is_new:
                self.found.moves.append(Delete(folder.path))
            return
        if folder.lower is None:
            self.found.moves.append(Delete(folder.path))
        else:
            self.found.moves.append(Copy(folder.path, self._base[folder.lower].id))

    def _take(self, folder: Folder, item: _Item) -> Iterator[Folder]:
        match item.kind:
            case _Kind.FOLDER:
                yield self._folder(folder, item)
            case _Kind.WHITEOUT if self._overlay:
                self.found.moves.append(Delete(item.path))
            case _Kind.FILE | _Kind.LINK:
                self._file(folder, item)
            case _Kind.WHITEOUT | _Kind.SPECIAL:
                self._special(item)

    def _folder(self, folder: Folder, item: _Item) -> Folder:
        beneath = _below(folder.lower, item.name) if self._overlay else item.path
        mode = "" if beneath is None else self._mode(beneath)
        placed = beneath if mode == _TREE else None
        lower = self._lower(folder, item, placed) if self._overlay else placed
        return Folder(item.path, lower, placed, submodule=mode == _GITLINK)

    def _lower(self, folder: Folder, item: _Item, placed: bytes | None) -> bytes | None:
        with reading(item.path):
            descriptor = open_beneath(self._root, item.path, directory=True)
        try:
            opaque = _attribute(descriptor, "opaque") == b"y"
            redirect = _attribute(descriptor, "redirect")
        finally:
            os.close(descriptor)
        if opaque:
            return None
        lower = placed if redirect is None else _redirected(folder.lower, redirect)
        return lower if lower is not None and self._mode(lower) == _TREE else None

    def _file(self, folder: Folder, item: _Item) -> None:
        link = item.kind is _Kind.LINK
        size = item.status.st_size
        if item.name.lower() in _CONTROL and (link or size > CONTROL_BYTES_MAX):
            raise CaptureRefused(
                f"`{shown(item.path)}` is {'a link' if link else 'larger than 1 MiB'}; "
                "git's own files must be small, regular files."
            )
        beneath = _below(folder.lower, item.name)
        placed = None if beneath is None else self._base.get(beneath)
        executable = bool(item.status.st_mode & stat.S_IXUSR) and not link
        tracked = placed is not None or item.path in self._base
        self._seen.add(item.path)
        self.found.files.append(Found(item.path, link, size, executable, placed, tracked))

    def _special(self, item: _Item) -> None:
        if item.name.lower() in _CONTROL:
            raise CaptureRefused(
                f"`{shown(item.path)}` is a pipe, a socket or a device; "
                "git's own files must be small, regular files."
            )
        self.found.notes.append(f"`{shown(item.path)}` is a pipe, a socket or a device: left out.")
        if self._overlay:
            self.found.moves.append(Delete(item.path))

    def _leave_out(self, path: bytes, why: str) -> None:
        self.found.notes.append(f"`{shown(path)}` {why}: what is in it was left out.")
        self._left_out.append(path)

    def _mode(self, path: bytes) -> str:
        entry = self._base.get(path)
        return entry.mode if entry else ""


def is_dotgit(name: bytes) -> bool:
    """Say whether some file system takes the name for `.git`."""
    if _NTFS_DOTGIT.fullmatch(name):
        return True
    try:
        text = name.decode().translate(_HFS_IGNORED)
    except UnicodeDecodeError:
        return False
    return unicodedata.normalize("NFKC", text).casefold() == ".git"


def shown(path: bytes) -> str:
    """Return a path for people: no control characters, no broken text."""
    text = path.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


def _below(folder: bytes | None, name: bytes) -> bytes | None:
    return None if folder is None else _join(folder, name)


def _kind(status: os.stat_result) -> _Kind:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return _Kind.FILE
    if stat.S_ISLNK(mode):
        return _Kind.LINK
    if stat.S_ISDIR(mode):
        return _Kind.FOLDER
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        return _Kind.WHITEOUT
    return _Kind.SPECIAL


def _attribute(descriptor: int, name: str) -> bytes | None:
    """Return an attribute of the overlay; it is `user.` where a user name space mounted it."""
    for space in ("trusted", "user"):
        try:
            return os.getxattr(descriptor, f"{space}.overlay.{name}")
        except OSError:
            continue
    return None


def _redirected(parent: bytes | None, redirect: bytes) -> bytes | None:
    """Return the lower path that a redirect names: from the root, or beside its parent's."""
    if redirect.startswith(b"/"):
        return redirect.strip(b"/") or None
    return _below(parent, redirect)


@contextlib.contextmanager
def reading(path: bytes) -> Iterator[None]:
    """Turn an error of the file system into words for the agent."""
    try:
        yield
    except PermissionError as error:
        raise CaptureRefused(
            f"`{shown(path)}` cannot be read: it has no read permission.",
            hint="Give it its permissions back, or remove it.",
        ) from error
    except OSError as error:
        raise CaptureRefused(
            f"`{shown(path)}` changed while it was read ({error.strerror})."
        ) from error
