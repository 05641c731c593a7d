"""A plan as JSON, and back: the form in which it is stored, shown and accepted."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from commandcenter.core.errors import InputError
from commandcenter.core.plan.model import SCHEMA, Plan

# Any below: JSON that is not yet known to be a plan, or a type hint taken apart.


class Fault(NamedTuple):
    """Something in a JSON document that a plan does not have."""

    path: tuple[str | int, ...]
    """Keys and indexes that lead to it."""
    message: str

    def __str__(self) -> str:
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path)
        return f"{where.lstrip('.') or 'plan'}: {self.message}"


class PlanRecordError(InputError):
    """A JSON document is not a plan; carries all faults."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(str(f) for f in faults[:5]))
        self.faults = faults


def to_json(plan: Plan, *, indent: int | None = None) -> str:
    """Return the canonical JSON text; `from_json` gives an equal plan."""
    return json.dumps({"schema": SCHEMA} | _record(plan), indent=indent, ensure_ascii=False)


def from_json(text: str) -> Plan:
    """Return the plan of a canonical JSON text.

    Raises:
        PlanRecordError: it is JSON, but not a plan; every fault is named.
        json.JSONDecodeError: it is not JSON.
    """
    return from_record(json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant))


def from_record(record: object) -> Plan:
    """Return the plan of a parsed JSON document. Unknown keys and wrong types are faults.

    Raises:
        PlanRecordError: it is not a plan; every fault is named.
    """
    faults: list[Fault] = []
    if not isinstance(record, dict):
        raise PlanRecordError((Fault((), "is not an object"),))
    if record.get("schema") != SCHEMA:
        faults.append(Fault(("schema",), f"is not {SCHEMA!r}"))
    body = {key: value for key, value in record.items() if key != "schema"}
    plan = _object(Plan, body, (), faults)
    if faults:
        raise PlanRecordError(tuple(faults))
    assert isinstance(plan, Plan)
    return plan


class _Twice(dict[str, object]):
    """An object in which a key stood twice."""

    key = ""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = _Twice(found)
    keys = [key for key, _ in pairs]
    twice.key = next(key for key in keys if keys.count(key) > 1)
    return twice


def _no_constant(name: str) -> float:
    raise PlanRecordError((Fault((), f"holds {name}, which is not JSON"),))


def _record(value: object) -> Any:
    if is_dataclass(value):
        return {f.name: _record(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_record(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _object(kind: type, value: object, path: tuple[str | int, ...], faults: list[Fault]) -> Any:
    if not isinstance(value, dict):
        faults.append(Fault(path, "is not an object"))
        return None
    if isinstance(value, _Twice):
        faults.append(Fault((*path, value.key), "is there twice"))
    known = {f.name: f for f in fields(kind)}
    faults += [Fault((*path, str(k)), "is not known") for k in value if k not in known]
    faults += [
        Fault((*path, name), "is missing")
        for name, f in known.items()
        if name not in value and f.default is MISSING and f.default_factory is MISSING
    ]
    hints = _hints(kind)
    before = len(faults)
    given = {
        name: _value(hints[name], value[name], (*path, name), faults)
        for name in known
        if name in value
    }
    missing = any(f.path[:-1] == path and f.message == "is missing" for f in faults)
    return None if missing or len(faults) > before else kind(**given)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any, path: tuple[str | int, ...], faults: list[Fault]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(a for a in arguments if a is not type(None))
        return None if value is None else _value(inner, value, path, faults)
    if origin is tuple:
        return _items(arguments[0], value, path, faults)
    if origin is Mapping:
        return _mapping(arguments[1], value, path, faults)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _object(hint, value, path, faults)
    return _scalar(hint, value, path, faults)


def _items(hint: Any, value: Any, path: tuple[str | int, ...], faults: list[Fault]) -> Any:
    if not isinstance(value, list):
        faults.append(Fault(path, "is not a list"))
        return ()
    return tuple(_value(hint, item, (*path, n), faults) for n, item in enumerate(value))


def _mapping(
    hint: type, value: Any, path: tuple[str | int, ...], faults: list[Fault]
) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(type(v) is hint for v in value.values()):
        kind = "strings" if hint is str else "whole numbers"
        faults.append(Fault(path, f"is not an object of {kind}"))
        return {}
    if not all(_storable(word) for pair in value.items() for word in pair if type(word) is str):
        faults.append(Fault(path, "holds a NUL or half a surrogate pair"))
    return MappingProxyType(dict(value))


def _scalar(hint: Any, value: Any, path: tuple[str | int, ...], faults: list[Fault]) -> Any:
    if issubclass(hint, StrEnum):
        if value in list(hint):
            return hint(value)
        faults.append(Fault(path, f"is not one of {', '.join(hint)}"))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif type(value) is hint:
        if hint is str and not _storable(value):
            faults.append(Fault(path, "holds a NUL or half a surrogate pair"))
        return value
    else:
        names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
        faults.append(Fault(path, f"is not {names[hint]}"))
    return None


def _storable(text: str) -> bool:
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)
