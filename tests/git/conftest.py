"""Real repositories for the tests of git, vault and capture."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from commandcenter.system.git import Git
from commandcenter.system.vault import Identity, Vault

Shell = Callable[..., str]


@pytest.fixture
def users(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n"
        '[protocol "file"]\nallow = always\n'
    )
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


@pytest.fixture
def sh(users: dict[str, str], tmp_path: Path) -> Shell:
    """Run a shell script as the user would, and return what it printed."""

    def run(script: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["sh", "-euc", script], cwd=cwd or tmp_path, env=users, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="surrogateescape").strip()

    return run


@pytest.fixture
def git(users: dict[str, str]) -> Git:
    return Git(user=users)


@pytest.fixture
def seed(sh: Shell, tmp_path: Path) -> Path:
    """A user's repository with files, folders, a link and a program, on `main`."""
    sh(
        "git init -q seed; cd seed; mkdir -p d/e src docs;"
        "for i in 1 2 3 4 5; do echo line$i > f$i.txt; echo x$i > d/x$i.c; echo y > d/e/y$i; done;"
        "echo z > src/x.c; echo '*.log' > .gitignore; printf 'build/\\n' > docs/.gitignore;"
        "echo page > docs/page.md; ln -s f1.txt link; echo '#!/bin/sh' > run.sh; chmod +x run.sh;"
        "git add -A; git commit -qm seed"
    )
    return tmp_path / "seed"


@pytest.fixture
def upstream(sh: Shell, seed: Path, tmp_path: Path) -> Path:
    """A bare repository that is the `origin` of `seed`."""
    sh("git clone -q --bare seed up.git; cd seed; git remote add origin ../up.git; git fetch -q")
    return tmp_path / "up.git"


@pytest.fixture
async def vault(git: Git, upstream: Path, tmp_path: Path) -> AsyncIterator[Vault]:
    opened = await Vault.open(git, tmp_path / "data", str(upstream))
    yield opened
    opened.close()


@pytest.fixture
def ada() -> Identity:
    return Identity("Ada", "ada@example.org")


@pytest.fixture
def fingerprint() -> Callable[[Path], str]:
    """Hash a whole folder: names, modes, times and content; with `.git`."""

    def of(folder: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            digest.update(f"{path}{status.st_mode}{status.st_mtime_ns}".encode())
            if stat.S_ISREG(status.st_mode):
                digest.update(path.read_bytes())
        return digest.hexdigest()

    return of
