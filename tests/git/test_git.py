"""How git is started: from nothing, bounded, and with words when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.core.errors import GitError, InputError
from commandcenter.system.git import VERSION_MIN, Git

Shell = Callable[..., str]


async def test_the_installed_git_is_new_enough(git: Git) -> None:
    await git.check_version()

    assert await git.version() >= VERSION_MIN


async def test_an_old_git_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.1\n")
    old.chmod(0o755)

    with pytest.raises(InputError, match=r"2\.30\.1"):
        await Git(str(old)).check_version()


async def test_a_missing_git_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be run"):
        await Git(str(tmp_path / "absent")).check_version()


async def test_a_failure_carries_the_command_and_its_words(git: Git, seed: Path) -> None:
    with pytest.raises(GitError, match="rev-parse --verify nope") as failed:
        await git.run("rev-parse", "--verify", "nope", git_dir=seed / ".git")

    assert failed.value.exit_code == 128
    assert "single revision" in failed.value.stderr


async def test_a_git_that_hangs_is_ended(git: Git, seed: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GitError, match="did not end"):
        await git.run(
            "config", "--file", str(tmp_path / "pipe"), "--list", git_dir=None, timeout_s=0.3
        )


async def test_too_much_output_is_an_error(git: Git, seed: Path) -> None:
    with pytest.raises(GitError, match="printed more"):
        await git.run("ls-tree", "-r", "HEAD", git_dir=seed / ".git", output_bytes_max=10)


async def test_the_users_configuration_is_for_network_commands_only(git: Git) -> None:
    ours = await git.run("config", "user.name", git_dir=None, check=False)
    users = await git.run("config", "user.name", git_dir=None, check=False, network=True)

    assert (ours.text, users.text) == ("", "Ada")


@pytest.mark.parametrize("network", [False, True])
async def test_a_transport_that_runs_programs_is_forbidden(
    git: Git, tmp_path: Path, network: bool
) -> None:
    with pytest.raises(GitError, match="not allowed"):
        await git.run("ls-remote", f"ext::touch {tmp_path}/hit", git_dir=None, network=network)

    assert not (tmp_path / "hit").exists()
