"""Flags of approved transactions, written in bulk, against the schema's own encoder."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.cells import Cells
from streams.pipelines.fraud.approved import LATEST_MS, Approved
from streams.schemas import FraudFlag

MODEL = "fraud/1"
NOW_MS = 1_767_225_600_000
NONE: Cells[bytes] = Cells.of([])


@dataclass(frozen=True)
class Flags:
    """What a test writes flags of."""

    ids: Sequence[str]
    cards: Sequence[str]
    times: NDArray[np.int64]
    scores: NDArray[np.float64]

    @classmethod
    def of(
        cls, *, ids: Sequence[str] = ("t",), times: Sequence[int] = (NOW_MS,), scores: Sequence[float] = (0.5,)
    ) -> Flags:
        """As many as the longest has; the others over and over."""
        count = max(len(ids), len(times), len(scores))
        names = [ids[row % len(ids)] for row in range(count)]
        cards = [f"card {name}" for name in names]
        return cls(names, cards, np.resize(np.array(times, np.int64), count), np.resize(np.array(scores), count))

    @property
    def columns(self) -> tuple[Cells[bytes], Cells[bytes], NDArray[np.int64], NDArray[np.float64]]:
        return Cells.of_text(self.ids), Cells.of_text(self.cards), self.times, self.scores

    def writable(self) -> list[bool]:
        return list(map(bool, Approved.writable(*self.columns)))

    def written(self) -> list[bytes]:
        assert all(self.writable())
        return list(Approved(MODEL).encode(*self.columns, np.ones(len(self.ids), np.bool_), NONE))

    def expected(self) -> list[FraudFlag]:
        rows = zip(self.ids, self.cards, np.datetime_as_string(self.times.astype("M8[ms]")), self.scores, strict=True)
        return [FraudFlag(*row[:2], f"{row[2]}Z", float(row[3]), False, "approve", MODEL) for row in rows]


def rounded(scores: NDArray[Any]) -> NDArray[np.float64]:
    return np.round(scores.astype(np.float64), 6).astype(np.float64, copy=False)


DICE = np.random.default_rng(11)
SCORES: dict[str, NDArray[np.float64]] = {
    "ends": np.array([0.0, 1.0, -0.0]),
    "small": np.array([1e-06, 2e-05, 1.1e-05, 9e-06, 0.0001, 0.001]),
    "large": np.array([0.999999, 0.99999, 0.9, 0.100001]),
    "tenths": np.arange(11) / 10,
    "random": rounded(DICE.random(50_000)),
    "of a model": rounded(DICE.random(50_000).astype(np.float32)),
    "mostly small": rounded(10 ** -DICE.uniform(0, 9, 50_000)),
}


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_a_score_is_read_as_the_very_double_that_it_was(scores: NDArray[np.float64]) -> None:
    flags = Flags.of(scores=scores.tolist())
    assert [json.loads(value)["score"] for value in flags.written()] == scores.tolist()


TIMES = {
    "1970": [0, 1, 999, 1000, 59_999, 3_599_999, 86_399_999, 86_400_000, 31_535_999_999, 31_536_000_000],
    "leap days": [
        int(np.datetime64(f"{day}T{time}", "ms").astype(np.int64))
        for day in ("2000-02-29", "2024-02-29", "2000-02-28", "2000-03-01", "2023-02-28", "2023-03-01", "2100-02-28",
                    "2100-03-01", "2400-02-29", "2024-12-31", "2025-01-01")
        for time in ("00:00:00.000", "12:34:56.789", "23:59:59.999")
    ],
    "the end": [LATEST_MS, LATEST_MS - 1, LATEST_MS - 86_400_000],
    "every day": [86_400_000 * day for day in range(0, LATEST_MS // 86_400_000, 7)],
    "random": DICE.integers(0, LATEST_MS, 50_000).tolist(),
    "of our time": DICE.integers(946_684_800_000, 2 * NOW_MS, 50_000).tolist(),
}  # fmt: skip


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES.keys())
def test_a_time_is_what_numpy_makes_of_it(times: list[int]) -> None:
    flags = Flags.of(times=times)
    expected = [f"{each}Z" for each in np.datetime_as_string(flags.times.astype("M8[ms]"))]
    assert [json.loads(value)["event_time"] for value in flags.written()] == expected


def test_the_last_time_is_the_end_of_the_year_9999() -> None:
    (value,) = Flags.of(times=[LATEST_MS]).written()
    assert json.loads(value)["event_time"] == "9999-12-31T23:59:59.999Z"


PLAIN_IDS = ["t", "", "a b", "x" * 256, "é", "☃", "😀", "\x7f", "\x80", "\u2028", "/", "'", "<>&", "{}[],:"]
ODD_IDS = ['"', "\\", 'a"', "a\\b", *map(chr, range(0x20)), "é\n", "😀\x00", 'x' * 255 + '"']  # fmt: skip


def test_a_flag_is_what_the_schema_makes_of_it() -> None:
    dice = random.Random(3)
    count = 2000
    flags = Flags(
        dice.choices(PLAIN_IDS, k=count),
        dice.choices(PLAIN_IDS, k=count),
        DICE.integers(0, LATEST_MS, count),
        rounded(DICE.random(count)),
    )
    written, expected = flags.written(), flags.expected()
    assert [msgspec.json.decode(value, type=FraudFlag) for value in written] == expected
    assert [json.loads(value) for value in written] == [json.loads(msgspec.json.encode(each)) for each in expected]


def test_fields_stand_in_the_order_in_which_the_schema_has_them() -> None:
    flags = Flags.of(scores=[0.25])
    assert flags.written() == [msgspec.json.encode(each) for each in flags.expected()]


def test_an_id_that_json_would_have_to_escape_is_not_written() -> None:
    ids = PLAIN_IDS + ODD_IDS
    plain = [True] * len(PLAIN_IDS) + [False] * len(ODD_IDS)
    flags = Flags.of(ids=ids)
    usual = Cells.of_text(["t"] * len(ids))
    assert Approved.writable(Cells.of_text(ids), usual, flags.times, flags.scores).tolist() == plain
    assert Approved.writable(usual, Cells.of_text(ids), flags.times, flags.scores).tolist() == plain


@pytest.mark.parametrize("score", [-1e-06, -1.0, 1.000001, 2.0, np.inf, -np.inf, np.nan])
def test_a_score_that_is_no_probability_is_not_written(score: float) -> None:
    assert Flags.of(scores=[0.5, score, 1.0]).writable() == [True, False, True]


@pytest.mark.parametrize("time", [-1, LATEST_MS + 1, 2**63 - 1, -(2**63)])
def test_a_time_whose_year_has_not_four_digits_is_not_written(time: int) -> None:
    assert Flags.of(times=[0, time, LATEST_MS]).writable() == [True, False, True]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_what_is_written_elsewhere_keeps_its_place(share: float) -> None:
    dice = np.random.default_rng(int(10 * share))
    count = 500
    flags = Flags.of(ids=[f"t{row}" for row in range(count)])
    chosen = dice.random(count) < share
    others = [b"" if row % 7 == 0 else b"other %d" % row for row in range(count)]
    values = Approved(MODEL).encode(*flags.columns, chosen, Cells.of([others[row] for row in np.flatnonzero(~chosen)]))
    written = flags.written()
    assert list(values) == [written[row] if chosen[row] else others[row] for row in range(count)]


def test_an_odd_one_among_them_goes_elsewhere_and_the_rest_is_as_without_it() -> None:
    flags = Flags.of(ids=["a", 'b"', "c"], times=[0, -5, LATEST_MS], scores=[0.0, 1.5, 1.0])
    chosen = Approved.writable(*flags.columns)
    first, other, last = Approved(MODEL).encode(*flags.columns, chosen, Cells.of([b"{}"]))
    assert other == b"{}"
    assert [first, last] == [
        *Flags.of(ids=["a"], times=[0], scores=[0.0]).written(),
        *Flags.of(ids=["c"], times=[LATEST_MS], scores=[1.0]).written(),
    ]


def test_nothing_is_written_of_nothing() -> None:
    columns = (NONE, NONE, np.empty(0, np.int64), np.empty(0))
    assert Approved.writable(*columns).tolist() == []
    assert list(Approved(MODEL).encode(*columns, np.empty(0, np.bool_), NONE)) == []
