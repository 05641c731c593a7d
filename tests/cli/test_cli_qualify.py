"""`commandcenter qualify`, as a person uses it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.scene import Installation, fingerprint

pytestmark = pytest.mark.slow


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(Installation.make(tmp_path / "own"), tmp_path)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=170)
    return process.returncode, said


def repository(folder: Path, *names: str) -> Path:
    git = ("git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org")
    folder.mkdir()
    subprocess.run(("git", "init", "-q", "-b", "trunk", str(folder)), check=True)
    for name in names:
        (folder / name).write_text(f"{name}\n")
    subprocess.run((*git, "add", "-A"), check=True)
    subprocess.run((*git, "commit", "-q", "--allow-empty", "-m", "first"), check=True)
    return folder


def test_a_round_that_passes_is_shown_and_put_on_record(host: Host, tmp_path: Path) -> None:
    log = tmp_path / "log.md"
    words = ("--mode", "local", "--scenario", "1", "--kill-every", "1", "--seed", "3")

    code, said = ended(host.start("qualify", *words, "--log", str(log)))

    assert code == 0, said
    assert "1 of 1 runs were as they must be." in said
    assert "1 runs have passed in a row" in said
    assert "the service was killed" in log.read_text()


def test_ones_own_agent_and_repository_can_be_qualified(host: Host, tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", "README.md", "other.txt")
    before = fingerprint(repo)
    words = ("--mode", "local", "--scenario", "7", "--agent", "scripted", "--repo", str(repo))

    code, said = ended(host.start("qualify", *words, "--json"))

    (trial,) = json.loads(said[said.index("{") :])["trials"]
    assert (code, trial["passed"], trial["violations"]) == (0, True, [])
    assert fingerprint(repo) == before


def test_a_round_that_fails_says_what_was_wrong_and_keeps_the_evidence(host: Host) -> None:
    code, said = ended(host.start("qualify", "--mode", "local", "--sabotage", "corrupted-object"))

    assert code == 1
    assert "[FSCK]" in said
    assert "0 of 1 runs were as they must be." in said
    evidence = Path(said.partition("the evidence is kept in ")[2].split()[0])
    assert (evidence / "round" / "own" / "data" / "commandcenter.sqlite").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--mode", "cloud"), "'cloud' is none of local, container, dagger"),
        (("--scenario", "11"), "11"),
        (("--agent", "nobody"), "There is no profile `nobody`"),
        (("--repo", "{bare}"), "has no README.md"),
        (("--repo", "{taken}"), "has hello.py, which the scenarios make"),
        (("--repo", "{empty}"), "is no repository with a commit"),
        (("--mode", "dagger"), "Mode `dagger` does not work here"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_starts(
    host: Host, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    places = {
        "bare": repository(tmp_path / "bare", "other.txt"),
        "taken": repository(tmp_path / "taken", "README.md", "hello.py"),
        "empty": tmp_path / "empty",
    }
    places["empty"].mkdir()

    code, said = ended(host.start("qualify", *(word.format(**places) for word in words)))

    assert code == 2, said
    assert told in " ".join(said.split())


def test_ctrl_c_ends_what_was_started(
    host: Host, until: Callable[[subprocess.Popen[str], str], str]
) -> None:
    process = host.start("qualify", "--mode", "local", "--rounds", "50", "--scenario", "4")
    until(process, "round 1 of 50")
    process.send_signal(signal.SIGINT)

    code, said = ended(process)

    assert code == 130, said
    assert "is left" in said
