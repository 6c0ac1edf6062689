"""Scores become flags on the wire: decisions, and reasons for what is flagged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from models.fraud.attribution import Group, GroupShapley
from models.fraud.decisions import APPROVE, NO_RULE, Decisions
from models.fraud.inputs import INPUTS
from models.fraud.phrases import PHRASES, Phrases
from models.fraud.rules import DECISIONS, TIME, Rule
from streams.pipelines.fraud.approved import DIGITS, Approved
from streams.pipelines.fraud.transactions import Transactions
from streams.schemas import FiredRule, FraudFlag, Reason, Transaction


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
        self._approved, self._include_features = Approved(model), include_features
        columns = {name: column for column, name in enumerate(INPUTS)}
        groups = [Group(name, tuple(columns[each] for each in phrase.features)) for name, phrase in PHRASES.items()]
        typical = np.array([baseline[name] for name in INPUTS], np.float32)
        self._shapley = GroupShapley(score, groups, typical)
        self._baseline = round(self._shapley.baseline_score, DIGITS)
        self._say = Phrases(columns)
        self._encode = msgspec.json.Encoder().encode

    def encode(
        self, columns: Transactions, features: NDArray[np.float64], predictions: NDArray[np.float32]
    ) -> Cells[bytes]:
        """One value for each transaction, in their order."""
        ids, cards, times = columns.transaction_ids, columns.keys, columns.event_time_ms
        decided, fired = self._decisions.decide(predictions, features, lambda name: _field(columns, name))
        scores = np.round(predictions.astype(np.float64), DIGITS).astype(np.float64, copy=False)
        flagged = decided != APPROVE
        reasons = self._reasons(features[flagged].astype(np.float32))
        approved = self._approved.writable(ids, cards, times, scores) & ~flagged & (fired == NO_RULE)
        if self._include_features:
            approved[:] = False
        others, rest = [], np.flatnonzero(~approved)
        moments = np.datetime_as_string(times[rest].view("M8[ms]"), unit="ms").tolist()
        for row, moment, score in zip(rest.tolist(), moments, scores[rest].tolist(), strict=True):
            flag = self._flag(columns.events[row], moment, score)
            if flagged[row]:
                flag.flagged = True
                flag.reasons, flag.baseline = next(reasons), self._baseline
            flag.decision = DECISIONS[decided[row]]
            if fired[row] != NO_RULE:
                rule = self._rules[fired[row]]
                flag.rule = FiredRule(rule.name, rule.reason)
            if self._include_features:
                flag.features = dict(zip(INPUTS, features[row].tolist(), strict=True))
            others.append(self._encode(flag))
        return self._approved.encode(ids, cards, times, scores, approved, Cells.of(others))

    def _flag(self, event: Transaction, moment: str, score: float) -> FraudFlag:
        return FraudFlag(event.transaction_id, event.card_id, f"{moment}Z", score, False, "approve", self._model)

    def _reasons(self, rows: NDArray[np.float32]) -> Iterator[list[Reason]]:
        """What each group of inputs adds to the scores of these rows, most first."""
        names, shares = [group.name for group in self._shapley.groups], self._shapley.contributions(rows)
        orders = np.argsort(-shares, axis=1, kind="stable").tolist()
        for row, order, rounded in zip(rows.tolist(), orders, np.round(shares, DIGITS).tolist(), strict=True):
            yield [Reason(names[place], self._say(names[place], row), rounded[place]) for place in order]


def _field(columns: Transactions, name: str) -> Any:
    if name == TIME:
        return columns.event_time_ms
    return [getattr(event, name) for event in columns.events]
