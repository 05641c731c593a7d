"""Salvage and collection over HTTP: what is asked, and what is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from commandcenter.core.errors import InputError, NotFound

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

API = "/api/v1"
ID = "exec_0badcafe/1.1/1/work"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_collection_says_what_went_and_what_stays(
    http: httpx.AsyncClient, service: MemoryService, dry_run: bool
) -> None:
    answer = await http.request("GET" if dry_run else "POST", f"{API}/gc")
    assert service.collected == [dry_run]
    assert answer.json() == {
        "dry_run": dry_run,
        "freed_bytes": 4096,
        "items": [
            {
                "what": "base",
                "name": "/bases/one",
                "size_bytes": 4096,
                "free": True,
                "why": "no workspace lies on it",
            },
            {
                "what": "branch",
                "name": "commandcenter/x/1",
                "size_bytes": 0,
                "free": False,
                "why": "it is not ours",
            },
        ],
    }


async def test_salvaged_work_is_listed(http: httpx.AsyncClient) -> None:
    commit, folder = (await http.get(f"{API}/salvage")).json()
    assert commit == {
        "id": ID,
        "execution_id": "exec_0badcafe",
        "task": "1.1",
        "commit": "a" * 40,
        "size_bytes": 512,
        "why": "cancelled",
        "since": "1970-01-01T00:00:00.001Z",
    }
    assert (folder["commit"], folder["why"]) == (None, "too large")


async def test_a_branch_is_made_where_it_is_asked_for(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    plain = await http.post(f"{API}/salvage/restore", json={"id": ID})
    named = await http.post(
        f"{API}/salvage/restore", json={"id": ID, "repository": "/r", "branch": "b"}
    )
    assert service.restored == [(ID, None, None), (ID, "/r", "b")]
    assert plain.json()["repository"] == "/repositories/one"
    assert named.json() == {"id": ID, "repository": "/r", "branch": "b", "commit": "a" * 40}


async def test_files_come_as_an_archive_that_says_how_much_is_not_in_it(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.get(f"{API}/salvage/files", params={"id": ID})
    assert answer.content == b"tar" * 100_000
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["x-left-out"] == "2"


async def test_only_what_is_named_is_dropped(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    unnamed = await http.post(f"{API}/salvage/drop", json={})
    named = await http.post(f"{API}/salvage/drop", json={"id": ID})
    assert (unnamed.status_code, named.status_code) == (422, 200)
    assert service.dropped == [ID]


async def test_what_cannot_be_done_is_a_problem(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    service.fail_with(NotFound("There is no salvaged work x."))
    gone = await http.get(f"{API}/salvage/files", params={"id": "x"})
    service.fail_with(InputError("It has a branch already."))
    refused = await http.post(f"{API}/salvage/restore", json={"id": ID})
    assert (gone.status_code, refused.status_code) == (404, 400)


async def test_another_site_cannot_have_anything_dropped(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    headers = {"Origin": "https://evil.example"}
    for path in ("gc", "salvage/drop", "salvage/restore"):
        answer = await http.post(f"{API}/{path}", json={"id": ID}, headers=headers)
        assert answer.status_code == 403
    assert (service.collected, service.dropped, service.restored) == ([], [], [])
