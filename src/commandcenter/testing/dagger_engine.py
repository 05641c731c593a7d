"""A double of the Dagger CLI and its engine: speaks the session's protocol, and really executes.

It is as lazy as an engine, caches an exec by all that goes into it as an engine does, checks every
query against the schema of the installed SDK, and runs an exec in bubblewrap with the programs of
this machine, whatever the image, and with its network. What is mounted read-only is not copied. It
keeps no limits. With faults it lies as a broken engine would: see `Fault`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

_CHECKED = threading.Lock()


_KERNELS = tuple(f"/proc/{name}" for name in ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi"))
"""What of /proc even an engine's exec may not write."""
_SHARED_BYTES = 64 * 2**20


class Fault(StrEnum):
    """What is wrong with an engine."""

    STALE = "stale"
    """An exec is taken from the cache whatever its environment and files are."""
    HOLLOW = "hollow"
    """An exec succeeds without being run."""
    DIES = "dies"
    """The client is gone as soon as an exec makes the file `FATAL`."""
    STUCK = "stuck"
    """An exec does not begin for ever."""
    NO_NAMESPACES = "no_namespaces"
    """An exec may not make namespaces."""


FATAL = "fatal"


def client(path: Path, state: Path, *faults: Fault, schema: Path | None = None) -> Path:
    """Write an executable that is a Dagger CLI with an engine that keeps its cache in `state`.

    `schema` is a folder in which the schema is kept, for several engines; by default `state`.
    """
    words = tuple(str(fault) for fault in faults)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!{sys.executable} -I\n"
        "from commandcenter.testing.dagger_engine import main\n"
        f"main({str(state)!r}, {str(schema or state)!r}, {words!r})\n"
    )
    path.chmod(0o755)
    return path


def events(state: Path) -> list[dict[str, Any]]:
    """Return what the engine did: `EXEC`, `CACHED` and `INVALID`."""
    log = state / "log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def main(state: str, schema: str, faults: tuple[str, ...]) -> None:
    """Be the CLI: `session` or `version`."""
    if sys.argv[1] == "version":
        print("dagger v0.21.11 (double)")  # noqa: T201 - what the CLI prints
        return
    assert sys.argv[1] == "session", sys.argv
    engine = Engine(Path(state), Path(schema), frozenset(map(Fault, faults)))
    asyncio.run(_serve(engine))


async def _serve(engine: Engine) -> None:
    token = secrets.token_hex(8)
    expected = "Basic " + base64.b64encode(f"{token}:".encode()).decode()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")[1:]
                said = dict(line.split(": ", 1) for line in head if ": " in line)
                body = await reader.readexactly(int(said.get("content-length", 0)))
                known = said.get("authorization") == expected.lower()
                answer = await asyncio.to_thread(engine.answer, body) if known else {}
                content = json.dumps(answer).encode()
                status = "200 OK" if known else "401 Unauthorized"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "session_token": token}), flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # what still runs ends with us


