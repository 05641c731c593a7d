"""Drops what no ref of a vault reaches. Only for a vault that nobody borrows from or works with."""

from __future__ import annotations

from commandcenter.system.vault import Vault

_LONG_S = 3600.0


async def unreachable_bytes(vault: Vault) -> int:
    """Return how much of the disk the objects take that no ref reaches."""
    sizes = ("--batch-all-objects", "--unordered", "--batch-check=%(objectsize:disk)")
    listed = await vault.git.run("cat-file", *sizes, git_dir=vault.path, timeout_s=_LONG_S)
    reached = await vault.git.run(
        *("rev-list", "--objects", "--all", "--disk-usage"), git_dir=vault.path, timeout_s=_LONG_S
    )
    return sum(map(int, listed.stdout.split())) - int(reached.text or 0)


async def prune(vault: Vault) -> None:
    """Remove the objects that no ref reaches, for good.

    The caller sees to it that no workspace or base borrows from the vault, and that no merge or
    capture relies on objects that no ref reaches yet.
    """
    async with vault.unwritten():
        # The graph first: it must never name a commit that is gone.
        for command in (
            ("commit-graph", "write", "--reachable", "--no-progress"),
            ("repack", "-a", "-d", "-q"),
            ("prune", "--expire=now"),
        ):
            await vault.git.run(*command, git_dir=vault.path, timeout_s=_LONG_S)
