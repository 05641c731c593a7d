"""How the hub says no: an HTTP status, a message in GitHub's words, and details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

Detail = Mapping[str, str] | str


class RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, errors: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = tuple(errors)


def refuse_validation(resource: str, field: str, message: str = "", *, code: str = "") -> NoReturn:
    """Refuse with 422 "Validation Failed" and one detail.

    Raises:
        RefusalError: always.
    """
    detail = {"resource": resource, "field": field, "code": code or "custom"}
    raise RefusalError(
        422, "Validation Failed", [detail | {"message": message} if message else detail]
    )
