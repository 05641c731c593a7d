"""What to begin with in a repository: a configuration that fits it, and a first plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Surroundings:
    """What was found where CommandCenter is to be used."""

    names: frozenset[str]
    """Of the files and folders at the top of the repository."""
    texts: Mapping[str, str]
    """Contents of the files at its top that say how it is tested; see `TOLD_BY`."""
    upstream: str
    """Where work lands, for people."""
    forge: str
    """`hub`, `github`, `gitea` or `gitlab`: where pull requests are opened."""
    token_variable: str
    """Holds the token of that forge; empty for the hub."""
    agents: Sequence[str]
    """Programs of known agents that are installed."""
    mode: str
    """Kind of workspaces that works here; empty if none does."""


@dataclass(frozen=True)
class TestCommand:
    """How a repository is tested."""

    line: str
    because: str

    @property
    def program(self) -> str:
        """Return the program that has to be there."""
        return self.line.split()[0]


TOLD_BY = ("Makefile", "package.json", "pyproject.toml")
"""Files whose contents say more than that they are there."""
_PYTHON = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "pytest.ini")
_OTHERS = (
    ("Cargo.toml", "cargo test"),
    ("go.mod", "go test ./..."),
    ("mix.exs", "mix test"),
    ("pom.xml", "mvn -q test"),
    ("gradlew", "./gradlew test"),
    ("spec", "bundle exec rspec"),
)
_NO_TEST = "no test specified"
"""What npm writes where nobody has said how to test."""


def command_of_tests(found: Surroundings) -> TestCommand | None:
    """Return how a repository is tested, as far as its files tell."""
    return next(_commands(found), None)


def _commands(found: Surroundings) -> Iterator[TestCommand]:
    if any(line.startswith("test:") for line in found.texts.get("Makefile", "").splitlines()):
        yield TestCommand("make test", "the Makefile has a target `test`")
    script = _npm_test(found.texts.get("package.json", ""))
    if script and _NO_TEST not in script:
        yield TestCommand("npm test", "package.json has a script `test`")
    for name in _PYTHON:
        if name in found.names:
            pytest = (
                "pytest" in found.texts.get("pyproject.toml", "") or "pytest.ini" in found.names
            )
            line = "python3 -m pytest -q" if pytest else "python3 -m unittest"
            yield TestCommand(line, f"there is a {name}")
    for name, line in _OTHERS:
        if name in found.names:
            yield TestCommand(line, f"there is a {name}")


def _npm_test(package: str) -> str:
    try:
        said: Any = json.loads(package or "{}")
        return str(said["scripts"]["test"])
    except (ValueError, KeyError, TypeError):
        return ""


def configuration(found: Surroundings, *, missing: str = "") -> str:
    """Return a configuration as commented TOML; `missing` programs are not inside a workspace."""
    return "\n\n".join(
        "\n".join(part)
        for part in (_head(found), _roles(found), _check(found, missing), _forge(found), _REST)
    )


def _head(found: Surroundings) -> Iterator[str]:
    yield "# CommandCenter's configuration. Everything has a default: what stands here may go."
    yield "# It is not read by itself, since whoever can change a repository could change it there:"
    yield "#     commandcenter --config commandcenter.toml run first-plan.md"
    yield "# To have it always, move it to ~/.config/commandcenter/config.toml."
    yield ""
    yield "# How many agents work at one time."
    yield "workers = 4"
    yield ""
    yield "# Where each command runs: `local` (bubblewrap), `container` (Docker, Podman), `dagger`."
    if found.mode:
        yield f'mode = "{found.mode}"'
    else:
        yield "# None of them works here at present: `commandcenter doctor` says what to install."
        yield '# mode = "local"'


def _roles(found: Surroundings) -> Iterator[str]:
    yield "# Which agent works, and which one reviews: the same one unless you name another."
    if not found.agents:
        yield "# No known agent is installed. Any command can be one, which gets its task as input:"
        yield "#     [profiles.mine]"
        yield '#     agent = "shell"'
        yield '#     command = "my-agent --quiet"'
        yield '#     programs = ["my-agent"]'
    yield "[roles]"
    yield f'work = "{found.agents[0] if found.agents else "claude"}"'
    yield '# review = "careful"     # a profile of your own, as below; "none" is no review'
    yield ""
    yield "# [profiles.careful]"
    yield '# agent = "claude"'
    yield '# model = "opus"'


def _check(found: Surroundings, missing: str) -> Iterator[str]:
    tests = command_of_tests(found)
    yield "# Checks of every task, besides what its plan names: run on exactly what is to land."
    if tests is None:
        yield "# Nothing in this repository says how it is tested."
        yield "# [checks.tests]"
        yield '# command = "make test"'
    elif missing:
        yield f"# It would be `{tests.line}`, since {tests.because}, but a workspace has no"
        yield f"# `{missing}`: make it one of [sandbox] read_only and path, or use an image."
        yield "# [checks.tests]"
        yield f'# command = "{tests.line}"'
    else:
        yield f"# This one since {tests.because}."
        yield "[checks.tests]"
        yield f'command = "{tests.line}"'


def _forge(found: Surroundings) -> Iterator[str]:
    # A name may hold anything, and in a comment must end neither it nor the file.
    place = "".join(filter(str.isprintable, found.upstream))
    yield f"# Pull requests for {place}, by where it is."
    if found.forge == "hub":
        yield "# It is on no forge that is known: they are kept here; see `commandcenter hub`."
    else:
        yield f"# They are opened there, with the token in the variable {found.token_variable}."
    yield "[forge]"
    yield 'kind = "auto"'


_REST = (
    "# What agents and checks may reach of the network: nothing but the model, unless you say so.",
    "# [egress]",
    '# allow = ["registries"]     # where this machine\'s package managers get packages',
    "",
    "# Every other setting is in docs/configuration.md.",
    "",
)

FIRST_PLAN = """\
# A first plan

One small task, to see how a plan becomes a merged pull request.

## Batch 1: Begin

### Task 1.1: Say hello

**Files:**
- Create: `docs/hello.md`

**Implementation:**
Write a file `docs/hello.md` with a heading and one sentence about this project, for somebody who
sees it for the first time.

**Verification:**
- `test -s docs/hello.md`

**Commit:** `Say hello`
"""
