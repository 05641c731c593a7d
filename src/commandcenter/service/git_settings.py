"""What of the user's git configuration decides on fetching and pushing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from commandcenter.core.run import Finding, Health
from commandcenter.system.git import Git

GIT_SETTINGS = "git settings"
_OFF = ("false", "no", "off", "0")


async def git_settings(git: Git, program: Callable[[str], Path | None]) -> Finding:
    """Return whether it can be read, and what weakens it."""
    asked = await git.run(
        *("config", "--includes", "--list", "-z"), git_dir=None, check=False, network=True
    )
    if asked.exit_code:
        hint = "no upstream can be fetched from or pushed to: mend that file"
        return Finding(GIT_SETTINGS, Health.MISSING, asked.complaint, hint)
    given = dict(each.partition("\n")[::2] for each in asked.text.split("\0"))
    if given.get("http.sslverify", "").lower() in _OFF:
        detail = "http.sslVerify is off: whoever is on the way can change what is fetched"
        hint = "git config --global --unset http.sslVerify"
        return Finding(GIT_SETTINGS, Health.DEGRADED, detail, hint)
    if program("ssh") is None:
        detail = "there is no `ssh`: an upstream that is reached by it cannot be used"
        return Finding(GIT_SETTINGS, Health.DEGRADED, detail, "apt install openssh-client")
    kept = any(key.startswith("credential.") and key.endswith(".helper") for key in given)
    told = "a credential helper" if kept else "no credential helper"
    return Finding(GIT_SETTINGS, Health.OK, f"they can be read; {told}, ssh is there")
