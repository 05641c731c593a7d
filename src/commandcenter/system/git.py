"""Runs git: the only place that does, with an environment built from nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from commandcenter.core.errors import GitError, InputError
from commandcenter.system import process

VERSION_MIN = (2, 38)
"""The first git with `merge-tree --write-tree`, which merges without a checkout."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
_STDERR_TAIL_BYTES = 2000

_ALWAYS: Mapping[str, str] = MappingProxyType(
    {
        "LC_ALL": "C",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        # A promisor remote planted in a repository would otherwise start its upload-pack.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # Reading must not refresh an index: the repository may be the user's.
        "GIT_OPTIONAL_LOCKS": "0",
    }
)
_ISOLATED: Mapping[str, str] = MappingProxyType(
    {
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ALLOW_PROTOCOL": "none",
    }
)
_OPTIONS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "gc.auto=0",
    "maintenance.auto=false",
    # git's default leaves empty objects after a power cut: what we write, we can count on.
    "core.fsync=all",
    "core.fsyncMethod=fsync",
    # Above this size git streams a blob; a delta search would need many times its memory.
    "core.bigFileThreshold=32m",
)
_REFUSED = ("could not read Username for", "Authentication failed for")
"""What git says in the language of `_ALWAYS` when a credential was not taken."""
_USERS_VARIABLES = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
        *("DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "KRB5CCNAME", "GNUPGHOME"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
        *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    }
)


@dataclass(frozen=True)
class GitResult:
    """How a git command ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Give stdout without the last line end; bytes outside UTF-8 are surrogate-escaped."""
        return os.fsdecode(self.stdout).removesuffix("\n")

    @property
    def complaint(self) -> str:
        """Give the end of stderr as text for people."""
        return self.stderr[-_STDERR_TAIL_BYTES:].decode(errors="replace").strip()


class SignIn(Protocol):
    """Signs git in where the service has a credential of its own."""

    async def environment(self, address: str) -> Mapping[str, str]:
        """Return the variables that do so at this address; none to sign in as the user would."""

    async def refused(self, address: str) -> None:
        """Take note that these were not taken."""


