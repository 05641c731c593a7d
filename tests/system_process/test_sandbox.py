"""The sandbox's command line, and that the finding of bubblewrap is real."""

import json
from pathlib import Path

import pytest

from commandcenter.core.workspace import Command
from commandcenter.system import sandbox
from commandcenter.system.sandbox import Bind, Bubblewrap, Group, Overlay, Sandbox


def spoken(command: Command, checkout: Path | Overlay = Path("/")) -> list[str]:
    place = Sandbox(
        checkout, (Bind(Path("/v/objects"), "/vault/objects"),), Path("/fixed"), Path("/g")
    )
    bubblewrap = Bubblewrap(Path("/usr/bin/bwrap"), "0.11.0")
    said = json.loads(sandbox.spec(bubblewrap, place, command, Group((), "none")))
    argv = said["argv"]
    assert isinstance(argv, list)
    return argv


def test_the_environment_is_built_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")

    argv = spoken(Command(("true",), environment={"COLOUR": "green"}))

    assert "hunter2" not in " ".join(argv)
    assert argv.index("--clearenv") < argv.index("COLOUR")


def test_the_command_comes_last_after_its_own_mark() -> None:
    argv = spoken(Command(("--bind", "/", "/host")))

    assert argv[-4:] == ["--", "--bind", "/", "/host"]


def test_only_model_access_shows_the_gateway() -> None:
    without, with_it = (spoken(Command(("true",), model_access=each)) for each in (False, True))

    assert "/run/cc" not in without
    assert "/run/cc" in with_it
    assert "/opt/commandcenter/relay.py" in with_it


def test_egress_alone_gives_a_proxy_and_no_port_of_the_model() -> None:
    argv = spoken(Command(("true",), egress=True))

    relay = argv[argv.index("/opt/commandcenter/relay.py") :]
    assert relay == ["/opt/commandcenter/relay.py", "3128=/run/cc/egress.sock", "--", "true"]
    assert argv[argv.index("https_proxy") + 1] == "http://127.0.0.1:3128"


def test_without_egress_no_program_is_told_of_a_proxy() -> None:
    argv = spoken(Command(("true",), model_access=True))

    assert not [word for word in argv if "proxy" in word.lower()]


async def test_a_bubblewrap_that_can_overlay_is_found_first() -> None:
    found = await sandbox.find()

    assert found
    assert [each.has_overlay for each in found] == sorted(
        (each.has_overlay for each in found), reverse=True
    )


def test_an_old_version_cannot_overlay() -> None:
    versions = {"0.8.0": False, "0.11.0": True, "1.0": True}

    assert {v: Bubblewrap(Path("x"), v).has_overlay for v in versions} == versions
