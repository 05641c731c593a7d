"""A container engine of one's own for tests: Debian's dockerd, with all of it in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commandcenter.system import removal
from commandcenter.testing.workspaces import kill

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANSWERS_S = 120.0
"""How long it may take to answer for the first time."""
_LOOK_S = 0.1


@dataclass(frozen=True)
class Dockerd:
    """A Docker engine that runs."""

    environment: Mapping[str, str]
    """By which clients find it, and nothing else of this machine."""
    process: subprocess.Popen[bytes]

    def docker(self, *words: str) -> str:
        """Run its client and return what it printed."""
        argv = ("docker", *words)
        return subprocess.run(
            argv, env=dict(self.environment), capture_output=True, check=True, text=True
        ).stdout


def lacking() -> str:
    """Return why no engine can be started here, with the command that helps; empty if it can."""
    if os.geteuid() != 0:
        return "a Docker engine can be started by root only: run the tests as root"
    missing = [name for name in ("dockerd", "docker") if not shutil.which(name, path=SEARCH_PATH)]
    return f"there is no {missing[0]}: apt install docker.io" if missing else ""


@contextmanager
def dockerd() -> Iterator[Dockerd]:
    """Start an engine and end it, with whatever still runs in it."""
    # A short path, for the sockets in it.
    folder = Path(tempfile.mkdtemp(prefix="cc-engine-"))
    host = f"unix://{folder}/d.sock"
    environment = {"PATH": SEARCH_PATH, "HOME": str(folder), "DOCKER_HOST": host}
    program = shutil.which("dockerd", path=SEARCH_PATH)
    assert program is not None
    argv = (
        # Else it would outlive a test session that is killed.
        *("setpriv", "--pdeathsig", "TERM", program),
        *("--host", host, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/e"),
        *("--pidfile", f"{folder}/pid", "--iptables=false", "--ip6tables=false"),
        *("--bridge=none", "--log-level", "warn"),
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        engine = Dockerd(environment, process)
        _wait_until_it_answers(engine, folder / "log")
        yield engine
    finally:
        _end(process, folder)


def _wait_until_it_answers(engine: Dockerd, log: Path) -> None:
    deadline = time.monotonic() + ANSWERS_S
    while True:
        try:
            engine.docker("version")
        except subprocess.CalledProcessError:
            assert engine.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(_LOOK_S)
        else:
            return


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # What a killed engine leaves: each names a socket in the folder.
    kill(str(folder))
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        place = line.split()[4]
        if place.startswith(f"{folder}/"):
            subprocess.run(("umount", "--lazy", place), check=False)
    removal.remove(folder)
