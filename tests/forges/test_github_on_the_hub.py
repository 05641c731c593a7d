from __future__ import annotations

from commandcenter.testing.forges import ForgeSuite


class TestGitHubOnTheHub(ForgeSuite):
    """The GitHub adapter against the embedded forge, over HTTP, on real repositories."""
