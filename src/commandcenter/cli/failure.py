"""How errors reach a person: a sentence, a hint and an exit code; never a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from commandcenter.cli.wording import clean
from commandcenter.core.errors import CommandCenterError, InputError

if TYPE_CHECKING:
    from commandcenter.api.schema import DiagnosticAnswer, Problem

FAILED = 1
WRONG_INPUT = 2
OUR_BUG = 70
_SIGNALLED = 128


class Refused(CommandCenterError):  # noqa: N818 - it names an outcome
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, hint=problem.hint or "")
        self.problem = problem


class Interrupted(Exception):  # noqa: N818 - it names an outcome
    """A signal ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _SIGNALLED + number


def tell(error: BaseException) -> int:
    """Print what went wrong on stderr and return the exit code."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            return _SIGNALLED + signal.SIGINT
        case Interrupted():
            return error.exit_code
        case click.ClickException():
            return _tell_usage(error)
        case Refused():
            _tell_diagnostics(error.problem.diagnostics or ())
            code = _code_of_status(error.problem.status)
            _say(error.message, error.hint or (_where_it_is_logged() if code == OUR_BUG else ""))
            return code
        case CommandCenterError():
            _say(error.message, error.hint)
            return WRONG_INPUT if isinstance(error, InputError) else FAILED
        case _:
            return _tell_bug(error)


def _tell_usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "commandcenter"
    _say(error.format_message(), f"{command} --help")
    return WRONG_INPUT


def _tell_diagnostics(diagnostics: Sequence[DiagnosticAnswer]) -> None:
    for each in diagnostics:
        place = f"{each.path}:{each.line}:{each.column}"
        print(clean(f"{place}: {each.severity}[{each.code}]: {each.message}"), file=sys.stderr)
        if each.hint:
            print(f"  hint: {clean(each.hint)}", file=sys.stderr)


def _where_it_is_logged() -> str:
    handler = _log_file()
    where = handler.baseFilename if handler else "the log of the service"
    return f"please report it; the traceback is in {where}"


def _code_of_status(status: int) -> int:
    if status == 500:
        return OUR_BUG
    return FAILED if status > 500 else WRONG_INPUT


def _tell_bug(error: BaseException) -> int:
    _say(
        f"CommandCenter failed unexpectedly: {type(error).__name__}: {error}",
        f"please report it; the traceback is in {_record(error)}",
    )
    return OUR_BUG


def _record(error: BaseException) -> str:
    handler = _log_file()
    if handler is not None:
        logging.getLogger(__name__).error("The command failed unexpectedly.", exc_info=error)
        return handler.baseFilename
    descriptor, path = tempfile.mkstemp(prefix="commandcenter-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        traceback.print_exception(error, file=file)
    return path


def _log_file() -> logging.FileHandler | None:
    handlers = logging.getLogger().handlers
    return next((each for each in handlers if isinstance(each, logging.FileHandler)), None)


def _say(message: str, hint: str = "") -> None:
    print(f"error: {clean(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {clean(hint)}", file=sys.stderr)
