"""The plans of runs, parsed once."""

from __future__ import annotations

import threading
from collections import OrderedDict

from sqlalchemy.orm import Session

from commandcenter.core.plan import Plan, from_json
from commandcenter.store import views

PLANS_MAX = 8


class Plans:
    """The plans of the last few runs, parsed once: every stage of every task asks for one."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[tuple[str, int], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: Session, run: str) -> Plan:
        """Return a run's plan as it is now: a task of it may have been split into others."""
        key = (run, views.plan_revision(session, run))
        with self._lock:  # stages ask from many threads
            plan = self._parsed.get(key)
            if plan is None:
                plan = self._parsed[key] = from_json(views.read_plan(session, run))
            self._parsed.move_to_end(key)
            while len(self._parsed) > PLANS_MAX:
                self._parsed.popitem(last=False)
            return plan
