"""The public protocol: by hand, against a brute-force definition, and against its published figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.engine import TrainingFailed
from models.fraud.inputs import PLAIN_FEATURES
from models.fraud.protocol import REFERENCE_MODELS, judge, plain_features, reference_scores, split
from models.fraud.transactions import Ids, Transactions, read_transactions

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SHARED = Path(__file__).parents[3] / "shared" / "data" / "fraud" / "transactions_2018-04-01_2018-08-14.parquet"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = date(2020, 1, 6)  # a Monday; the week of test begins on the 20th
DAY = timedelta(days=1)


def recorded(rows: Sequence[tuple[datetime, str, str, float, bool]]) -> Transactions:
    """Rows of (time, card, terminal, amount, fraud)."""
    return Transactions(
        transaction_ids=[b"%d" % number for number in range(len(rows))],
        event_time_ms=np.array([(row[0] - EPOCH) // timedelta(milliseconds=1) for row in rows], np.int64),
        cards=Ids.of([row[1].encode() for row in rows]),
        terminals=Ids.of([row[2].encode() for row in rows]),
        amount=np.array([row[3] for row in rows], np.float64),
        fraud=np.array([row[4] for row in rows], np.bool_),
    )


def on(days: int, hour: int = 12) -> datetime:
    """That many days after START."""
    return datetime(START.year, START.month, START.day, hour, tzinfo=UTC) + days * DAY


def test_ids_are_codes_in_the_order_of_numbers() -> None:
    ids = Ids.of([b"10", b"9", b"b", b"10"])
    assert ids.names == (b"9", b"b", b"10")
    assert ids.codes.tolist() == [2, 0, 1, 2]
    assert ids.codes.dtype == np.int64
    assert ids.keys == [b"10", b"9", b"b", b"10"]
    assert Ids.of([]).keys == []


class TestSplit:
    def test_rows_of_the_training_week_and_of_the_test_week(self) -> None:
        days = range(-2, 24)
        transactions = recorded([(on(day, hour), "c", "t", 1.0, False) for day in days for hour in (0, 23)])
        training, test = split(transactions, START)
        assert training.dtype == test.dtype == np.int64
        assert [transactions.day[row] - transactions.day[training[0]] for row in training[::2]] == list(range(7))
        assert training.tolist() == list(range(4, 18))
        assert test.tolist() == list(range(32, 46))

    @pytest.mark.parametrize(
        ("fraud_on", "first_left_out"),
        [(-1, None), (0, 14), (6, 14), (7, 15), (8, 16), (12, 20), (13, None), (14, None), (20, None)],
    )
    def test_a_card_is_left_out_once_its_fraud_is_known(self, fraud_on: int, first_left_out: int | None) -> None:
        others = [(on(day), "other", "t", 1.0, False) for day in range(-1, 21)]
        transactions = recorded([*others, (on(fraud_on, 23), "c", "t", 1.0, True)] + [
            (on(day, 0), "c", "t", 1.0, False) for day in range(14, 21)
        ])  # fmt: skip
        tested = split(transactions, START).test
        left = {14 + row - len(others) - 1 for row in tested if row > len(others)}
        assert left == set(range(14, 21 if first_left_out is None else first_left_out))
        assert sum(row < len(others) for row in tested) == 7

    def test_other_lengths(self) -> None:
        rows = [(on(day), card, "t", 1.0, card == "c" and day == 3) for day in range(7) for card in ("c", "d")]
        training, test = split(recorded(rows), START, train_days=3, delay_days=1, test_days=3)
        assert training.tolist() == [0, 1, 2, 3, 4, 5]
        assert test.tolist() == [8, 9, 11, 13]  # the fraud of day 3 is known on day 5

    @pytest.mark.parametrize(("first", "last"), [(1, 20), (0, 19), (30, 40), (-40, -30)])
    def test_too_few_days_say_which_there_are(self, first: int, last: int) -> None:
        transactions = recorded([(on(first), "c", "t", 1.0, False), (on(last), "c", "t", 1.0, False)])
        covered = f"got {START + first * DAY} to {START + last * DAY};"
        with pytest.raises(TrainingFailed, match=f"expected days from 2020-01-06 to 2020-01-26, {covered}"):
            split(transactions, START)


class TestJudge:
    def test_auc_and_average_precision_equal_scikit_learn(self) -> None:
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(0)
        rows = [(on(i % 7), str(i % 90), "t", 1.0, bool(rng.random() < 0.1)) for i in range(900)]
        transactions = recorded(rows)
        chosen = np.flatnonzero(rng.random(900) < 0.5)
        scores = rng.random(len(chosen)).round(2)
        figures = judge(scores, transactions, chosen)
        assert list(figures) == ["auc", "ap", "cp100"]
        assert figures["auc"] == pytest.approx(metrics.roc_auc_score(transactions.fraud[chosen], scores), abs=1e-12)
        expected = metrics.average_precision_score(transactions.fraud[chosen], scores)
        assert figures["ap"] == pytest.approx(expected, abs=1e-12)

    def precision(self, rows: Sequence[tuple[int, str, float, bool]]) -> float:
        """Card precision of (day, card, score, fraud), judged beside a row that is not tested."""
        untested = (on(0), "0", "t", 1.0, True)
        transactions = recorded([*((on(day), card, "t", 1.0, fraud) for day, card, _, fraud in rows), untested])
        return judge(np.array([row[2] for row in rows]), transactions, np.arange(len(rows)))["cp100"]

    def test_a_card_counts_once_a_day_by_its_highest_score(self) -> None:
        rows = [(0, "1", 0.1, True), (0, "1", 0.9, False), (0, "2", 0.8, True), (0, "2", 0.7, True)]
        rows += [(0, f"g{i}", 0.5, False) for i in range(98)]  # 100 cards: all are shown
        assert self.precision(rows) == pytest.approx(0.02)
        rows += [(0, "h1", 0.85, False), (0, "h2", 0.85, False)]  # card 1 is still shown, for its genuine row's score
        assert self.precision(rows) == pytest.approx(0.02)
        assert self.precision([row if row[2] != 0.9 else (0, "1", 0.2, False) for row in rows]) == pytest.approx(0.01)

    def test_ties_go_by_the_order_of_cards_however_the_rows_lie(self) -> None:
        rows = [(0, str(card), 0.5, card in (3, 99, 100, 101)) for card in range(150)]  # cards 0 to 99 are shown
        shuffled = [rows[i] for i in np.random.default_rng(1).permutation(150)]
        assert self.precision(rows) == self.precision(shuffled) == self.precision(rows[::-1]) == pytest.approx(0.02)

    def test_a_detected_card_leaves_the_later_days(self) -> None:
        rows = [(day, "1", 0.9, True) for day in range(4)]
        rows += [(1, "2", 0.8, True)]
        rows += [(day, "3", 0.7, day == 3) for day in range(4)]  # shown while it is genuine, so not detected before
        assert self.precision(rows) == pytest.approx((0.01 + 0.01 + 0.00 + 0.01) / 4)

    def test_a_card_that_was_not_shown_may_be_detected_later(self) -> None:
        crowd = [(day, f"g{i}", 0.5, False) for day in (0, 1) for i in range(100 - day)]
        late = [(0, "1", 0.4, True), (1, "1", 0.4, True)]
        shown_while_genuine = [(0, "2", 0.9, False), (1, "2", 0.1, True)]
        assert self.precision([*crowd, *late]) == pytest.approx(0.01 / 2)
        assert self.precision([*crowd, *late, *shown_while_genuine]) == pytest.approx(0.01 / 2)

    def test_scores_of_other_rows_are_refused(self) -> None:
        transactions = recorded([(on(0), "1", "t", 1.0, True), (on(0), "2", "t", 1.0, False)])
        with pytest.raises(TrainingFailed, match=r"got \[3\] and \[2\]"):
            judge(np.zeros(3), transactions, np.arange(2))
        with pytest.raises(TrainingFailed, match="got only one kind"):
            judge(np.zeros(1), transactions, np.arange(1))


class TestPlainFeatures:
    def test_names(self) -> None:
        assert PLAIN_FEATURES == (
            "amount", "weekend", "night",
            "count_1d", "mean_1d", "count_7d", "mean_7d", "count_30d", "mean_30d",
            "terminal_count_1d", "terminal_fraud_share_1d", "terminal_count_7d", "terminal_fraud_share_7d",
            "terminal_count_30d", "terminal_fraud_share_30d",
        )  # fmt: skip

    @pytest.mark.parametrize("in_order", [True, False], ids=["by time", "in any order"])
    def test_against_the_definition(self, in_order: bool) -> None:
        rng = np.random.default_rng(7)
        hours = rng.integers(0, 24 * 60, 600)  # whole hours: many times are equal, or on the edge of a window
        rows = [
            (on(0, 0) + timedelta(hours=int(hour)), f"c{rng.integers(6)}", f"t{rng.integers(6)}",
             float(rng.integers(0, 10_000)) / 100, bool(rng.random() < 0.3))
            for hour in (np.sort(hours) if in_order else hours)
        ]  # fmt: skip
        found = plain_features(recorded(rows))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, [self.defined(rows, row) for row in range(len(rows))], rtol=0, atol=1e-9)

    def defined(self, rows: Sequence[tuple[datetime, str, str, float, bool]], row: int) -> list[float]:
        time, card, terminal, amount, _ = rows[row]
        features = [amount, float(time.weekday() >= 5), float(time.hour <= 6)]
        earlier, late = rows[: row + 1], time - 7 * DAY
        for days in (1, 7, 30):
            amounts = [other[3] for other in earlier if other[1] == card and time - days * DAY < other[0] <= time]
            features += [len(amounts), sum(amounts) / len(amounts)]
        for days in (1, 7, 30):
            frauds = [other[4] for other in earlier if other[2] == terminal and late - days * DAY < other[0] <= late]
            features += [len(frauds), sum(frauds) / len(frauds) if frauds else 0.0]
        return features

    def test_no_rows(self) -> None:
        assert plain_features(recorded([])).shape == (0, 15)


@pytest.mark.parametrize("name", REFERENCE_MODELS)
def test_reference_models_are_seeded_and_rank(name: str) -> None:
    pytest.importorskip("sklearn")
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(2)
    features = rng.normal(size=(600, 3)) * (1, 1000, 1e-3)
    labels = features[:, 1] + rng.normal(size=600) * 300 > 1000
    with threadpool_limits(1, "openmp"):  # its threads spin while they wait, which takes seconds on busy cores
        scores, again = (reference_scores(name, features[:400], labels[:400], features[400:]) for _ in range(2))
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert 0 <= scores.min() < scores.max() <= 1
    assert scores[labels[400:]].mean() > 3 * scores[~labels[400:]].mean()
    assert np.array_equal(scores, again)


def test_reference_models_do_not_depend_on_units() -> None:
    pytest.importorskip("sklearn")
    features = np.random.default_rng(3).normal(size=(300, 2))
    labels = features.sum(axis=1) > 1
    scores = reference_scores("logistic_regression", features, labels, features)
    other_units = features * (1e-4, 1e4) + (5, -7)
    assert reference_scores("logistic_regression", other_units, labels, other_units) == pytest.approx(scores, abs=1e-6)


def test_reference_models_that_cannot_be_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.zeros((4, 2))
    with pytest.raises(TrainingFailed, match=r"expected one of logistic_regression, random_forest, .* got 'svm'"):
        reference_scores("svm", rows, np.arange(4) == 0, rows)
    with pytest.raises(TrainingFailed, match=r"fitting random_forest to 4 transactions: .* got only one kind"):
        reference_scores("random_forest", rows, np.zeros(4, np.bool_), rows)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(TrainingFailed, match=r"needs scikit-learn; .*pip install 'headrace\[train\]'"):
        reference_scores("random_forest", rows, np.arange(4) == 0, rows)


def table(path: Path, **changed: Any) -> Path:
    """Write three transactions in Headrace's columns, some of them changed; `None` takes a column away."""
    columns: dict[str, Any] = {
        "transaction_id": ["a", "b", "c"],
        "event_time": [3000, 1000, 2000],
        "card_id": ["c1", "c2", "c1"],
        "terminal_id": ["t1", "t1", "t2"],
        "amount": [1.5, 0.0, 3.0],
        "fraud": [False, True, False],
    } | changed
    parquet.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


