"""The notation of patterns and what belongs to them: `vote(3, judge=opus)`, `attempts=2`.

    pattern  := name [ "(" argument {"," argument} ")" ]
    argument := value | key "=" value
    value    := number | duration | money | name | "quoted text" | "[" value {"," value} "]"

Every function here gives what a text says or the `Fault` in it, and never anything in between;
every `..._text` gives a text that says the same again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from commandcenter.core.agent import Role
from commandcenter.core.pattern import (
    CANDIDATES_MAX,
    HANDOFFS_MAX,
    ROUNDS_MAX,
    STAGES_MAX,
    SUBTASKS_MAX,
    TEAM_MAX,
    Chain,
    Handoff,
    Magentic,
    Orchestrate,
    Pattern,
    Pick,
    Route,
    Rule,
    Single,
    Stage,
    Vote,
)
from commandcenter.core.plan.model import ReviewPolicy, TaskLimits
from commandcenter.core.plan.spelling import closest

NAMES = ("single", "chain", "route", "vote", "plan", "magentic")
NONE = "none"
"""The word for nobody: no judge, no review, no handoff."""
REVIEWS_MAX = 20
TEXT_MAX = 10_000
ATTEMPTS_MAX = 100
STAGE_ATTEMPTS_MAX = 10
RULES_MAX = 50
TIMEOUT_MAX_S = 7 * 24 * 3600
BUDGET_MAX_USD = 1_000_000

_TOKEN = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<mark>[()\[\],=:])|(?P<word>[^\s()\[\],=:"]+))',
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_WHOLE = re.compile(r"\d{1,6}", re.ASCII)
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(s|m|h|)", re.ASCII)
_MONEY = re.compile(r"\$?(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Fault:
    """What is wrong in a text, and where."""

    column: int
    """From 1."""
    message: str
    hint: str = ""

    def word(self, text: str) -> str:
        """Return the word of the text that it is about, or nothing at its end."""
        found = _TOKEN.match(text, self.column - 1)
        return found.group().strip() if found else ""


def parse_pattern(text: str) -> Pattern | Fault:
    """Return the pattern that a text names."""
    try:
        return _pattern(text)
    except _Misread as misread:
        return misread.fault


def parse_review(text: str) -> ReviewPolicy | Fault:
    """Return how changes are reviewed: `2`, `none`, `2, reviewer=codex`."""
    try:
        given = _Given(text, _arguments(text), ("reviewer",))
        if given.is_none():
            return ReviewPolicy(0)
        rounds = given.first("rounds", 0, REVIEWS_MAX)
        policy = ReviewPolicy(rounds, given.name("reviewer"))
        given.finish()
    except _Misread as misread:
        return misread.fault
    if policy == ReviewPolicy():
        return Fault(1, "nothing is said of the review", "write `2`, or `none`")
    return ReviewPolicy(0) if policy.reviewer == NONE else policy


def parse_handoff(text: str) -> Handoff | Fault:
    """Return whom work may be passed on to: `[claude, codex], max=3`, `none`."""
    try:
        given = _Given(text, _arguments(text), ("max",))
        if given.is_none():
            return Handoff()
        handoff = Handoff(
            given.names_given("profile", 1, TEAM_MAX), given.count("max", 3, 1, HANDOFFS_MAX)
        )
        given.finish()
    except _Misread as misread:
        return misread.fault
    return handoff


def parse_limits(text: str) -> TaskLimits | Fault:
    """Return the bounds of a task: `attempts=2, timeout=90m, budget_usd=12`."""
    keys = ("attempts", "timeout", "budget_usd")
    try:
        given = _Given(text, _arguments(text), keys)
        limits = TaskLimits(
            given.whole("attempts", 1, ATTEMPTS_MAX),
            given.duration("timeout", 1, TIMEOUT_MAX_S),
            given.money("budget_usd", BUDGET_MAX_USD),
        )
        given.finish()
    except _Misread as misread:
        return misread.fault
    if limits == TaskLimits():
        return Fault(1, "no limit is named", "write `attempts=2, timeout=90m, budget_usd=12`")
    return limits


def parse_roles(text: str) -> Mapping[Role, str] | Fault:
    """Return the profiles of roles: `judge=opus, plan=opus`."""
    try:
        given = _Given(text, _arguments(text), tuple(Role))
        roles = {role: name for role in Role if (name := given.name(role.value))}
        given.finish()
    except _Misread as misread:
        return misread.fault
    if not roles:
        return Fault(1, "no role is named", f"roles are {', '.join(Role)}: write `judge=opus`")
    return MappingProxyType(roles)


def parse_profile(text: str) -> str | Fault:
    """Return the profile that a text names."""
    try:
        given = _Given(text, _arguments(text), ())
        (name,) = given.names_given("profile", 1, 1)
        given.finish()
    except _Misread as misread:
        return misread.fault
    return name


def pattern_text(pattern: Pattern) -> str:
    """Return the text that names a pattern; what is as it always is goes without saying."""
    match pattern:
        case Single():
            return "single"
        case Chain(stages, attempts):
            return _called("chain", *map(_stage_text, stages), attempts=(attempts, 2))
        case Route(profiles, rules, ask, fallback):
            return _called(
                "route",
                *map(_word, profiles),
                rules=(_listed(_quoted(f"{r.pattern} -> {r.profile}") for r in rules), "[]"),
                by=("agent" if ask else "rules", "agent"),
                fallback=(_word(fallback), ""),
            )
        case Vote(candidates, agents, judged, judge, pick, quorum):
            return _called(
                "vote",
                str(candidates),
                agents=(_listed(map(_word, agents)), "[]"),
                judge=(_word(judge) if judged else NONE, ""),
                pick=(pick.value, Pick.RANKED.value),
                quorum=(quorum, 1),
            )
        case Orchestrate(tasks_max, planner):
            return _called("plan", max_tasks=(tasks_max, 8), planner=(_word(planner), ""))
        case Magentic(team, manager, rounds_max, stalls_max, resets_max):
            return _called(
                "magentic",
                team=(_listed(map(_word, team)), "[]"),
                manager=(_word(manager), ""),
                rounds=(rounds_max, 12),
                stalls=(stalls_max, 3),
                resets=(resets_max, 2),
            )


def review_text(policy: ReviewPolicy) -> str:
    """Return the text that says how changes are reviewed."""
    if policy.rounds == 0:
        return NONE
    parts = ["" if policy.rounds is None else str(policy.rounds)]
    parts += [f"reviewer={_word(policy.reviewer)}" if policy.reviewer else ""]
    return ", ".join(filter(None, parts))


def handoff_text(handoff: Handoff) -> str:
    """Return the text that says whom work may be passed on to."""
    if not handoff.to:
        return NONE
    more = "" if handoff.handoffs_max == Handoff.handoffs_max else f", max={handoff.handoffs_max}"
    return f"{_listed(map(_word, handoff.to))}{more}"


def limits_text(limits: TaskLimits) -> str:
    """Return the text of a task's bounds; empty for none."""
    named = {
        "attempts": limits.attempts,
        "timeout": None if limits.timeout_s is None else _duration(limits.timeout_s),
        "budget_usd": None if limits.budget_usd is None else _plain(limits.budget_usd),
    }
    return ", ".join(f"{key}={value}" for key, value in named.items() if value is not None)


