"""A runner of ours, which follows its command itself, has the last word on how that ended."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from commandcenter.core.workspace import Completed, Ended
from commandcenter.system import sandbox
from commandcenter.workspaces.dagger import unlimited
from commandcenter.workspaces.run_folder import RunFolder

TELLING = """echo '{"ended": "idle", "exit_code": null, "problem": "silence"}' > told.json"""


async def ran(folder: Path, script: str, **orders: object) -> Completed:
    """Run a script as such a runner."""
    (bubblewrap, *_) = await sandbox.find()
    sandbox.write_fixed(folder / "fixed")
    argv = [str(bubblewrap.executable), "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc"]
    spec = {
        "argv": [*argv, *sandbox.SUPERVISION, "--", "sh", "-c", script],
        "timeout_s": 60,
        "grace_s": 0.3,
        "lasting": False,
        **unlimited(folder),
        **orders,
    }
    run = RunFolder(folder / "run")
    pidfd = run.start(json.dumps(spec).encode(), b"")
    try:
        return await run.follow(pidfd, None)
    finally:
        os.close(pidfd)


async def test_what_the_runner_tells_counts_and_not_how_it_ended_itself(tmp_path: Path) -> None:
    done = await ran(tmp_path, f"{TELLING}; exit 3")

    assert (done.ended, done.exit_code, done.problem) == (Ended.IDLE, None, "silence")


@pytest.mark.parametrize(
    ("told", "ended", "exit_code"), [(True, Ended.LOST, None), (False, Ended.EXITED, 0)]
)
async def test_a_runner_that_tells_nothing_has_lost_its_command_however_well_it_ends(
    tmp_path: Path, told: bool, ended: Ended, exit_code: int | None
) -> None:
    done = await ran(tmp_path, "exit 0", told=told)

    assert (done.ended, done.exit_code) == (ended, exit_code)


async def test_only_a_runner_of_ours_is_listened_to(tmp_path: Path) -> None:
    done = await ran(tmp_path, f"{TELLING}; exit 3", told=False)

    assert (done.ended, done.exit_code) == (Ended.EXITED, 3)


async def test_a_runner_that_is_out_of_time_is_not_asked(tmp_path: Path) -> None:
    done = await ran(tmp_path, f"{TELLING}; sleep 60", timeout_s=1)

    assert done.ended is Ended.TIMED_OUT


def test_a_run_is_given_as_long_to_end_as_its_orders_say(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"grace_s": 1805.0}')

    assert RunFolder(tmp_path).grace_s == 1805.0
