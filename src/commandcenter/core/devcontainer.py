"""Reads the part of a repository's devcontainer.json that cannot reach the host.

The file is the repository's, so whoever could change the repository wrote it. What would run on
the host, or weaken the isolation, is refused by its name, and so is what is not known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from commandcenter.core.errors import WorkspaceError

_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "initializeCommand": "it would run on the host",
        "mounts": "it would show folders of the host",
        "workspaceMount": "it would show folders of the host",
        "runArgs": "it would weaken the isolation",
        "privileged": "it would weaken the isolation",
        "capAdd": "it would weaken the isolation",
        "securityOpt": "it would weaken the isolation",
        "features": "it would run programs from a registry as root",
        "dockerComposeFile": "only one container is started",
        "service": "only one container is started",
        "runServices": "only one container is started",
        "secrets": "there are no secrets inside",
        "remoteEnv": "use containerEnv",
        **dict.fromkeys(
            (
                *("onCreateCommand", "updateContentCommand", "postCreateCommand"),
                *("postStartCommand", "postAttachCommand"),
            ),
            "there is no network when it would run; put it into the Dockerfile",
        ),
    }
)
_WITHOUT_EFFECT = frozenset(
    {
        *("$schema", "name", "customizations", "settings", "extensions", "remoteUser"),
        *("containerUser", "updateRemoteUserUID", "forwardPorts", "portsAttributes"),
        *("otherPortsAttributes", "shutdownAction", "waitFor", "userEnvProbe", "overrideCommand"),
        *("hostRequirements", "workspaceFolder", "init"),
    }
)
"""A command is always in /work, as the user of its sandbox, and has an init."""
_READ = ("image", "build", "dockerFile", "context", "containerEnv")
_COMMENT_OR_TEXT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


@dataclass(frozen=True)
class Recipe:
    """What the image of a repository's commands is made of: a name, or a Dockerfile in it."""

    image: str = ""
    dockerfile: str = ""
    """Path in the repository."""
    context: str = "."
    """Folder in the repository that its build sees."""
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """For every command inside."""


def read(text: str, path: str) -> Recipe:
    """Return what a devcontainer.json at this path of a repository asks for.

    Raises:
        WorkspaceError: it cannot be read, or asks for what is refused.
    """
    content = _object(_parsed(text, path), path)
    for key in content:
        _allow(key, path)
    build = _object(content.get("build", {}), f"{path}: build")
    for key in build.keys() - {"dockerfile", "context", "args"}:
        raise WorkspaceError(f"{path}: `build.{key}` is not supported.")
    here = PurePosixPath(path).parent
    dockerfile = _text(build, "dockerfile", path) or _text(content, "dockerFile", path)
    context = _text(build, "context", path) or _text(content, "context", path) or "."
    recipe = Recipe(
        image=_text(content, "image", path),
        dockerfile=_inside(here, dockerfile, path) if dockerfile else "",
        context=_inside(here, context, path),
        arguments=_texts(build.get("args", {}), f"{path}: build.args"),
        environment=_texts(content.get("containerEnv", {}), f"{path}: containerEnv"),
    )
    if bool(recipe.image) == bool(recipe.dockerfile):
        raise WorkspaceError(f"{path} must name either an image or a Dockerfile.")
    return recipe


def _parsed(text: str, path: str) -> Any:  # Any: JSON, checked by the caller
    """Read JSON with comments and last commas, as editors write it."""

    def keep(found: re.Match[str]) -> str:
        return found[1] or ""

    try:
        return json.loads(_LAST_COMMA.sub(keep, _COMMENT_OR_TEXT.sub(keep, text)))
    except ValueError as error:
        raise WorkspaceError(f"{path} cannot be read: {error}.") from error


def _allow(key: str, path: str) -> None:
    if key in _REFUSED:
        raise WorkspaceError(f"{path}: `{key}` is refused: {_REFUSED[key]}.")
    if key not in _READ and key not in _WITHOUT_EFFECT:
        raise WorkspaceError(f"{path}: `{key}` is not known, and so it is refused.")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WorkspaceError(f"{where} must be an object.")
    return value


def _text(content: Mapping[str, Any], key: str, path: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise WorkspaceError(f"{path}: `{key}` must be a string.")
    return _plain(value, f"{path}: {key}")


def _texts(value: Any, where: str) -> Mapping[str, str]:
    found = _object(value, where)
    if not all(isinstance(each, str) for each in found.values()):
        raise WorkspaceError(f"{where} must hold strings only.")
    return MappingProxyType({key: _plain(each, where) for key, each in found.items()})


def _plain(value: str, where: str) -> str:
    """Return a string that asks for nothing of the host, as `${localEnv:TOKEN}` would."""
    if "${" in value:
        raise WorkspaceError(f"{where}: variables as in `{value}` are refused.")
    return value


def _inside(here: PurePosixPath, name: str, path: str) -> str:
    """Return a path in the repository, named from the folder `here`."""
    parts: list[str] = []
    for part in (here / name).parts:
        if part == ".." and parts:
            parts.pop()
        elif part in ("..", "/"):
            raise WorkspaceError(f"{path}: `{name}` is outside of the repository.")
        else:
            parts.append(part)
    return "/".join(parts) or "."