class Git:
    """The installed git, started so that no repository's configuration can run a program."""

    def __init__(
        self,
        program: str = "git",
        *,
        user: Mapping[str, str] | None = None,
        sign_in: SignIn | None = None,
    ) -> None:
        """`user` is the environment that network commands take the user's credentials from.

        `sign_in` goes before these, for the remotes that it knows.
        """
        self._program = program
        self._sign_in = sign_in
        users = os.environ if user is None else user
        self._user = {name: users[name] for name in _USERS_VARIABLES & users.keys()}
        self._ssh = _never_asking(users["GIT_SSH_COMMAND"]) if users.get("GIT_SSH_COMMAND") else ""
        self._search_path = users.get("PATH", _SEARCH_PATH)

    async def run(
        self,
        *args: str | bytes,
        git_dir: Path | None,
        stdin: bytes = b"",
        environment: Mapping[str, str] = _NOTHING,
        check: bool = True,
        timeout_s: float = 120,
        output_bytes_max: int = 256 * 2**20,
        network: bool = False,
    ) -> GitResult:
        """Run one git command in `/` and return how it ended.

        `git_dir` is absolute; None lets git find the repository, for commands that need none or
        that get `-C`. `network` runs as the user would: with their configuration, credentials and
        the protocols file, https, http, ssh and git; for `fetch`, `push` and `ls-remote`, and for
        finding the repository that the user named.

        Raises:
            GitError: it failed while `check` is set, was killed, ran out of time, or printed too
                much.
        """
        argv = [os.fsdecode(part) for part in args]
        base = await self._network_environment() if network else self._isolated_environment()

        async def start(signed: Mapping[str, str]) -> GitResult:
            return await self._start(
                (*_options(git_dir), *argv),
                stdin=stdin,
                environment={**base, **signed, **environment},
                check=check,
                timeout_s=timeout_s,
                output_bytes_max=output_bytes_max,
            )

        remote = _address(argv) if network and self._sign_in else ""
        return await (self._signed_in(remote, start) if remote else start(_NOTHING))

    async def _signed_in(
        self, remote: str, start: Callable[[Mapping[str, str]], Awaitable[GitResult]]
    ) -> GitResult:
        """Run it signed in; once more where that was not taken, as it then has done nothing."""
        assert self._sign_in is not None
        signed = await self._sign_in.environment(remote)
        try:
            result = await start(signed)
        except GitError as error:
            if not signed or not _is_refused(error.stderr):
                raise
        else:
            if not signed or not result.exit_code or not _is_refused(result.complaint):
                return result
        await self._sign_in.refused(remote)
        return await start(await self._sign_in.environment(remote))

    async def version(self) -> tuple[int, ...]:
        """Return the version of the installed git.

        Raises:
            InputError: there is no git.
        """
        try:
            result = await self.run("version", git_dir=None, timeout_s=20)
        except (GitError, FileNotFoundError) as error:
            raise InputError(
                f"`{self._program}` cannot be run.", hint="Install git 2.38 or newer."
            ) from error
        found = re.search(r"\d+(\.\d+)+", result.text)
        if found is None:
            raise InputError(f"`{self._program}` does not say its version: {result.text!r}.")
        return tuple(int(part) for part in found[0].split("."))

    async def check_version(self) -> None:
        """Make sure that git is new enough.

        Raises:
            InputError: there is no git, or it is older than `VERSION_MIN`.
        """
        version = await self.version()
        if version < VERSION_MIN:
            raise InputError(
                f"git {'.'.join(map(str, version))} cannot merge without a checkout.",
                hint="Install git 2.38 or newer.",
            )

    def _isolated_environment(self) -> dict[str, str]:
        return {**_ALWAYS, **_ISOLATED, "PATH": self._search_path}

    async def _network_environment(self) -> dict[str, str]:
        return {
            **self._user,
            **_ALWAYS,
            "PATH": self._search_path,
            "GIT_ALLOW_PROTOCOL": "file:https:http:ssh:git",
            "GIT_SSH_COMMAND": await self._ssh_command(),
            "SSH_ASKPASS_REQUIRE": "never",
        }

    async def _ssh_command(self) -> str:
        """Return the user's ssh command, told never to ask.

        GIT_SSH_COMMAND wins over core.sshCommand, so the user's choice has to be read first.
        """
        if not self._ssh:
            asked = await self._start(
                ("config", "--global", "--includes", "core.sshCommand"),
                environment={**self._user, **_ALWAYS, "PATH": self._search_path},
                check=False,
            )
            self._ssh = _never_asking(asked.text or "ssh")
        return self._ssh

    async def _start(
        self,
        args: tuple[str, ...],
        *,
        environment: Mapping[str, str],
        stdin: bytes = b"",
        check: bool = True,
        timeout_s: float = 120,
        output_bytes_max: int = 2**20,
    ) -> GitResult:
        try:
            finished = await process.run(
                (self._program, *args),
                stdin=stdin,
                environment=environment,
                cwd=Path("/"),
                timeout_s=timeout_s,
                output_bytes_max=output_bytes_max,
            )
        except (process.OutOfTime, process.TooMuchOutput) as error:
            raise GitError(f"`{_shown(args)}` was ended: {error.message}") from error
        result = GitResult(finished.exit_code, finished.stdout, finished.stderr)
        # Ended by a signal: what it would have said is unknown, so it is never taken for an answer.
        if result.exit_code < 0 or (check and result.exit_code != 0):
            raise _failure(args, result)
        return result


def _address(argv: Sequence[str]) -> str:
    """Return the remote that a command talks to over HTTP; empty when it does not."""
    return next((each for each in argv if each.startswith(("https://", "http://"))), "")


def _is_refused(complaint: str) -> bool:
    return any(words in complaint for words in _REFUSED)


def _options(git_dir: Path | None) -> tuple[str, ...]:
    where = () if git_dir is None else (f"--git-dir={git_dir}",)
    return (*(part for option in _OPTIONS for part in ("-c", option)), *where)


def _never_asking(ssh: str) -> str:
    program = os.path.basename(ssh.split(maxsplit=1)[0])
    return f"{ssh} -o BatchMode=yes -o ConnectTimeout=20" if program == "ssh" else ssh


def _failure(args: tuple[str, ...], result: GitResult) -> GitError:
    return GitError(
        f"`{_shown(args)}` failed with exit code {result.exit_code}: {result.complaint}",
        exit_code=result.exit_code,
        stderr=result.complaint,
    )


def _shown(args: tuple[str, ...]) -> str:
    """Return the command as people know it: without our fixed options, and not too long."""
    rest = list(args)
    while rest and (rest[0] == "-c" or rest[0].startswith("--git-dir=")):
        del rest[: 2 if rest[0] == "-c" else 1]
    return " ".join(["git", *rest]).encode(errors="replace").decode()[:300]
