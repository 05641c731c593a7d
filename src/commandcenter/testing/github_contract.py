"""Checks calls of GitHub's API against GitHub's own description of it, which is fetched by npm.

Wrap a server in `Checked`: it passes everything on, and notes each request that the description
does not know and each answer that it does not allow.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Package:
    """A package of npm, by its hash, and the file of it that is wanted."""

    name: str
    integrity: str
    file: str


OPENAPI = Package(
    "@octokit/openapi@23.0.2",
    "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRN"
    "kBC3D7gZXbFx5AHzLUVRBXGDhg==",
    "package/generated/api.github.com.json",
)
GRAPHQL = Package(
    "@octokit/graphql-schema@15.26.1",
    "sha512-RFDC2MpRBd4AxSRvUeBIVeBU7ojN/SxDfALUd7iVYOSeEK3gZaqR2MGOysj4"
    "Zh2xj2RY5fQAUT+Oqq7hWTraMA==",
    "package/schema.graphql",
)
METHODS = ("get", "post", "put", "patch", "delete")
_BELOW = ("/user", "/repos/{owner}/{repo}", "/app/installations")
"""The paths that are of interest; the whole takes seconds to read."""
_HERE = "urn:github"
_MANY_PARTS = ("ref", "path", "branch")
"""Parameters of a path that may hold slashes."""
Json = Any  # Any: JSON as the description and the calls have it


def lacking() -> str:
    """Return why the description cannot be had here, with the command that helps."""
    return "" if shutil.which("npm") else "there is no npm: apt install npm"


def fetch(folder: Path, package: Package = OPENAPI) -> Path:
    """Fetch a description into a folder; return its file.

    Raises:
        subprocess.CalledProcessError: npm cannot get it.
        ValueError: it is not what it was.
    """
    said = subprocess.run(
        ("npm", "pack", "--silent", "--json", "--pack-destination", str(folder), package.name),
        capture_output=True,
        check=True,
        cwd=folder,
    )
    (told,) = json.loads(said.stdout)
    if told["integrity"] != package.integrity:
        raise ValueError(f"{package.name} has another content: {told['integrity']}")
    with tarfile.open(folder / told["filename"]) as archive:
        archive.extract(package.file, folder, filter="data")
    return folder / package.file


@dataclass(frozen=True)
class _Operation:
    method: str
    path: str
    pattern: re.Pattern[str]
    about: Mapping[str, Json]
    parameters: Sequence[Json]


class Contract:
    """GitHub's description of its API."""

    def __init__(self, file: Path) -> None:
        whole = json.loads(file.read_bytes())
        paths = {
            path: item
            for path, item in whole["paths"].items()
            if path.startswith(_BELOW) or path == "/app"
        }
        self._whole = _plain({"paths": paths, "components": _used(whole, paths)})
        resource = DRAFT202012.create_resource(self._whole)
        registry: Registry[Json] = Registry()
        self._registry = registry.with_resource(_HERE, resource)
        # The more exact path first: `pulls/comments` before `pulls/{pull_number}`.
        self._operations = sorted(
            self._all(), key=lambda each: (each.path.count("{"), -len(each.path))
        )

    def asked(self, method: str, path: str, query: str, body: bytes) -> Iterator[str]:
        """Give what is wrong with a request."""
        operation = self._operation(method, path)
        if operation is None:
            yield f"{method} {path} is no call of GitHub's"
            return
        for each in (*self._query(operation, query), *self._body(operation, body)):
            yield f"{method} {operation.path}: {each}"

    def answered(self, method: str, path: str, status: int, body: bytes) -> Iterator[str]:
        """Give what is wrong with an answer; of refusals, GitHub documents few."""
        operation = self._operation(method, path)
        if operation is None or status >= 400:
            return
        answer = operation.about["responses"].get(str(status))
        if answer is None:
            yield f"{method} {operation.path} is never answered with {status}"
            return
        content = self._resolved(answer).get("content", {}).get("application/json")
        if content and body.startswith((b"{", b"[")):
            for each in self._wrong(content["schema"], json.loads(body)):
                yield f"{method} {operation.path} {status}: {each}"

    def _all(self) -> Iterator[_Operation]:
        for path, item in self._whole["paths"].items():
            for method in METHODS:
                if method in item:
                    common = item.get("parameters", [])
                    parameters = [
                        *map(self._resolved, (*item[method].get("parameters", []), *common))
                    ]
                    yield _Operation(method.upper(), path, _pattern(path), item[method], parameters)

    def _operation(self, method: str, path: str) -> _Operation | None:
        return next(
            (
                each
                for each in self._operations
                if each.method == method and each.pattern.fullmatch(path)
            ),
            None,
        )

    def _query(self, operation: _Operation, query: str) -> Iterator[str]:
        known = {each["name"]: each for each in operation.parameters if each["in"] == "query"}
        for name, value in parse_qsl(query, keep_blank_values=True):
            allowed = known.get(name, {}).get("schema", {}).get("enum")
            if name not in known:
                yield f"there is no query parameter {name}"
            elif allowed and value not in allowed:
                yield f"{name} cannot be {value}"

    def _body(self, operation: _Operation, body: bytes) -> Iterator[str]:
        taken = self._resolved(operation.about.get("requestBody", {}))
        if not body:
            if taken.get("required"):
                yield "it needs a body"
            return
        if not taken:
            yield "it takes no body"
            return
        schema = taken["content"]["application/json"]["schema"]
        content = json.loads(body)
        yield from self._wrong(schema, content)
        fields = self._resolved(schema).get("properties", content)
        yield from (f"there is no field {name}" for name in content if name not in fields)

    def _wrong(self, schema: Json, value: Json) -> Iterator[str]:
        validator = Draft202012Validator(schema, registry=self._registry)
        for error in validator.iter_errors(value):
            yield f"{error.json_path}: {error.message[:200]}"

    def _resolved(self, value: Json) -> Json:
        while isinstance(value, dict) and "$ref" in value:
            value = _at(self._whole, value["$ref"].removeprefix(_HERE))
        return value


