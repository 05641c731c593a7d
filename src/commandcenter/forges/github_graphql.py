"""What only GitHub's GraphQL API knows: its merge queue, and to make a draft ready."""

from __future__ import annotations

from pydantic import BaseModel

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import Queued
from commandcenter.forges.rest import RestApi, parsed

QUEUED = """
query Queued($owner: String!, $name: String!, $number: Int!) {
  repository(owner: $owner, name: $name) {
    pull: pullRequest(number: $number) {
      id
      head: headRefOid
      entry: mergeQueueEntry { state }
      removals: timelineItems(last: 1, itemTypes: [REMOVED_FROM_MERGE_QUEUE_EVENT]) {
        nodes { ... on RemovedFromMergeQueueEvent { id reason } }
      }
    }
  }
}
"""
ENQUEUE = """
mutation Enqueue($pull: ID!, $head: GitObjectID!) {
  enqueuePullRequest(input: {pullRequestId: $pull, expectedHeadOid: $head}) {
    mergeQueueEntry { state }
  }
}
"""
READY = """
mutation Ready($pull: ID!) {
  markPullRequestReadyForReview(input: {pullRequestId: $pull}) {
    pullRequest { isDraft }
  }
}
"""
QUERIES = (QUEUED, ENQUEUE, READY)
"""All that is asked, for who checks it against GitHub's schema."""


def graphql_url(api_url: str) -> str:
    """Return where GraphQL is answered, beside or below the REST API."""
    root = api_url.rstrip("/")
    # On a server of one's own: /api/v3 and /api/graphql.
    return f"{root.removesuffix('/v3')}/graphql" if root.endswith("/api/v3") else f"{root}/graphql"


class GraphQl:
    """The GraphQL API for the pull requests of one repository."""

    def __init__(self, api: RestApi, url: str, owner: str, name: str) -> None:
        self._api = api
        self._url = url
        self._repository = {"owner": owner, "name": name}

    async def queued(self, number: int) -> Queued:
        """Return where a pull request stands."""
        pull = await self._pull(number)
        removal = next(iter(pull.removals.nodes), _Removal())
        inside = pull.entry is not None
        return Queued(inside, removal.id, removal.reason or "")

    async def enqueue(self, number: int, head: str) -> None:
        """Put a pull request into the queue if its head is still `head`."""
        pull = await self._pull(number)
        if pull.entry is not None:
            return
        if pull.head != head:
            words = f"Pull request #{number} is at {pull.head[:12]}, not at {head[:12]}."
            raise ForgeError(words, refusal=Refusal.MOVED)
        try:
            await self._api.query(self._url, ENQUEUE, {"pull": pull.id, "head": head})
        except ForgeError as error:
            # An answer that got lost, or somebody who was faster: what counts is what is so now.
            if (await self._pull(number)).entry is not None:
                return
            raise error.meaning(Refusal.UNMERGEABLE) if error.status == 422 else error from error

    async def ready(self, pull: str) -> None:
        """Make the draft with this id one that can be merged."""
        await self._api.query(self._url, READY, {"pull": pull})

    async def _pull(self, number: int) -> _Pull:
        asked = {**self._repository, "number": number}
        answer = parsed(_Answer, await self._api.query(self._url, QUEUED, asked))
        return answer.repository.pull


class _Entry(BaseModel):
    state: str


class _Removal(BaseModel):
    id: str = ""
    reason: str | None = None


class _Removals(BaseModel):
    nodes: list[_Removal]


class _Pull(BaseModel):
    id: str
    head: str
    entry: _Entry | None
    removals: _Removals


class _Repository(BaseModel):
    pull: _Pull


class _Answer(BaseModel):
    repository: _Repository
