"""Whether the service could listen where it is configured to."""

from __future__ import annotations

import json
from pathlib import Path

from commandcenter.core.run import Finding, Health
from commandcenter.settings import Settings
from commandcenter.system import listening

PORT = "port"
_ANOTHER = "commandcenter serve --port 0 takes any that is free; or set `port` in [server]"


def port_finding(settings: Settings) -> Finding:
    """Return whether the port is free, the service's own, or whose it is."""
    host, port = settings.host, settings.port
    if not port:
        return Finding(PORT, Health.OK, f"any free one of {host}")
    error = listening.why_not(host, port)
    if error is None:
        return Finding(PORT, Health.OK, f"{port} of {host} is free for `serve`")
    held = listening.holder(port) if listening.is_taken(error) else None
    if held is not None and held.pid == _owner(settings.data_dir):
        detail = f"the service of this data folder answers on {port} of {host}"
        return Finding(PORT, Health.OK, detail)
    why = f"{held} has it" if held else error.strerror
    detail = f"`serve` cannot listen on {port} of {host}: {why}; `run` does not need it"
    return Finding(PORT, Health.DEGRADED, detail, _ANOTHER)


def _owner(data_dir: Path) -> int:
    """Return the process that says it serves this data folder; 0 when none does."""
    try:
        return int(json.loads((data_dir / "service.json").read_bytes())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
