"""Wrong input: one sentence, one hint, exit code 2, and nothing started."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Place


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("run", "missing.md"), "error: There is no plan at missing.md."),
        (("run",), "error: Give a PLAN, or --resume RUN."),
        (("run", "plan.md", "--resume", "exec_1"), "error: Give a PLAN, or --resume RUN."),
        (("run", "plan.md", "--nonsense"), "error: No such option '--nonsense'."),
        (("run", "plan.md", "--end-batch", "0"), "error: Invalid value for '--end-batch'"),
        (("nonsense",), "error: No such command 'nonsense'."),
        (("serve", "--host", "0.0.0.0"), "error: The service has no password"),
        (("serve", "--port", "70000"), "error: Invalid value for '--port'"),
        (("logs", "exec_1", "--follow"), "error: --follow needs a TASK."),
        (("report", "exec_1", "--format", "pdf"), "error: Invalid value for '--format'"),
        (("report", "exec_1", "--json", "--format", "md"), "error: Give either --json or"),
        (("report", "exec_1", "--output", "plan.md"), "error: plan.md is there already."),
        (("report", "exec_1", "--output", "no/r.md"), "error: There is no folder no."),
        (("report", "exec_1", "--force", "--output", "project"), "error: project is a folder."),
        (("--config", "missing.toml", "status"), "error: The configuration missing.toml"),
    ],
)
def test_what_needs_no_service_is_refused_before_there_is_a_data_folder(
    place: Place, arguments: tuple[str, ...], error: str
) -> None:
    done = place.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(error)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not place.data_dir.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "exec_unknown"),
        ("report", "exec_unknown"),
        ("logs", "exec_unknown"),
        ("cancel", "exec_unknown"),
        ("run", "--resume", "exec_unknown"),
    ],
)
def test_an_unknown_run_is_refused_with_a_hint(place: Place, arguments: tuple[str, ...]) -> None:
    done = place.run(*arguments)
    assert done.returncode == 2
    assert "error: Execution exec_unknown not found\nhint: " in done.stderr
    assert done.stdout == ""


def test_a_folder_that_is_no_repository_is_refused_with_a_hint(place: Place) -> None:
    (place.root / "folder").mkdir()
    done = place.run("run", "plan.md", "--repo", "folder", "--agent-command", "true")
    assert done.returncode == 2
    assert "error: Execution start failed: " in done.stderr
    assert "\nhint: " in done.stderr
    assert place.run("status", "--json").stdout == "[]\n"


def test_a_wrong_plan_is_refused_with_every_place(place: Place) -> None:
    place.plan.write_text(
        "# Plan\n\n## Batch 1: One\n\n### Task 1.1: A\n**Depends on:** Task 9.9\n"
        "**Files:**\n- Create: `/etc/passwd`\n"
    )
    done = place.run("run", "plan.md", "--repo", "project", "--agent-command", "true")
    assert done.returncode == 2
    places = [line for line in done.stderr.splitlines() if "plan.md:" in line and "error[" in line]
    assert len(places) >= 2
    assert "error: Execution start failed: The plan" in done.stderr


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = place.run("serve", "--port", str(port))
    assert done.returncode == 2
    assert f"error: Port {port} of 127.0.0.1 cannot be used" in done.stderr
    assert "hint: " in done.stderr


def test_a_data_folder_that_cannot_be_written_is_named(place: Place) -> None:
    (place.root / "file").write_text("")
    done = place.run("--data-dir", "file/data", "serve")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "hint: choose another with --data-dir" in done.stderr


def test_the_version_and_the_help_are_no_errors(place: Place) -> None:
    version, usage = place.run("--version"), place.run("run", "--help")
    assert (version.returncode, usage.returncode) == (0, 0)
    assert version.stdout.startswith("commandcenter, version ")
    assert "--agent-command" in usage.stdout
