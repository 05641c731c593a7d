"""`gc` and `salvage` at the command line."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from commandcenter.cli.salvage import extract

if TYPE_CHECKING:
    from tests.cli.conftest import Landed, Place


def test_there_is_nothing_to_salvage_of_a_run_that_landed(landed: tuple[Place, Landed]) -> None:
    place, _ = landed
    assert place.run("salvage", "list").stdout == (
        "There is none: nothing was made that did not land.\n"
    )
    assert place.run("salvage", "list", "--json").stdout == "[]\n"


def test_a_dry_run_says_what_would_go_and_what_stays_and_why(
    landed: tuple[Place, Landed],
) -> None:
    place, done = landed
    words = place.run("gc", "--dry-run").stdout
    found = json.loads(place.run("gc", "--dry-run", "--json").stdout)
    assert words.startswith("Would free ")
    assert "1 capture, 0 B: the target holds it" in words
    assert f"    {done.run}/1.1/1/capture" in words
    assert "Stays:\n" in words
    assert "logs of 1 run" in words
    assert found["dry_run"] is True
    assert {item["what"] for item in found["items"] if item["free"]} == {"base", "capture"}


@pytest.mark.slow
def test_what_a_failed_try_made_is_listed_restored_and_dropped(place: Place) -> None:
    (place.root / "config.toml").write_text("[limits]\ntries = 1\n")
    failing = "echo half > half.txt; exit 3"
    options = ("--config", "config.toml")
    place.run(*options, "run", "plan.md", "--repo", "project", "--agent-command", failing)

    (work,) = json.loads(place.run("salvage", "list", "--json").stdout)
    listed = place.run("salvage", "list")
    restored = place.run("salvage", "restore", work["id"], "--branch", "mine")
    again = place.run("salvage", "restore", work["id"], "--branch", "mine")
    unpacked = place.run("salvage", "restore", work["id"], "--to", "out")
    occupied = place.run("salvage", "restore", work["id"], "--to", "out")
    unasked = place.run("salvage", "drop", work["id"])
    dropped = place.run("salvage", "drop", work["id"], "--yes")

    assert work["id"] in listed.stdout
    assert restored.stdout.startswith("The branch mine is in ")
    assert place.git("show", "mine:half.txt") == "half"
    assert place.git("status", "--porcelain") == ""
    assert (again.returncode, "has a branch `mine` already" in again.stderr) == (2, True)
    assert unpacked.stdout == "2 files in out.\n"
    assert (place.root / "out" / "half.txt").read_text() == "half\n"
    assert (occupied.returncode, "is there already" in occupied.stderr) == (2, True)
    assert (unasked.returncode, f"drop {work['id']} --yes" in unasked.stderr) == (2, True)
    assert (dropped.returncode, dropped.stdout) == (0, f"It is gone: {work['id']}\n")
    assert place.run("salvage", "list", "--json").stdout == "[]\n"
    assert place.run("salvage", "drop", work["id"], "--yes").returncode == 2


@pytest.mark.slow
def test_a_running_service_is_asked_and_its_data_folder_left_to_it(
    landed: tuple[Place, Landed],
) -> None:
    place, _ = landed
    service = place.start("serve", "--port", "0")
    assert service.stdout is not None
    assert "serves at" in service.stdout.readline()

    asked = place.run("gc", "--json")
    service.terminate()
    service.communicate(timeout=30)

    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["dry_run"] is False
    log = (place.data_dir / "commandcenter.log").read_text()
    assert "POST" not in asked.stderr
    assert "Traceback" not in log


def archive(*members: tuple[str, bytes, bytes]) -> io.BytesIO:
    """Return a tar archive of (name, type, content or target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
                made.addfile(entry, io.BytesIO(content))
            else:
                entry.linkname = content.decode()
                made.addfile(entry)
    file.seek(0)
    return file


def test_nothing_is_unpacked_outside_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = f"{outside}".encode()
    hostile = archive(
        ("../escaped", tarfile.REGTYPE, b"x"),
        (f"{outside}/absolute", tarfile.REGTYPE, b"x"),
        ("a/../../b", tarfile.REGTYPE, b"x"),
        ("door", tarfile.SYMTYPE, link),
        ("door/through", tarfile.REGTYPE, b"inside"),
        ("hard", tarfile.LNKTYPE, b"/etc/passwd"),
        ("pipe", tarfile.FIFOTYPE, b""),
        ("fine/a.txt", tarfile.REGTYPE, b"fine"),
    )

    to = tmp_path / "below" / "to"

    assert extract(hostile, to) == 2

    assert list(outside.iterdir()) == []
    assert [path.name for path in to.parent.iterdir()] == ["to"]
    assert sorted(str(path.relative_to(to)) for path in to.rglob("*")) == [
        *("door", "door/through", "fine", "fine/a.txt")
    ]
    unpack_naively(hostile, tmp_path / "control" / "to")
    assert {path.name for path in outside.iterdir()} == {"absolute", "through"}
    assert (tmp_path / "control" / "escaped").exists()


def unpack_naively(file: io.BytesIO, to: Path) -> None:
    """Unpack in the order of the archive, as it says: the control."""
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as members:
        for member in members:
            place = to / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            content = members.extractfile(member) if member.isreg() else None
            if content is not None:
                place.write_bytes(content.read())
            elif member.issym():
                place.symlink_to(member.linkname)
