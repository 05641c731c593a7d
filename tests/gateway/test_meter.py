"""Reading usage out of answers as they pass."""

from __future__ import annotations

import pytest

from commandcenter.core.agent import Usage
from commandcenter.gateway.meter import AnswerMeter, Facts, noted

STREAM = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"usage":{"input_tokens":10,'
    b'"cache_creation_input_tokens":200,"cache_read_input_tokens":3000,"output_tokens":1}}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'data: {"type":"content_block_delta","delta":{"text":"about \\"usage\\": {}"}}\r\n\r\n'
    b'data: {"type":"message_delta","usage":{"output_tokens":77}}\n\n'
)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_stream_counts_the_same_however_it_is_cut(size: int) -> None:
    meter = AnswerMeter("text/event-stream; charset=utf-8")

    for start in range(0, len(STREAM), size):
        meter.feed(STREAM[start : start + size])

    assert meter.usage() == Usage(
        input_tokens=3210, output_tokens=77, cached_tokens=3000, requests=1
    )


def test_a_stream_cut_short_counts_what_it_had_said() -> None:
    meter = AnswerMeter("text/event-stream")

    meter.feed(STREAM[: STREAM.index(b"message_delta")])

    assert meter.usage().input_tokens == 3210
    assert meter.usage().output_tokens == 1


def test_an_endless_line_is_skipped_and_the_next_one_read() -> None:
    meter = AnswerMeter("text/event-stream")

    for _ in range(40):
        meter.feed(b"x" * 100_000)
    meter.feed(b"\n" + STREAM)

    assert meter.usage().output_tokens == 77


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"usage": 5}', b'{"usage": {"input_tokens": "9"}}']
)
def test_nonsense_counts_as_a_request_without_tokens(body: bytes) -> None:
    meter = AnswerMeter("application/json")

    meter.feed(body)

    assert meter.usage() == Usage(requests=1)


def test_facts_add_up_and_keep_the_last_wait_that_was_named() -> None:
    facts = Facts()

    for status, wait in (
        (429, "30"),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT"),
        (529, None),
        (401, None),
    ):
        facts = noted(facts, status, wait)

    assert facts == Facts(2, 1, 1, 30.0, 401)
