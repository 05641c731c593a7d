"""The vault: fetch, publish, merge, land and recover, against real repositories."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.core.errors import GitError, InputError
from commandcenter.system.git import Git
from commandcenter.system.vault import (
    Conflict,
    Identity,
    Landed,
    Merged,
    Moved,
    RefUpdate,
    Refused,
    Vault,
    inspect_repository,
    task_ref,
)

Shell = Callable[..., str]
DATE = 1_700_000_000


async def commit(vault: Vault, sh: Shell, parent: str, path: str, text: str) -> str:
    """Return a new commit in the vault that writes one file."""
    data = f"commit refs/cc/scratch\nmark :1\ncommitter A <a@b> {DATE} +0000\ndata 2\nm\n"
    data += f"from {parent}\nM 100644 inline {path}\ndata {len(text)}\n{text}\n"
    await vault.git.run(
        "fast-import", "--quiet", "--force", git_dir=vault.path, stdin=data.encode()
    )
    found = await vault.resolve("refs/cc/scratch")
    assert found is not None
    return found


async def merge(vault: Vault, target: str, head: str, ada: Identity) -> Merged | Conflict:
    return await vault.merge(target, head, message="merge", author=ada, committer=ada, date=DATE)


# Looking


async def test_looking_at_a_repository_changes_nothing(
    git: Git, seed: Path, upstream: Path, sh: Shell, fingerprint: Callable[[Path], str]
) -> None:
    sh("touch f1.txt; echo edit >> f2.txt; git config core.fsmonitor 'touch hit'", seed)
    before = fingerprint(seed)

    found = await inspect_repository(git, str(seed / "d"))

    assert fingerprint(seed) == before
    assert (found.root, found.upstream, found.has_remote) == (seed, str(upstream), True)
    assert (found.target, found.current_branch, found.default_branch) == ("main",) * 3
    assert found.dirty
    assert found.head == sh("git -c core.fsmonitor= rev-parse main", seed)


async def test_opening_a_vault_changes_nothing_in_the_users_repository(
    git: Git, seed: Path, tmp_path: Path, fingerprint: Callable[[Path], str]
) -> None:
    before = fingerprint(seed)

    vault = await Vault.open(git, tmp_path / "data", str(seed))
    await vault.fetch("main")
    vault.close()

    assert fingerprint(seed) == before


async def test_without_a_remote_the_repository_is_its_own_upstream(git: Git, seed: Path) -> None:
    found = await inspect_repository(git, str(seed))

    assert (found.upstream, found.has_remote, found.dirty) == (str(seed), False, False)


async def test_bare_linked_submodule_and_url_are_fine(
    git: Git, seed: Path, upstream: Path, sh: Shell, tmp_path: Path
) -> None:
    sh("git worktree add -q -b side ../linked; git push -q origin side", seed)
    sh("git init -q super; cd super; git submodule --quiet add ../up.git sub")

    bare = await inspect_repository(git, str(upstream))
    linked = await inspect_repository(git, str(tmp_path / "linked"))
    submodule = await inspect_repository(git, str(tmp_path / "super/sub"))
    url = await inspect_repository(git, f"file://{upstream}", into="side")

    assert (bare.root, bare.target, bare.has_remote) == (upstream, "main", True)
    assert (linked.root, linked.target) == (tmp_path / "linked", "side")
    assert submodule.root == tmp_path / "super/sub"
    assert (url.root, url.target, url.has_remote) == (None, "side", True)


@pytest.mark.parametrize(
    ("script", "place", "into", "words"),
    [
        ("mkdir plain", "plain", "", "is not a git repository"),
        ("git init -q empty", "empty", "", "has no commit yet"),
        ("cd seed; git checkout -q --detach", "seed", "", "detached HEAD"),
        ("true", "seed", "mian", "There is no branch `mian`"),
        ("cd seed; git remote add origin /nowhere/x.git", "seed", "", "does not answer"),
        ("true", "absent", "", "There is no folder"),
        ("true", "seed/.git", "", "inside git's own folder"),
    ],
)
async def test_what_cannot_be_used_is_said_in_words(
    git: Git, seed: Path, sh: Shell, tmp_path: Path, script: str, place: str, into: str, words: str
) -> None:
    sh(script)

    with pytest.raises(InputError, match=words) as refused:
        await inspect_repository(git, str(tmp_path / place), into=into)

    assert refused.value.hint


async def test_a_misspelt_branch_gets_a_hint(git: Git, seed: Path) -> None:
    with pytest.raises(InputError) as refused:
        await inspect_repository(git, str(seed), into="mian")

    assert "`main`" in refused.value.hint


# Keeping


async def test_a_second_process_is_turned_away(git: Git, vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"process {os.getpid()}"):
        await Vault.open(git, tmp_path / "data", vault.upstream)


async def test_of_32_racing_writers_exactly_one_wins(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tips = [await commit(vault, sh, base, "f", str(n)) for n in range(32)]
    assert await vault.update_refs([RefUpdate("refs/cc/q", base, None)])

    won = await asyncio.gather(
        *(vault.update_refs([RefUpdate("refs/cc/q", tip, base)]) for tip in tips)
    )

    assert won.count(True) == 1
    assert await vault.ref("refs/cc/q") == tips[won.index(True)]


async def test_a_transaction_with_one_stale_ref_writes_nothing(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    updates = [RefUpdate(f"refs/cc/b{n}", tip, None) for n in range(10)]

    assert not await vault.update_refs([*updates, RefUpdate("refs/cc/q", tip, base)])

    assert [await vault.ref(update.ref) for update in updates] == [None] * 10


async def test_any_text_makes_a_ref(vault: Vault) -> None:
    base = await vault.fetch("main")
    ids = ["1.1", "..", ".", "a/b", "x.lock", "~^: ?*[\\@{", "ü", "-", "a..b", "%2E"]
    refs = [task_ref("run", name, 1) for name in ids]

    assert await vault.update_refs([RefUpdate(ref, base, None) for ref in refs])
    assert len(set(refs)) == len(ids)


async def test_what_a_killed_process_left_is_put_in_order(
    git: Git, upstream: Path, tmp_path: Path, sh: Shell
) -> None:
    vault = await Vault.open(git, tmp_path / "data", str(upstream))
    vault.close()
    victim = next((vault.path / "objects").rglob("*.pack"), None)
    sh(
        "touch packed-refs.lock gc.pid refs/upstream/heads/main.lock objects/pack/tmp_pack_1;"
        "touch objects/pack/pack-1.keep; mkdir -p ../quarantine/x/objects; mkdir objects/aa;"
        "touch objects/aa/00000000000000000000000000000000000000 objects/aa/tmp_obj_1",
        vault.path,
    )
    orphan = subprocess.Popen(  # noqa: ASYNC220 - it must outlive our loop, as an orphan does
        ["git", f"--git-dir={vault.path}", "cat-file", "--batch"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )

    again = await Vault.open(git, tmp_path / "data", str(upstream))

    assert orphan.wait(5) == -9
    assert orphan.stdin is not None
    orphan.stdin.close()
    assert await again.fsck() == ()
    await again.pin("a/1", await again.fetch("main"))
    left = [*vault.path.rglob("*.lock"), *vault.path.rglob("*tmp_*"), *vault.path.rglob("*.keep")]
    assert left == []
    assert victim is None or victim.exists()
    again.close()


async def test_a_pin_comes_and_goes(vault: Vault) -> None:
    base = await vault.fetch("main")
    await vault.pin("run/1.1", base)
    await vault.pin("run/1.1", base)
    assert await vault.ref("refs/cc/keep/run/1.1") == base

    await vault.unpin("run/1.1")
    await vault.unpin("run/1.1")
    assert await vault.ref("refs/cc/keep/run/1.1") is None


async def test_upkeep_leaves_a_sound_vault(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    for number in range(3):
        base = await commit(vault, sh, base, "f", str(number))

    await vault.maintain()
    await vault.maintain()

    assert await vault.fsck() == ()


async def test_a_branch_that_became_a_folder_is_fetched(
    vault: Vault, seed: Path, sh: Shell
) -> None:
    sh("git push -q origin main:a", seed)
    await vault.fetch("a")
    sh("git push -q origin :a main:a/b", seed)

    assert await vault.fetch("a/b") == sh("git rev-parse main", seed)


# Publishing


async def test_publishing_twice_is_publishing_once(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")

    await vault.publish("cc/1", tip, None)
    await vault.publish("cc/1", tip, None)

    assert sh("git --git-dir=up.git rev-parse cc/1") == tip


async def test_publishing_never_overwrites_somebody_elses_branch(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    sh("git --git-dir=up.git branch cc/1 main")

    with pytest.raises(GitError, match="stale info"):
        await vault.publish("cc/1", tip, None)

    assert sh("git --git-dir=up.git rev-parse cc/1") == base
    await vault.publish("cc/1", tip, base)
    assert sh("git --git-dir=up.git rev-parse cc/1") == tip


async def test_a_branch_is_deleted_only_where_we_left_it(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    await vault.publish("cc/1", tip, None)

    assert not await vault.delete_branch("cc/1", base)
    assert await vault.delete_branch("cc/1", tip)
    assert await vault.delete_branch("cc/1", tip)


@pytest.mark.parametrize(
    "name", ["-x", "--force", "HEAD", "a b", "a..b", "", "x.lock", "a\0b", "@{-1}"]
)
async def test_a_text_that_is_no_branch_name_is_refused(vault: Vault, name: str) -> None:
    with pytest.raises(InputError):
        await vault.publish(name, "0" * 40, None)


# Merging and landing


async def test_merging_what_follows_is_a_fast_forward(
    vault: Vault, sh: Shell, ada: Identity
) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")

    merged = await merge(vault, base, tip, ada)

    assert merged == Merged(tip, await vault.tree_of(tip), fast_forward=True)
    assert await merge(vault, tip, base, ada) == merged


async def test_merging_two_sides_gives_the_same_commit_each_time(
    vault: Vault, sh: Shell, ada: Identity
) -> None:
    base = await vault.fetch("main")
    one = await commit(vault, sh, base, "one", "1")
    two = await commit(vault, sh, base, "two", "2")

    merged = await merge(vault, one, two, ada)

    assert isinstance(merged, Merged)
    assert not merged.fast_forward
    assert await merge(vault, one, two, ada) == merged
    assert await vault.diff_files(base, merged.commit) == ("one", "two")
    assert await vault.read_blob(merged.commit, "two") == b"2"
    assert (await vault.log_messages(one, merged.commit))[0] == "merge"
    assert await vault.fsck() == ()


async def test_a_conflict_names_the_files(vault: Vault, sh: Shell, ada: Identity) -> None:
    base = await vault.fetch("main")
    one = await commit(vault, sh, base, "f1.txt", "1")
    two = await commit(vault, sh, base, "f1.txt", "2")

    conflict = await merge(vault, one, two, ada)

    assert isinstance(conflict, Conflict)
    assert conflict.files == ("f1.txt",)


async def test_commits_that_another_contains_are_told_from_those_that_it_does_not(
    vault: Vault, sh: Shell
) -> None:
    base = await vault.fetch("main")
    one = await commit(vault, sh, base, "one", "1")
    two = await commit(vault, sh, one, "two", "2")
    other = await commit(vault, sh, base, "other", "3")

    assert await vault.outside([base, one, two, other], one) == {two, other}
    assert await vault.outside([], one) == frozenset()


async def test_who_touched_a_path_is_told_of_the_path_named_literally(
    vault: Vault, sh: Shell
) -> None:
    base = await vault.fetch("main")
    for name, path in (("1.1", "a*b"), ("1.2", "axb"), ("1.3", "a*b")):
        tip = await vault.fetch("main")
        made = await commit(vault, sh, tip, path, name)
        tree = await vault.tree_of(made)
        message = f"m\n\nCommandCenter-Task: {name}\n"
        written = await vault._commit(
            tree, (tip,), message, Identity("A", "a"), Identity("A", "a"), 1
        )
        assert await vault.land("main", tip, written) == Landed()

    tip = await vault.fetch("main")
    touches = await vault.touching(base, tip, ["a*b"], ["CommandCenter-Run", "CommandCenter-Task"])
    assert [touch.trailers for touch in touches] == [("", "1.3"), ("", "1.1")]
    assert [touch.subject for touch in touches] == ["m", "m"]
    assert touches[0].commit == tip


async def test_one_index_for_all_packs_leaves_a_sound_vault(vault: Vault) -> None:
    await vault.fetch("main")

    await vault.index_packs()

    assert (vault.path / "objects/pack/multi-pack-index").exists()
    assert await vault.fsck() == ()


async def test_landing_moves_the_upstream_and_says_so_again(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    later = await commit(vault, sh, tip, "f", "2")

    assert await vault.land("main", base, tip) == Landed()
    assert await vault.land("main", base, tip) == Landed()
    assert await vault.land("main", tip, later) == Landed()
    assert await vault.land("main", base, tip) == Landed()

    assert sh("git --git-dir=up.git rev-parse main") == later
    assert sh("git --git-dir=up.git fsck --full --strict") == ""


async def test_a_target_that_moved_is_not_overwritten(vault: Vault, seed: Path, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    sh("echo theirs > g; git add g; git commit -qm theirs; git push -q origin main", seed)
    theirs = sh("git rev-parse main", seed)

    assert await vault.land("main", base, tip) == Moved(theirs)
    assert sh("git --git-dir=up.git rev-parse main") == theirs


async def test_a_hook_that_declines_is_heard(vault: Vault, upstream: Path, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    sh("printf '#!/bin/sh\\necho not on fridays >&2; exit 1\\n' > hooks/pre-receive", upstream)
    sh("chmod +x hooks/pre-receive", upstream)

    refused = await vault.land("main", base, tip)

    assert isinstance(refused, Refused)
    assert "hook declined" in refused.reason
    assert "not on fridays" in refused.reason


async def test_an_upstream_that_is_gone_is_the_worlds_error(
    vault: Vault, upstream: Path, sh: Shell
) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1")
    upstream.rename(upstream.with_name("away.git"))

    with pytest.raises(GitError):
        await vault.land("main", base, tip)


@pytest.fixture
async def own(git: Git, seed: Path, tmp_path: Path) -> Vault:
    """The vault of a repository that is its own upstream, with `main` checked out."""
    return await Vault.open(git, tmp_path / "own", str(seed))


async def test_a_clean_checkout_moves_along(own: Vault, seed: Path, sh: Shell) -> None:
    base = await own.fetch("main")
    tip = await commit(own, sh, base, "f1.txt", "landed")

    assert await own.land("main", base, tip) == Landed()

    assert (seed / "f1.txt").read_text() == "landed"
    assert sh("git status --porcelain; git rev-parse HEAD; git fsck --full --strict", seed) == tip
    own.close()


@pytest.mark.parametrize("script", ["echo mine >> f2.txt", "echo x > n; git add n", "echo x > new"])
async def test_an_unclean_checkout_is_left_alone(
    own: Vault, seed: Path, sh: Shell, fingerprint: Callable[[Path], str], script: str
) -> None:
    base = await own.fetch("main")
    tip = await commit(own, sh, base, "new", "landed")
    sh(script, seed)
    before = sh("git rev-parse main; git status --porcelain; cat new f2.txt || :", seed)

    outcome = await own.land("main", base, tip)

    assert outcome == Refused("the checkout has uncommitted changes")
    assert sh("git rev-parse main; git status --porcelain; cat new f2.txt || :", seed) == before
    assert fingerprint(seed / "src")
    own.close()


async def test_a_landing_that_was_cut_off_between_files_and_branch_is_completed(
    own: Vault, seed: Path, sh: Shell
) -> None:
    base = await own.fetch("main")
    tip = await commit(own, sh, base, "f1.txt", "landed")
    await own.publish("side", tip, None)
    sh(f"git read-tree -u -m HEAD {tip}; git branch -D -q side", seed)
    cut_off = sh("git status --porcelain", seed)

    outcome = await own.land("main", base, tip)

    assert cut_off == "M  f1.txt"
    assert outcome == Landed()
    assert sh("git status --porcelain; git rev-parse HEAD; cat f1.txt", seed) == f"{tip}\nlanded"
    own.close()


async def test_somebodys_own_work_beside_a_half_landing_is_left_alone(
    own: Vault, seed: Path, sh: Shell
) -> None:
    base = await own.fetch("main")
    tip = await commit(own, sh, base, "f1.txt", "landed")
    await own.publish("side", tip, None)
    sh(f"git read-tree -u -m HEAD {tip}; echo mine >> f2.txt", seed)

    outcome = await own.land("main", base, tip)

    assert outcome == Refused("the checkout has uncommitted changes")
    assert sh("git rev-parse HEAD", seed) == base
    own.close()


async def test_a_rebase_under_way_is_left_alone(
    own: Vault, seed: Path, sh: Shell, fingerprint: Callable[[Path], str]
) -> None:
    sh("git branch old; echo 1 > a; git add a; git commit -qm a; echo 2 > b; git add b", seed)
    sh('git commit -qm b; GIT_SEQUENCE_EDITOR="sed -i 1s/pick/edit/" git rebase -q -i old', seed)
    base = await own.fetch("main")
    tip = await commit(own, sh, base, "new", "landed")
    before = fingerprint(seed)

    outcome = await own.land("main", base, tip)

    assert isinstance(outcome, Refused)
    assert fingerprint(seed) == before
    own.close()


async def test_a_diff_is_cut_and_says_so(vault: Vault, sh: Shell) -> None:
    base = await vault.fetch("main")
    tip = await commit(vault, sh, base, "f", "1\n" * 1000)

    whole = await vault.diff_text(base, tip, bytes_max=10**6)
    cut = await vault.diff_text(base, tip, bytes_max=100)

    assert "+1\n" in whole
    assert cut.endswith("more bytes are not shown]\n")
