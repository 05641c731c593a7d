"""Forges: proposals, reviews, statuses, merges. One file a dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_SCHEMES = {"https", "http", "ssh", "git", "git+ssh"}
_SCP_LIKE = re.compile(r"(?:[^@/:\[\]]+@)?(?P<host>[^@/:\[\]]+):(?P<path>[^/\\].*|/.*)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NAMES = {"github": "GitHub", "gitea": "Gitea or Forgejo", "gitlab": "GitLab"}
_BY_THE_WAY = ("www.", "api.", "ssh.", "altssh.")
"""Names below a forge's own by which it is reached as well."""
_SIGNED_IN = re.compile(r"^(\w[\w+.-]*://)[^/]*@")
_API_PATH = re.compile(r"/api/v\d+$")


@dataclass(frozen=True)
class Site:
    """A forge, and where its API is."""

    kind: str
    """`github`, `gitea` or `gitlab`."""
    api_url: str

    @property
    def host(self) -> str:
        """Give the forge's own name, which its remotes have."""
        return _plain(urlsplit(self.api_url).hostname or "")

    def __str__(self) -> str:
        return f"{_NAMES[self.kind]} ({self.api_url})"


@dataclass(frozen=True)
class RemoteRepository:
    """A repository on a forge, as its remote address names it."""

    site: Site
    owner: str
    """On GitLab, it may be a group in a group: `group/part`."""
    name: str


def repository_of(remote_url: str, sites: Iterable[Site]) -> RemoteRepository | None:
    """Return the repository on one of these forges that a git remote points at, if it does.

    Understands https, ssh and the scp-like form; user names and tokens in it are dropped. The
    host must be that of the forge's API: a token goes to no place that it was not meant for.
    """
    host, path = _host_and_path(remote_url.strip())
    for site in sites:
        if host and _plain(host) == site.host:
            below = _API_PATH.sub("", urlsplit(site.api_url).path.rstrip("/"))
            return _named(site, path.removeprefix(below) if path.startswith(f"{below}/") else path)
    return None


def shown(remote_url: str) -> str:
    """Return a remote's address without the user name and token that it may hold."""
    return _SIGNED_IN.sub(r"\1", remote_url)


def _plain(host: str) -> str:
    """Return a host by the forge's own name."""
    name = host.lower().rstrip(".")
    return next((name.removeprefix(each) for each in _BY_THE_WAY if name.startswith(each)), name)


def _named(site: Site, path: str) -> RemoteRepository | None:
    *owners, name = path.strip("/").split("/")
    name = name.removesuffix(".git")
    deep = len(owners) > 1 and site.kind != "gitlab"
    if not owners or deep or not all(_is_name(part) for part in (*owners, name)):
        return None
    return RemoteRepository(site, "/".join(owners), name)


def _is_name(part: str) -> bool:
    return _NAME.fullmatch(part) is not None and part not in (".", "..")


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
