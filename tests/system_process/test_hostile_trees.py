"""Reading below, and removing, what somebody hostile wrote."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandcenter.system import beneath, removal


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").write_text("content")
    (tree / "link").symlink_to("../secret")
    (tree / "linked").symlink_to("folder")
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "pipe")
    return tree


@pytest.fixture
def root(tree: Path) -> Iterator[int]:
    descriptor = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_regular_file_below_is_read(root: int) -> None:
    assert beneath.read_beneath(root, b"folder/file", bytes_max=7) == b"content"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"link", errno.ELOOP),
        (b"linked/file", errno.ELOOP),
        (b"loop", errno.ELOOP),
        (b"pipe", errno.EINVAL),
        (b"folder", errno.EINVAL),
        (b"../secret", errno.EXDEV),
        (b"folder/../../secret", errno.EXDEV),
        (b"/etc/passwd", errno.EXDEV),
        (b"none", errno.ENOENT),
    ],
)
def test_anything_else_is_refused_by_its_reason(root: int, path: bytes, code: int) -> None:
    with pytest.raises(OSError) as refused:
        beneath.open_beneath(root, path)

    assert refused.value.errno == code


def test_a_larger_file_is_refused(root: int) -> None:
    with pytest.raises(OSError, match="larger than 6 bytes"):
        beneath.read_beneath(root, b"folder/file", bytes_max=6)


def test_a_folder_is_opened_as_one(root: int) -> None:
    descriptor = beneath.open_beneath(root, b"folder", directory=True)

    assert os.listdir(descriptor) == ["file"]
    os.close(descriptor)


def test_a_mount_below_is_not_entered() -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)

    with pytest.raises(OSError) as refused:
        beneath.open_beneath(root, b"proc/version")

    os.close(root)
    assert refused.value.errno == errno.EXDEV


def test_removing_follows_no_link(tree: Path) -> None:
    removal.remove(tree)

    assert not tree.exists()
    assert (tree.parent / "secret").read_text() == "secret"


def test_removing_goes_to_any_depth(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        deeper = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)

    removal.remove(tmp_path / "d")

    assert not (tmp_path / "d").exists()


def test_removing_goes_into_locked_folders(tree: Path) -> None:
    inner = tree / "folder" / "inner" / "most"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for folder in (inner, inner.parent, tree / "folder"):
        folder.chmod(0)

    removal.remove(tree)

    assert not tree.exists()


def test_removing_a_link_removes_only_the_link(tree: Path) -> None:
    removal.remove(tree / "linked")

    assert (tree / "folder" / "file").exists()
    assert not (tree / "linked").is_symlink()


def test_removing_nothing_is_fine(tmp_path: Path) -> None:
    removal.remove(tmp_path / "none" / "none")


def test_emptying_leaves_the_folder_to_its_owner(tree: Path) -> None:
    tree.chmod(0)

    removal.empty(tree)

    assert list(tree.iterdir()) == []
    assert tree.stat().st_mode & 0o777 == 0o700
