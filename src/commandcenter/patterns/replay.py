"""Plays a pattern up to where it stands, by what it was answered before."""

from __future__ import annotations

from collections.abc import Iterable

from commandcenter.core.pattern import Answer, Conclusion, Flow, Step


def replay(flow: Flow, answers: Iterable[Answer]) -> Step | Conclusion:
    """Return the step that comes after these answers, or how the pattern ends."""
    try:
        step = next(flow)
        for answer in answers:
            step = flow.send(answer)
    except StopIteration as end:
        conclusion: Conclusion = end.value
        return conclusion
    return step