class Engine:
    """Evaluates chains of calls, each named by a digest of all that it is made of."""

    def __init__(self, state: Path, schema: Path, faults: frozenset[Fault]) -> None:
        from graphql import build_schema

        self._state = state
        self._faults = faults
        state.mkdir(parents=True, exist_ok=True)
        self._calls: dict[str, dict[str, Any]] = {}
        self._secrets: dict[str, str] = {}
        """In memory only, as an engine has them."""
        self._kept = schema
        self._schema = build_schema(_schema(schema))

    def answer(self, body: bytes) -> dict[str, Any]:
        """Answer one query."""
        from graphql import execute, parse, validate

        asked = json.loads(body)
        if "__schema" in asked["query"]:
            return self._introspected(asked["query"])
        document = parse(asked["query"])
        wrong = validate(self._schema, document)
        if wrong:
            self._log(event="INVALID", errors=[each.message for each in wrong])
            return {"errors": [each.formatted for each in wrong]}
        done: Any = execute(
            self._schema,
            document,
            variable_values=asked.get("variables"),
            field_resolver=self._resolve,
            type_resolver=lambda value, _info, _type: value["__typename"],
        )
        errors = {"errors": [each.formatted for each in done.errors]} if done.errors else {}
        return {"data": done.data, **errors}

    def _introspected(self, query: str) -> dict[str, Any]:
        """Answer what every client asks first, from where it was kept."""
        from graphql import graphql_sync

        kept = self._kept / f"introspection-{hashlib.sha256(query.encode()).hexdigest()[:12]}.json"
        if not kept.exists():
            answer = graphql_sync(self._schema, query).formatted
            fresh = kept.with_name(f"introspection-{secrets.token_hex(4)}")
            fresh.write_text(json.dumps(answer))
            fresh.replace(kept)
        said: dict[str, Any] = json.loads(kept.read_text())
        return said

    def _resolve(self, source: Any, info: Any, /, **arguments: Any) -> Any:
        from graphql import get_named_type, is_leaf_type

        owner, field = info.parent_type.name, info.field_name
        parent = source.get("digest") if isinstance(source, dict) else None
        if field == "__typename":
            return source["__typename"]
        if (owner, field) == ("Query", "version"):
            return "v0.21.11"
        if (owner, field) == ("Query", "node"):
            return {"digest": arguments["id"], "__typename": self._calls[arguments["id"]]["gives"]}
        kind = get_named_type(info.return_type)
        if field == "id":
            return parent
        if field == "sync":
            self._evaluate(str(parent))
            return parent
        if (owner, field) == ("Container", "workdir"):
            return self._unexecuted(str(parent))["workdir"]
        if is_leaf_type(kind):
            return self._leaf(owner, field, self._evaluate(str(parent)), arguments)
        # A secret is known by its name, and what is cached does not depend on its value.
        hidden = arguments.pop("plaintext", None) if field == "setSecret" else None
        call = {"of": owner, "field": field, "with": arguments, "parent": parent}
        if arguments.get("noCache"):
            call["nonce"] = secrets.token_hex(8)
        digest = hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()[:32]
        self._calls[digest] = {**call, "gives": kind.name}
        if hidden is not None:
            self._secrets[arguments["name"]] = hidden
        return {"digest": digest, "__typename": kind.name}

    def _leaf(self, owner: str, field: str, at: Any, arguments: Mapping[str, Any]) -> Any:
        match owner, field:
            case "Container", ("exitCode" | "stdout" | "stderr"):
                return _last(at)[field]
            case "Directory", "export":
                _copy(Path(at["path"]), Path(arguments["path"]), wipe=arguments.get("wipe"))
                return arguments["path"]
            case "File", "contents":
                return Path(at["path"]).read_text()
        raise _unknown(owner, field)

    def _unexecuted(self, digest: str) -> Any:
        """Return what is known of a container without running anything."""
        while self._calls[digest]["field"] == "withExec":
            digest = self._calls[digest]["parent"]
        return self._evaluate(digest)

    def _evaluate(self, digest: str) -> Any:
        call = self._calls[digest]
        key = digest
        if call["field"] == "withExec" and Fault.STALE in self._faults:
            key = hashlib.sha256(json.dumps(call["with"]["args"]).encode()).hexdigest()[:32]
        known = self._state / f"{key}.json"
        if known.exists():
            if call["field"] == "withExec":
                self._log(event="CACHED", args=call["with"]["args"])
            return json.loads(known.read_text())
        before = self._evaluate(call["parent"]) if call["parent"] else {}
        now = self._made(call, json.loads(json.dumps(before)))
        fresh = known.with_name(f"{key}-{secrets.token_hex(4)}")
        fresh.write_text(json.dumps(now))
        fresh.replace(known)
        return now

    def _made(self, call: Mapping[str, Any], at: Any) -> Any:
        given = call["with"]
        match call["of"], call["field"]:
            case "Query", "container":
                empty = (
                    *("variables", "secrets", "copied", "mounted", "volumes", "sockets"),
                    "temporary",
                )
                bare = {"workdir": "/", "user": "0:0", "last": None}
                return {**bare, **{name: {} for name in empty}}
            case "Query", "directory":
                return {"path": str(self._folder())}
            case "Query", "host":
                return {}
            case "Query", "setSecret":
                return {"name": given["name"]}
            case "Query", "cacheVolume":
                volume = self._state / f"volume-{given['key']}"
                volume.mkdir(exist_ok=True)
                return {"path": str(volume)}
            case "Host", "directory":
                return {"path": given["path"]}
            case "Host", "unixSocket":
                return {"path": given["path"]}
            case "Container", "from":
                at["image"] = given["address"]
            case "Container", "withDirectory":
                at["copied"][given["path"]] = self._copied(self._evaluate(given["source"])["path"])
            case "Container", "withMountedDirectory":
                at["mounted"][given["path"]] = self._evaluate(given["source"])["path"]
            case "Container", "withMountedCache":
                at["volumes"][given["path"]] = self._evaluate(given["cache"])["path"]
            case "Container", "withSecretVariable":
                at["secrets"][given["name"]] = self._evaluate(given["secret"])["name"]
            case "Container", "withMountedTemp":
                at["temporary"][given["path"]] = given["size"]
            case "Container", "withUnixSocket":
                at["sockets"][given["path"]] = self._evaluate(given["source"])["path"]
            case "Container", "withEnvVariable":
                at["variables"][given["name"]] = given["value"]
            case "Container", "withUser":
                at["user"] = given["name"]
            case "Container", "withWorkdir":
                at["workdir"] = given["path"]
            case "Container", "withExec":
                return self._executed(at, given)
            case "Container", ("directory" | "file"):
                return {"path": _found(at, given["path"])}
            case owner, field:
                raise _unknown(owner, field)
        return at

    def _executed(self, at: Any, given: Mapping[str, Any]) -> Any:
        at["copied"] = {place: self._copied(path) for place, path in at["copied"].items()}
        if Fault.HOLLOW in self._faults:
            at["last"] = {"exitCode": 0, "stdout": "", "stderr": ""}
            return at
        if Fault.STUCK in self._faults:
            self._log(event="STUCK")
            threading.Event().wait()
        if Fault.DIES in self._faults:
            fatal = Path(at["copied"][at["workdir"]], FATAL)
            threading.Thread(target=_die_of, args=(fatal,), daemon=True).start()
        closed = Fault.NO_NAMESPACES in self._faults
        begun = time.monotonic()
        # Into files: half of a bubblewrap that fails at its start would hold a pipe for ever.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            hidden = {name: self._secrets[known] for name, known in at["secrets"].items()}
            variables = {**at["variables"], **hidden}
            argv = _bubblewrap({**at, "variables": variables}, given["args"], closed=closed)
            done = subprocess.run(argv, stdout=out, stderr=err, check=False)
            out.seek(0)
            err.seek(0)
            said, complained = (_scrubbed(file.read(), hidden) for file in (out, err))
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        self._log(event="EXEC", args=given["args"], code=code, s=time.monotonic() - begun)
        output = {
            "exitCode": code,
            "stdout": said,
            "stderr": complained,
        }
        # "ANY" covers 0 to 127 and 192 to 255: a signal's death is an error, whatever is expected.
        any_is_fine = given.get("expect") == "ANY" and not 128 <= code < 192
        if code and not any_is_fine:
            from graphql import GraphQLError

            extensions = {"_type": "EXEC_ERROR", "cmd": given["args"], **output}
            raise GraphQLError(f"exit code: {code}", extensions=extensions)
        at["last"] = output
        return at

    def _folder(self) -> Path:
        folder = self._state / secrets.token_hex(12)
        folder.mkdir()
        return folder

    def _copied(self, path: str) -> str:
        copy = self._folder()
        _copy(Path(path), copy)
        return str(copy)

    def _log(self, **words: Any) -> None:
        with _CHECKED, (self._state / "log").open("a") as log:
            log.write(json.dumps(words) + "\n")


