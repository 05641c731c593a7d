"""The HTTP API: what the service can be asked, as JSON."""
