"""The Dagger kind for tests that open many: each probe costs a session."""

from __future__ import annotations

from typing import Any, ClassVar

from commandcenter.core.workspace import Strength
from commandcenter.system import sandbox
from commandcenter.workspaces.dagger import CLIENT, Dagger


class ProbedOnce(Dagger):
    """Takes what the first probe of this client has found for found."""

    _found_before: ClassVar[dict[str, tuple[Any, Strength]]] = {}

    async def probe(self) -> Strength:
        """Return what is known of this client, or find it out."""
        client = self._environ.get(CLIENT, "")
        if client not in self._found_before:
            strength = await super().probe()
            self._found_before[client] = (self._means, strength)
            return strength
        sandbox.write_fixed(self._root / "fixed")
        self._means, strength = self._found_before[client]
        return strength