def _scrubbed(output: bytes, hidden: Mapping[str, str]) -> str:
    text = output.decode(errors="replace")
    for value in hidden.values():
        text = text.replace(value, "***") if value else text
    return text


def _die_of(file: Path) -> None:
    while not file.exists():
        time.sleep(0.05)
    os._exit(1)


def _bubblewrap(at: Any, argv: list[str], *, closed: bool) -> list[str]:
    from commandcenter.system import sandbox

    (found, *_) = asyncio.run(sandbox.find())
    uid, _, gid = at["user"].partition(":")
    places = {
        **{place: ("--bind", path) for place, path in at["copied"].items()},
        **{place: ("--ro-bind", path) for place, path in at["mounted"].items()},
        **{place: ("--bind", path) for place, path in at["volumes"].items()},
        # Its folder, so that a new socket of the same name is found.
        **{
            os.path.dirname(place): ("--bind", os.path.dirname(path))
            for place, path in at["sockets"].items()
        },
    }
    return [
        str(found.executable),
        *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"),
        *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        # Not one of its own: the kernel grants that only where /proc is seen whole, and the
        # supervised client's is not.
        *("--bind", "/proc", "/proc", "--dev", "/dev"),
        *(word for place in _KERNELS for word in ("--ro-bind-try", place, place)),
        *("--perms", "1777", "--size", f"{_SHARED_BYTES}", "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
        *(word for place, (how, path) in places.items() for word in (how, path, place)),
        *(
            word
            for place, size in at["temporary"].items()
            for word in ("--perms", "1777", "--size", f"{size}", "--tmpfs", place)
        ),
        # As open as an engine's: whoever wants less has to see to it.
        *("--remount-ro", "/", "--unshare-all", "--share-net"),
        *("--unshare-user", "--uid", uid, "--gid", gid),
        *(("--disable-userns",) if closed else ()),
        *("--cap-drop", "ALL", "--new-session"),
        "--clearenv",
        *(word for each in at["variables"].items() for word in ("--setenv", *each)),
        *("--chdir", at["workdir"], "--", *argv),
    ]


def _copy(source: Path, target: Path, *, wipe: bool | None = False) -> None:
    """Copy all of a folder; everything belongs to us, whom the sandbox's user is."""
    if wipe and target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(("cp", "-a", f"{source}/.", f"{target}"), check=True)
    if os.geteuid() == 0:
        subprocess.run(("chown", "-hR", "0:0", f"{target}"), check=True)


def _found(at: Any, path: str) -> str:
    for place, copy in at["copied"].items():
        if path == place or path.startswith(f"{place}/"):
            return str(copy) + path[len(place) :]
    raise _unknown("Container", path)


def _last(at: Any) -> Any:
    if at["last"] is None:
        from graphql import GraphQLError

        raise GraphQLError("no command has been set")
    return at["last"]


def _unknown(owner: str, field: str) -> Exception:
    from graphql import GraphQLError

    return GraphQLError(f"the double has no {owner}.{field}")


def _schema(state: Path) -> str:
    """Return the schema, which takes seconds to rebuild, from where it was kept."""
    from importlib.metadata import version

    from commandcenter.testing.dagger_schema import rebuilt

    kept = state / f"schema-{version('dagger-io')}.graphqls"
    if not kept.exists():
        fresh = kept.with_name(f"schema-{secrets.token_hex(4)}")
        fresh.write_text(rebuilt())
        fresh.replace(kept)
    return kept.read_text()
