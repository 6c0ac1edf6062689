"""Scores become flags on the wire: decisions, and reasons for what is flagged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.fraud.attribution import Group, GroupShapley
from models.fraud.decisions import APPROVE, NO_RULE, Decisions
from models.fraud.inputs import INPUTS
from models.fraud.phrases import PHRASES, Phrases
from models.fraud.rules import DECISIONS, TIME, Rule
from streams.pipelines.fraud.transactions import Transactions
from streams.schemas import FiredRule, FraudFlag, Reason, Transaction

DIGITS = 6  # of scores and contributions
_NEEDS_ESCAPE = re.compile(r'[\x00-\x1f"\\]').search  # what a JSON string cannot hold as it is


class FlagWriter:
    """Encodes flags, one for each transaction.

    Args:
        model: its reference.
        rules: those of the decisions.
        score: float32 [n, 26] -> float32 [n], for reasons.
        baseline: a typical genuine transaction's inputs by name, which reasons compare with.
        include_features: whether flags carry the model's inputs.
    """

    def __init__(
        self,
        model: str,
        decisions: Decisions,
        rules: Sequence[Rule],
        score: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        baseline: Mapping[str, float],
        include_features: bool,
    ) -> None:
        self._model, self._decisions, self._rules = model, decisions, rules
        self._include_features = include_features
        columns = {name: column for column, name in enumerate(INPUTS)}
        groups = [Group(name, tuple(columns[each] for each in phrase.features)) for name, phrase in PHRASES.items()]
        typical = np.array([baseline[name] for name in INPUTS], np.float32)
        self._shapley = GroupShapley(score, groups, typical)
        self._baseline = round(self._shapley.baseline_score, DIGITS)
        self._say = Phrases(columns)
        self._encode = msgspec.json.Encoder().encode

    def encode(
        self, columns: Transactions, features: NDArray[np.float64], predictions: NDArray[np.float32]
    ) -> list[bytes]:
        """One value for each transaction, in their order."""
        events = columns.events
        decided, fired = self._decisions.decide(predictions, features, lambda name: _field(columns, name))
        times = np.datetime_as_string(columns.event_time_ms.view("M8[ms]"), unit="ms").tolist()
        scores = np.round(predictions.astype(np.float64), DIGITS).tolist()
        values = self._approved(events, times, scores)
        flagged = decided != APPROVE
        reasons = self._reasons(features[flagged].astype(np.float32))
        more = np.full(len(events), True) if self._include_features else flagged | (fired != NO_RULE)
        for row in np.flatnonzero(more).tolist():
            flag = self._flag(events[row], times[row], scores[row])
            if flagged[row]:
                flag.flagged = True
                flag.reasons, flag.baseline = next(reasons), self._baseline
            flag.decision = DECISIONS[decided[row]]
            if fired[row] != NO_RULE:
                rule = self._rules[fired[row]]
                flag.rule = FiredRule(rule.name, rule.reason)
            if self._include_features:
                flag.features = dict(zip(INPUTS, features[row].tolist(), strict=True))
            values[row] = self._encode(flag)
        return values

    def _approved(self, events: list[Transaction], times: list[str], scores: list[float]) -> list[bytes]:
        """Nearly all are approved, and then only four fields differ: this is three times a general encoder's speed."""
        if _NEEDS_ESCAPE("".join([event.transaction_id + event.card_id for event in events])) is not None:
            return [self._encode(self._flag(*each)) for each in zip(events, times, scores, strict=True)]
        tail = f',"flagged":false,"decision":"approve","model":"{self._model}","reasons":[]}}'
        lines = [
            f'{{"transaction_id":"{event.transaction_id}","card_id":"{event.card_id}",'
            f'"event_time":"{time}Z","score":{score}{tail}'
            for event, time, score in zip(events, times, scores, strict=True)
        ]
        return "\n".join(lines).encode().split(b"\n")

    def _flag(self, event: Transaction, time: str, score: float) -> FraudFlag:
        return FraudFlag(event.transaction_id, event.card_id, f"{time}Z", score, False, "approve", self._model)

    def _reasons(self, rows: NDArray[np.float32]) -> Iterator[list[Reason]]:
        """What each group of inputs adds to the scores of these rows, most first."""
        groups = self._shapley.groups
        for row, shares in zip(rows.tolist(), self._shapley.contributions(rows), strict=True):
            yield [
                Reason(groups[place].name, self._say(groups[place].name, row), round(float(shares[place]), DIGITS))
                for place in np.argsort(-shares, kind="stable").tolist()
            ]


def _field(columns: Transactions, name: str) -> Any:
    if name == TIME:
        return columns.event_time_ms
    return [getattr(event, name) for event in columns.events]
