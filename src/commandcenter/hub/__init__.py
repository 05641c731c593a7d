"""The embedded forge: a bare repository plus pull requests, served in GitHub's REST dialect."""

from commandcenter.hub.records import HubRecords, HubRepository, Repositories
from commandcenter.hub.server import create_hub

__all__ = ["HubRecords", "HubRepository", "Repositories", "create_hub"]
