"""Decisions of batches are those of a row-by-row reading of thresholds and rules."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from models.fraud.decisions import APPROVE, BLOCK, NO_RULE, REVIEW, Decisions, by_thresholds
from models.fraud.inputs import INPUTS
from models.fraud.rules import DECISIONS, TEXTS, Condition, Rule

START = datetime(2025, 1, 1, tzinfo=UTC)
TEXT_OPERATORS = ("==", "!=", "in", "not in")
OPERATORS = (*TEXT_OPERATORS, "<", "<=", ">", ">=")
CODES = ("5411", "0742", "742", 742, 5411, "7995", 7995, "A1", None)
CHOICES: dict[str, Sequence[Any]] = dict.fromkeys(TEXTS, ("a", "b", "c", "NL", "")) | {"mcc": CODES[:-1]}


class Batch:
    """Random transactions, and which of their fields were asked for."""

    def __init__(self, dice: random.Random, count: int) -> None:
        self.scores = np.array([dice.choice([0.1, 0.25, 0.5, 0.9, dice.random()]) for _ in range(count)], np.float32)
        self.inputs = np.array([[float(dice.randrange(5)) for _ in INPUTS] for _ in range(count)]).reshape(
            count, len(INPUTS)
        )
        for name in ("weekend", "night"):
            self.inputs[:, INPUTS.index(name)] %= 2
        self.fields: dict[str, Sequence[Any]] = {
            name: [dice.choice([*CHOICES[name], None, "other"]) for _ in range(count)] for name in TEXTS
        }
        self.fields["mcc"] = [dice.choice(CODES) for _ in range(count)]
        self.fields["event_time"] = [int(START.timestamp()) * 1000 + dice.randrange(4) * 1000 for _ in range(count)]
        self.asked: list[str] = []

    def field(self, name: str) -> Sequence[Any]:
        self.asked.append(name)
        return self.fields[name]

    def row(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = {name: values[place] for name, values in self.fields.items()}
        return row | dict(zip(INPUTS, self.inputs[place].tolist(), strict=True)) | {"score": self.scores[place]}


def random_condition(dice: random.Random) -> Condition:
    field = dice.choice(["score", "event_time", "mcc", "night", dice.choice(TEXTS), dice.choice(INPUTS)])
    if field in CHOICES:
        operator, values = dice.choice(TEXT_OPERATORS), list(CHOICES[field])
    elif field in ("weekend", "night"):
        operator, values = dice.choice(TEXT_OPERATORS[:2]), [True, False, 1, 0]
    elif field == "event_time":
        operator, values = dice.choice(OPERATORS), [START + timedelta(seconds=second) for second in range(4)]
    elif field == "score":
        operator, values = dice.choice(OPERATORS), [0.1, 0.25, 0.5, 0.9]
    else:
        operator, values = dice.choice(OPERATORS), [0, 1, 2.0, 3, 2.5]
    many = operator.endswith("in")
    return Condition(field, operator, dice.sample(values, dice.randint(1, 3)) if many else dice.choice(values))


def random_rule(dice: random.Random, name: str) -> Rule:
    decision = dice.choice(DECISIONS)
    if dice.random() < 0.5:
        one = random_condition(dice)
        return Rule(name, decision, "because", one.field, one.operator, one.value)
    return Rule(name, decision, "because", all=tuple(random_condition(dice) for _ in range(dice.randint(1, 3))))


def spelled(field: str, value: Any) -> Any:
    """A value so that Python's own comparison is the rule's."""
    if field == "mcc" and value is not None:
        return str(value).rjust(4, "0") if str(value).isdigit() else str(value)
    if field == "score":
        return np.float32(value)
    return int(value.timestamp() * 1000) if isinstance(value, datetime) else value


def holds(condition: Condition, row: dict[str, Any]) -> bool:
    field, operator = condition.field, condition.operator
    got = spelled(field, row[field])
    if operator in ("in", "not in"):
        return (got in [spelled(field, value) for value in condition.value]) == (operator == "in")
    wanted = spelled(field, condition.value)
    if operator in ("==", "!="):
        return (got == wanted) == (operator == "==")
    found: dict[str, bool] = {"<": got < wanted, "<=": got <= wanted, ">": got > wanted, ">=": got >= wanted}
    return bool(found[operator])


def by_row(review: float, block: float, rules: Sequence[Rule], row: dict[str, Any]) -> tuple[int, int]:
    for place, rule in enumerate(rules):
        if all(holds(condition, row) for condition in rule.conditions):
            return DECISIONS.index(rule.decision), place
    score = row["score"]
    return (2 if score >= np.float32(block) else 1 if score >= np.float32(review) else 0), -1


@pytest.mark.parametrize("seed", range(150))
def test_a_batch_is_decided_as_its_rows_one_by_one(seed: int) -> None:
    dice = random.Random(seed)
    batch = Batch(dice, dice.choice([0, 1, 40, 200]))
    rules = [random_rule(dice, f"rule {number}") for number in range(dice.choice([0, 1, 3, 8]))]
    review, block = sorted(dice.choice([0.0, 0.1, 0.25, 0.5, 0.9, float("inf")]) for _ in range(2))
    decided, fired = Decisions(review, block, rules).decide(batch.scores, batch.inputs, batch.field)
    expected = [by_row(review, block, rules, batch.row(place)) for place in range(len(batch.scores))]
    assert list(zip(decided.tolist(), fired.tolist(), strict=True)) == expected
    assert (decided.dtype, fired.dtype) == (np.int8, np.int16)
    named = {condition.field for rule in rules for condition in rule.conditions}
    assert sorted(batch.asked) == sorted(named - {"score", *INPUTS})


def test_thresholds_alone_decide_where_there_are_no_rules() -> None:
    scores = np.array([0.0, 0.2, 0.5, 0.8, 1.0], np.float32)
    inputs = np.zeros((5, len(INPUTS)))
    decided, fired = Decisions(0.2, 0.8).decide(scores, inputs, lambda name: pytest.fail(f"asked for {name}"))
    assert decided.tolist() == [APPROVE, REVIEW, REVIEW, BLOCK, BLOCK]
    assert fired.tolist() == [NO_RULE] * 5
    assert [DECISIONS[code] for code in (APPROVE, REVIEW, BLOCK)] == ["approve", "review", "block"]


def test_equal_thresholds_leave_nothing_to_review_and_infinity_is_never() -> None:
    scores = np.array([0.4, 0.5, 1.0], np.float32)
    assert by_thresholds(scores, 0.5, 0.5).tolist() == [APPROVE, BLOCK, BLOCK]
    assert by_thresholds(scores, 0.5, float("inf")).tolist() == [APPROVE, REVIEW, REVIEW]
    assert by_thresholds(scores, float("inf"), float("inf")).tolist() == [APPROVE] * 3


def decide_one(rule: Rule, **fields: Any) -> int:
    """The place of the rule that decides one transaction with these fields."""
    scores, inputs = np.array([0.1], np.float32), np.zeros((1, len(INPUTS)))
    return int(Decisions(0.5, 0.9, [rule]).decide(scores, inputs, lambda name: [fields[name]])[1][0])


@pytest.mark.parametrize(
    ("operator", "value", "fires"), [("==", "NL", -1), ("in", ["NL"], -1), ("!=", "NL", 0), ("not in", ["NL"], 0)]
)
def test_a_missing_field_is_no_value(operator: str, value: Any, fires: int) -> None:
    assert decide_one(Rule("mine", "block", "because", "country", operator, value), country=None) == fires


@pytest.mark.parametrize("written", ["0742", "742", 742])
def test_a_category_code_is_the_same_however_it_is_written(written: str | int) -> None:
    for sent in ("0742", "742", 742):
        assert decide_one(Rule("mine", "block", "because", "mcc", "==", written), mcc=sent) == 0
    for sent in ("00742", 7420, "7420", None):
        assert decide_one(Rule("mine", "block", "because", "mcc", "==", written), mcc=sent) == -1


def test_a_text_longer_than_a_category_code_is_itself_alone() -> None:
    rule = Rule("mine", "block", "because", "mcc", "in", ["00742"])
    assert [decide_one(rule, mcc=sent) for sent in ("00742", "0742", 742)] == [0, -1, -1]


def test_what_cannot_decide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected review <= block, got 0.9 and 0.5"):
        Decisions(0.9, 0.5)
    with pytest.raises(ValueError, match="expected review <= block"):
        Decisions(float("nan"), 0.5)
    with pytest.raises(ValueError, match=r"rules\[0\] 'mine'"):
        Decisions(0.5, 0.9, [Rule("mine", "block", "because", "country", ">", "NL")])