@dataclass
class Checked:
    """A server of GitHub's API whose calls are checked; mounted anywhere."""

    server: ASGIApp
    contract: Contract
    requests: bool = True
    """Whether the requests are checked."""
    answers: bool = True
    """Whether the answers are."""
    findings: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, and look at it when it is answered."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or not path.startswith(("/repos/", "/user", "/app")):
            await self.server(scope, receive, send)
            return
        asked, answered, status = bytearray(), bytearray(), 0

        async def heard() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            answered.extend(message.get("body", b""))
            await send(message)

        await self.server(scope, heard, said)
        call = (scope["method"], path)
        if self.requests:
            query = scope["query_string"].decode()
            self.findings += self.contract.asked(*call, query, bytes(asked))
        if self.answers:
            self.findings += self.contract.answered(*call, status, bytes(answered))


def _pattern(path: str) -> re.Pattern[str]:
    def part(found: re.Match[str]) -> str:
        return ".+" if found[1] in _MANY_PARTS else "[^/]+"

    return re.compile(re.sub(r"\\{(\w+)\\}", part, re.escape(path)))


def _used(whole: Json, paths: Json) -> Json:
    """Return the components that these paths refer to, also by others."""
    used: dict[str, dict[str, Json]] = {}
    left = list(_references(paths))
    while left:
        _, _, section, name = left.pop().split("/")
        if name not in used.setdefault(section, {}):
            used[section][name] = whole["components"][section][name]
            left += _references(used[section][name])
    return used


def _references(value: Json) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _plain(value: Json) -> Json:
    """Return OpenAPI 3.0 as JSON Schema: `nullable` is a type, and references are absolute."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _plain(each) for key, each in value.items() if key not in ("example", "examples")}
    if isinstance(made.get("$ref"), str):
        made["$ref"] = f"{_HERE}{made['$ref']}"
    if made.pop("nullable", None) is not True:
        return made
    if isinstance(made.get("type"), str) and "enum" not in made:
        return {**made, "type": [made["type"], "null"]}
    return {"anyOf": [made, {"type": "null"}]}


def _at(whole: Json, pointer: str) -> Json:
    for part in pointer.removeprefix("#/").split("/"):
        whole = whole[part.replace("~1", "/").replace("~0", "~")]
    return whole