def roles_text(roles: Mapping[Role, str]) -> str:
    """Return the text that names the profiles of roles; empty for none."""
    return ", ".join(f"{role}={_word(roles[role])}" for role in Role if role in roles)


def profile_text(name: str) -> str:
    """Return the text that names a profile."""
    return _word(name)


PARSERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "pattern": parse_pattern,
        "handoff": parse_handoff,
        "review": parse_review,
        "agent": parse_profile,
        "limits": parse_limits,
        "roles": parse_roles,
    }
)
"""What reads the words of a plan, the settings and the command line, by the name of a label."""


# How a text is made


def _called(name: str, *parts: str, **named: tuple[object, object]) -> str:
    given = [*parts, *(f"{key}={value}" for key, (value, usual) in named.items() if value != usual)]
    return f"{name}({', '.join(given)})" if given else name


def _stage_text(stage: Stage) -> str:
    text = _quoted(stage.text) if stage.text else ""
    return ": ".join(filter(None, (stage.profile, text)))


def _listed(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _word(name: str) -> str:
    return name if not name or _NAME.fullmatch(name) else _quoted(name)


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{_plain(seconds / size)}{unit}"
    return f"{_plain(seconds)}s"


def _plain(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")


# How a text is read


class _Misread(Exception):  # noqa: N818 - it never leaves this module
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def _refuse(column: int, message: str, hint: str = "") -> NoReturn:
    raise _Misread(Fault(column, message, hint))


@dataclass(frozen=True)
class _Token:
    text: str
    column: int
    kind: str
    """`quoted`, `mark` or `word`; `end` behind the last one."""


@dataclass(frozen=True)
class _Value:
    items: tuple[_Token, ...]
    column: int
    listed: bool = False
    stage: str = ""
    """The profile before the colon, in `codex: "write the tests"`."""


@dataclass(frozen=True)
class _Argument:
    key: str
    value: _Value
    column: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > TEXT_MAX:
        _refuse(1, f"this is longer than {TEXT_MAX:,} characters")
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + 1 + len(text[at:]) - len(text[at:].lstrip())
            _refuse(column, "a quotation is never closed", 'end it with `"`')
        assert match.lastgroup is not None
        word = match[match.lastgroup]
        start = match.start(match.lastgroup) + (0 if match.lastgroup == "quoted" else 1)
        if match.lastgroup == "quoted":
            word = re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
        found.append(_Token(word, start, match.lastgroup))
        at = match.end()
    return [*found, _Token("", end + 1, "end")]


class _Tokens:
    """Tokens that are taken one after another."""

    def __init__(self, text: str) -> None:
        self._all = _tokens(text)
        self._at = 0

    @property
    def next(self) -> _Token:
        return self._all[self._at]

    def take(self) -> _Token:
        token = self.next
        self._at += token.kind != "end"
        return token

    def met(self, mark: str) -> bool:
        """Take this mark if it is next."""
        if (self.next.kind, self.next.text) != ("mark", mark):
            return False
        self._at += 1
        return True

    def demand(self, mark: str) -> None:
        if not self.met(mark):
            self.unexpected(f"`{mark}`")

    def word(self, what: str) -> _Token:
        if self.next.kind not in ("word", "quoted"):
            self.unexpected(what)
        return self.take()

    def unexpected(self, wanted: str) -> NoReturn:
        token = self.next
        shown = "the text ends" if token.kind == "end" else f"`{token.text[:40]}` stands"
        _refuse(token.column, f"{shown} where {wanted} should be")


def _pattern(text: str) -> Pattern:
    tokens = _Tokens(text)
    name = tokens.word("the name of a pattern")
    if name.text not in NAMES:
        hint = closest(name.text[:40], NAMES) or f"patterns are {', '.join(NAMES)}"
        _refuse(name.column, f"there is no pattern `{name.text[:40]}`", hint)
    arguments: list[_Argument] = []
    if tokens.met("(") and not tokens.met(")"):
        arguments = _sequence(tokens)
        tokens.demand(")")
    if tokens.next.kind != "end":
        tokens.unexpected("the end")
    return _BUILDERS[name.text](text, arguments)


def _arguments(text: str) -> list[_Argument]:
    tokens = _Tokens(text)
    if tokens.next.kind == "end":
        return []
    found = _sequence(tokens)
    if tokens.next.kind != "end":
        tokens.unexpected("`,`")
    return found


def _sequence(tokens: _Tokens) -> list[_Argument]:
    found = [_argument(tokens)]
    while tokens.met(","):
        found.append(_argument(tokens))
    return found


def _argument(tokens: _Tokens) -> _Argument:
    column = tokens.next.column
    if tokens.met("["):
        return _Argument("", _list(tokens, column), column)
    first = tokens.word("a value")
    if first.kind == "word" and tokens.met("="):
        start = tokens.next.column
        value = (
            _list(tokens, start) if tokens.met("[") else _Value((tokens.word("a value"),), start)
        )
        return _Argument(first.text, value, column)
    if first.kind == "word" and tokens.met(":"):
        stage = tokens.next
        if stage.kind != "quoted":
            tokens.unexpected("a quoted text")
        return _Argument("", _Value((tokens.take(),), column, stage=first.text), column)
    return _Argument("", _Value((first,), column), column)


def _list(tokens: _Tokens, column: int) -> _Value:
    items: list[_Token] = []
    if not tokens.met("]"):
        items.append(tokens.word("a value"))
        while tokens.met(","):
            items.append(tokens.word("a value"))
        tokens.demand("]")
    return _Value(tuple(items), column, listed=True)


class _Given:
    """Arguments that are asked for one after another; what nobody asked for is a fault."""

    def __init__(self, text: str, arguments: Sequence[_Argument], keys: tuple[str, ...]) -> None:
        self._end = len(text.rstrip()) + 1
        self._named: dict[str, _Value] = {}
        self._positional = [each.value for each in arguments if not each.key]
        for each in arguments:
            if each.key and each.key not in keys:
                hint = closest(each.key[:40], keys)
                hint = hint or (f"known are {', '.join(keys)}" if keys else "remove it")
                _refuse(each.column, f"there is no `{each.key[:40]}=` here", hint)
            if each.key in self._named:
                _refuse(each.column, f"`{each.key}` is there twice")
            if each.key:
                self._named[each.key] = each.value

    def has(self, key: str) -> bool:
        return key in self._named

    def column(self, key: str) -> int:
        """Return where the value of a key is, else the end of the text."""
        return self._named[key].column if key in self._named else self._end

    def is_none(self) -> bool:
        """Say whether all that is given is the word for nobody."""
        if self._named or len(self._positional) != 1:
            return False
        only = self._positional[0]
        return not only.listed and only.items[0].text in (NONE, "no", "off", "false")

    def first(self, what: str, low: int, high: int) -> int | None:
        """Return the first argument without a key, a whole number; None when there is none."""
        if not self._positional:
            return None
        return _whole(_only(self._positional.pop(0)), what, low, high)

    def whole(self, key: str, low: int, high: int) -> int | None:
        value = self._named.get(key)
        return None if value is None else _whole(_only(value), key, low, high)

    def count(self, key: str, usual: int, low: int, high: int) -> int:
        found = self.whole(key, low, high)
        return usual if found is None else found

    def duration(self, key: str, low: float, high: float) -> float | None:
        if (value := self._named.get(key)) is None:
            return None
        token = _only(value)
        found = _DURATION.fullmatch(token.text)
        if found is None:
            _refuse(
                token.column, f"`{token.text[:40]}` is no duration", "write `45m`, `2h` or `90s`"
            )
        seconds = float(found[1]) * _SECONDS[found[2]]
        if not low <= seconds <= high:
            _refuse(token.column, f"{key} is {token.text}, which is not 1s to {high // 3600:g}h")
        return seconds

    def money(self, key: str, high: float) -> float | None:
        if (value := self._named.get(key)) is None:
            return None
        token = _only(value)
        found = _MONEY.fullmatch(token.text)
        if found is None:
            _refuse(
                token.column, f"`{token.text[:40]}` is no amount of money", "write `12` or `0.5`"
            )
        if float(found[1]) > high:
            _refuse(token.column, f"{key} is {token.text}, which is not 0 to {high:,.0f}")
        return float(found[1])

    def name(self, key: str) -> str:
        """Return a profile's name, or nothing."""
        return _profile(_only(self._named[key])) if key in self._named else ""

    def names(self, key: str, high: int) -> tuple[str, ...]:
        return _profiles(self._named[key], key, high) if key in self._named else ()

    def names_given(self, what: str, low: int, high: int) -> tuple[str, ...]:
        """Return the names that stand without a key, in lists or not."""
        tokens = [token for value in self._positional for token in self._unstaged(value).items]
        column = self._positional[0].column if self._positional else self._end
        self._positional = []
        if not low <= len(tokens) <= high:
            bounds = f"{low}" if low == high else f"{low} to {high}"
            named = f"no {what} is" if not tokens else f"{len(tokens)} {what}s are"
            _refuse(column, f"{named} named, where {bounds} should be")
        return tuple(_profile(token) for token in tokens)

    def _unstaged(self, value: _Value) -> _Value:
        if value.stage:
            _refuse(value.column, f"`{value.stage[:40]}:` belongs into a chain only")
        return value

    def stages(self) -> tuple[Stage, ...]:
        """Return what stands without a key as the stages of a chain."""
        values, self._positional = self._positional, []
        found = tuple(_stage(token, value.stage) for value in values for token in value.items)
        if len(found) > STAGES_MAX:
            message = f"a chain has {len(found)} stages; at most {STAGES_MAX} are possible"
            _refuse(values[0].column, message)
        return found

    def rules(self, key: str) -> tuple[Rule, ...]:
        if key not in self._named:
            return ()
        tokens = self._named[key].items
        if len(tokens) > RULES_MAX:
            _refuse(self.column(key), f"{len(tokens)} rules are too many; {RULES_MAX} are possible")
        return tuple(map(_rule, tokens))

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of these, by default the first."""
        if key not in self._named:
            return choices[0]
        token = _only(self._named[key])
        if token.text not in choices:
            hint = closest(token.text[:40], choices) or f"write one of {', '.join(choices)}"
            _refuse(token.column, f"`{key}` cannot be `{token.text[:40]}`", hint)
        return token.text

    def finish(self) -> None:
        """Refuse what is left."""
        for value in self._positional:
            shown = value.items[0].text[:40] if value.items else "[]"
            _refuse(value.column, f"`{shown}` means nothing here", "name what it is: `key=value`")


def _only(value: _Value) -> _Token:
    if value.listed:
        _refuse(value.column, "one value is meant here, not a list")
    if value.stage:
        _refuse(value.column, f"`{value.stage[:40]}:` belongs into a chain only")
    return value.items[0]


def _whole(token: _Token, what: str, low: int, high: int) -> int:
    if not _WHOLE.fullmatch(token.text):
        _refuse(token.column, f"{what} is `{token.text[:40]}`, which is no whole number")
    if not low <= int(token.text) <= high:
        _refuse(token.column, f"{what} is {int(token.text)}, which is not {low} to {high}")
    return int(token.text)


def _profile(token: _Token) -> str:
    if token.kind == "word" and not _NAME.fullmatch(token.text):
        hint = 'a name with other characters than letters, digits and "._-" is quoted'
        _refuse(token.column, f"`{token.text[:40]}` is no name of a profile", hint)
    if not token.text.strip():
        _refuse(token.column, "the name of a profile is empty")
    return token.text


def _profiles(value: _Value, key: str, high: int) -> tuple[str, ...]:
    if len(value.items) > high:
        _refuse(value.column, f"`{key}` names {len(value.items)} profiles; {high} are possible")
    return tuple(map(_profile, value.items))


def _stage(token: _Token, profile: str) -> Stage:
    if token.kind == "word":
        return Stage(profile=_profile(token))
    if not token.text.strip():
        _refuse(token.column, "a stage has nothing to do")
    if profile and not _NAME.fullmatch(profile):
        _refuse(token.column, f"`{profile[:40]}` is no name of a profile")
    return Stage(token.text, profile)


def _rule(token: _Token) -> Rule:
    pattern, arrow, profile = (part.strip() for part in token.text.rpartition("->"))
    if not (pattern and arrow and profile):
        hint = 'write `"docs/** -> docs"` or `"area=db -> dba"`'
        _refuse(token.column, f"`{token.text[:40]}` is no rule", hint)
    return Rule(pattern, profile)


# What each pattern takes


def _single(text: str, arguments: Sequence[_Argument]) -> Single:
    _Given(text, arguments, ()).finish()
    return Single()


def _chain(text: str, arguments: Sequence[_Argument]) -> Chain:
    given = _Given(text, arguments, ("attempts",))
    return Chain(given.stages(), given.count("attempts", 2, 1, STAGE_ATTEMPTS_MAX))


def _route(text: str, arguments: Sequence[_Argument]) -> Route:
    given = _Given(text, arguments, ("rules", "by", "fallback"))
    ask = given.choice("by", ("agent", "rules")) == "agent"
    rules = given.rules("rules")
    profiles = given.names_given("profile", 2 if ask else 0, TEAM_MAX)
    if not ask and not rules:
        _refuse(given.column("by"), "`by=rules` has no rules", 'add `rules=["docs/** -> docs"]`')
    return Route(profiles, rules, ask, given.name("fallback"))


def _vote(text: str, arguments: Sequence[_Argument]) -> Vote:
    given = _Given(text, arguments, ("agents", "judge", "pick", "quorum"))
    candidates = given.first("the number of candidates", 2, CANDIDATES_MAX)
    if candidates is None:
        _refuse(len(text.rstrip()) + 1, "a vote needs a number of candidates", "write `vote(3)`")
    judge = given.name("judge")
    vote = Vote(
        candidates,
        given.names("agents", candidates),
        judge != NONE,
        "" if judge == NONE else judge,
        Pick(given.choice("pick", tuple(Pick))),
        given.count("quorum", 1, 1, candidates),
    )
    given.finish()
    return vote


def _orchestrate(text: str, arguments: Sequence[_Argument]) -> Orchestrate:
    given = _Given(text, arguments, ("max_tasks", "planner"))
    first = given.first("max_tasks", 1, SUBTASKS_MAX)
    if first is not None and given.has("max_tasks"):
        _refuse(given.column("max_tasks"), "`max_tasks` is there twice")
    tasks_max = given.count("max_tasks", first or 8, 1, SUBTASKS_MAX)
    given.finish()
    return Orchestrate(tasks_max, given.name("planner"))


def _magentic(text: str, arguments: Sequence[_Argument]) -> Magentic:
    given = _Given(text, arguments, ("team", "manager", "rounds", "stalls", "resets"))
    if given.has("team"):
        given.finish()
        team = given.names("team", TEAM_MAX)
    else:
        team = given.names_given("member", 0, TEAM_MAX)
    return Magentic(
        team,
        given.name("manager"),
        given.count("rounds", 12, 2, ROUNDS_MAX),
        given.count("stalls", 3, 0, ROUNDS_MAX),
        given.count("resets", 2, 0, ROUNDS_MAX),
    )


_BUILDERS: Mapping[str, Callable[[str, Sequence[_Argument]], Pattern]] = MappingProxyType(
    {
        "single": _single,
        "chain": _chain,
        "route": _route,
        "vote": _vote,
        "plan": _orchestrate,
        "magentic": _magentic,
    }
)
