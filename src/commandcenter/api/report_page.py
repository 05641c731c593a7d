"""A report as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from commandcenter.api import report_words
from commandcenter.api.report_patterns import ending, ledger, rows
from commandcenter.api.report_timeline import timeline
from commandcenter.core.explanation import what_decided
from commandcenter.core.run_report import RunReport
from commandcenter.core.words import clean, count, duration, one_line, price

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may do with the page: show it."""


def page(report: RunReport) -> str:
    """Return the report as HTML."""
    return _template().render(
        report=report, run=report.run, timeline=timeline(report), policy=POLICY
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "at": report_words.at,
        "count": count,
        "decided": what_decided,
        "duration": duration,
        "ending": ending,
        "judged": report_words.judged,
        "ledger": ledger,
        "line": one_line,
        "outcome": report_words.outcome,
        "plays": report_words.plays,
        "price": price,
        "rows": rows,
        "spent": report_words.spent,
        "stands": report_words.stands,
        "used": report_words.used_words,
        "words": lambda word: str(word).replace("_", " ").replace("-", " "),
    }
    environment.tests["link"] = lambda url: str(url).startswith(("https://", "http://"))
    return environment.get_template("report.html")


def _shown(value: object) -> object:
    """Leave out of foreign text what would change how the text around it reads."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
