"""Names of the machine itself."""

from __future__ import annotations

import ipaddress


def is_loopback(name: str) -> bool:
    """Say whether this host name or address is the machine itself, whatever a DNS server says."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
