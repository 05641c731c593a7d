"""The three kinds of error: yours to fix, the world's, and (by `assert`) our bug."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commandcenter.core.plan import Diagnostic


class CommandCenterError(Exception):
    """An error that is told to a person: one sentence, and a hint that says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(CommandCenterError):
    """Yours to fix: a plan, a repository, an option or a setting is wrong. Exit code 2."""


class NotFound(InputError):  # noqa: N818 - reads as the outcome it is
    """Nothing has this name."""


def newer_record(what: str) -> InputError:
    """Return the error of a record that this version cannot read."""
    return InputError(
        f"A newer version of CommandCenter stored {what} in this data folder.",
        hint="use that version, or another data folder: --data-dir",
    )


class NotYet(InputError):  # noqa: N818
    """Something else has to end first; asking again later can work."""


class PlanRefused(InputError):  # noqa: N818
    """A plan has errors; `diagnostics` holds all of them, and the warnings."""

    def __init__(
        self, message: str, diagnostics: tuple[Diagnostic, ...], *, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = diagnostics


class AlreadyRunning(InputError):  # noqa: N818
    """Another live service owns the data folder; it answers at `url`."""

    def __init__(self, url: str, process: str = "") -> None:
        who = f"A service (process {process})" if process else "A service"
        super().__init__(
            f"{who} is running on this data folder already, at {url}.",
            hint="use it, or stop it first",
        )
        self.url = url


class WorldError(CommandCenterError):
    """The world's: a disk, a network, a program. The flow retries it within its budget."""


class Unready(WorldError):  # noqa: N818 - it names what is so
    """The service is starting or stopping, and takes no orders; soon there is one that does."""


class DiskFull(WorldError):  # noqa: N818 - it names what is so
    """There is no room left on a disk. Waited for: nothing is wrong with what met it."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_WORDS = ("No space left on device", "Disk quota exceeded")
_WEATHER = (errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE)


def worlds(error: WorldError | OSError) -> WorldError | None:
    """Return the world's error that this is, `DiskFull` if it is one; None when it is our bug."""
    if isinstance(error, OSError):
        if error.errno in _NO_ROOM:
            return DiskFull(f"The disk is full: {error}", hint="free some space")
        return WorldError(f"The machine refused: {error}") if error.errno in _WEATHER else None
    if any(words in error.message for words in _NO_ROOM_WORDS):
        return DiskFull(error.message, hint="free some space")
    return error


class GitError(WorldError):
    """A git command failed; carries the command and what it printed."""

    def __init__(
        self, message: str, *, exit_code: int | None = None, stderr: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.stderr = stderr


class WorkspaceError(WorldError):
    """A workspace could not be made, used or read."""


class CaptureRefused(CommandCenterError):  # noqa: N818 - it names an outcome, as git does
    """What an agent left cannot be taken: a forbidden path, too big, or refused by fsck.

    It is the agent's to fix, so its words go back to the agent.
    """


class Refusal(StrEnum):
    """What a forge's no means, whatever its words and status are."""

    TOKEN = "the token is not taken"  # noqa: S105 - it is none
    ABSENT = "there is no such thing, or the token may not see it"
    NOTHING_NEW = "the branch has nothing that its base lacks"
    MOVED = "its head is another one by now"
    UNMERGEABLE = "it conflicts, has ended, or something that the forge requires is missing"


class ForgeError(WorldError):
    """A forge answered with an error, or not at all.

    `status` is its HTTP status, if any; `refusal` is what that means, where it is known.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        hint: str = "",
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.refusal = refusal

    def meaning(self, refusal: Refusal) -> ForgeError:
        """Return the same error, now that it is known what it means."""
        return ForgeError(self.message, status=self.status, hint=self.hint, refusal=refusal)