def handbook(path: Path, first_id: int = 0, **changed: Any) -> Path:
    times = [datetime(2018, 4, 1, 0, 0, 31), datetime(2018, 4, 1, 0, 0, 31), datetime(2018, 4, 2)]  # noqa: DTZ001
    columns: dict[str, Any] = {
        "TRANSACTION_ID": pa.array(range(first_id, first_id + 3), pa.int32()),
        "TX_DATETIME": pa.array(times, pa.timestamp("ns")),
        "CUSTOMER_ID": pa.array([596, 10, 9], pa.int16()),
        "TERMINAL_ID": pa.array([3156, 7, 7], pa.int16()),
        "TX_AMOUNT": [57.16, 81.51, 146.0],
        "TX_TIME_SECONDS": [31, 31, 86400],
        "TX_TIME_DAYS": [0, 0, 1],
        "TX_FRAUD": pa.array([0, 0, 1], pa.int8()),
        "TX_FRAUD_SCENARIO": pa.array([0, 0, 2], pa.int8()),
    }
    parquet.write_table(pa.table(columns | changed), path)
    return path


def fails(*paths: Path) -> str:
    with pytest.raises(TrainingFailed) as caught:
        read_transactions(paths)
    return str(caught.value)


class TestReading:
    def test_the_names_of_the_handbook(self, tmp_path: Path) -> None:
        transactions = read_transactions([handbook(tmp_path / "a.parquet")])
        assert len(transactions) == 3
        assert transactions.transaction_ids == [b"0", b"1", b"2"]
        assert transactions.event_time_ms.tolist() == [1522540831000, 1522540831000, 1522627200000]
        assert transactions.day.tolist() == [17622, 17622, 17623]
        assert transactions.cards.keys == [b"596", b"10", b"9"]
        assert transactions.cards.names == (b"9", b"10", b"596")
        assert transactions.terminals.keys == [b"3156", b"7", b"7"]
        assert transactions.amount.tolist() == [57.16, 81.51, 146.0]
        assert transactions.fraud.tolist() == [False, False, True]
        assert transactions.fraud.dtype == np.bool_

    def test_own_names_sorted_by_time(self, tmp_path: Path) -> None:
        transactions = read_transactions([table(tmp_path / "a.parquet")])
        assert transactions.transaction_ids == [b"b", b"c", b"a"]
        assert transactions.event_time_ms.tolist() == [1000, 2000, 3000]
        assert transactions.event_time_ms.dtype == np.int64
        assert transactions.cards.keys == [b"c2", b"c1", b"c1"]
        assert transactions.amount.tolist() == [0.0, 3.0, 1.5]
        assert transactions.fraud.tolist() == [True, False, False]

    def test_several_files_keep_their_order_at_one_time(self, tmp_path: Path) -> None:
        late = handbook(tmp_path / "a.parquet", TX_DATETIME=[1522540831000, 5, 1522540831000])
        own = table(tmp_path / "b.parquet", event_time=[1522540831000, 5, 6], card_id=pa.array([9, 10, 9]))
        transactions = read_transactions([late, own])
        assert transactions.transaction_ids == [b"1", b"b", b"c", b"0", b"2", b"a"]
        assert transactions.cards.keys == [b"10", b"10", b"9", b"596", b"9", b"9"]
        assert read_transactions([own, late]).transaction_ids == [b"b", b"1", b"c", b"a", b"0", b"2"]

    @pytest.mark.parametrize(
        ("column", "values"),
        [
            ("event_time", pa.array([3_000_999, 1_000_000, 2_000_000], pa.timestamp("us"))),
            ("event_time", pa.array([3000, 1000, 2000], pa.timestamp("ms", tz="Europe/Brussels"))),
            ("event_time", pa.array([3, 1, 2], pa.timestamp("s"))),
            ("event_time", pa.array([3000, 1000, 2000], pa.uint16())),
            ("card_id", pa.array(["c1", "c2", "c1"]).dictionary_encode()),
            ("card_id", pa.array(["c1", "c2", "c1"], pa.large_string())),
            ("card_id", pa.array([b"c1", b"c2", b"c1"])),
            ("amount", pa.array([Decimal("1.50"), Decimal(0), Decimal(3)])),
            ("amount", pa.array([1.5, 0, 3], pa.float32())),
            ("fraud", pa.array([0, 1, 0], pa.uint8())),
            ("fraud", pa.array([0.0, 1.0, 0.0])),
        ],
    )
    def test_other_types_of_the_same_values(self, tmp_path: Path, column: str, values: Any) -> None:
        same = read_transactions([table(tmp_path / "a.parquet", **{column: values})])
        assert same.event_time_ms.tolist() == [1000, 2000, 3000]
        assert same.cards.keys == [b"c2", b"c1", b"c1"]
        assert same.amount.tolist() == [0.0, 3.0, 1.5]
        assert same.fraud.tolist() == [True, False, False]

    @pytest.mark.parametrize(
        ("column", "values", "row", "expected", "got"),
        [
            ("amount", [1.0, -0.01, 2.0], 2, "a finite number >= 0", "-0.01"),
            ("amount", [1.0, 2.0, float("nan")], 3, "a finite number >= 0", "nan"),
            ("amount", [float("inf"), 2.0, 3.0], 1, "a finite number >= 0", "inf"),
            ("amount", [1.0, None, -2.0], 2, "a finite number >= 0", "nothing"),
            ("event_time", pa.array([1, None, None], pa.timestamp("ns")), 2, "a time", "nothing"),
            ("event_time", [1, 2, None], 3, "a time", "nothing"),
            ("card_id", [None, "c", "c"], 1, "an id", "nothing"),
            ("terminal_id", [1, None, 2], 2, "an id", "nothing"),
            ("transaction_id", ["a", "b", None], 3, "an id", "nothing"),
            ("fraud", [0, 1, 2], 3, "0 or 1", "2"),
            ("fraud", [0, -1, 1], 2, "0 or 1", "-1"),
            ("fraud", [0.5, 0.0, 1.0], 1, "0 or 1", "0.5"),
            ("fraud", [True, None, False], 2, "0 or 1", "nothing"),
        ],
    )
    def test_a_bad_value(self, tmp_path: Path, column: str, values: Any, row: int, expected: str, got: str) -> None:
        path = table(tmp_path / "a.parquet", **{column: values})
        assert fails(path) == (
            f"reading {path}, row {row}: column `{column}`: expected {expected}, got {got}; nothing was read"
        )

    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("amount", ["1", "2", "3"], "expected numbers, got string"),
            ("event_time", [1.0, 2.0, 3.0], "expected timestamps or whole milliseconds, got double"),
            ("card_id", [1.0, 2.0, 3.0], "expected ids, got double"),
            ("fraud", ["0", "1", "0"], "expected labels 0 or 1, got string"),
        ],
    )
    def test_a_column_of_another_type(self, tmp_path: Path, column: str, values: Any, message: str) -> None:
        path = table(tmp_path / "a.parquet", **{column: values})
        assert fails(path) == f"reading {path}: column `{column}`: {message}; nothing was read"

    def test_a_column_that_is_missing_or_there_twice(self, tmp_path: Path) -> None:
        path = table(tmp_path / "a.parquet", fraud=None)
        assert fails(path) == (
            f"reading {path}: expected one column `fraud` or `TX_FRAUD`, got none among transaction_id, event_time, "
            "card_id, terminal_id, amount; nothing was read"
        )
        assert "got amount and TX_AMOUNT among" in fails(table(tmp_path / "b.parquet", TX_AMOUNT=[1, 2, 3]))

    def test_a_transaction_that_is_there_twice(self, tmp_path: Path) -> None:
        one, other = handbook(tmp_path / "a.parquet"), handbook(tmp_path / "b.parquet", first_id=2)
        assert fails(one, other) == (
            f"reading {other}, row 1: expected each transaction once, got the transaction id '2' again; "
            "nothing was read"
        )
        within = table(tmp_path / "c.parquet", transaction_id=["a", "b", "a"])
        assert fails(one, within).startswith(f"reading {within}, row 3: expected each transaction once")

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        assert f"reading {tmp_path / 'none'}: expected a Parquet file" in fails(tmp_path / "none")
        assert "expected a Parquet file" in fails(tmp_path)
        text = tmp_path / "a.csv"
        text.write_text("transaction_id,amount\n1,2\n")
        assert "expected a Parquet file" in fails(text)

    def test_no_rows_at_all(self, tmp_path: Path) -> None:
        types = {"transaction_id": pa.string(), "event_time": pa.int64(), "card_id": pa.string()}
        types |= {"terminal_id": pa.int32(), "amount": pa.float64(), "fraud": pa.bool_()}
        empty = table(tmp_path / "a.parquet", **{name: pa.array([], kind) for name, kind in types.items()})
        assert fails(empty) == f"reading transactions: expected some, got none in {empty}"
        assert fails() == "reading transactions: expected some, got none in no file"
        assert len(read_transactions([empty, table(tmp_path / "b.parquet")])) == 3

    def test_without_pyarrow_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert fails(tmp_path / "a.parquet").endswith("install what training needs: pip install 'headrace[train]'")


@pytest.mark.skipif(not SHARED.exists(), reason="needs the handbook's transactions in ../shared/data")
def test_the_published_figures_of_the_random_forest() -> None:
    pytest.importorskip("sklearn")
    transactions = read_transactions([SHARED])
    assert len(transactions) == 1_303_778
    training, test = split(transactions, date(2018, 7, 25))
    features = plain_features(transactions)
    scores = reference_scores("random_forest", features[training], transactions.fraud[training], features[test])
    assert judge(scores, transactions, test) == pytest.approx({"auc": 0.8674, "ap": 0.6578, "cp100": 0.2871}, abs=0.003)
