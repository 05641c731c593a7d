"""Routes for what was left behind: salvaged work, and the collection of what is held elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from commandcenter.api.needs import Service
from commandcenter.api.schema import (
    DropRequest,
    GcAnswer,
    RestoreAnswer,
    RestoreRequest,
    SalvageAnswer,
)
from commandcenter.core.upkeep import Files

_CHUNK_BYTES = 2**18
LEFT_OUT = "X-Left-Out"
"""Header that says how many paths are not in an archive."""


def upkeep(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["upkeep"])

    @router.get("/salvage")
    async def salvage() -> list[SalvageAnswer]:
        """List the work that did not land and can be restored, oldest first."""
        return [SalvageAnswer.of(each) for each in await service.salvage()]

    @router.get(
        "/salvage/files",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/x-tar": {}}}},
    )
    async def files(id: str) -> StreamingResponse:  # noqa: A002 - its name on the wire
        """Give the files of salvaged work as a tar archive."""
        found = await service.salvaged_files(id)
        return StreamingResponse(
            _chunks(found),
            media_type="application/x-tar",
            headers={LEFT_OUT: str(len(found.left_out)), "X-Content-Type-Options": "nosniff"},
        )

    @router.post("/salvage/restore")
    async def restore(body: RestoreRequest) -> RestoreAnswer:
        """Make a new branch of salvaged work; no checkout is touched."""
        made = await service.restore(body.id, repository=body.repository, branch=body.branch)
        return RestoreAnswer.of(made)

    @router.post("/salvage/drop")
    async def drop(body: DropRequest) -> DropRequest:
        """Remove salvaged work for good."""
        await service.drop(body.id)
        return body

    @router.get("/gc")
    async def look() -> GcAnswer:
        """Say what a collection would free, and why; and of the rest why not."""
        return GcAnswer.of(await service.gc(dry_run=True), dry_run=True)

    @router.post("/gc")
    async def collect() -> GcAnswer:
        """Free what is held elsewhere; say of the rest why not."""
        return GcAnswer.of(await service.gc(dry_run=False), dry_run=False)

    return router


def _chunks(files: Files) -> Iterator[bytes]:
    with files.archive:
        while chunk := files.archive.read(_CHUNK_BYTES):
            yield chunk
