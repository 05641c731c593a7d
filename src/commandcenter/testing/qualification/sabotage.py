"""What a qualification must not pass: each is done to a round, and one criterion must name it."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from commandcenter.core.run import State
from commandcenter.store.database import open_engine, sqlite_url
from commandcenter.store.hub import hub_pulls
from commandcenter.testing import dagger_engine
from commandcenter.testing.dagger_engine import Fault
from commandcenter.testing.forges import served, write_commit
from commandcenter.testing.judge import Criterion, Judge, client_of
from commandcenter.workspaces.dagger import CLIENT


class Sabotage:
    """Nothing at all: an honest round."""

    blamed: Criterion | None = None
    """What has to name it."""
    mode: str | None = None
    """The mode that it is done in, if only in one."""

    def variables(self, folder: Path) -> Mapping[str, str]:
        """Return what the service gets into its environment besides; `folder` is there for it."""
        return {}

    @asynccontextmanager
    async def seen_through(self, url: str) -> AsyncIterator[str]:
        """Give the address at which the judges see the service."""
        yield url

    async def spoil(self, judge: Judge) -> None:
        """Do something to a run that is over, before it is judged."""

    def undo(self) -> None:
        """End what was started."""


class SkippedMerge(Sabotage):
    """The target is where it was, whatever is said of it."""

    blamed = Criterion.MERGE

    async def spoil(self, judge: Judge) -> None:
        """Take back what landed."""
        sample = judge.sample
        await sample.ask("update-ref", f"refs/heads/{sample.branch}", sample.start)


class LyingStatus(Sabotage):
    """The API says that tasks are completed which are at work."""

    blamed = Criterion.STATUS

    @asynccontextmanager
    async def seen_through(self, url: str) -> AsyncIterator[str]:
        """Give the address of a proxy that lies."""
        async with client_of(url) as client:

            async def lie(request: Request) -> Response:
                answer = await client.request(
                    request.method,
                    f"{request.url.path}?{request.url.query}",
                    content=await request.body(),
                    headers={k: v for k, v in request.headers.items() if k != "host"},
                )
                content = answer.content
                if request.url.path.endswith("/batches"):
                    content = _beautified(answer.text).encode()
                kind = answer.headers.get("content-type")
                return Response(content, answer.status_code, media_type=kind)

            routes = [Route("/{path:path}", lie, methods=["GET", "POST"])]
            async with served(Starlette(routes=routes)) as lies:
                yield lies


def _beautified(batches: str) -> str:
    working = f'"status":"{State.IN_PROGRESS}"'
    return batches.replace(working, f'"status":"{State.COMPLETED}"')


class LeakedProcess(Sabotage):
    """A process that an ended run left in its workspace."""

    blamed = Criterion.LEFTOVERS

    def __init__(self) -> None:
        self._left: list[subprocess.Popen[bytes]] = []

    async def spoil(self, judge: Judge) -> None:
        """Start one that is not told from a real one."""
        self._start(judge.installation.data_dir / "workspaces" / "ws" / "0123456789ab")

    def _start(self, place: Path) -> None:
        argv = (sys.executable, "-c", "input()", str(place))
        self._left.append(subprocess.Popen(argv, stdin=subprocess.PIPE))

    def undo(self) -> None:
        """End it."""
        for process in self._left:
            process.communicate(b"\n")


class CorruptedObject(Sabotage):
    """An object of the upstream is not what its name says."""

    blamed = Criterion.FSCK

    async def spoil(self, judge: Judge) -> None:
        """Put one there whose bytes have another name."""
        name = "0123456789" * 4
        loose = judge.sample.git_dir / "objects" / name[:2] / name[2:]
        loose.parent.mkdir(exist_ok=True)
        loose.write_bytes(zlib.compress(b"blob 1\0x"))


class ForeignCommit(Sabotage):
    """A pull request shows a commit that is not its task's."""

    blamed = Criterion.PROPOSAL

    async def spoil(self, judge: Judge) -> None:
        """Put another's commit on top of what every pull request shows."""
        engine = open_engine(sqlite_url(judge.installation.data_dir / "commandcenter.sqlite"))
        try:
            with engine.begin() as connection:
                for row in connection.execute(sa.select(hub_pulls)).all():
                    foreign = await write_commit(
                        *(judge.sample.git, judge.sample.git_dir, "foreign"),
                        *({"foreign.txt": "Not planned.\n"}, "Foreign", row.head),
                    )
                    await judge.sample.ask("update-ref", "-d", "refs/heads/foreign")
                    here = hub_pulls.c.number == row.number
                    connection.execute(sa.update(hub_pulls).where(here).values(head=foreign))
        finally:
            engine.dispose()


class HollowContainer(Sabotage):
    """An engine that says of every command that it has succeeded, and runs none."""

    blamed = Criterion.SESSION
    mode = "dagger"

    def variables(self, folder: Path) -> Mapping[str, str]:
        """Return where that engine is."""
        client = dagger_engine.client(folder / "dagger", folder / "engine", Fault.HOLLOW)
        return {CLIENT: str(client)}


SABOTAGES: Mapping[str, type[Sabotage]] = MappingProxyType(
    {
        "skipped-merge": SkippedMerge,
        "lying-status": LyingStatus,
        "leaked-process": LeakedProcess,
        "corrupted-object": CorruptedObject,
        "foreign-commit": ForeignCommit,
        "hollow-container": HollowContainer,
    }
)
"""By the names that they are asked for with."""
