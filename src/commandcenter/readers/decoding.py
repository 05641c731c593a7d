"""From bytes to text, strictly: a plan that is not clean UTF-8 is refused, with the place."""

from __future__ import annotations

import hashlib

from commandcenter.core.plan import SIZE_BYTES_MAX, Diagnostic
from commandcenter.readers.reader import PlanSource, PlanText


def decode(source: PlanSource) -> PlanText | Diagnostic:
    """Return the text of a plan, or the diagnostic that says why there is none."""
    content = source.content
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > SIZE_BYTES_MAX:
        message = f"the plan has {len(raw)} bytes; at most {SIZE_BYTES_MAX} are accepted"
        return Diagnostic("P014", message, hint="split it into several plans")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Diagnostic("P014", "the plan is UTF-16", hint="save it as UTF-8")
    if (nul := raw.find(b"\0")) >= 0:
        return _misplaced(raw, nul, "a NUL byte")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The offsets of utf-8-sig do not count the byte order mark that it drops.
        mark = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
        return _misplaced(
            raw, error.start + mark, f"invalid UTF-8 (0x{raw[error.start + mark]:02x})"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        return Diagnostic("P001", "the plan is empty", hint="write `### Task 1.1: Title`")
    return PlanText(text, source.path, hashlib.sha256(raw).hexdigest())


def _misplaced(raw: bytes, offset: int, what: str) -> Diagnostic:
    before = raw[:offset].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    line = before.count(b"\n") + 1
    column = len(before) - (before.rfind(b"\n") + 1) + 1
    message = f"the plan is not text: {what} at byte {offset}"
    return Diagnostic("P014", message, line, column, hint="save it as UTF-8 text")
