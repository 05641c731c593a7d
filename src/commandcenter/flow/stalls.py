"""What waits for the world to mend: told to people for as long as it does, and never stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Stalls:
    """The reasons for which something waits now."""

    def __init__(self) -> None:
        self._words: Counter[str] = Counter()

    @contextmanager
    def noted(self, words: str) -> Iterator[None]:
        """Tell people this sentence until the block ends."""
        self._words[words] += 1
        try:
            yield
        finally:
            self._words[words] -= 1
            self._words += Counter()  # drops what nobody waits for any more

    def words(self) -> tuple[str, ...]:
        """Return the sentences, each once."""
        return tuple(self._words)
