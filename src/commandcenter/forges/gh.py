"""The token that GitHub's own command line, `gh`, keeps for its user."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping

from commandcenter.core.errors import WorldError
from commandcenter.system import process

PASSED = (
    *("HOME", "PATH", "USER", "XDG_CONFIG_HOME", "GH_CONFIG_DIR"),
    # Where a keyring is asked.
    *("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"),
)
_TOKEN = re.compile(rb"[A-Za-z0-9_.-]{16,512}")


async def gh_token(host: str, environ: Mapping[str, str], *, timeout_s: float = 5.0) -> str:
    """Return the token that `gh` has for a host; empty when it is not there or has none.

    What it prints is shown nowhere, since it is the token or may hold one.
    """
    program = shutil.which("gh", path=environ.get("PATH", ""))
    if program is None:
        return ""
    try:
        finished = await process.run(
            (program, "auth", "token", "--hostname", host),
            environment={name: environ[name] for name in PASSED if name in environ},
            timeout_s=timeout_s,
            output_bytes_max=2**16,
        )
    except (WorldError, OSError):
        return ""
    token = finished.stdout.strip()
    return token.decode() if finished.exit_code == 0 and _TOKEN.fullmatch(token) else ""
