"""What terminal history takes and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.fraud.terminals import COLUMNS, TerminalHistory, warm_up
from tests.models.terminal_reckoning import START, column, sell

GOOD: dict[str, dict[str, Any]] = {
    "append": {
        "source": 0, "offsets": column([1]), "terminals": [b"a"], "event_time_ms": column([START]),
        "transaction_hash": column([1]),
    },
    "label": {
        "terminals": [b"a"], "event_time_ms": column([START]), "transaction_hash": column([1]),
        "fraud": np.array([True]), "label_time_ms": column([START]),
    },
    "windows": {"terminals": [b"a"], "event_time_ms": column([START])},
}  # fmt: skip


@pytest.mark.parametrize("method", GOOD)
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("event_time_ms", np.array([1.0]), "expected event_time_ms as int64 [1], got float64 [1]"),
        ("event_time_ms", column([1, 2]), "expected event_time_ms as int64 [1], got int64 [2]"),
        ("event_time_ms", [1], "expected event_time_ms as int64 [1], got [1]"),
        ("event_time_ms", column([(1 << 60) + 1]), "event_time_ms must be within"),
        ("label_time_ms", column([-(1 << 60) - 1]), "label_time_ms must be within"),
        ("fraud", column([1]), "expected fraud as bool [1], got int64 [1]"),
        ("offsets", np.array([1], np.int32), "expected offsets as int64 [1], got int32 [1]"),
        ("offsets", column([-1]), "offsets must not be negative"),
        ("transaction_hash", np.array([1], np.uint64), "expected transaction_hash as int64 [1], got uint64 [1]"),
        ("terminals", ["a"], "must be bytes, got 'a'"),
        ("terminals", [None], "must be bytes, got None"),
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(method: str, name: str, value: object, says: str) -> None:
    if name not in GOOD[method]:
        return
    history = TerminalHistory()
    sell(history, [START], terminal=b"b", source=0)
    before = history.snapshot()
    with pytest.raises(TypeError if name == "terminals" else ValueError) as caught:
        getattr(history, method)(**(GOOD[method] | {name: value}))
    assert says in str(caught.value)
    assert (history.snapshot(), len(history), history.waiting) == (before, 1, 0)
    history.append(**GOOD["append"])
    assert len(history) == 2


def test_spans_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match=r"delay_ms and lateness_ms must be within 0 and .* got -1 and 5"):
        TerminalHistory(-1, 5)


def test_nothing_in_nothing_out() -> None:
    warm_up()
    history = TerminalHistory()
    none = np.zeros(0, np.int64)
    history.append(0, none, [], none, none)
    history.label([], none, none, none.astype(np.bool_), none)
    assert history.windows([], none).shape == (0, len(COLUMNS))
    assert (len(history), history.snapshot(), history.waiting, history.expired) == (0, {}, 0, 0)
    assert history.nbytes < 10_000
