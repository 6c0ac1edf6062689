"""Approve, review or block: thresholds on the score, and rules that overrule them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fraud.evaluate import Scores
from models.fraud.inputs import INPUTS
from models.fraud.rules import DECISIONS, MCC, SCORE, TEXTS, TIME, Condition, Rule, check

APPROVE, REVIEW, BLOCK = range(3)
"""Codes of a decision: positions in DECISIONS."""
NO_RULE = -1

Field = Callable[[str], Sequence[Any]]
_COLUMNS = {name: column for column, name in enumerate(INPUTS)}
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda column, values: np.isin(column, np.array(values, column.dtype)),
    "not in": lambda column, values: np.isin(column, np.array(values, column.dtype), invert=True),
}


def by_thresholds(scores: Scores, review: float, block: float) -> NDArray[np.int8]:
    """int8 [n], codes: block from `block` on, review from `review` on, else approve; `review` <= `block`.

    A threshold is taken in the scores' own precision, so that a float32 score of 0.9 reaches a threshold of 0.9.
    """
    return (scores >= review).view(np.int8) + (scores >= block).view(np.int8)


class Decisions:
    """Decides batches of scored transactions: by thresholds, unless a rule applies; the first that does wins.

    Rules read the score, inputs of the model, and fields of the transaction. A field that a transaction lacks is no
    value: only `!=` and `not in` hold for it. A merchant category code is the same as a number and as a text: 742 is
    "0742". Calls share nothing that they write, so any thread may make them.

    Args:
        review: Scores from here on are reviewed; inf: none.
        block: Scores from here on are blocked; inf: none. Not below `review`.
        rules: In the order in which they are tried.

    Raises:
        ValueError: `block` is below `review`, or a rule is malformed.
    """

    def __init__(self, review: float, block: float, rules: Sequence[Rule] = ()) -> None:
        if not review <= block:
            raise ValueError(f"deciding by thresholds: expected review <= block, got {review} and {block}")
        check(rules, INPUTS)
        self._thresholds = review, block
        conditions = [condition for rule in rules for condition in rule.conditions]
        self._numbers = {name: _numbers(name, conditions) for name in (*TEXTS, MCC)}
        self._rules = [
            (DECISIONS.index(rule.decision), [self._compile(condition) for condition in rule.conditions])
            for rule in rules
        ]

    def _compile(self, condition: Condition) -> tuple[str, Callable[[Any, Any], Any], Any]:
        """Field, comparison, and a number or a list of them to compare with."""
        many = isinstance(condition.value, list)
        values = [self._number(condition.field, value) for value in (condition.value if many else [condition.value])]
        return condition.field, _COMPARE[condition.operator], values if many else values[0]

    def _number(self, field: str, value: Any) -> float:
        if field in self._numbers:
            return self._numbers[field][value]
        return round(value.timestamp() * 1000) if field == TIME else float(value)

    def decide(
        self, scores: NDArray[np.float32], inputs: NDArray[np.float64] | NDArray[np.float32], field: Field
    ) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
        """Decide n transactions.

        Args:
            scores: float32 [n], finite.
            inputs: [n, 26] in the order of `INPUTS`.
            field: Gives a field's n values by name; asked once a call for each field that rules name and inputs lack,
                None for those who lack it. `event_time` in ms since the epoch.

        Returns:
            int8 [n], positions in DECISIONS; and int16 [n], the position of the rule that decided, or NO_RULE.
        """
        decided = by_thresholds(scores, *self._thresholds)
        fired = np.full(len(scores), NO_RULE, np.int16)
        known: dict[str, NDArray[Any]] = {SCORE: scores}
        for place in reversed(range(len(self._rules))):  # the first rule writes last
            decision, conditions = self._rules[place]
            holds = np.ones(len(scores), np.bool_)
            for name, compare, value in conditions:
                if name not in known:
                    known[name] = self._column(name, inputs, field)
                holds &= compare(known[name], value)
            decided[holds] = decision
            fired[holds] = place
        return decided, fired

    def _column(self, name: str, inputs: NDArray[Any], field: Field) -> NDArray[Any]:
        if name in _COLUMNS:
            return inputs[:, _COLUMNS[name]]
        if name == TIME:
            return np.asarray(field(name), np.int64)
        values = field(name)
        return np.fromiter(map(self._numbers[name].get, values, repeat(0)), np.int32, len(values))


def _numbers(field: str, conditions: Sequence[Condition]) -> dict[str | int, int]:
    """A number from 1 for each text that a rule compares this field with: texts are looked up once a batch.

    What no rule names, None included, is to be number 0, which equals none of them.
    """
    numbers: dict[str | int, int] = {}
    for condition in conditions:
        if condition.field == field:
            for value in condition.value if isinstance(condition.value, list) else [condition.value]:
                spellings = _spellings(value) if field == MCC else (value,)
                number = numbers.get(value, len(numbers) + 1)
                numbers |= dict.fromkeys(spellings, number)
    return numbers


def _spellings(code: str | int) -> tuple[str | int, ...]:
    """How producers may write a merchant category code: `0742`, `742` or the number."""
    text = str(code).zfill(4)
    return (text, str(int(text)), int(text)) if len(text) == 4 and text.isascii() and text.isdigit() else (str(code),)
