"""`python -m commandcenter.testing.demo [FOLDER]`: the whole pipeline on a repository made for it.

The folder is `.demo` if none is named.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from commandcenter.system import removal
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

BUNDLED = Path(__file__).resolve().parent
_IDENTITY = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost")


class Demo:
    """A demo in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.origin = folder / "origin.git"
        self.checkout = folder / "tally"
        self.data = folder / "data"
        self.config = folder / "config.toml"
        self.plan = folder / "plan.md"

    def prepare(self) -> None:
        """Make everything anew: the sample repository with its origin, the plan, the settings."""
        self._clear()
        self._folder.mkdir(parents=True)
        shutil.copy(BUNDLED / "plan.md", self.plan)
        self.config.write_text(_CONFIG.format(agent=SCRIPTED_AGENT), "utf-8")
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(BUNDLED / "sample", self.checkout, ignore=ignored)
        _git("init", "--quiet", "--initial-branch=main", folder=self.checkout)
        _git("add", "--all", folder=self.checkout)
        _git(*_IDENTITY, "commit", "--quiet", "--message", "Begin", folder=self.checkout)
        _git("remote", "add", "origin", str(self.origin), folder=self.checkout)
        _git("push", "--quiet", "--set-upstream", "origin", "main", folder=self.checkout)

    def _clear(self) -> None:
        """Remove a former demo, and nothing else."""
        if self._folder.exists() and any(self._folder.iterdir()) and not self.config.exists():
            sys.exit(f"{self._folder} holds something that is not the demo's.\nhint: name another")
        removal.remove(self._folder)

    def run(self) -> int:
        """Run the plan with the command that everybody uses; return its exit code."""
        command = self._command("run", str(self.plan), "--repo", str(self.checkout))
        _say(f"$ {shlex.join(('commandcenter', *command[3:]))}", "")
        return subprocess.run(command, env=_environment(os.environ), check=False).returncode

    def _command(self, *words: str) -> tuple[str, ...]:
        options = ("--config", str(self.config), "--data-dir", str(self.data))
        return (sys.executable, "-m", "commandcenter", *options, *words)

    def introduce(self) -> None:
        """Say what is about to happen, and who the agent is."""
        _say(
            f"CommandCenter demo, in {self._folder} (made anew each time).",
            "A plan of five tasks goes to agents in sandboxes; what they make is checked, proposed,"
            " reviewed and merged.",
            "The agent here is a SCRIPTED STAND-IN, NOT A MODEL: a real process that types what"
            " the plan tells it to.",
            "All else is real. One check fails at first, and one review asks for a change.",
            "",
        )

    def conclude(self) -> None:
        """Show what has landed, and where to look further."""
        _say("", f"What has landed on main of {self.origin}:", "")
        _git("log", "--oneline", "--graph", "main", folder=self.origin)
        program = Path(sys.executable).parent / "commandcenter"
        options = shlex.join(("--config", str(self.config), "--data-dir", str(self.data)))
        _say(
            "",
            "To look further:",
            f"  the plan            {self.plan}",
            f"  the pull requests   {program} {options} serve",
            "                      then open http://127.0.0.1:8001/hub/",
            f"  the runs            {program} {options} status",
            "Your own plan, with Claude Code as the agent (it needs `claude`, and"
            " ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN):",
            f"  {program} run path/to/plan.md",
        )


_CONFIG = """\
# The agent of the demo: a scripted stand-in, not a model.
[profiles.scripted]
agent = "shell"
command = "scripted_agent.py"
programs = ["{agent}"]

[roles]
work = "scripted"
review = "scripted"
"""


def main() -> int:
    """Run the demo; return the exit code of its run."""
    demo = Demo(Path(*sys.argv[1:2] or [".demo"]).absolute())
    demo.prepare()
    demo.introduce()
    code = demo.run()
    demo.conclude()
    return code


def _git(*words: str, folder: Path | None = None) -> None:
    subprocess.run(("git", *words), cwd=folder, env=_environment(os.environ), check=True)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would make git or the demo behave in another way."""
    return {
        name: value
        for name, value in ours.items()
        if not name.startswith(("GIT_", "COMMANDCENTER_")) and name not in ("HOST", "PORT")
    }


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - the demo talks


if __name__ == "__main__":
    sys.exit(main())
