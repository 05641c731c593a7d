"""Which version of an agent's program there is: asked without beginning a conversation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from commandcenter.core.errors import WorldError
from commandcenter.core.words import one_line
from commandcenter.system import process

VERSION_S = 10.0
"""How long a program may take to say its version."""
_NUMBER = re.compile(r"\d+(\.\d+)+\S*")
_SHOWN_MAX = 200


class NoVersion(WorldError):  # noqa: N818 - it names an outcome
    """A program did not say its version, so it hardly works."""


async def version(
    program: Path, environ: Mapping[str, str], *, timeout_s: float = VERSION_S
) -> str:
    """Return what a program says of its version.

    It has a home of its own, so that asking changes nothing of the user's, and no credential.

    Raises:
        NoVersion: it cannot be started, fails, says nothing of the kind, or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="cc-version-") as home:
        environment = {"PATH": environ.get("PATH", ""), "HOME": home, "LC_ALL": "C.UTF-8"}
        try:
            finished = await process.run(
                (str(program), "--version"),
                environment=environment,
                timeout_s=timeout_s,
                output_bytes_max=2**16,
            )
        except (WorldError, OSError) as error:
            raise NoVersion(f"`{program} --version` failed: {error}") from error
    said = one_line(finished.stdout.decode(errors="replace"))
    if finished.exit_code:
        words = said or one_line(finished.stderr.decode(errors="replace"))
        raise NoVersion(
            f"`{program} --version` ended with {finished.exit_code}: {words[:_SHOWN_MAX]}"
        )
    found = _NUMBER.search(said)
    if found is None:
        raise NoVersion(f"`{program} --version` says no version: {said[:_SHOWN_MAX]!r}")
    return found[0]
