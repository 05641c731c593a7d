"""Package managers of a machine, asked as real processes on a PATH of the test's own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from commandcenter.core.registries import Registries
from commandcenter.gateway.registries import PackageManagers

NPM = 'echo asked >> "$ASKED"\n[ "$2" = list ] || echo https://npm.test/registry/\n'
GO = "printf 'https://proxy.test,direct\\nsum.test\\n'\n"
APT = "printf 'http://deb.test/debian\\nhttp://deb.test/debian\\n'\n"
PIP = f'exec "{sys.executable}" "$@"\n'
NO_PIP = "echo False\n"


def tools(folder: Path, scripts: Mapping[str, str]) -> Path:
    """Make programs that a PATH can consist of."""
    made = folder / "bin"
    made.mkdir()
    for name, text in scripts.items():
        (made / name).write_text(f"#!/bin/sh\n{text}")
        (made / name).chmod(0o755)
    return made


def managers(
    folder: Path, scripts: Mapping[str, str], *, answer_s: float = 60, **environ: str
) -> PackageManagers:
    """Return the package managers of a machine that has these programs."""
    path = str(tools(folder, scripts))
    plain = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(folder), "ASKED": str(folder / "asked")}
    unconfigured = {"PIP_CONFIG_FILE": "/dev/null"}

    def program(name: str) -> Path | None:
        found = shutil.which(name, path=path)
        return Path(found) if found else None

    return PackageManagers({**plain, **unconfigured, **environ}, program, answer_s=answer_s)


def hosts(found: Registries) -> dict[str, list[str]]:
    return {told.tool: [str(rule) for rule in told.rules] for told in found.told if told.rules}


async def test_what_is_there_is_asked_and_each_once(tmp_path: Path) -> None:
    asked = managers(tmp_path, {"npm": NPM, "go": GO, "apt-get": APT})

    found = await asked.registries()
    again = await asked.registries()

    assert hosts(found) == {
        "npm": ["npm.test"],
        "go": ["proxy.test", "sum.test"],
        "apt": ["deb.test"],
    }
    assert found.variables == {
        "npm_config_registry": "https://npm.test/registry/",
        "GOPROXY": "https://proxy.test,direct",
        "GOSUMDB": "sum.test",
    }
    assert found.problems == ()
    assert again is found
    assert (tmp_path / "asked").read_text() == "asked\nasked\n"


async def test_where_no_package_manager_is_there_is_nothing(tmp_path: Path) -> None:
    found = await managers(tmp_path, {}).registries()

    assert (found.rules, dict(found.variables), found.problems) == ((), {}, ())


async def test_the_real_pip_says_what_it_is_configured_for(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://someone:hunter2@mirror.test/simple\n"
        "extra-index-url =\n    https://one.test/simple\n    https://two.test:8443/simple\n"
    )

    found = await managers(tmp_path, {"python3": PIP}, PIP_CONFIG_FILE=str(file)).registries()

    assert {"mirror.test", "one.test", "two.test:8443"} <= set(hosts(found)["pip"])
    assert found.variables["PIP_INDEX_URL"] == "https://mirror.test/simple"
    assert found.variables["UV_DEFAULT_INDEX"] == "https://mirror.test/simple"
    assert "the credential for mirror.test stays outside" in " ".join(found.problems)
    assert "hunter2" not in repr(found)


async def test_the_real_pip_says_which_index_is_its_own(tmp_path: Path) -> None:
    found = await managers(tmp_path, {"python3": PIP}).registries()

    assert len(hosts(found)["pip"]) == 2
    assert "PIP_INDEX_URL" not in found.variables
    assert found.problems == ()


async def test_variables_count_where_pip_is_not_there(tmp_path: Path) -> None:
    index = "https://mirror.test/simple"

    found = await managers(tmp_path, {"python3": NO_PIP}, PIP_INDEX_URL=index).registries()

    assert hosts(found) == {"pip": ["mirror.test"]}
    assert found.problems == ()


async def test_cargo_is_read_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / ".cargo").mkdir()
    configured = '[source.ours]\nregistry = "sparse+https://crates.test/index/"\n'
    (tmp_path / ".cargo" / "config.toml").write_text(configured)

    found = await managers(tmp_path, {"cargo": "exit 1\n"}).registries()

    assert hosts(found) == {"cargo": ["crates.test"]}


async def test_a_tool_that_fails_or_talks_nonsense_adds_nothing_and_is_told(tmp_path: Path) -> None:
    scripts = {
        "python3": "echo https://secret.test >&2; exit 3\n",
        "npm": "echo undefined\n",
        "go": "head -c 3000000 /dev/zero\n",
        "apt-get": "printf 'cdrom:[Disc]/\\n\\377\\n'\n",
    }

    found = await managers(tmp_path, scripts).registries()

    assert (found.rules, dict(found.variables)) == ((), {})
    assert [each.partition(":")[0] for each in dict.fromkeys(found.problems)] == [
        *("pip", "npm", "go", "apt"),
    ]
    assert "pip: `python3` failed with exit code 3." in found.problems


async def test_a_tool_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    asked = managers(tmp_path, {"go": GO})
    (tmp_path / "bin" / "go").write_text("#!/nowhere/sh\n")

    found = await asked.registries()

    assert found.problems == ("go: `go` cannot be started: No such file or directory.",)


async def test_a_tool_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    scripts = {"go": "exec tail -f /dev/null\n", "apt-get": APT}

    found = await managers(tmp_path, scripts, answer_s=1).registries()

    assert "go: `go` did not end within 1 s." in found.problems
    assert "go" not in hosts(found)
