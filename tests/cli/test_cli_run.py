"""The real command line on a real service: hand over, watch, ask, stop, go on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Landed, Place

Until = Callable[[subprocess.Popen[str], str], str]


def test_a_run_shows_its_transitions_and_ends_with_the_table(
    landed: tuple[Place, Landed],
) -> None:
    place, done = landed
    assert done.exit_code == 0, done.stderr
    assert "Say hello: working (task 1.1)" in done.stdout
    assert "1.1 Say hello completed #1 1/1 none" in " ".join(done.stdout.split())
    assert f"Run {done.run} has completed: 1 completed of 1 task" in done.stdout
    commit = place.git("ls-remote", "origin", "refs/heads/main")[:12]
    assert f"Result: branch main of {place.repository}, commit {commit}" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.endswith(
        f"All of it: commandcenter report {done.run} --format html --output report.html\n"
    )


def test_json_is_the_body_of_the_http_call(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    status = json.loads(place.run("status", done.run, "--json").stdout)
    (listed,) = json.loads(place.run("status", "--json").stdout)
    assert status == listed
    assert (status["execution_id"], status["status"]) == (done.run, "completed")
    assert (status["tasks_completed"], status["tasks_total"], status["active_prs"]) == (1, 1, [])


def test_an_outcome_is_explained_without_a_service(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    told = place.run("explain", done.run, "1.1")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].startswith("Task 1.1, Say hello, is completed: its change has landed, as ")
    assert "Its checks passed (1 check)." in lines
    said = json.loads(place.run("explain", done.run, "1.1", "--json").stdout)
    assert (said["task"]["task_number"], said["sentences"]) == ("1.1", lines)
    unknown = place.run("explain", done.run, "7.7")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "Task 7.7 not found" in unknown.stderr


def test_a_report_is_printed_without_a_service(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    commit = place.git("ls-remote", "origin", "refs/heads/main")[:12]
    printed = place.run("report", done.run)
    assert printed.returncode == 0, printed.stderr
    assert "The run has completed: 1 completed of 1 task, in " in printed.stdout
    rows = [" ".join(line.split()) for line in printed.stdout.splitlines()]
    assert any(row.startswith(f"| `1.1 Say hello` | #1 | `{commit}` |") for row in rows)
    assert any(row.startswith("| passed | `test -f hello.txt` | 0 | ") for row in rows)
    said = json.loads(place.run("report", done.run, "--json").stdout)
    (task,) = said["tasks"]
    began, ended = task["spans"][0]["started_at"], task["spans"][-1]["ended_at"]
    assert said["run"]["started_at"] <= began < ended <= said["run"]["completed_at"]
    assert set(task["phases_s"]) >= {"working", "verifying", "merging"}


def test_a_report_is_written_whole_or_not_at_all(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    report = place.root / "report.html"
    report.write_text("mine")
    assert place.run("report", done.run, "--output", "report.html").returncode == 2
    assert report.read_text() == "mine"
    written = place.run("report", done.run, "--output", "report.html", "--force")
    assert written.stdout.startswith("The report is in report.html (")
    assert report.read_text().startswith("<!doctype html>")
    nowhere = place.run("report", done.run, "--output", "/proc/report.html")
    assert nowhere.returncode == 2
    assert "error: /proc/report.html cannot be written: " in nowhere.stderr
    assert [path.name for path in place.root.glob(".report-*")] == []


@pytest.mark.slow
def test_a_report_says_why_a_task_failed_and_how_to_go_on(place: Place) -> None:
    agent = "echo half >hello; exit 3"
    done = place.run("run", "plan.md", "--repo", "project", "--agent-command", agent, "--json")
    run = json.loads(done.stdout)["execution_id"]
    printed = place.run("report", run).stdout
    assert "The run has failed: 1 failed of 1 task" in printed
    assert "## What did not land, and why\n\n### `1.1 Say hello`\n\nfailed, agent: `" in printed
    assert f"commandcenter salvage restore {run}/1.1/" in printed
    assert f"commandcenter retry {run} 1.1\n" in printed
    restored = place.run(*_command(printed, "salvage restore"))
    assert restored.returncode == 0, restored.stderr


def _command(printed: str, words: str) -> list[str]:
    line = next(line for line in printed.splitlines() if f"commandcenter {words}" in line)
    return line.split()[1:]


def test_events_are_a_document_a_line(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    printed = place.run("events", done.run, "--json", "--follow").stdout.splitlines()
    events = [json.loads(line) for line in printed]
    assert events[0]["kind"] == "run.submitted"
    assert events[-1]["kind"] == "run.ended"
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)


def test_logs_are_listed_and_printed(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    listed, printed = place.run("logs", done.run), place.run("logs", done.run, "1.1")
    assert "stdout" in listed.stdout
    assert "I write" in printed.stdout
    assert place.run("logs", done.run, "9.9").returncode == 2


def test_there_is_nothing_to_retry_of_a_run_that_landed(landed: tuple[Place, Landed]) -> None:
    place, done = landed
    refused = place.run("retry", done.run)
    assert refused.returncode == 2
    assert "error: There is nothing to retry" in refused.stderr


def test_a_task_that_fails_is_exit_code_one_and_json_stays_alone_on_stdout(place: Place) -> None:
    done = place.run("run", "plan.md", "--repo", "project", "--agent-command", "exit 3", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 1
    assert (status["status"], status["tasks_failed"]) == ("failed", 1)
    assert "Say hello: failed" in done.stderr


def test_pull_requests_that_are_left_open_are_success_when_asked_for(place: Place) -> None:
    done = place.run(
        "run", "plan.md", "--repo", "project", "--no-merge", "--agent-command", "echo >hello.txt"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it waits for approval: commandcenter approve " in done.stdout


def test_the_doctor_fails_when_something_is_missing_and_says_what(place: Place) -> None:
    (place.root / ".gitconfig").write_text("[broken\n")
    told, said = place.run("doctor"), place.run("doctor", "--json")
    findings = {each["name"]: each for each in json.loads(said.stdout)}
    assert (told.returncode, said.returncode) == (1, 1)
    assert findings["git settings"]["health"] == "missing"
    assert f"hint: {findings['git settings']['hint']}" in " ".join(told.stdout.split())


def test_the_service_answers_the_documented_calls_and_stops_cleanly(
    place: Place, until: Until
) -> None:
    serving = place.start("serve", "--port", "0")
    url = until(serving, "serves at").split("serves at ")[1].split()[0]
    body = {"plan_path": str(place.plan), "repository": str(place.repository)}
    body |= {"execution_mode": "local", "agent_command": "echo >hello.txt"}
    started = httpx.post(f"{url}/api/v1/autonomous/start", json=body, timeout=60).json()
    run = started["execution_id"]
    second = place.run("serve", "--port", "0")
    followed = place.run("run", "--resume", run)
    batches = httpx.get(f"{url}/api/v1/autonomous/{run}/batches", timeout=60).json()
    serving.send_signal(signal.SIGTERM)
    rest, _ = serving.communicate(timeout=60)
    assert (serving.returncode, rest) == (0, "stopping\n")
    assert (started["status"], started["batches_scheduled"]) == ("started", [1])
    assert followed.returncode == 0, followed.stderr
    assert batches[0]["tasks"][0]["status"] == "completed"
    assert second.returncode == 2
    assert f"already, at {url}" in second.stderr


def test_a_service_can_announce_itself_as_json(place: Place) -> None:
    serving = place.start("serve", "--port", "0", "--json")
    assert serving.stdout is not None
    told = json.loads(serving.stdout.readline())
    health = httpx.get(f"{told['url']}/health", timeout=60).json()
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=60)
    assert told == {"url": told["url"], "pid": serving.pid}
    assert (health["status"], health["pid"]) == ("healthy", serving.pid)


def test_a_service_stops_also_when_nobody_hears_its_words_any_more(
    place: Place, until: Until
) -> None:
    serving = place.start("serve", "--port", "0")
    until(serving, "serves at")
    assert serving.stdout is not None
    serving.stdout.close()
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=60) == 0
    assert place.run("status").returncode == 0


def test_ctrl_c_stops_cleanly_and_the_run_goes_on_later(place: Place, until: Until) -> None:
    agent = "sleep 8; echo >hello.txt"
    running = place.start("run", "plan.md", "--repo", "project", "--agent-command", agent)
    until(running, "Say hello: working")
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=60)
    (status,) = json.loads(place.run("status", "--json").stdout)
    assert running.returncode == 130
    assert f"commandcenter run --resume {status['execution_id']}" in rest
    assert "Traceback" not in rest
    assert (status["status"], status["phase"]) == ("in_progress", "recovering")
    resumed = place.run("run", "--resume", status["execution_id"])
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr


def test_a_run_that_was_interrupted_can_be_cancelled(place: Place, until: Until) -> None:
    agent = "sleep 600"
    running = place.start("run", "plan.md", "--repo", "project", "--agent-command", agent)
    run = until(running, "Say hello: working").split("The run was started: ")[1].split()[0]
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    cancelled = place.run("cancel", run)
    assert cancelled.returncode == 0
    assert "The run is cancelled: 1 task cancelled" in cancelled.stdout


@pytest.mark.slow
def test_a_run_goes_on_in_the_second_terminal_when_the_first_is_killed(
    place: Place, until: Until
) -> None:
    agent = "sleep 5; echo >hello.txt"
    first = place.start("run", "plan.md", "--repo", "project", "--agent-command", agent)
    seen = until(first, "Say hello: working")
    run = seen.split("The run was started: ")[1].split()[0]
    second = place.start("run", "--resume", run)
    # Its own first words come with the next transition, so its connection is what is waited for.
    until(first, "its work was recorded")
    first.kill()
    first.communicate(timeout=60)
    rest, _ = second.communicate(timeout=120)
    assert second.returncode == 0, rest
    assert f"Run {run} has completed" in rest
