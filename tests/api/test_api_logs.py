"""Logs: listed, and read in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

LOGS = "/api/v1/autonomous/exec_0badcafe/logs"


@pytest.fixture
def written(service: MemoryService, tmp_path: Path) -> Path:
    for attempt, words in ((1, b"first try"), (2, b"second try")):
        path = tmp_path / f"{attempt}.log"
        path.write_bytes(words)
        service.write_log("1.1", attempt, path)
    return tmp_path


@pytest.mark.usefixtures("written")
async def test_logs_are_listed_without_their_places(http: httpx.AsyncClient) -> None:
    answer = (await http.get(LOGS, params={"task": "1.1", "attempt": 1})).json()
    assert answer == [
        {"task": "1.1", "attempt": 1, "name": "work", "stream": "stdout", "size_bytes": 9}
    ]


@pytest.mark.usefixtures("written")
async def test_the_newest_attempt_is_read_whole_from_an_offset_or_at_its_end(
    http: httpx.AsyncClient,
) -> None:
    query: dict[str, str | int] = {"task": "1.1", "stream": "stdout"}
    whole = await http.get(LOGS, params=query)
    rest = await http.get(LOGS, params={**query, "offset": 7})
    end = await http.get(LOGS, params={**query, "tail": 3, "attempt": 1})
    past = await http.get(LOGS, params={**query, "offset": 700})
    assert whole.headers["content-type"].startswith("text/plain")
    assert (whole.text, rest.text, end.text, past.text) == ("second try", "try", "try", "")


async def test_a_log_that_is_not_there_is_a_problem(http: httpx.AsyncClient, written: Path) -> None:
    (written / "2.log").unlink()
    gone = await http.get(LOGS, params={"task": "1.1", "stream": "stdout"})
    missing = await http.get(LOGS, params={"task": "1.1", "stream": "stderr"})
    assert (gone.status_code, missing.status_code) == (410, 404)


async def test_a_link_in_place_of_a_log_is_not_followed(
    http: httpx.AsyncClient, written: Path
) -> None:
    secret = written / "secret"
    secret.write_text("secret")
    (written / "2.log").unlink()
    (written / "2.log").symlink_to(secret)
    answer = await http.get(LOGS, params={"task": "1.1", "stream": "stdout"})
    assert "secret" not in answer.text
    assert answer.status_code == 410
