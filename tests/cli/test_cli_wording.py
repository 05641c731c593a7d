"""How values read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from commandcenter.api.schema import Checks, Tokens
from commandcenter.cli import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0s"), (4.24, "4.2s"), (59.4, "59s"), (59.9, "1m00s"), (65, "1m05s"), (7380, "2h03m")],
)
def test_durations_read_short(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1bcb", "ab"),
        ("back\x08\x08", "back\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("\x9b31m", "\N{REPLACEMENT CHARACTER}31m"),
        ("\u202eevil", "\N{REPLACEMENT CHARACTER}evil"),
        ("caf\udce9", "caf\N{REPLACEMENT CHARACTER}"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("schön 漢字", "schön 漢字"),
    ],
)
def test_a_terminal_never_obeys_what_others_wrote(hostile: str, harmless: str) -> None:
    assert wording.clean(hostile) == harmless


def test_one_line_is_one_line() -> None:
    assert wording.one_line("  two\r\n\x1b[2Klines\t here ") == "two lines here"


def test_checks_read_in_a_word() -> None:
    assert wording.checks(None) == ""
    assert wording.checks(Checks(judgement="failed", passed=1, total=3)) == "1/3"
    assert wording.checks(Checks(judgement="not_run", passed=0, total=2)) == "not run"
    assert wording.checks(Checks(judgement="unverified", passed=0, total=0)) == "none"


def test_usage_reads_in_thousands() -> None:
    assert wording.usage(Tokens(input=0, output=0), 0) == ""
    assert wording.usage(Tokens(input=12_345, output=678), 0.126) == "12k/678 $0.13"


def test_time_since_the_start_or_to_the_end() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert wording.elapsed(None, None, now) == ""
    assert wording.elapsed("2026-01-01T00:00:00.000Z", None, now) == "1m00s"
    assert wording.elapsed("2026-01-01T00:00:00Z", "2026-01-01T00:00:02.5Z", now) == "2.5s"


def test_sizes_read_with_their_unit() -> None:
    assert [wording.size(n) for n in (12, 3_400, 2_500_000, 10**9)] == [
        "12 B",
        "3.4 kB",
        "2.5 MB",
        "1.0 GB",
    ]
