"""What somebody probably meant who wrote a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str:
    """Return a question that names the known word nearest to this one, or nothing."""
    near = difflib.get_close_matches(word.casefold(), list(known), n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else ""
