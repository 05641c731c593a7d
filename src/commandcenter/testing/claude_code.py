"""The real Claude Code CLI, for tests that use it: where it is, and installations that have it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from commandcenter.testing.scene import Installation

REAL_KEY = "the-real-key-of-the-service"
MISSING = "there is no Claude Code CLI; `make agents` installs it"


def find() -> Path | None:
    """Return the CLI on the PATH, or the one in the Agent SDK's wheel."""
    if found := shutil.which("claude"):
        return Path(found)
    package = importlib.util.find_spec("claude_agent_sdk")
    if package is None or package.origin is None:
        return None
    bundled = Path(package.origin).parent / "_bundled" / "claude"
    return bundled if bundled.is_file() else None


def installation(folder: Path, claude: Path, model_url: str, more: str = "") -> Installation:
    """Make an installation whose only program is the real one, and whose provider is a fake.

    `more` is TOML that the configuration begins with.
    """
    tools = folder / "bin"
    tools.mkdir(parents=True)
    (tools / "claude").symlink_to(claude)
    made = Installation(folder)
    made.config.write_text(
        f'{more}\n[providers.anthropic]\nbase_url = "{model_url}"\n\n[egress]\nallow = ["forge"]\n'
    )
    return made


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a service whose installation is in this folder."""
    return {
        "HOME": str(folder.parent),
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "ANTHROPIC_API_KEY": REAL_KEY,
    }
