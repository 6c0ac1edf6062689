from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud.explain import Reason, reasons
from models.fraud.features import FEATURES

WIDTH = len(FEATURES)
BASELINE = np.arange(WIDTH, dtype=np.float32)


def weighing(weights: dict[str, float]) -> NDArray[np.float32]:
    return np.array([weights.get(name, 0.0) for name in FEATURES], dtype=np.float32)


def test_contributions_of_a_linear_score_are_weight_times_deviation() -> None:
    weights = weighing({"amount": 0.5, "sum_1d": -1.0, "mean_7d": 0.25})
    rows = np.stack([BASELINE + 4, BASELINE - 4, BASELINE])
    found = reasons(lambda x: x @ weights, rows, rows @ weights, BASELINE)
    amount, mean, total = (FEATURES.index(name) for name in ("amount", "mean_7d", "sum_1d"))
    assert found[0] == [Reason("amount", rows[0, amount], 2.0), Reason("mean_7d", rows[0, mean], 1.0)]
    assert found[1] == [Reason("sum_1d", rows[1, total], 4.0)]
    assert found[2] == []


def test_at_most_top_reasons_largest_first() -> None:
    weights = np.arange(1, WIDTH + 1, dtype=np.float32)
    rows = BASELINE[None] + 1
    found = reasons(lambda x: x @ weights, rows, rows @ weights, BASELINE, top=2)
    assert [(reason.feature, reason.contribution) for reason in found[0]] == [
        (FEATURES[-1], WIDTH),
        (FEATURES[-2], WIDTH - 1),
    ]


def test_one_call_whatever_the_rows_and_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=WIDTH) / 50).astype(np.float32)  # where tanh does not saturate
    rows = rng.normal(size=(40, WIDTH)).astype(np.float32)
    calls = []

    def score(x: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(x.shape)
        return np.asarray(np.tanh(x @ weights), dtype=np.float32)

    scores = np.tanh(rows @ weights)
    before = rows.copy()
    found = reasons(score, rows, scores, BASELINE)
    assert calls == [(40 * WIDTH, WIDTH)]
    np.testing.assert_array_equal(rows, before)
    for i in range(40):
        expected = []
        for j, name in enumerate(FEATURES):
            changed = rows[i].copy()
            changed[j] = BASELINE[j]
            expected.append((float(scores[i] - np.tanh(changed @ weights)), name))
        leading = sorted(expected, reverse=True)[:3]
        assert [reason.feature for reason in found[i]] == [name for gain, name in leading if gain > 0]


def test_no_rows_no_call() -> None:
    def score(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("called for nothing")

    assert reasons(score, np.empty((0, WIDTH), np.float32), np.empty(0, np.float32), BASELINE) == []
