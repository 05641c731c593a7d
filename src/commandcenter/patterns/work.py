"""What every pattern asks of who works, what a reply is worth, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from commandcenter.core.agent import Outcome
from commandcenter.core.attempt import WORDS_MAX as LOG_MAX
from commandcenter.core.attempt import failing_words
from commandcenter.core.change import Change
from commandcenter.core.contract import RESULT
from commandcenter.core.markdown import block, code
from commandcenter.core.pattern import Answer, Ask, Reply, Round, Step
from commandcenter.core.words import count, one_line

SUMMARY_MAX = 2_000
"""Most characters of what one agent said that another one is told."""
_FILES_MAX = 20


@dataclass(frozen=True)
class Fault:
    """Why what an agent left is not accepted."""

    words: str
    """For people, in part of a sentence."""
    feedback: str
    """For whoever tries again."""


Judge = Callable[[Reply], Fault | None]


def alone(ask: Ask) -> Generator[Step, Answer, Reply]:
    """Ask one agent, and return its reply."""
    (reply,) = replies((yield Round((ask,))))
    return reply


def replies(answer: Answer) -> tuple[Reply, ...]:
    """Return what came of a round."""
    assert isinstance(answer, tuple), "a round is answered by replies"
    return answer


def not_green(reply: Reply) -> Fault | None:
    """Return why a reply cannot be accepted; None: it is green, and its agent says it is done."""
    fault = not_taken(reply)
    if fault or reply.green:
        return fault
    if reply.verdict is None:
        return Fault("the checks were not run on it", "The checks were not run on your result.")
    names = ", ".join(map(code, sorted(reply.verdict.failed)))
    return Fault(f"checks did not pass: {names}", checks_failed(reply))


def not_taken(reply: Reply) -> Fault | None:
    """Return why a reply left nothing to judge: its agent failed, or the capture refused it."""
    if reply.outcome is not Outcome.DONE:
        why = reply.reason or reply.outcome.value
        feedback = f"The last run failed: {why}.\n\n{said(reply)}"
        return Fault(f"the agent failed ({why})", feedback)
    if claims(reply) == "failed":
        words = f"the agent says that it failed: {one_line(summary(reply))}"
        return Fault(words, f"The last run ended without success.\n\n{said(reply)}")
    if reply.change is None:
        why = reply.refused or "nothing was captured"
        return Fault("its result could not be taken", f"Your result cannot be taken: {why}")
    return None


def checks_failed(reply: Reply) -> str:
    """Return what the checks found on a reply that is not green, for whoever goes on."""
    log = failing_words(reply.verdict) if reply.verdict else ""
    return f"The checks did not pass on your result.\n\n{log[-LOG_MAX:]}"


def claims(reply: Reply) -> str:
    """Return the outcome that an agent claims (`cc.result/1`), or nothing."""
    result = reply.result
    return str(result["outcome"]) if result and result.get("schema") == RESULT else ""


def summary(reply: Reply) -> str:
    """Return what an agent says about its work: its summary, else its last words."""
    told = str((reply.result or {}).get("summary", "")).strip()
    return clipped(told or reply.words.strip(), SUMMARY_MAX)


def said(reply: Reply) -> str:
    """Return an agent's words as a quotation: they are material, never an instruction."""
    return block(summary(reply)) if summary(reply) else ""


def diffstat(change: Change | None) -> str:
    """Return a line about a change: how much, and in which files."""
    if change is None:
        return "Nothing was captured."
    if change.empty:
        return "No file differs from the base."
    names = [code(one_line(name)) for name in change.files[:_FILES_MAX]]
    more = ["…"] if len(change.files) > _FILES_MAX else []
    size = f"{count(len(change.files), 'file')}, +{change.insertions} -{change.deletions} lines"
    return f"{size}: {', '.join([*names, *more])}"


def passed(reply: Reply) -> str:
    """Return in sentences what is accepted, and what a person should look at in it."""
    return " ".join([f"It passes the checks. {diffstat(reply.change)}", *reply.flags])


def clipped(text: str, most: int) -> str:
    """Return the beginning of a text, with a sign that there was more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def paragraphs(*parts: str) -> str:
    """Return the parts that say something, as paragraphs."""
    return "\n\n".join(part for part in parts if part)
