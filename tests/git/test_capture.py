"""What an agent leaves becomes one commit, whatever it is, and nothing of it is executed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandcenter.core.change import Change
from commandcenter.core.errors import CaptureRefused
from commandcenter.core.workspace import Contents
from commandcenter.system.capture import capture
from commandcenter.system.git import Git, GitResult
from commandcenter.system.vault import Identity, Vault, task_ref

Shell = Callable[..., str]

ZOO = Path(__file__).with_name("zoo.py")
_spec = importlib.util.spec_from_file_location("zoo", ZOO)
assert _spec is not None
assert _spec.loader is not None
zoo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(zoo)

KINDS = ("overlay", "rootless", "checkout")
PREFIX = {
    "overlay": ["unshare", "-m", "--propagation", "private"],
    "rootless": ["unshare", "-Urm", "--propagation", "private"],
    "checkout": [],
}


class Stage:
    """A workspace of one kind, a vault, and an agent that does what a case of the zoo says."""

    def __init__(self, kind: str, there: Path, git: Git, vault: Vault, base: str) -> None:
        self.kind, self.there, self.git, self.vault, self.base = kind, there, git, vault, base
        for name in ("upper", "work", "merged", "secret", "canary"):
            (there / name).mkdir(exist_ok=True)
        for name in ("f1.txt", "x.c", "shadow"):
            (there / "secret" / name).write_text("SECRET-CONTENT\n")
        evil = there / "evil.sh"
        evil.write_text(f"#!/bin/sh\ntouch {there}/canary/hit\ncat\n")
        evil.chmod(0o755)

    def act(self, case: str) -> None:
        lower = self.there / "lower"
        if self.kind == "checkout":
            self.there.joinpath("merged").rmdir()
            subprocess.run(["cp", "-a", lower, self.there / "merged"], check=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.there / "home"),
            "LC_ALL": "C.UTF-8",
        }
        argv = [*PREFIX[self.kind], sys.executable, str(ZOO), self.kind, case, str(self.there)]
        done = subprocess.run(argv, env=environment, capture_output=True, check=False)
        if b"mount" in done.stderr or b"unshare" in done.stderr:
            pytest.skip(f"this machine cannot mount an overlay: {done.stderr.decode()[-200:]}")
        assert done.returncode == 0, done.stderr.decode()

    def contents(self) -> Contents:
        if self.kind == "checkout":
            return Contents(upper=None, tree=self.there / "merged")
        return Contents(upper=self.there / "upper", tree=None, base=self.there / "lower")

    async def capture(self, ref: str = task_ref("r", "1.1", 1)) -> Change:
        ada = Identity("Ada", "ada@example.org")
        return await capture(
            self.git,
            self.vault,
            self.contents(),
            self.base,
            ref=ref,
            message="task 1.1\n\nCc-Task: 1.1\n",
            author=ada,
            committer=ada,
            date=1_700_000_000,
        )


@pytest.fixture(params=KINDS)
async def stage(
    request: pytest.FixtureRequest, git: Git, vault: Vault, seed: Path, sh: Shell, tmp_path: Path
) -> Stage:
    if request.param != "checkout" and os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    base = sh("git rev-parse HEAD", seed)
    sh("mkdir lower; git -C seed archive HEAD | tar -x -C lower")
    return Stage(request.param, tmp_path, git, vault, base)


async def healthy(stage: Stage, sh: Shell) -> None:
    """Assert that nothing ran, nothing leaked, and the vault is sound and clean."""
    assert os.listdir(stage.there / "canary") == []
    assert await stage.vault.fsck() == ()
    assert list(stage.vault.path.parent.glob("quarantine/*")) == []
    assert "SECRET" not in sh(
        f"git --git-dir={stage.vault.path} cat-file --batch --batch-all-objects | tr -d '\\0'"
    )


def tree_that_git_would_make(stage: Stage, sh: Shell) -> str:
    """Return the tree of a plain `git add -A` on what the agent last saw."""
    script = (
        "rm -rf copy/.git;"
        "git clone -q --bare seed oracle.git; export GIT_DIR=$PWD/oracle.git;"
        "echo '* -text -filter -ident' > oracle.git/info/attributes;"
        "export GIT_WORK_TREE=$PWD/copy; cd copy; git read-tree HEAD; git add -A; git write-tree"
    )
    return sh(script, stage.there)


ROOTLESS = {
    *("plain_edit", "everything_deleted", "folder_made_anew", "folders_renamed"),
    *("renamed_beside_itself_inside_a_renamed", "file_replaced_by_a_folder"),
}


# Without root only the overlay's own marks differ, so only the cases that move folders are run.
PAIRS = [
    *((kind, case) for case in zoo.LEGITIMATE for kind in ("overlay", "checkout")),
    *(("rootless", case) for case in sorted(ROOTLESS)),
]


@pytest.mark.parametrize(("stage", "case"), PAIRS, indirect=["stage"])
async def test_the_tree_is_the_one_that_git_add_would_make(
    stage: Stage, case: str, sh: Shell
) -> None:
    stage.act(case)

    change = await stage.capture()

    assert change.tree == tree_that_git_would_make(stage, sh)
    assert change.empty == (change.head == stage.base)
    assert change.tree == await stage.vault.tree_of(change.head)
    assert change.notes == ()
    await healthy(stage, sh)


EXPECTED = {
    "encodings": ((".gitattributes", "f1.txt"), 0),
    "pipes_sockets_devices": (("f1.txt", "f2.txt"), 4),
    "spellings_of_dotgit": (("d/x1.c", "f3.txt"), 7),
    "nested_repository": (("f3.txt",), 2),
    "names_that_differ_in_case": (("F1.TXT",), 1),
}


@pytest.mark.parametrize("stage", ["overlay", "checkout"], indirect=True)
@pytest.mark.parametrize("case", EXPECTED)
async def test_what_cannot_be_taken_is_left_out_and_named(
    stage: Stage, case: str, sh: Shell
) -> None:
    stage.act(case)

    change = await stage.capture()

    files, notes = EXPECTED[case]
    assert change.files == files
    assert len(change.notes) == notes, change.notes
    await healthy(stage, sh)


async def test_bytes_are_kept_as_the_agent_left_them(stage: Stage) -> None:
    stage.act("encodings")

    change = await stage.capture()

    assert await stage.vault.read_blob(change.head, "f1.txt") == b"$Id$\r\n"


@pytest.mark.parametrize("stage", ["overlay", "checkout"], indirect=True)
@pytest.mark.parametrize("case", zoo.REFUSED)
async def test_what_is_dangerous_is_refused_in_words(stage: Stage, case: str, sh: Shell) -> None:
    stage.act(case)

    with pytest.raises(CaptureRefused) as refused:
        await stage.capture()

    assert len(refused.value.message) > 20
    assert await stage.vault.ref(task_ref("r", "1.1", 1)) is None
    sh("rm -rf merged upper")
    await healthy(stage, sh)


async def test_the_canary_sings_when_plain_git_runs_in_such_a_tree(stage: Stage, sh: Shell) -> None:
    stage.act("own_git_is_hostile")

    sh("git -C copy status", stage.there)

    assert os.listdir(stage.there / "canary") == ["hit"]


async def test_files_in_a_submodule_are_left_out(stage: Stage, sh: Shell) -> None:
    commit = stage.base
    sh(f"cd seed; git update-index --add --cacheinfo 160000,{commit},sub; git commit -qm sub")
    sh("cd seed; git push -q origin main")
    sh("mkdir lower/sub")
    stage.base = await stage.vault.fetch("main")
    stage.act("submodule_filled")

    change = await stage.capture()

    assert change.files == ("f3.txt",)
    assert change.notes == ("`sub` is a submodule: what is in it was left out.",)


@pytest.fixture
async def checkout(git: Git, vault: Vault, seed: Path, sh: Shell, tmp_path: Path) -> Stage:
    """A plain checkout, with one edit."""
    base = sh("git rev-parse HEAD", seed)
    sh("mkdir lower; git -C seed archive HEAD | tar -x -C lower")
    stage = Stage("checkout", tmp_path, git, vault, base)
    stage.act("plain_edit")
    return stage


async def test_a_second_call_finds_the_first_ones_commit(checkout: Stage) -> None:
    first = await checkout.capture()
    (checkout.there / "merged/f1.txt").write_text("too late\n")

    assert await checkout.capture() == first
    assert (first.insertions, first.deletions) == (2, 2)
    assert await checkout.vault.ref(task_ref("r", "1.1", 1)) == first.head


async def test_the_same_files_give_the_same_commit(checkout: Stage) -> None:
    first = await checkout.capture()
    other = await checkout.capture(task_ref("r", "1.1", 2))

    assert other == first


class ClockGoesBack(Git):
    """A git on a machine whose clock goes back by a second between any two commands."""

    now = 1_700_000_000

    # Any: all options are passed on as they are.
    async def run(self, *args: str | bytes, git_dir: Path | None, **options: Any) -> GitResult:
        result = await super().run(*args, git_dir=git_dir, **options)
        self.now -= 1
        for pack in (git_dir or Path()).glob("objects/pack/*.pack"):
            if pack.stat().st_mtime > self.now + 60:
                os.utime(pack, (self.now, self.now))
        return result


async def test_clocks_do_not_matter(checkout: Stage, users: dict[str, str]) -> None:
    checkout.git = ClockGoesBack(user=users)

    change = await checkout.capture()

    assert change.files == ("f1.txt", "f2.txt", "new/a")
    assert await checkout.vault.fsck() == ()


async def test_two_captures_at_once_give_one_commit(checkout: Stage) -> None:
    changes = await asyncio.gather(*(checkout.capture() for _ in range(4)))

    assert len({change.head for change in changes}) == 1
    assert await checkout.vault.fsck() == ()


async def test_upkeep_during_captures_harms_nothing(checkout: Stage) -> None:
    refs = [task_ref("r", str(number), 1) for number in range(4)]

    await asyncio.gather(
        checkout.vault.maintain(), *map(checkout.capture, refs), checkout.vault.maintain()
    )

    assert await checkout.vault.fsck() == ()


async def test_protected_files_may_not_change(checkout: Stage, ada: Identity) -> None:
    for protect in (["f1.txt"], ["new/"], ["*.txt"]):
        with pytest.raises(CaptureRefused, match="protected"):
            await capture(
                checkout.git,
                checkout.vault,
                checkout.contents(),
                checkout.base,
                ref=task_ref("r", "p", 1),
                message="m",
                author=ada,
                committer=ada,
                date=1,
                protect=protect,
            )


async def test_a_link_swapped_in_while_reading_leaks_nothing(checkout: Stage, sh: Shell) -> None:
    folder, spare = checkout.there / "merged/r", checkout.there / "spare"
    folder.mkdir()
    for number in range(40):
        (folder / f"f{number}").write_text("mine\n")
        (checkout.there / f"secret/f{number}").write_text("SECRET-CONTENT\n")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            folder.rename(spare)
            folder.symlink_to(checkout.there / "secret")
            folder.unlink()
            spare.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    for number in range(10):
        with contextlib.suppress(CaptureRefused):
            await checkout.capture(task_ref("r", "race", number))
    stop.set()
    swapping.join()

    await healthy(checkout, sh)


@pytest.mark.slow
async def test_more_than_one_piece_of_content_is_taken_whole(checkout: Stage) -> None:
    for number in range(3):
        with (checkout.there / f"merged/big{number}").open("wb") as file:
            file.write(b"%d" % number)
            file.truncate(40 * 2**20)

    change = await checkout.capture()

    assert change.files == ("big0", "big1", "big2", "f1.txt", "f2.txt", "new/a")
    assert await checkout.vault.fsck() == ()
