"""Rules over transactions as settings write them, and what may be wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

Decision = Literal["approve", "review", "block"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
SCORE, TIME, MCC = "score", "event_time", "mcc"
TEXTS = ("transaction_id", "card_id", "terminal_id", "currency", "country", "channel")
FLAGS = ("weekend", "night")
MOST_RULES = 1000
LARGEST = 1e300  # a whole number in TOML has no bound, a float64 has


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`field operator value`; for `in` and `not in` the value is a list."""

    field: str
    operator: str
    value: Any


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One condition, or several in `all` that must hold together, and what is decided where they do.

    An optional field that a transaction lacks is no value: of the operators, only `!=` and `not in` hold for it.
    """

    name: str
    decision: str
    reason: str
    field: str | None = None
    operator: str | None = None
    value: Any = None
    all: tuple[Condition, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All of them, at least one; of a rule that `check` has passed."""
        return self.all or (Condition(str(self.field), str(self.operator), self.value),)


@dataclass(frozen=True)
class _Kind:
    """What a field may be compared with, and how."""

    expected: str
    operators: tuple[str, ...]
    fits: Callable[[Any], bool]


_EQUALITY = ("==", "!=", "in", "not in")
_ORDER = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
_TEXT = _Kind("a text", _EQUALITY, lambda value: isinstance(value, str))
_CODE = _Kind(
    "a text or a whole number of at most four digits",
    _EQUALITY,
    lambda value: isinstance(value, str) or (type(value) is int and 0 <= value <= 9999),
)
_FLAG = _Kind("true or false", ("==", "!="), lambda value: isinstance(value, int) and value in (0, 1))
_NUMBER = _Kind("a finite number", _ORDER, lambda value: type(value) in (int, float) and abs(value) <= LARGEST)
_TIME = _Kind(
    "a time with an offset, such as 2025-12-24T18:00:00Z",
    _ORDER,
    lambda value: isinstance(value, datetime) and value.tzinfo is not None,
)


def check(rules: Sequence[Rule], inputs: Collection[str]) -> None:
    """Find what no transaction could be judged by.

    Args:
        rules: In their order.
        inputs: Names of the model's inputs, all of them numbers, which rules may name beside the transaction's fields.

    Raises:
        ValueError: A rule is malformed; the sentence begins with its place, from 0, and its name.
    """
    if len(rules) > MOST_RULES:
        raise ValueError(f"rules: expected at most {MOST_RULES}, got {len(rules)}")
    kinds = _kinds(inputs)
    places: dict[str, int] = {}
    for place, rule in enumerate(rules):
        for complaint in _complaints(rule, kinds):
            raise ValueError(f"rules[{place}] {rule.name!r}: {complaint}")
        if places.setdefault(rule.name, place) != place:
            raise ValueError(
                f"rules[{place}] {rule.name!r}: expected a name of its own, got that of rules[{places[rule.name]}]"
            )


def _kinds(inputs: Collection[str]) -> dict[str, _Kind]:
    kinds = dict.fromkeys((SCORE, *inputs), _NUMBER)
    return kinds | dict.fromkeys(FLAGS, _FLAG) | dict.fromkeys(TEXTS, _TEXT) | {MCC: _CODE, TIME: _TIME}


def _complaints(rule: Rule, kinds: dict[str, _Kind]) -> Iterator[str]:
    for name in ("name", "reason"):
        if not getattr(rule, name).strip():
            yield f"expected a `{name}`, got {getattr(rule, name)!r}"
    if rule.decision not in DECISIONS:
        yield f"expected `decision` to be one of {', '.join(DECISIONS)}, got {rule.decision!r}"
    given = [name for name in ("field", "operator", "value") if getattr(rule, name) is not None]
    if len(given) != (0 if rule.all else 3):
        got = ", ".join(f"`{name}`" for name in (*given, *(["all"] if rule.all else []))) or "neither"
        yield f"expected either `field`, `operator` and `value`, or conditions in `all`, got {got}"
    for place, condition in enumerate(rule.conditions):
        for complaint in _condition_complaints(condition, kinds):
            yield f"all[{place}]: {complaint}" if rule.all else complaint


def _condition_complaints(condition: Condition, kinds: dict[str, _Kind]) -> Iterator[str]:
    field, operator, value = condition.field, condition.operator, condition.value
    kind = kinds.get(field)
    if kind is None:
        yield f"expected `field` to be one of {', '.join(sorted(kinds))}, got {field!r}"
        return
    if operator not in kind.operators:
        yield f"expected `operator` for `{field}` to be one of {', '.join(kind.operators)}, got {operator!r}"
    if not operator.endswith("in"):
        if not kind.fits(value):
            yield f"expected `value` for `{field} {operator}` to be {kind.expected}, got {_shown(value)}"
    elif not isinstance(value, list) or not value:
        yield f"expected `value` for `{field} {operator}` to be a list with something in it, got {_shown(value)}"
    else:
        for each in value:
            if not kind.fits(each):
                yield f"expected each `value` for `{field} {operator}` to be {kind.expected}, got {_shown(each)}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
