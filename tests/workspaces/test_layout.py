"""A base that is derived from another is what laying its commit out would have made."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core.workspace import WorkspaceKey
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import Example, opened, sh
from commandcenter.workspaces.layout import derive, lay_out, owned_by
from commandcenter.workspaces.local import Local
from commandcenter.workspaces.prepared import Bases

Files = Mapping[bytes, tuple[bytes, bytes]]
"""Mode and content, by path."""

NAMES = (b"a", b"b", b"a.txt", b"\xff", b"with space")
KINDS = (
    (b"100644", b"one\n"),
    (b"100644", b"two\n"),
    (b"100755", b"#!/bin/sh\n"),
    (b"120000", b"a/b"),
    (b"160000", b"1" * 40),
)


def nested(paths: Mapping[tuple[bytes, ...], tuple[bytes, bytes]]) -> Files:
    """Leave out what lies below a file."""
    return {
        b"/".join(path): kind
        for path, kind in paths.items()
        if not any(path[:depth] in paths for depth in range(1, len(path)))
    }


trees = st.dictionaries(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    st.sampled_from(KINDS),
    max_size=8,
).map(nested)
# Whatever else changes, most files stay the same.
STEADY: Files = {b"steady/%d" % number: (b"100644", b"steady\n") for number in range(40)}


async def commits(git: Git, vault: Path, *each: Files) -> list[str]:
    await git.run("init", "--quiet", "--bare", str(vault), git_dir=None)
    found = []
    for number, files in enumerate(each, 1):
        lines = [b"commit refs/heads/t%d" % number, b"mark :1"]
        lines += [b"committer a <a@example.org> %d +0000" % (10**9 + number), b"data 0", b""]
        for path, (mode, content) in files.items():
            quoted = b'"%s"' % path.replace(b"\xff", b"\\377")
            if mode == b"160000":
                lines += [b"M %s %s %s" % (mode, content, quoted)]
            else:
                lines += [b"M %s inline %s" % (mode, quoted), b"data %d" % len(content), content]
        stream = b"\n".join([*lines, b"", b"get-mark :1", b""])
        found.append((await git.run("fast-import", "--quiet", git_dir=vault, stdin=stream)).text)
    return found


def laid_out(tree: Path) -> Mapping[bytes, tuple[object, ...]]:
    """Return all that an agent can see of a tree's entries, but their times."""
    found = {}
    for at, folders, files in os.walk(os.fsencode(tree)):
        for name in (*folders, *files):
            path = os.path.join(at, name)
            about = os.lstat(path)
            content = b""
            if stat.S_ISLNK(about.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            owner = (about.st_uid, about.st_gid)
            found[os.path.relpath(path, os.fsencode(tree))] = (about.st_mode, owner, content)
    return found


async def told(base: Path) -> tuple[str, str]:
    """Return what the index holds, and which files git would have to read to know them."""
    tree, git_folder = base / "tree", base / "gitlayer" / ".git"
    index = git_folder / "index"
    about = os.lstat(tree)
    # As it is from inside, every file would be somebody else's here.
    index.write_bytes(owned_by(index.read_bytes(), 20, about.st_uid, about.st_gid))

    async def ask(*words: str) -> str:
        return (await Git().run(f"--work-tree={tree}", *words, git_dir=git_folder)).text

    return await ask("ls-files", "--stage"), await ask("diff-files", "--name-only")


async def both(folder: Path, before: Files, after: Files) -> tuple[Path, Path]:
    """Return the bases of a commit: laid out, and derived from that of another."""
    git, vault = Git(), folder / "vault"
    first, second = await commits(git, vault, {**STEADY, **before}, {**STEADY, **after})
    bases = {name: folder / name for name in (first, "laid-out", "derived")}
    for name, commit in ((first, first), ("laid-out", second)):
        at = bases[name]
        await lay_out(git, vault, commit, at / "tree", at / "gitlayer" / ".git")
    bases["derived"].mkdir()
    assert await derive(git, vault, bases[first], second, bases["derived"])
    return bases["laid-out"], bases["derived"]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(trees, trees)
def test_a_derived_base_is_the_one_that_would_have_been_laid_out(
    before: Files, after: Files
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted, made = asyncio.run(both(Path(folder), before, after))
        (held, unsure), (wanted_held, _) = asyncio.run(told(made)), asyncio.run(told(wanted))

        assert laid_out(made / "tree") == laid_out(wanted / "tree")
        assert held == wanted_held
        assert unsure == ""


async def test_a_base_is_not_derived_from_one_that_is_mostly_other_files(tmp_path: Path) -> None:
    git, vault = Git(), tmp_path / "vault"
    other = {b"other/%d" % number: (b"100644", b"other\n") for number in range(40)}
    first, second = await commits(git, vault, STEADY, other)
    source, target = tmp_path / first, tmp_path / "target"
    await lay_out(git, vault, first, source / "tree", source / "gitlayer" / ".git")
    target.mkdir()

    assert not await derive(git, vault, source, second, target)
    assert list(target.iterdir()) == []


async def test_workspaces_on_two_bases_that_share_files_know_nothing_of_each_other(
    tmp_path: Path,
) -> None:
    git, vault = Git(), tmp_path / "vault"
    first, second = await commits(git, vault, STEADY, {**STEADY, b"new": (b"100644", b"new\n")})
    kind = Local(tmp_path / "state", git)
    look = sh("git diff-files --name-only; cat steady/7; ls new 2>&1; true")

    async with opened(kind, Example(vault, first)) as one:
        before = await one.run("before", look)
        await one.run("wait", sh("sleep 1"))  # git compares times by the second
        key = WorkspaceKey("run", "other", 1)
        async with kind.open(key, vault=vault, commit=second) as other:
            there = await other.run("look", look)
            await other.run("write", sh("echo changed | tee steady/* >new; chmod 600 steady/8"))
            after = await one.run("after", look)
    bases = [each.path for each in await kind.bases()]
    inodes = {(base / "tree" / "steady" / "7").stat().st_ino for base in bases}

    assert before.stdout == after.stdout
    assert before.stdout.startswith(b"steady\nls: ")
    assert there.stdout == b"steady\nnew\n"
    assert (len(bases), len(inodes)) == (2, 1)
    assert {(base / "tree" / "steady" / "8").stat().st_mode & 0o777 for base in bases} == {0o644}


@pytest.mark.parametrize("lost", ["tree/steady/7", "gitlayer/.git/index"])
async def test_a_damaged_base_is_not_passed_on(tmp_path: Path, lost: str) -> None:
    git, vault = Git(), tmp_path / "vault"
    first, second = await commits(git, vault, STEADY, {**STEADY, b"new": (b"100644", b"new\n")})
    bases = Bases(tmp_path / "bases", git)
    damaged = await bases.prepare(vault, first)
    (damaged.tree.parent / lost).unlink()

    whole = await bases.prepare(vault, second)

    assert len(laid_out(whole.tree)) == 42
    assert (whole.gitlayer / ".git" / "index").exists()
    assert [each.name for each in bases.existing()] == sorted([first, second])
