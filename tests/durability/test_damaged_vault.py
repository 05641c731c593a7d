"""What a disk damages in a vault, planted by hand: opening it puts it in order, or says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.core.errors import GitError
from commandcenter.system.boot import boot_id
from commandcenter.system.git import Git
from commandcenter.system.vault import Vault, task_ref
from commandcenter.testing.labour import captured, landed
from commandcenter.testing.scene import Sample

CAPTURE = task_ref("run", "1", 1)
Damage = Callable[[Path], None]


class Lab:
    """A vault with a landed and a captured task, closed, and what it must have again."""

    def __init__(self, folder: Path, sample: Sample) -> None:
        self.folder = folder
        self.sample = sample
        self.refs: dict[str, str] = {}
        self.path = Path()

    async def open(self) -> Vault:
        return await Vault.open(Git(), self.folder, str(self.sample.upstream))

    async def prepare(self) -> None:
        vault = await self.open()
        tip = await self.sample.push({f"{n}.txt": f"{n}\n" * 99 for n in range(150)})
        tip = await vault.fetch("main")
        for name in ("1", "2"):
            change = await captured(vault, tip, name, self.folder / f"tree-{name}")
            await vault.publish(f"tries/{name}", change.head, None)
            self.refs[task_ref("run", name, 1)] = change.head
        tip = await landed(vault, "main", tip, self.refs[CAPTURE])
        await vault.fetch("main")
        await vault.pin("run/1", tip)
        self.refs["refs/upstream/heads/main"] = self.refs["refs/cc/keep/run/1"] = tip
        await vault.git.run("commit-graph", "write", "--reachable", git_dir=vault.path)
        self.path = vault.path
        # As a killed process leaves it.
        os.close(vault._lock)

    def reboot(self) -> None:
        """Make it look as if the machine had been started anew since."""
        lock = self.path.with_name("lock")
        lock.write_text(lock.read_text().replace(boot_id(), str(uuid.uuid4())))


@pytest.fixture
async def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path / "data", await Sample.make(tmp_path / "sample"))
    await made.prepare()
    return made


def packs(repository: Path) -> list[Path]:
    return sorted((repository / "objects/pack").glob("*.pack"), key=lambda p: p.stat().st_size)


def loose(repository: Path) -> list[Path]:
    return sorted((repository / "objects").glob("??/*"))


def cut_off(path: Path, *, left: float = 0.5) -> None:
    path.chmod(0o644)
    os.truncate(path, int(path.stat().st_size * left))


def scrambled(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8)
    path.write_bytes(content)


def empty_objects(repository: Path) -> None:
    for path in loose(repository):
        cut_off(path, left=0)


def half_packs(repository: Path) -> None:
    for path in packs(repository):
        cut_off(path)


def packs_without_their_index(repository: Path) -> None:
    for path in packs(repository):
        path.with_suffix(".idx").unlink()


def half_indexes(repository: Path) -> None:
    for path in packs(repository):
        cut_off(path.with_suffix(".idx"))


def indexes_without_their_pack(repository: Path) -> None:
    for path in packs(repository):
        path.unlink()


def empty_refs(repository: Path) -> None:
    for path in (repository / "refs").rglob("*"):
        if path.is_file():
            cut_off(path, left=0)


def half_refs(repository: Path) -> None:
    for path in (repository / "refs").rglob("*"):
        if path.is_file():
            cut_off(path)


def half_packed_refs(repository: Path) -> None:
    subprocess.run(["git", f"--git-dir={repository}", "pack-refs", "--all"], check=True)
    cut_off(repository / "packed-refs")


def empty_packed_refs(repository: Path) -> None:
    subprocess.run(["git", f"--git-dir={repository}", "pack-refs", "--all"], check=True)
    cut_off(repository / "packed-refs", left=0)


def empty_head_and_config(repository: Path) -> None:
    for name in ("HEAD", "config", "info/attributes"):
        cut_off(repository / name, left=0)


def half_commit_graph(repository: Path) -> None:
    cut_off(repository / "objects/info/commit-graph")


def an_empty_list_of_packs(repository: Path) -> None:
    (repository / "objects/pack/multi-pack-index").write_bytes(b"")


NOTICED_AT_ONCE: list[Damage] = [
    empty_objects,
    half_packs,
    packs_without_their_index,
    half_indexes,
    indexes_without_their_pack,
    empty_refs,
    half_refs,
    half_packed_refs,
    empty_packed_refs,
    empty_head_and_config,
    half_commit_graph,
    an_empty_list_of_packs,
]


def scrambled_packs(repository: Path) -> None:
    for path in packs(repository):
        scrambled(path)


def half_objects(repository: Path) -> None:
    for path in loose(repository):
        cut_off(path)


NOTICED_AFTER_A_REBOOT: list[Damage] = [scrambled_packs, half_objects]


async def assert_in_order(lab: Lab) -> None:
    vault = await lab.open()
    await vault.restore(lab.refs)
    found = {ref: await vault.ref(ref) for ref in lab.refs}
    complaints = await vault.fsck()
    tip = await vault.fetch("main")
    change = await captured(vault, tip, "3", lab.folder / "tree-3")
    vault.close()

    assert found == lab.refs
    assert complaints == ()
    assert vault.lost == set()
    assert not change.empty


@pytest.mark.parametrize("damage", NOTICED_AT_ONCE, ids=lambda damage: damage.__name__)
async def test_damage_is_put_in_order_when_the_vault_is_opened(lab: Lab, damage: Damage) -> None:
    damage(lab.path)

    await assert_in_order(lab)


@pytest.mark.parametrize("damage", NOTICED_AFTER_A_REBOOT, ids=lambda damage: damage.__name__)
async def test_damage_inside_of_files_is_put_in_order_after_a_reboot(
    lab: Lab, damage: Damage
) -> None:
    damage(lab.path)
    lab.reboot()

    await assert_in_order(lab)


async def test_a_vault_that_was_closed_is_not_read_again_after_a_reboot(lab: Lab) -> None:
    (await lab.open()).close()
    scrambled_packs(lab.path)
    lab.reboot()

    vault = await lab.open()

    assert vault.path.with_name("attic").exists() is False
    vault.close()


async def test_a_capture_that_nobody_else_has_is_named_as_lost_and_the_rest_goes_on(
    lab: Lab,
) -> None:
    vault = await lab.open()
    alone = await captured(vault, lab.refs["refs/upstream/heads/main"], "4", lab.folder / "tree-4")
    vault.close()
    for name in ("refs/heads/tries/1", "refs/heads/tries/2"):
        await lab.sample.ask("update-ref", "-d", name)
    indexes_without_their_pack(lab.path)
    known = {task_ref("run", "4", 1): alone.head, CAPTURE: lab.refs[CAPTURE]}

    vault = await lab.open()
    await vault.restore(known)

    assert vault.lost == {alone.head}
    assert await vault.ref(CAPTURE) == lab.refs[CAPTURE]
    assert await vault.fsck() == ()
    assert await vault.fetch("main") == lab.refs["refs/upstream/heads/main"]
    vault.close()


async def test_what_can_be_read_of_a_broken_pack_is_read_and_the_pack_is_kept(lab: Lab) -> None:
    vault = await lab.open()
    alone = await captured(vault, lab.refs["refs/upstream/heads/main"], "5", lab.folder / "tree-5")
    vault.close()
    newest = max(packs(lab.path), key=lambda path: path.stat().st_mtime_ns)
    cut_off(newest, left=0.9)

    vault = await lab.open()

    assert [path.name for path in vault.path.with_name("attic").iterdir()] == [newest.name]
    assert await vault.fsck() == ()
    assert alone.head
    vault.close()


async def test_a_vault_that_cannot_be_mended_says_so_and_the_next_one_is_sound(lab: Lab) -> None:
    indexes_without_their_pack(lab.path)
    away = lab.sample.upstream.rename(lab.sample.upstream.with_name("away"))

    with pytest.raises(GitError) as refused:
        await lab.open()
    away.rename(lab.sample.upstream)

    assert str(lab.sample.upstream) in refused.value.message
    await assert_in_order(lab)
    shutil.rmtree(lab.path)
    vault = await lab.open()
    assert await vault.fsck() == ()
    vault.close()


async def test_locks_that_went_down_with_the_machine_are_removed_upstream(lab: Lab) -> None:
    heads = lab.sample.git_dir / "refs/heads"
    dead = (heads / "main.lock", heads / "commandcenter/run/1.lock", heads / "theirs.lock")
    held = heads / "held.lock"
    for lock in (*dead, held):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    for lock in dead:
        os.utime(lock, (0, 0))

    (await lab.open()).close()
    before = [lock.exists() for lock in dead]
    lab.path.with_name("lock").write_text(f"1 {uuid.uuid4()}")
    (await lab.open()).close()

    assert all(before)
    assert not any(lock.exists() for lock in dead)
    assert held.exists()
