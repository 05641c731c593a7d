"""The token that the system's keyring holds, read by the `keyring` package, if it is installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from commandcenter.core.errors import WorldError
from commandcenter.forges.gh import PASSED
from commandcenter.system import process

_CHOSEN = "PYTHON_KEYRING_BACKEND"
_ERROR = re.compile(rb"^(?:[\w.]+\.)?(\w+)(?=:|\s*$)")
_WORDS = {
    "NoKeyringError": ("There is no keyring on this machine.", "Is a session of its user open?"),
    "KeyringLocked": ("The keyring is locked.", "Unlock it, and start the service again."),
    "InitError": ("The keyring cannot be opened.", "Is a session of its user open?"),
}


async def keyring_token(
    service: str, host: str, environ: Mapping[str, str], *, timeout_s: float = 20.0
) -> str:
    """Return what the keyring has for a host under a service's name; empty when it has nothing.

    It is asked by a process of its own: a keyring that wants to ask somebody back can be left.
    What that prints is shown nowhere, since it is the token or may hold one.

    Raises:
        WorldError: the keyring cannot be asked; says why.
    """
    if find_spec("keyring") is None:
        raise WorldError(
            "The package `keyring` is not installed.",
            hint="Install it: pip install 'commandcenter[keyring]'.",
        )
    try:
        finished = await process.run(
            (sys.executable, "-P", "-m", "keyring", "get", service, host),
            environment={name: environ[name] for name in (*PASSED, _CHOSEN) if name in environ},
            timeout_s=timeout_s,
            output_bytes_max=2**16,
        )
    except process.OutOfTime as error:
        raise WorldError(
            f"The keyring did not answer in {timeout_s:g} seconds.",
            hint="It may be locked, and ask for its password elsewhere.",
        ) from error
    if finished.exit_code != 0 and finished.stderr.strip():
        raise _problem(finished.stderr)
    # The line end is the program's, the rest is the token's.
    return "" if finished.exit_code else finished.stdout.decode(errors="replace").strip()


def _problem(printed: bytes) -> WorldError:
    """Return what went wrong, in our words: theirs can hold anything."""
    name = _ERROR.match(printed.strip().splitlines()[-1])
    kind = name[1].decode() if name else ""
    words, hint = _WORDS.get(kind, (f"The keyring cannot be read ({kind or 'no reason'}).", ""))
    return WorldError(words, hint=hint or "`keyring diagnose` may tell more.")
