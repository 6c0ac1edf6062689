"""Thresholds and rules of the fraud section: what is read, and what an error names."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.fraud.rules import Condition
from streams.errors import SettingsError
from streams.settings import Fraud, load

RULES = """
[[fraud.rules]]
name = "gift-cards-at-night"
decision = "review"
reason = "gift cards are looked at by night"
all = [
    { field = "mcc", operator = "in", value = [5947, "6540"] },
    { field = "night", operator = "==", value = true },
]

[[fraud.rules]]
name = "holidays"
field = "event_time"
operator = ">="
value = 2025-12-24T00:00:00+01:00
decision = "approve"
reason = "shops asked for it"
"""


def settings(tmp_path: Path, text: str) -> Fraud:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load({}, path).fraud


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, text)
    return str(caught.value)


def test_rules_are_read_in_their_order(tmp_path: Path) -> None:
    first, second = settings(tmp_path, RULES).rules
    assert (first.name, second.name) == ("gift-cards-at-night", "holidays")
    assert first.conditions == (Condition("mcc", "in", [5947, "6540"]), Condition("night", "==", True))
    (holidays,) = second.conditions
    assert (holidays.field, holidays.operator) == ("event_time", ">=")
    assert holidays.value == datetime(2025, 12, 23, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ('field = "event_time"', 'field = "event"', "expected `field` to be one of amount"),
        ('operator = ">="', "operator = 3", "Expected `str | null`, got `int`"),
        ('operator = ">="', 'operator = "after"', "expected `operator` for `event_time`"),
        ("value = 2025-12-24T00:00:00+01:00", "value = nan", "expected `value` for `event_time >=` to be a time"),
        ('decision = "approve"', 'decision = "deny"', "expected `decision` to be one of approve, review, block"),
        ('reason = "shops asked for it"', "", "missing required field `reason`"),
        ('reason = "shops asked for it"', 'reason = ""', "expected a `reason`"),
        ('reason = "shops asked for it"', 'because = "x"', "unknown field `because`"),
    ],
)
def test_an_error_names_the_rule_its_place_and_the_file(tmp_path: Path, was: str, becomes: str, sentence: str) -> None:
    assert was in RULES
    message = refusal(tmp_path, RULES.replace(was, becomes))
    assert message.startswith("fraud.rules[1]")
    assert "'holidays'" in message
    assert "mine.toml" in message
    assert sentence in message


@pytest.mark.parametrize("text", ["[fraud]\nrules = 3\n", "[fraud]\nrules = [3]\n", '[fraud.rules]\nname = "x"\n'])
def test_rules_that_are_no_rules_are_named(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith("fraud.rules")
    assert "mine.toml" in message


def test_rules_have_names_of_their_own(tmp_path: Path) -> None:
    message = refusal(tmp_path, RULES + RULES)
    assert message.startswith("fraud.rules[2] 'gift-cards-at-night'")
    assert "got that of rules[0]" in message


@pytest.mark.parametrize("value", ["-0.1", "1.5", "80", "nan", "-inf", '"high"'])
@pytest.mark.parametrize("name", ["review_threshold", "block_threshold"])
def test_a_threshold_is_a_probability_or_never(tmp_path: Path, name: str, value: str) -> None:
    message = refusal(tmp_path, f"[fraud]\n{name} = {value}\n")
    assert f"fraud.{name}" in message
    assert "mine.toml" in message
    assert getattr(settings(tmp_path, f"[fraud]\n{name} = inf\n"), name) == math.inf


MODEL = {"review": 0.2, "block": 0.6}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (Fraud(), (0.2, 0.6)),
        (Fraud(review_threshold=0.3), (0.3, 0.6)),
        (Fraud(block_threshold=math.inf), (0.2, math.inf)),
        (Fraud(review_threshold=0.0, block_threshold=0.0), (0.0, 0.0)),
    ],
)
def test_a_threshold_that_is_not_set_is_the_models(section: Fraud, expected: tuple[float, float]) -> None:
    assert section.thresholds("fraud/7", MODEL) == expected


@pytest.mark.parametrize(
    ("section", "own", "sentences"),
    [
        (Fraud(review_threshold=0.7), MODEL, ["0.7 (fraud.review_threshold)", "0.6 (that of model fraud/7)"]),
        (Fraud(block_threshold=0.1), MODEL, ["0.2 (that of model fraud/7)", "0.1 (fraud.block_threshold)"]),
        (Fraud(), {"flag": 0.1}, ["model fraud/7 has no threshold 'review', only flag", "set fraud.review_threshold"]),
        (Fraud(review_threshold=0.1), {}, ["no threshold 'block', only none", "set fraud.block_threshold"]),
    ],
)
def test_thresholds_that_contradict_or_are_missing_say_what_to_set(
    section: Fraud, own: dict[str, float], sentences: list[Any]
) -> None:
    with pytest.raises(SettingsError) as caught:
        section.thresholds("fraud/7", own)
    assert all(sentence in str(caught.value) for sentence in sentences), str(caught.value)
