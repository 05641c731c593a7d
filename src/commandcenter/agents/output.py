"""What all agents' output has in common: JSON lines, structured results, ends of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from commandcenter.core.agent import Outcome
from commandcenter.core.workspace import Ended

_AMOUNT_MAX = 1e12
EVENT_TEXT_MAX = 4_000
RESULT_BYTES_MAX = 256 * 2**10
_FENCED_JSON = re.compile(r"^```json[ \t]*\r?\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


def json_object(line: bytes) -> dict[str, Any] | None:  # Any: JSON as a program printed it
    """Return the JSON object on this line, or None when it is anything else."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(line, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_json(constant: str) -> None:
    """Refuse NaN and the infinities: Python reads them, but they are no JSON."""
    raise ValueError(constant)


def json_objects(stdout: bytes) -> Iterator[dict[str, Any]]:
    """Give the JSON object of every line that holds one, in order."""
    for line in stdout.split(b"\n"):
        if (value := json_object(line)) is not None:
            yield value


def word(value: Mapping[str, Any], key: str) -> str:
    """Return the string under this key, or an empty one."""
    found = value.get(key)
    return found if isinstance(found, str) else ""


def count(value: Mapping[str, Any], key: str) -> int:
    """Return the natural number under this key, or 0."""
    found = value.get(key)
    return found if type(found) is int and found >= 0 else 0


def amount(value: Mapping[str, Any], key: str) -> float | None:
    """Return the amount under this key, not less than nothing; None when there is none."""
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found < _AMOUNT_MAX else None


def clipped(text: str) -> str:
    """Return the text, cut to what an event may hold."""
    return text if len(text) <= EVENT_TEXT_MAX else text[: EVENT_TEXT_MAX - 1] + "…"


def plain(line: bytes) -> str:
    """Return a line of output as text that any terminal or page can show."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return clipped("".join(char if char.isprintable() or char == "\t" else "�" for char in text))


def last_words(output: bytes) -> str:
    """Return the last lines of plain output, as text of bounded length."""
    return output[-EVENT_TEXT_MAX:].decode("utf-8", "replace").strip()


def structured(result_file: bytes | None, text: str) -> Mapping[str, Any] | None:
    """Return the agent's structured result: its result file's, else that of its last words.

    In words it is the last fenced `json` block, or the whole text when it is one JSON object. A
    result file that is there but unusable gives None: the words do not stand in for it.
    """
    if result_file is not None:
        return _bounded_object(result_file)
    blocks = _FENCED_JSON.findall(text)
    return _bounded_object((blocks[-1] if blocks else text).encode("utf-8", "replace"))


def bounded(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return a structured result, unless it is larger than one may be."""
    return value if len(json.dumps(value)) <= RESULT_BYTES_MAX else None


def _bounded_object(content: bytes) -> dict[str, Any] | None:
    if len(content) > RESULT_BYTES_MAX:
        return None
    try:
        return json_object(content.decode("utf-8").encode())
    except UnicodeDecodeError:
        return None


def cut_short(ended: Ended) -> tuple[Outcome, str] | None:
    """Return outcome and reason of an end that the agent did not choose; None when it exited.

    What an agent prints after it was told to stop does not count, so this is asked first.
    """
    match ended:
        case Ended.EXITED:
            return None
        case Ended.TIMED_OUT:
            return Outcome.FAILED, "timeout"
        case Ended.IDLE:
            return Outcome.FAILED, "idle"
        case Ended.OUTPUT_LIMIT:
            return Outcome.FAILED, "output"
        case Ended.MEMORY_LIMIT:
            return Outcome.FAILED, "memory"
        case Ended.DISK_LIMIT:
            return Outcome.FAILED, "disk"
        case Ended.STOPPED:
            return Outcome.STOPPED, "stopped"
        case Ended.LOST:
            return Outcome.TRY_AGAIN, "lost"
        case _:
            assert_never(ended)
