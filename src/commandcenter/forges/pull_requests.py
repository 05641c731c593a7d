"""What GitHub and the forges that took after it have in common: the same calls, the same words."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel

from commandcenter.core.errors import ForgeError
from commandcenter.core.forge import Review, StatusState
from commandcenter.forges.dialect import DESCRIPTION_CHARACTERS_MAX, cut, sendable, tell_verdict
from commandcenter.forges.rest import RestApi, parsed


class PullRequests(ABC):
    """The calls of one repository that need no translation. An adapter adds the others."""

    def __init__(self, api: RestApi, path: str) -> None:
        """`path` is that of the repository."""
        self._api = api
        self._path = path
        self._login: str | None = None

    async def review(self, number: int, review: Review) -> str:
        """Publish a review, pinned to its commit, and a commit status `commandcenter/review`."""
        published = await self._published(number, review)
        if published is None:
            published = await self._publish(number, review)
        await tell_verdict(self, review)
        return published

    async def set_status(
        self, commit: str, *, context: str, state: StatusState, description: str
    ) -> None:
        """Set a commit status. Descriptions are cut to 140 characters."""
        body = {
            "state": state.value,
            "context": context,
            "description": sendable(description)[:DESCRIPTION_CHARACTERS_MAX],
        }
        await self._api.send("POST", f"{self._path}/statuses/{commit}", body)

    async def comment(self, number: int, body: str) -> None:
        """Add a comment, unless it is what we said last."""
        text = cut(body)
        path = f"{self._path}/issues/{number}/comments"
        me = await self._me()
        said = [parsed(_Remark, entry) async for entry in self._api.pages(path)]
        ours = [remark for remark in said if remark.user and remark.user.login == me]
        if not ours or ours[-1].body != text:
            await self._api.send("POST", path, {"body": text})

    async def aclose(self) -> None:
        """Release connections."""
        await self._api.aclose()

    @abstractmethod
    async def _published(self, number: int, review: Review) -> str | None:
        """Return how this very review was published before, if it was."""

    @abstractmethod
    async def _publish(self, number: int, review: Review) -> str:
        """Publish a review, and return how."""

    async def _me(self) -> str:
        """Return the login that the token stands for; empty when it stands for an app."""
        if self._login is None:
            try:
                self._login = parsed(User, await self._api.get("/user")).login
            except ForgeError as error:
                if error.status != 403:
                    raise
                self._login = ""
        return self._login


class User(BaseModel):
    """Who did something."""

    login: str


class _Remark(BaseModel):
    body: str | None
    user: User | None
