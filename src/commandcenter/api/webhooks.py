"""The route for forges' webhooks: the only one that callers elsewhere are let through to."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from commandcenter.api.needs import Service
from commandcenter.core.webhook import Heard


def webhooks(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["webhooks"])

    @router.post("/{forge}", status_code=HTTPStatus.NO_CONTENT)
    async def webhook(forge: str, request: Request) -> Response:
        """Take a webhook of `github`, `gitea` (Forgejo as well) or `gitlab`.

        Of one that is signed with the configured secret nothing is believed; the forge is asked.
        """
        headers = {name.lower(): value for name, value in request.headers.items()}
        match await service.webhook(forge, headers, await request.body()):
            case Heard.OFF:
                raise HTTPException(HTTPStatus.NOT_FOUND, "No webhooks are received here.")
            case Heard.FORGED:
                raise HTTPException(HTTPStatus.UNAUTHORIZED, "The signature is missing or wrong.")
            case Heard.IGNORED | Heard.LOOKING:
                return Response(status_code=HTTPStatus.NO_CONTENT)

    return router
