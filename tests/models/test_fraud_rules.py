"""What a rule may say, and the sentence for each thing that it may not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from models.fraud.inputs import INPUTS
from models.fraud.rules import MOST_RULES, Condition, Rule, check


def rule(field: str | None = None, operator: str | None = None, value: Any = None, **changes: Any) -> Rule:
    fields: dict[str, Any] = {"name": "mine", "decision": "review", "reason": "because"}
    return Rule(**(fields | {"field": field, "operator": operator, "value": value} | changes))


@pytest.mark.parametrize(
    ("field", "operator", "value"),
    [
        ("amount", ">", 500),
        ("amount", "in", [1, 2.5]),
        ("score", "<=", 0.1),
        ("count_1h", ">=", 8),
        ("night", "==", True),
        ("weekend", "!=", 1),
        ("country", "not in", ["NL", "BE"]),
        ("channel", "==", ""),
        ("terminal_id", "in", ["m1"]),
        ("mcc", "==", 742),
        ("mcc", "in", ["0742", 5411]),
        ("event_time", ">=", datetime(2025, 12, 24, tzinfo=UTC)),
    ],
)
def test_what_fits_is_accepted(field: str, operator: str, value: Any) -> None:
    check([rule(field, operator, value)], INPUTS)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (rule("amuont", ">", 5), r"`field` to be one of amount, .*score.*, got 'amuont'"),
        (rule("event", ">", 5), "got 'event'"),
        (rule("amount", "=>", 5), "`operator` for `amount` to be one of ==, .*, got '=>'"),
        (rule("country", ">", "NL"), "`operator` for `country` to be one of ==, !=, in, not in, got '>'"),
        (rule("night", ">", 0), "`operator` for `night` to be one of ==, !=, got '>'"),
        (rule("amount", ">", "5"), "`value` for `amount >` to be a finite number, got '5'"),
        (rule("amount", ">", True), "a finite number, got true"),
        (rule("amount", ">", [5]), r"a finite number, got \[5\]"),
        (rule("amount", ">", float("nan")), "a finite number, got nan"),
        (rule("score", "<", float("inf")), "a finite number, got inf"),
        (rule("amount", "<", 10**400), "a finite number, got 1000"),
        (rule("amount", "in", 5), r"`value` for `amount in` to be a list with something in it, got 5"),
        (rule("amount", "in", []), r"a list with something in it, got \[\]"),
        (rule("country", "in", "NL"), "a list with something in it, got 'NL'"),
        (rule("country", "in", ["NL", 5]), "each `value` for `country in` to be a text, got 5"),
        (rule("country", "==", 5), "a text, got 5"),
        (rule("mcc", "==", 54110), "a text or a whole number of at most four digits, got 54110"),
        (rule("mcc", "==", 5411.0), "at most four digits, got 5411.0"),
        (rule("night", "==", 2), "true or false, got 2"),
        (rule("event_time", ">", 5), "a time with an offset, such as 2025-12-24T18:00:00Z, got 5"),
        (rule("event_time", ">", datetime(2025, 1, 1)), "a time with an offset"),  # noqa: DTZ001
        (rule("amount", ">"), "expected either `field`, `operator` and `value`, or conditions in `all`, got `field`"),
        (rule(), "in `all`, got neither"),
        (rule("amount", ">", 5, all=(Condition("night", "==", True),)), "in `all`, got `field`, .*`all`"),
        (
            rule(all=(Condition("night", "==", True), Condition("amount", "~", 1))),
            r"all\[1\]: expected `operator` for `amount`",
        ),
        (rule("amount", ">", 5, decision="deny"), "`decision` to be one of approve, review, block, got 'deny'"),
        (rule("amount", ">", 5, reason=" "), "expected a `reason`, got ' '"),
        (rule("amount", ">", 5, name=""), "expected a `name`, got ''"),
    ],
)
def test_what_does_not_fit_is_a_sentence_that_names_the_rule(wrong: Rule, sentence: str) -> None:
    first = rule("amount", ">", 5, name="first")
    with pytest.raises(ValueError, match=sentence) as caught:
        check([first, wrong], INPUTS)
    assert str(caught.value).startswith(f"rules[1] {wrong.name!r}: ")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match=r"rules\[2\] 'mine': expected a name of its own, got that of rules\[0\]"):
        check([rule("amount", ">", 5), rule("amount", ">", 6, name="other"), rule("amount", ">", 7)], INPUTS)


def test_there_is_a_bound_to_the_rules() -> None:
    rules = [rule("amount", ">", number, name=str(number)) for number in range(MOST_RULES + 1)]
    check(rules[:MOST_RULES], INPUTS)
    with pytest.raises(ValueError, match="rules: expected at most 1000, got 1001"):
        check(rules, INPUTS)
