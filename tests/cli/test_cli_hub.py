"""`commandcenter hub`: pull requests at the command line, with a service and without one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Landed, Place


def test_before_the_first_run_there_is_no_pull_request(place: Place) -> None:
    listed = place.run("hub", "list")

    assert listed.stdout == (
        "There is no open pull request; ended ones: commandcenter hub list --state all\n"
    )
    assert place.run("hub", "list", "--json").stdout == "[]\n"
    assert place.run("hub", "list", "--state", "all").stdout == "There is no pull request\n"


def test_what_landed_is_listed_and_shown_without_a_service(landed: tuple[Place, Landed]) -> None:
    place, _ = landed
    none_open = place.run("hub", "list")
    listed = place.run("hub", "list", "--state", "closed")
    shown = place.run("hub", "show", "1")
    (found,) = json.loads(place.run("hub", "list", "--state", "all", "--json").stdout)
    whole = json.loads(
        place.run("hub", "show", f"{found['base']['repo']['name']}#1", "--json").stdout
    )

    assert none_open.stdout.startswith("There is no open pull request")
    assert "merged" in listed.stdout
    assert "#1 Task 1.1: Say hello" in shown.stdout
    assert "merged as " in shown.stdout
    assert "added            +1 -0  hello.txt" in shown.stdout
    assert "success  commandcenter/checks" in shown.stdout
    assert "http://" not in shown.stdout
    assert [file["filename"] for file in whole["files"]] == ["hello.txt"]
    assert whole["pull"]["merged"] is True


def test_a_diff_can_be_applied(landed: tuple[Place, Landed]) -> None:
    place, _ = landed
    (place.root / "task.diff").write_text(place.run("hub", "diff", "1").stdout)

    place.git("apply", str(place.root / "task.diff"))

    assert (place.repository / "hello.txt").read_text() == "hi\n"


@pytest.mark.parametrize(
    ("named", "words", "hint"),
    [
        ("x", "`x` names no pull request", "REPOSITORY#NUMBER"),
        ("0", "`0` names no pull request", "REPOSITORY#NUMBER"),
        ("99", "has no such pull request", "commandcenter hub list"),
        ("elsewhere#1", "has no such repository", "commandcenter hub list"),
    ],
)
@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_pull_request_that_is_not_there_is_told_with_what_to_do(
    landed: tuple[Place, Landed], command: str, named: str, words: str, hint: str
) -> None:
    place, _ = landed

    done = place.run("hub", command, named)

    assert done.returncode == 2
    assert words in done.stderr
    assert hint in done.stderr


def test_a_running_service_is_asked_and_tells_its_address(landed: tuple[Place, Landed]) -> None:
    place, _ = landed
    service = place.start("serve", "--port", "0")
    try:
        assert service.stdout is not None
        told = next(line for line in service.stdout if "http://" in line)
        shown = place.run("hub", "show", "1").stdout
        token = place.run("hub", "token").stdout.strip()
    finally:
        service.terminate()
        service.communicate()

    (url,) = re.findall(r"http://[0-9.:]+", told)
    assert f"{url}/hub/commandcenter/" in shown
    assert token == (place.data_dir / "hub-token-person").read_text()
    assert token != (place.data_dir / "hub-token").read_text()
