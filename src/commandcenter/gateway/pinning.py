"""Which models a profile may use, held against what a request really asks for."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from typing import Any


def problem(body: bytes, encoding: str, models: Sequence[str]) -> str:
    """Return why a request for a model is not passed on; empty when it is.

    `models` are globs. What cannot be read for sure is not passed on: the provider might read
    another model in it than we do.
    """
    if encoding not in ("", "identity"):
        return f"a body with the encoding {encoding[:40]} cannot be held against it"
    try:
        record = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return "the request cannot be read"
    model = record.get("model") if isinstance(record, dict) else None
    if not isinstance(model, str):
        return "the request names no model"
    if any(fnmatch.fnmatchcase(model, each) for each in models):
        return ""
    return f"the model {model[:100]} is not one of them"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    """Return an object whose names are told once.

    Raises:
        ValueError: one is told twice, and readers differ in which one counts.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is told twice")
    return found
