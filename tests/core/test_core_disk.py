"""The disk's floor: how much must be free, and what a task that waits is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.core.disk import Space, amount, floor_bytes, shortage, waiting_words

GIB, MIB = 2**30, 2**20


def space(free: float, total: float = 100 * GIB) -> Space:
    return Space(Path("/data"), int(free), int(total))


@pytest.mark.parametrize(
    ("total", "configured", "floor"),
    [
        (100 * GIB, None, GIB),
        (50 * GIB, None, GIB),
        (10 * GIB, None, 10 * GIB // 50),
        (10 * GIB, 5 * GIB, 5 * GIB),
        (10 * GIB, 0, 0),
    ],
)
def test_the_floor_is_a_gibibyte_or_two_percent_unless_it_is_set(
    total: int, configured: int | None, floor: int
) -> None:
    assert floor_bytes(space(0, total), configured) == floor


def test_a_task_that_waits_is_told_how_much_there_is_and_how_much_is_needed() -> None:
    assert shortage(space(0.4 * GIB), None) == ("disk space: 0.4 GiB free of 1 GiB needed on /data")


def test_at_the_floor_there_is_room() -> None:
    assert shortage(space(GIB), None) == ""
    assert shortage(space(GIB - 1), None) != ""


def test_without_a_floor_there_is_always_room() -> None:
    assert shortage(space(0), 0) == ""


def test_the_words_tell_what_is_so_also_when_there_is_room_again() -> None:
    assert waiting_words(space(5 * GIB), None).startswith("disk space: 5 GiB free of 1 GiB")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (12.5 * MIB, "12.5 MiB"),
        (102.4 * MIB, "0.1 GiB"),
        (GIB, "1 GiB"),
    ],
)
def test_sizes_read_well(size: float, words: str) -> None:
    assert amount(int(size)) == words
