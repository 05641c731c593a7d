"""Scenes for journeys: a real repository, settings with scripted agents, and plans as text."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from commandcenter.core.errors import GitError
from commandcenter.settings import Settings, load
from commandcenter.system.git import Git
from commandcenter.testing.forges import write_commit
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

_FILES: Mapping[str, str] = MappingProxyType(
    {"README.md": "# A sample project\n", "numbers.txt": "one\ntwo\nthree\n"}
)
_OWNER = ("-c", "user.name=Owner", "-c", "user.email=owner@example.org")
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True)
class Sample:
    """A repository as a person has it: a checkout of their own and, mostly, a bare `origin`."""

    checkout: Path
    upstream: Path
    """Where results land: the bare origin, or the checkout itself when there is no remote."""
    start: str
    """The commit that the branch starts from."""
    branch: str
    git: Git = field(repr=False)

    @classmethod
    async def make(
        cls,
        folder: Path,
        *,
        remote: bool = True,
        branch: str = "main",
        files: Mapping[str, str] = _FILES,
        origin: Path | None = None,
    ) -> Sample:
        """Make a checkout with one commit, and with `remote` the bare origin it was cloned from.

        With `origin` it is a copy of what is checked out in that repository.
        """
        git = Git()
        folder.mkdir(parents=True, exist_ok=True)
        bare, checkout = folder / "origin.git", folder / "checkout"
        if origin is None:
            await git.run("init", "--quiet", "--bare", "-b", branch, str(bare), git_dir=None)
            start = await write_commit(git, bare, branch, files, "Start", None)
        else:
            words = ("clone", "--quiet", "--bare", "--no-hardlinks", "--single-branch")
            await git.run(*words, str(origin), str(bare), git_dir=None, network=True)
            branch = (await git.run("symbolic-ref", "--short", "HEAD", git_dir=bare)).text
            start = (await git.run("rev-parse", "HEAD", git_dir=bare)).text
        await git.run(
            "clone",
            "--quiet",
            "--no-hardlinks",
            str(bare),
            str(checkout),
            git_dir=None,
            network=True,
        )
        sample = cls(checkout, bare if remote else checkout, start, branch, git)
        if not remote:
            await sample.run("remote", "remove", "origin")
        return sample

    @property
    def has_remote(self) -> bool:
        """Say whether there is an origin besides the checkout."""
        return self.upstream != self.checkout

    @property
    def git_dir(self) -> Path:
        """Return the folder in which the upstream keeps its refs and objects."""
        return self.upstream if self.has_remote else self.checkout / ".git"

    async def run(self, *args: str) -> str:
        """Run git in the checkout, as its owner; return what it printed."""
        done = await self.git.run(
            "-C", str(self.checkout), *_OWNER, *args, git_dir=None, network=True
        )
        return done.text

    async def ask(self, *args: str) -> str:
        """Run git in the upstream; return what it printed."""
        return (await self.git.run(*args, git_dir=self.git_dir)).text

    async def tip(self, branch: str = "") -> str:
        """Return the commit at the tip of a branch of the upstream."""
        return await self.ask("rev-parse", f"refs/heads/{branch or self.branch}")

    async def read(self, path: str, branch: str = "") -> str:
        """Return a file's content at the tip of a branch of the upstream."""
        return await self.ask("show", f"refs/heads/{branch or self.branch}:{path}")

    async def paths(self, branch: str = "") -> tuple[str, ...]:
        """Return the paths at the tip of a branch of the upstream."""
        listed = await self.ask(
            "ls-tree", "-rz", "--name-only", f"refs/heads/{branch or self.branch}"
        )
        return tuple(filter(None, listed.split("\0")))

    async def branches(self) -> tuple[str, ...]:
        """Return the upstream's branches."""
        listed = await self.ask("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
        return tuple(listed.splitlines())

    async def push(self, files: Mapping[str, str], message: str = "A person's work") -> str:
        """Commit on top of the upstream's branch, as a person elsewhere does; return the id."""
        at = (self.git, self.git_dir, self.branch, files, message)
        while True:
            before = await self.tip()
            try:
                return await write_commit(*at, before, force=False)
            except GitError:
                # Somebody else was faster, or nobody can.
                if await self.tip() == before:
                    raise

    def soil(self) -> None:
        """Leave uncommitted changes in the checkout: a changed, a staged-like and a new file."""
        path = self.checkout / "README.md"
        path.write_text(path.read_text() + "Work in progress.\n")
        (self.checkout / "notes.txt").write_text("Mine, and in nobody's way.\n")


def fingerprint(folder: Path) -> Mapping[str, str]:
    """Return what is below a folder: path to kind, mode, time and content hash."""
    return dict(_prints(folder, folder))


def _prints(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        path = Path(entry.path)
        found = path.lstat()
        name = str(path.relative_to(root))
        if stat.S_ISLNK(found.st_mode):
            yield name, f"link {path.readlink()}"
        elif stat.S_ISDIR(found.st_mode):
            yield name, f"folder {found.st_mode:o} {found.st_mtime_ns}"
            yield from _prints(path, root)
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield name, f"file {found.st_mode:o} {found.st_mtime_ns} {digest}"


@dataclass(frozen=True)
class Installation:
    """A data folder with a configuration whose agents are scripted."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Environment of its processes besides what all have."""

    @property
    def data_dir(self) -> Path:
        """Return the folder that a service keeps everything in."""
        return self.folder / "data"

    @property
    def config(self) -> Path:
        """Return the configuration file."""
        return self.folder / "config.toml"

    @classmethod
    def make(
        cls,
        folder: Path,
        *,
        workers: int = 4,
        more: str = "",
        forge: str = 'kind = "hub"',
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Installation:
        """Write the configuration; `more` is TOML that is added to it, `forge` is that table.

        Profiles: `scripted`; `hasty`, the same with limits of seconds and a megabyte.
        """
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder, variables)
        made.config.write_text(_configuration(workers, forge) + more)
        return made

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment for this installation's processes."""
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        own = {"COMMANDCENTER_DATA_DIR": str(self.data_dir)}
        return {**kept, **own, **self.variables, **more}

    def settings(self, **environment: str) -> Settings:
        """Return the settings."""
        return load(self.environment(**environment), config=self.config)

    def hub_token(self) -> str:
        """Return the token of the embedded hub."""
        return (self.data_dir / "hub-token").read_text()

    def write_plan(self, text: str, name: str = "plan.md") -> Path:
        """Write a plan outside of every repository and return its path."""
        path = self.folder / "plans" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path


def _configuration(workers: int, forge: str) -> str:
    agent = json.dumps(str(SCRIPTED_AGENT))
    scripted = f'agent = "shell"\ncommand = "{SCRIPTED_AGENT.name}"\nprograms = [{agent}]\n'
    return (
        f"workers = {workers}\npoll_s = 0.1\n\n"
        f'[roles]\nwork = "scripted"\nreview = "scripted"\n\n[forge]\n{forge}\n\n'
        f"[profiles.scripted]\n{scripted}\n"
        f"[profiles.hasty]\n{scripted}"
        "[profiles.hasty.limits]\ntimeout_s = 12\nidle_s = 3\noutput_bytes = 1048576\n\n"
    )


def plan(*batches: str, title: str = "A sample plan") -> str:
    """Return a plan's text."""
    return f"# {title}\n\n" + "\n".join(batches)


def batch(number: int, *tasks: str, mode: str = "", after: Sequence[int] = ()) -> str:
    """Return a batch's text; without a mode its tasks follow one another."""
    lines = [f"## Batch {number}: Batch number {number}"]
    if mode:
        lines.append(f"**Execution Mode:** {mode}")
    if after:
        lines.append(f"**Dependencies:** {', '.join(f'Batch {each}' for each in after)}")
    return "\n".join([*lines, "", *tasks])


def task(
    identity: str,
    title: str,
    *,
    files: Sequence[str] = (),
    script: str = "",
    checks: Sequence[str] = (),
    after: Sequence[str] = (),
    text: str = "",
    commit: str = "",
    fields: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a task's text.

    Args:
        identity: `1.2`.
        title: of the task.
        files: `Create: hello.py`; a bare path is to be created.
        script: what the scripted agent does, one operation a line.
        checks: commands that verify it.
        after: tasks that it waits for.
        text: prose, before the script.
        commit: message.
        fields: further ones, `Pattern` say.
    """
    parts = [f"### Task {identity}: {title}"]
    parts += [f"**{name}:** {value}" for name, value in fields.items()]
    if files:
        uses = [each if ": " in each else f"Create: {each}" for each in files]
        named = [f"- {op}: `{path}`" for op, path in (use.split(": ", 1) for use in uses)]
        parts.append("\n".join(["**Files:**", *named]))
    if after:
        parts.append(f"**Depends on:** {', '.join(f'Task {each}' for each in after)}")
    instructions = [text] if text else []
    if script:
        instructions.append(f"```scripted-agent\n{script.strip()}\n```")
    if instructions:
        parts.append("\n".join(["**Implementation:**", "", "\n\n".join(instructions)]))
    if checks:
        parts.append("\n".join(["**Verification:**", *[f"- `{check}`" for check in checks]]))
    if commit:
        parts.append(f"**Commit:** `{commit}`")
    return "\n\n".join(parts) + "\n"
