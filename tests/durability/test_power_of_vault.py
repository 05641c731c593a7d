"""The power is cut under a vault, its upstream and a database, on real journalled file systems."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from commandcenter.system import durable
from commandcenter.system.git import Git
from commandcenter.system.vault import Vault, task_ref
from commandcenter.testing.disk import Disk
from commandcenter.testing.labour import captured, landed, open_notes
from commandcenter.testing.scene import Sample

TASKS = 4


@pytest.fixture
async def sample(private_disk: Disk) -> Sample:
    """A repository with an origin, both on the disk for good."""
    made = await Sample.make(private_disk.folder / "sample")
    durable.sync_file_system(private_disk.folder)
    return made


@pytest.fixture
async def own(private_disk: Disk) -> Sample:
    """A repository that is its own upstream, on the disk for good."""
    made = await Sample.make(private_disk.folder / "own", remote=False)
    durable.sync_file_system(private_disk.folder)
    return made


async def opened(disk: Disk, sample: Sample) -> Vault:
    return await Vault.open(Git(), disk.folder / "data", str(sample.upstream))


async def complaints(repository: Path) -> str:
    done = await Git().run(
        "fsck", "--full", "--strict", "--no-dangling", git_dir=repository, check=False
    )
    return f"{done.text}{done.complaint}" if done.exit_code else ""


def empty_files(repository: Path) -> list[Path]:
    places = [repository / "HEAD", *(repository / "objects").rglob("*")]
    places += (repository / "refs").rglob("*")
    return [path for path in places if path.is_file() and path.stat().st_size == 0]


# Positive control


def test_with_gits_own_settings_the_same_cut_leaves_empty_objects(private_disk: Disk) -> None:
    repository = private_disk.folder / "plain.git"
    environment = {"PATH": "/usr/bin:/bin", "GIT_DIR": str(repository), "HOME": "/nonexistent"}

    def git(*args: str, content: str = "") -> str:
        done = subprocess.run(
            ["git", *args],
            env=environment,
            input=content,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    git("init", "--quiet", "--bare", "-b", "main")
    durable.sync_file_system(private_disk.folder)
    blobs = [git("hash-object", "-w", "--stdin", content=f"{n}\n" * 200) for n in range(20)]
    listing = "".join(f"100644 blob {blob}\t{n}.txt\n" for n, blob in enumerate(blobs))
    tree = git("mktree", content=listing)
    commit = git("-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", tree, content="m")
    git("update-ref", "refs/heads/main", commit)
    private_disk.commit_journal()

    private_disk.cut_power()

    assert len(empty_files(repository)) > len(blobs) // 2


# What has been done is there


async def test_a_vault_is_whole_from_its_first_moment(private_disk: Disk, sample: Sample) -> None:
    vault = await opened(private_disk, sample)
    private_disk.cut_power()

    assert await complaints(vault.path) == ""
    assert await vault.ref("refs/upstream/heads/main") == sample.start
    config = await Git().run("config", "core.fsync", git_dir=vault.path)
    assert config.text == "all"


async def test_a_capture_is_there_when_it_has_returned(private_disk: Disk, sample: Sample) -> None:
    vault = await opened(private_disk, sample)
    change = await captured(vault, sample.start, "1.1", private_disk.folder / "tree")
    private_disk.cut_power()

    assert await vault.ref(task_ref("run", "1.1", 1)) == change.head
    assert await complaints(vault.path) == ""


async def test_a_pin_is_there_when_it_has_returned(private_disk: Disk, sample: Sample) -> None:
    vault = await opened(private_disk, sample)
    await vault.pin("run/1.1", sample.start)
    private_disk.cut_power()

    assert await vault.ref("refs/cc/keep/run/1.1") == sample.start


async def test_what_was_fetched_is_there(private_disk: Disk, sample: Sample) -> None:
    vault = await opened(private_disk, sample)
    tip = await sample.push({"theirs.txt": "theirs\n"})
    assert await vault.fetch("main") == tip
    private_disk.cut_power()

    assert await vault.ref("refs/upstream/heads/main") == tip
    assert await complaints(vault.path) == ""


async def test_what_was_published_and_landed_is_in_the_upstream(
    private_disk: Disk, sample: Sample
) -> None:
    vault = await opened(private_disk, sample)
    change = await captured(vault, sample.start, "1.1", private_disk.folder / "tree")
    await vault.publish("work/1.1", change.head, None)
    other = await captured(vault, sample.start, "1.2", private_disk.folder / "other")
    tip = await landed(vault, "main", sample.start, change.head)
    tip = await landed(vault, "main", tip, other.head)
    private_disk.cut_power()

    assert await sample.tip() == tip
    assert await sample.tip("work/1.1") == change.head
    assert await complaints(sample.upstream) == ""
    assert empty_files(sample.upstream) == []


async def test_what_landed_in_a_checkout_is_in_its_files_index_and_branch(
    private_disk: Disk, own: Sample
) -> None:
    vault = await opened(private_disk, own)
    change = await captured(vault, own.start, "1.1", private_disk.folder / "tree")
    tip = await landed(vault, "main", own.start, change.head)
    private_disk.cut_power()

    assert await own.run("status", "--porcelain") == ""
    assert await own.tip() == tip
    assert (own.checkout / "1.1-0.txt").read_text() == "1.1 0\n" * 200
    assert await complaints(own.git_dir) == ""


async def test_upkeep_loses_nothing(private_disk: Disk, sample: Sample) -> None:
    vault = await opened(private_disk, sample)
    changes = [
        await captured(vault, sample.start, f"{n}", private_disk.folder / f"tree-{n}")
        for n in range(3)
    ]
    await vault.maintain()
    private_disk.cut_power()

    refs = [await vault.ref(task_ref("run", f"{n}", 1)) for n in range(3)]
    assert refs == [change.head for change in changes]
    assert await complaints(vault.path) == ""


# In the middle of the work


@pytest.mark.slow
@pytest.mark.parametrize("last", ["captured", "landed"])
async def test_all_that_was_acknowledged_survives_a_cut_in_the_middle_of_work(
    private_disk: Disk, sample: Sample, last: str
) -> None:
    data = private_disk.folder / "data"
    data.mkdir()
    heard = await_words(data, sample, last, private_disk.turn_off)
    private_disk.turn_on()

    notes = open_notes(data)
    with notes.connect() as connection:
        sound = connection.scalar(sa.text("PRAGMA integrity_check"))
        known = {tuple(row) for row in connection.execute(sa.text("SELECT * FROM notes"))}
    notes.dispose()
    vault = await opened(private_disk, sample)
    contained = [
        await vault.is_ancestor(head, await sample.tip()) for _, _, head in landings(known)
    ]

    assert sound == "ok"
    assert heard <= known
    for _, task, head in known:
        assert await vault.ref(task_ref("run", task, 1)) in heads(known, task), (task, head)
    assert all(contained)
    assert await vault.fsck() == ()
    assert await complaints(sample.upstream) == ""
    vault.close()


def await_words(
    data: Path, sample: Sample, last: str, cut: Callable[[], None]
) -> set[tuple[str, str, str]]:
    """Let the labour go on until it has done a few tasks; cut the power at a word of its own."""
    heard: set[tuple[str, str, str]] = set()
    argv = [sys.executable, "-m", "commandcenter.testing.labour", str(data), str(sample.upstream)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/") as labour:
        assert labour.stdout is not None
        while (last, f"{TASKS}") not in {(what, task) for what, task, _ in heard}:
            what, task, head = labour.stdout.readline().split()
            heard.add((what, task, head))
        cut()
        labour.kill()
    return heard


def heads(known: set[tuple[str, ...]], task: str) -> set[str]:
    return {head for what, one, head in known if (what, one) == ("captured", task)}


def landings(known: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [note for note in known if note[0] == "landed"]
