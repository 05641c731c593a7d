"""Forges: proposals, reviews, statuses, merges. One file a dialect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_GITHUB = {"github.com", "www.github.com", "ssh.github.com"}
_SCHEMES = {"https", "http", "ssh", "git", "git+ssh"}
_SCP_LIKE = re.compile(r"(?:[^@/:]+@)?(?P<host>[^@/:\[\]]+):(?P<path>[^/\\].*|/.*)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class RemoteRepository:
    """A repository on a forge, as its remote address names it."""

    host: str
    owner: str
    name: str


def repository_of(remote_url: str) -> RemoteRepository | None:
    """Return the GitHub repository that a git remote points at, or None when it is another place.

    Understands https, ssh and the scp-like form; user names and tokens in it are dropped.
    """
    host, path = _host_and_path(remote_url.strip())
    if host.lower().rstrip(".") not in _GITHUB:
        return None
    owner, slash, name = path.strip("/").partition("/")
    name = name.removesuffix(".git")
    if not slash or not all(
        _NAME.fullmatch(part) and part not in (".", "..") for part in (owner, name)
    ):
        return None
    return RemoteRepository("github.com", owner, name)


def _host_and_path(url: str) -> tuple[str, str]:
    if "://" in url:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            return "", ""
        return (host, unquote(parts.path)) if parts.scheme.lower() in _SCHEMES else ("", "")
    found = _SCP_LIKE.fullmatch(url)
    return (found["host"], found["path"]) if found else ("", "")
