"""That the calls of the hub and of the GitHub adapter are really checked by GitHub's description.

The check itself is in the fixtures `ground` and `app`, so that every test of them is one of it.
"""

from __future__ import annotations

import pytest

from commandcenter.testing import github_contract
from commandcenter.testing.github_contract import Contract

PULLS = "/repos/acme/project/pulls"


@pytest.fixture
def description(contract: Contract | None) -> Contract:
    if contract is None:
        pytest.skip(github_contract.lacking())
    return contract


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("GET", "/repos/acme/project/pullz", "", b""), "is no call of GitHub's"),
        (("GET", PULLS, "state=opened", b""), "state cannot be opened"),
        (("GET", PULLS, "stat=open", b""), "there is no query parameter stat"),
        (("POST", PULLS, "", b""), "it needs a body"),
        (("GET", PULLS, "", b"{}"), "it takes no body"),
        (("POST", PULLS, "", b'{"head": "a"}'), "'base' is a required property"),
        (("POST", PULLS, "", b'{"head": "a", "base": 7}'), "7 is not of type 'string'"),
        (("POST", PULLS, "", b'{"head": "a", "base": "b", "x": 1}'), "there is no field x"),
    ],
)
def test_a_request_that_github_would_not_take_is_found(
    description: Contract, call: tuple[str, str, str, bytes], words: str
) -> None:
    found = [*description.asked(*call)]

    assert any(words in each for each in found), found


def test_a_request_that_github_takes_is_not_blamed(description: Contract) -> None:
    body = b'{"title": "A", "head": "a", "base": "b", "draft": true}'

    assert [*description.asked("POST", PULLS, "", body)] == []
    assert [*description.asked("GET", PULLS, "state=all&per_page=5", b"")] == []
    assert [*description.asked("GET", "/repos/a/b/branches/with/slashes", "", b"")] == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b'{"sha": "1", "message": "m"}', "'merged' is a required property"),
        (200, b'{"sha": "1", "merged": "yes", "message": "m"}', "is not of type 'boolean'"),
        (202, b"{}", "is never answered with 202"),
    ],
)
def test_an_answer_that_github_would_not_give_is_found(
    description: Contract, status: int, body: bytes, words: str
) -> None:
    found = [*description.answered("PUT", f"{PULLS}/1/merge", status, body)]

    assert any(words in each for each in found), found


def test_an_answer_of_githubs_is_not_blamed(description: Contract) -> None:
    body = b'{"sha": "1", "merged": true, "message": "m"}'

    assert [*description.answered("PUT", f"{PULLS}/1/merge", 200, body)] == []
