"""The drift monitor: which rows it keeps, when it judges, how seldom it cries wolf, and what it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.drift import DriftMonitor, Report, compare, metrics
from models.engine import ModelIncompatible
from models.reference import HOUR_MS, Reference

NAMES = ("level", "count", "rare", "fixed", "night")
PER_HOUR = 100
Batch = tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes]]


def world(seed: int, hours: int, per_hour: int = PER_HOUR, cards: int = 5000, shared: float = 0.0) -> Batch:
    """Features, scores, event times, keys; `level` is normal, a share of its variance is the card's own."""
    rng = np.random.default_rng(seed)
    n = hours * per_hour
    times = np.sort(rng.integers(0, hours * HOUR_MS, n))
    card = rng.integers(0, cards, n)
    level = np.sqrt(1 - shared) * rng.normal(size=n) + np.sqrt(shared) * rng.normal(size=cards)[card]
    features = np.column_stack(
        (level, rng.poisson(2, n), rng.random(n) < 0.03, np.full(n, 4.5), times // HOUR_MS % 24 < 6)
    )
    return features, rng.beta(1, 20, n), times, [b"c%d" % each for each in card.tolist()]


def reference(seed: int = 0, hours: int = 28 * 24, **of: Any) -> Reference:
    features, scores, times, keys = world(seed, hours, **of)
    return Reference.of(features, scores, NAMES, times, np.array([int(key[1:]) for key in keys]))


@pytest.fixture(scope="module")
def trained() -> Reference:
    return reference()


def feed(monitor: DriftMonitor, batch: Batch, size: int = 1000) -> DriftMonitor:
    for start in range(0, len(batch[1]), size):
        monitor.update(*(part[start : start + size] for part in batch))  # type: ignore[arg-type]
    return monitor


def verdicts(report: Report) -> dict[str, str]:
    assert report.waiting_for == ""
    return {each.name: each.verdict for each in report.features}


def changed(batch: Batch, **columns: Any) -> Batch:
    features = batch[0].copy()
    for name, change in columns.items():
        features[:, NAMES.index(name)] = change(features[:, NAMES.index(name)])
    return features, *batch[1:]


def test_a_window_is_a_fair_sample_of_the_last_hours(trained: Reference) -> None:
    features, scores, times, _ = batch = world(1, 10 * 24, per_hour=4000)
    features[:, 3] = np.arange(len(scores))  # each row can be told
    monitor = DriftMonitor(trained, span_h=72)
    size = monitor.nbytes
    feed(monitor, batch)
    assert monitor.nbytes == size < 1_000_000
    window = monitor.window()
    kept = window.columns[3].astype(np.int64)
    assert window.span_h == 72
    assert len(np.unique(kept)) == len(kept)
    assert 8192 // 4 <= len(kept) <= 8192
    np.testing.assert_array_equal(window.columns[0], features[kept, 0].astype(np.float32))
    np.testing.assert_array_equal(window.columns[-1], scores[kept].astype(np.float32))
    assert times[kept].min() > times[-1] - 72 * HOUR_MS - HOUR_MS
    chance = len(kept) / (72 * 4000)
    by_hour = np.bincount((times[kept] - times[kept].min()) // HOUR_MS, minlength=72)[:72]
    assert by_hour.mean() == pytest.approx(chance * 4000, rel=0.03)
    assert by_hour.std() < 1.4 * np.sqrt(by_hour.mean())  # as by chance


@pytest.mark.parametrize("size", [1, 7, 999, 50_000])
def test_batches_of_any_size_give_the_same_as_one(trained: Reference, size: int) -> None:
    parts = [world(1, 60, 400), world(2, 60, 20), world(3, 30, 900)]  # the rate falls and rises
    later = np.cumsum([0, 60, 60]) * HOUR_MS
    features, scores = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    times = np.concatenate([part[2] + shift for part, shift in zip(parts, later.tolist(), strict=True)])
    batch = features, scores, times, [key for part in parts for key in part[3]]
    one, many = (DriftMonitor(trained, capacity=1000) for _ in range(2))
    one.update(*batch)
    feed(many, batch, size)
    for name in ("columns", "keys"):
        np.testing.assert_array_equal(getattr(one.window(), name), getattr(many.window(), name))
    assert one.report() == many.report()


def test_sampling_follows_the_rate_down_as_well_as_up(trained: Reference) -> None:
    monitor = DriftMonitor(trained, capacity=1000)
    for hour, per_hour in enumerate([2000] * 30 + [20] * 200):
        features, scores, times, keys = world(hour, 1, per_hour)
        monitor.update(features, scores, times + hour * HOUR_MS, keys)
        if hour > 30:
            rows = monitor.window().columns.shape[1]
            assert rows <= 1000
    assert rows > 240  # of 480 in a day


def test_there_is_no_verdict_on_too_little(trained: Reference) -> None:
    monitor = DriftMonitor(trained)
    assert monitor.report() == Report(0, 0, (), "no verdict yet: 0 of 200 rows")
    early = world(1, 5)
    feed(monitor, early)
    found = monitor.report()
    assert (found.rows, found.features, found.drifting) == (500, (), ())
    assert found.waiting_for == "no verdict yet: rows of less than 6 hours"
    told = metrics(found)
    assert told["headrace_drift_records"] == {(): 500}
    assert told["headrace_drifting"] == {}
    few = feed(DriftMonitor(trained), world(1, 24, per_hour=8))
    assert few.report().waiting_for == "no verdict yet: 192 of 200 rows"


def test_the_span_grows_as_there_are_rows_for_it(trained: Reference) -> None:
    monitor = DriftMonitor(trained, span_h=168)
    features, scores, times, keys = world(1, 200)
    spans = []
    for hour in range(200):
        inside = np.flatnonzero(times // HOUR_MS == hour)
        monitor.update(features[inside], scores[inside], times[inside], [keys[row] for row in inside.tolist()])
        report = monitor.report()
        assert not report.drifting, hour  # nights begin and end
        spans.append(report.span_h)
    assert [spans.index(each) for each in (6, 24, 72, 168)] == pytest.approx([5, 23, 71, 167], abs=14)
    assert spans == sorted(spans)


def test_one_row_of_the_future_or_the_past_moves_nothing(trained: Reference) -> None:
    plain, odd = DriftMonitor(trained), DriftMonitor(trained)
    batch = world(1, 48, per_hour=300)
    feed(plain, batch)
    features, scores, times, keys = batch
    times = times.copy()
    times[[50, 5000]], times[[70, 6000]] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    feed(odd, (features, scores, times, keys))
    assert odd.window().span_h == plain.window().span_h == 24
    assert odd.window().columns.shape[1] == pytest.approx(plain.window().columns.shape[1], abs=4)
    assert not odd.report().drifting


def test_nothing_that_has_not_changed_is_called_drifting(trained: Reference) -> None:
    reports = []
    for seed in range(10, 20):
        monitor = DriftMonitor(trained)
        features, scores, times, keys = world(seed, 96)
        for start in range(0, len(times), 300):
            part = slice(start, start + 300)
            monitor.update(features[part], scores[part], times[part], keys[part])
            reports.append(monitor.report())
    judged = [report for report in reports if not report.waiting_for]
    naive = sum(any(each.p_value < 0.05 for each in report.features) for report in judged)
    assert len(judged) > 280
    assert sum(bool(report.drifting) for report in judged) == 0
    assert naive > 0.2 * len(judged)  # a plain test would have cried wolf


def test_few_cards_that_are_alike_raise_no_alarm() -> None:
    trained = reference(shared=0.9)
    found = [feed(DriftMonitor(trained), world(seed, 30, cards=20, shared=0.9)).report() for seed in range(30, 45)]
    level = [report.features[0] for report in found]
    assert max(each.ks for each in level) > 0.15  # beyond what matters
    assert min(each.p_value for each in level) > 1e-5
    assert not any(report.drifting for report in found)


@pytest.mark.parametrize(
    ("by", "share_found"), [(0.1, (0.0, 0.1)), (0.25, (0.0, 0.7)), (0.35, (0.9, 1.0)), (0.5, (1.0, 1.0))]
)
def test_a_mean_that_moves_is_seen(trained: Reference, by: float, share_found: tuple[float, float]) -> None:
    found = []
    for seed in range(50, 60):
        batch = changed(world(seed, 30), level=lambda values: values + by)
        found.append(verdicts(feed(DriftMonitor(trained), batch).report())["level"] == "drifting")
    assert share_found[0] <= np.mean(found) <= share_found[1]


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("level", lambda values: values * 1.5),
        ("level", np.zeros_like),
        ("level", lambda values: np.where(np.arange(len(values)) % 8, values, np.nan)),
        ("level", lambda values: np.where(np.arange(len(values)) % 8, values, -np.inf)),
        ("level", lambda values: np.where(np.arange(len(values)) % 8, values, 1e300)),
        ("count", lambda values: np.where(values == 3, 2, values)),
        ("count", lambda values: values + 1),
        ("rare", lambda values: np.arange(len(values)) % 8 == 0),
        ("fixed", lambda values: values + 0.5),
        ("night", lambda values: 1 - values),
    ],
)
def test_each_kind_of_change_is_seen_and_the_others_are_quiet(trained: Reference, feature: str, change: Any) -> None:
    report = feed(DriftMonitor(trained), changed(world(70, 30), **{feature: change})).report()
    assert report.span_h == 24
    assert report.drifting == (feature,)


def test_a_category_that_vanishes_is_seen_where_it_had_4_percent() -> None:
    rng = np.random.default_rng(0)

    def batch(seed: int) -> Batch:
        features, *rest = world(seed, 200)
        features[:, 2] = rng.random(len(features)) < 0.05
        return features, *rest

    features, scores, times, _ = batch(0)
    trained = Reference.of(features, scores, NAMES, times, np.arange(len(times)))
    quiet = feed(DriftMonitor(trained), batch(1)).report()
    assert quiet.drifting == ()
    gone = feed(DriftMonitor(trained), changed(batch(1), rare=np.zeros_like)).report()
    assert gone.drifting == ("rare",)
    assert gone.features[2].ks < 0.08  # it is PSI that sees it


def test_scores_are_watched_like_features(trained: Reference) -> None:
    features, scores, times, keys = world(70, 30)
    report = feed(DriftMonitor(trained), (features, scores * 2, times, keys)).report()
    assert report.drifting == ("score",)


def test_figures_are_those_of_the_rows_compared(trained: Reference) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the extra `train`")
    monitor = feed(DriftMonitor(trained), world(1, 30))
    window = monitor.window()
    report = compare(trained, window)
    assert report == monitor.report()
    for at, each in enumerate(report.features):
        test = stats.ks_2samp(trained.columns[at], window.columns[at], method="asymp")
        assert each.ks == pytest.approx(test.statistic)
        assert each.p_value == pytest.approx(test.pvalue, rel=0.5, abs=0.02)


def test_a_report_is_metrics(trained: Reference) -> None:
    report = feed(DriftMonitor(trained), changed(world(70, 30), level=np.zeros_like)).report()
    told = metrics(report)
    assert told["headrace_drifting"] == {(name,): float(name == "level") for name in (*NAMES, "score")}
    assert told["headrace_drift_records"] == {(): report.rows}
    first = report.features[0]
    figures = [told[f"headrace_drift_{name}"]["level",] for name in ("psi", "ks", "pvalue")]
    assert figures == [first.psi, first.ks, first.p_value]


@pytest.mark.parametrize(
    "change",
    [
        lambda f, s, t, k: (f[:, :4], s, t, k),
        lambda f, s, t, k: (f[:, 0], s, t, k),
        lambda f, s, t, k: (f[:5], s, t, k),
        lambda f, s, t, k: (f, s[:, None], t, k),
        lambda f, s, t, k: (f, s, t[:5], k),
        lambda f, s, t, k: (f, s, t, k[:5]),
    ],
)
def test_rows_of_another_shape_are_refused_and_change_nothing(trained: Reference, change: Any) -> None:
    monitor = feed(DriftMonitor(trained), world(1, 30))
    before = monitor.report()
    with pytest.raises(ModelIncompatible, match=r"expected features \[500, 5\] .*; these rows are not looked at"):
        monitor.update(*change(*world(2, 5)))
    assert monitor.report() == before


def test_no_rows_are_fine(trained: Reference) -> None:
    monitor = DriftMonitor(trained)
    monitor.update(np.empty((0, 5)), np.empty(0), np.empty(0, np.int64), [])
    assert monitor.report().rows == 0


@pytest.mark.parametrize("wrong", [{"span_h": 25}, {"span_h": 0}, {"capacity": 100}])
def test_a_span_that_no_training_was_measured_over_is_refused(trained: Reference, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected a span of 6, 24, 72, 168 hours and room for 800 rows or more"):
        DriftMonitor(trained, **wrong)
