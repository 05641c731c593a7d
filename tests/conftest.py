"""What holds for every test: a home of its own, the slow ones last, and in CI nothing skipped."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from commandcenter.system import removal
from commandcenter.testing import dagger_engine, github_contract
from commandcenter.testing.engine import Dockerd, dockerd, lacking
from commandcenter.testing.github_contract import Contract
from commandcenter.workspaces.dagger import CLIENT, PASSED_ON

_OF_YOUR_DAGGER = {
    name: value for name, value in os.environ.items() if name.startswith(("PATH", *PASSED_ON))
}
_PRIVATE = {
    "HOME": "",
    "XDG_CONFIG_HOME": ".config",
    "XDG_CACHE_HOME": ".cache",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}
_FOREIGN = (
    *("GIT_", "COMMANDCENTER_", "ANTHROPIC_", "CLAUDE_"),
    *("GITHUB_TOKEN", "GITHUB_APP_", "GITEA_TOKEN", "GITLAB_TOKEN"),
    *("HOST", "PORT", "DATABASE_URL"),
)
"""Variables by which the caller's surroundings would reach into a test."""
_OWN_FOLDER = pytest.StashKey[Path]()


@pytest.fixture(scope="session", autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test out of the user's home, configuration and credentials."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
            environment.delenv(name)
        for name, below in _PRIVATE.items():
            environment.setenv(name, str(home / below))
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[Dockerd]:
    """A container engine of this process's own."""
    if reason := lacking():
        pytest.skip(reason)
    with dockerd() as engine:
        yield engine


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract | None:
    """GitHub's description of its API; None where it cannot be had."""
    if github_contract.lacking():
        return None
    return Contract(github_contract.fetch(tmp_path_factory.mktemp("github")))


@pytest.fixture(scope="session")
def dagger_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the shipped Dagger engines of this process keep their schema."""
    return tmp_path_factory.mktemp("dagger-schema")


@pytest.fixture(scope="session")
def dagger(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    dagger_schema: Path,
) -> Iterator[Mapping[str, str]]:
    """Variables by which an engine is found: the shipped, or with `-m dagger_engine` yours."""
    if request.config.option.markexpr == "dagger_engine":
        yield _OF_YOUR_DAGGER
        return
    folder = tmp_path_factory.mktemp("dagger")
    client = dagger_engine.client(folder / "dagger", folder / "state", schema=dagger_schema)
    yield {"PATH": os.environ["PATH"], CLIENT: str(client)}
    invalid = [
        each for each in dagger_engine.events(folder / "state") if each["event"] == "INVALID"
    ]
    assert not invalid


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give a session a folder of its own.

    By itself, pytest removes what the sessions before left, and fails on trees as deep as our
    attacks make them.
    """
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="cc-tests-")
        config.stash[_OWN_FOLDER] = Path(config.option.basetemp)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None]:
    """Remove what the tests left, unless one failed."""
    yield
    folder = session.config.stash.get(_OWN_FOLDER, None)
    if folder is None:
        return
    if exitstatus:
        print(f"\nWhat the tests left is in {folder}", file=sys.stderr)
    else:
        removal.remove(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests last, so that what is quickly told is told first.

    Of these those first that take minutes: at the end all others would wait for them.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    slow = item.get_closest_marker("slow")
    return slow is not None, -slow.kwargs.get("minutes", 0) if slow else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one in CI: there, everything that a test needs is installed."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {call.excinfo}"
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Make a skipped module a failed one in CI."""
    if os.environ.get("CI") == "true" and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, which CI does not allow"
