"""The label that counts: whatever the order, the batches, the repetitions and the restarts, it is the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pytest

from models.fraud.label_store import FRAUD_SAID, GENUINE_SAID, LabelsCorrupt, LabelStore

DAY_MS = 86_400_000
NOW_MS = 1_767_225_600_000
MEMORY_MS = 45 * DAY_MS


class Label(NamedTuple):
    transaction: int
    event_time: int
    fraud: bool
    label_time: int


class Held(NamedTuple):
    event_time: int
    label_time: int
    fraud: bool
    said: int


def apply(store: LabelStore, labels: Iterable[Label]) -> list[bool]:
    labels = list(labels)
    return store.apply(
        np.array([label.transaction for label in labels], np.uint64),
        np.array([label.event_time for label in labels], np.int64),
        np.array([label.fraud for label in labels], np.bool_),
        np.array([label.label_time for label in labels], np.int64),
    ).tolist()


def held(store: LabelStore) -> dict[int, Held]:
    hashes, labels = store.labels()
    return {key: Held(*label) for key, label in zip(hashes.tolist(), labels.tolist(), strict=True)}


def by_hand(labels: Iterable[Label]) -> dict[int, Held]:
    """From the definition: of each transaction the latest label, fraud first; none of a transaction that is too old."""
    labels = list(labels)
    horizon = max(label.label_time for label in labels) - MEMORY_MS
    found: dict[int, Held] = {}
    for label in sorted(labels, key=lambda label: (label.label_time, label.fraud, label.event_time)):
        said = (FRAUD_SAID if label.fraud else GENUINE_SAID) | (
            found[label.transaction].said if label.transaction in found else 0
        )
        found[label.transaction] = Held(label.event_time, label.label_time, label.fraud, said)
    return {key: label for key, label in found.items() if label.event_time >= horizon}


def draw_labels(seed: int, count: int = 400, transactions: int = 120) -> list[Label]:
    """Labels of a few months, late and contradicting; all of a transaction have its event time."""
    draw = np.random.default_rng(seed)
    times = NOW_MS - draw.integers(0, 90 * DAY_MS, transactions)
    names = draw.integers(0, 2**64, transactions, np.uint64)
    chosen = draw.integers(0, transactions, count)
    delays = draw.integers(0, 30, count) * DAY_MS // 2  # often the same label time twice
    return [
        Label(int(names[at]), int(times[at]), bool(fraud), int(times[at] + delay))
        for at, fraud, delay in zip(chosen, draw.random(count) < 0.5, delays, strict=True)
    ]


@pytest.mark.parametrize("size", [1, 7, 64, 400])
@pytest.mark.parametrize("seed", range(4))
def test_any_order_batching_and_repetition_gives_the_labels_of_the_definition(seed: int, size: int) -> None:
    labels = draw_labels(seed)
    draw = np.random.default_rng(seed + 100)
    for _ in range(3):
        shuffled = [labels[at] for at in draw.permutation(len(labels))]
        shuffled += shuffled[:50]
        store = LabelStore(MEMORY_MS)
        for start in range(0, len(shuffled), size):
            apply(store, shuffled[start : start + size])
            if draw.random() < 0.3:
                store.changes()
        assert held(store) == by_hand(labels)


def test_a_later_label_wins_and_of_two_at_once_fraud() -> None:
    genuine, fraud, back = (Label(1, NOW_MS, f, NOW_MS + n * DAY_MS) for n, f in ((1, False), (2, True), (3, False)))
    also = Label(1, NOW_MS, True, NOW_MS + 3 * DAY_MS)
    for order in itertools.permutations((genuine, fraud, back)):
        store = LabelStore(MEMORY_MS)
        for label in order:
            apply(store, [label])
        assert held(store)[1] == (NOW_MS, back.label_time, False, FRAUD_SAID | GENUINE_SAID)
    for pair in ((back, also), (also, back)):
        store = LabelStore(MEMORY_MS)
        apply(store, pair)
        assert held(store)[1].fraud


def test_what_counts_anew_is_told_once() -> None:
    store = LabelStore(MEMORY_MS)
    first, second = Label(1, NOW_MS, False, NOW_MS + DAY_MS), Label(1, NOW_MS, True, NOW_MS + 2 * DAY_MS)
    assert apply(store, [first, first, Label(2, NOW_MS, True, NOW_MS)]) == [True, False, True]
    assert apply(store, [first, second]) == [False, True]
    assert apply(store, [first, second]) == [False, False]
    assert apply(store, [Label(3, NOW_MS - 60 * DAY_MS, True, NOW_MS), Label(4, NOW_MS, True, NOW_MS)]) == [False, True]
    assert store.expired == 1
    assert store.newest_ms == NOW_MS + 2 * DAY_MS


@pytest.mark.parametrize("size", [1, 3, 400])
def test_a_label_that_came_in_time_has_not_come_too_late_whatever_comes_with_it(size: int) -> None:
    store = LabelStore(MEMORY_MS)
    days = [*range(300), 265, 200]  # the last two go back, within the memory and beyond it
    labels = [Label(at, NOW_MS + (day - 7) * DAY_MS, True, NOW_MS + day * DAY_MS) for at, day in enumerate(days)]
    for start in range(0, len(labels), size):
        apply(store, labels[start : start + size])
    assert store.expired == 1


def log_of(store: LabelStore, log: dict[bytes, bytes | None]) -> None:
    """What the changelog is compacted to."""
    keys, values = store.changes()
    assert len(set(keys)) == len(keys)
    log.update(zip(keys, values, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_a_restart_and_a_redelivery_change_nothing(seed: int) -> None:
    labels, log = draw_labels(seed), dict[bytes, bytes | None]()
    store, at = LabelStore(MEMORY_MS), 0
    draw = np.random.default_rng(seed)
    while at < len(labels):
        size = int(draw.integers(1, 40))
        apply(store, labels[at : at + size])
        log_of(store, log)
        if draw.random() < 0.4:  # the worker is killed: the last batches, not committed yet, come again
            store = LabelStore(MEMORY_MS)
            items = list(log.items())
            order = draw.permutation(len(items))
            store.merge([items[n][0] for n in order], [items[n][1] for n in order])
            at = max(0, at - size)
        else:
            at += size
    assert held(store) == by_hand(labels)
    again = LabelStore(MEMORY_MS)
    again.merge(list(log), list(log.values()))
    assert held(again) == held(store)


def test_a_redelivered_batch_writes_all_its_keys_again() -> None:
    store, labels = LabelStore(MEMORY_MS), draw_labels(0)[:30]
    apply(store, labels)
    first = dict(zip(*store.changes(), strict=True))
    assert store.changes() == ([], [])
    apply(store, labels)
    assert dict(zip(*store.changes(), strict=True)) == first


def test_stale_copies_of_another_owner_do_no_harm() -> None:
    old, new = LabelStore(MEMORY_MS), LabelStore(MEMORY_MS)
    apply(old, [Label(1, NOW_MS, False, NOW_MS + DAY_MS)])
    stale = old.changes()
    apply(new, [Label(1, NOW_MS, True, NOW_MS + 2 * DAY_MS)])
    fresh = new.changes()
    for order in ((stale, fresh), (fresh, stale), (fresh, stale, fresh)):
        store = LabelStore(MEMORY_MS)
        for keys, values in order:
            store.merge(keys, values)
        assert held(store)[1].fraud


def test_what_is_old_is_forgotten_with_a_tombstone() -> None:
    store, log = LabelStore(MEMORY_MS), dict[bytes, bytes | None]()
    for day in range(120):
        apply(store, [Label(day, NOW_MS + day * DAY_MS, True, NOW_MS + (day + 7) * DAY_MS)])
        log_of(store, log)
    assert len(log) == 120
    alive = {int.from_bytes(key) for key, value in log.items() if value is not None}
    assert set(held(store)) <= alive
    assert len(store) == len(alive) <= 45 - 7 + 2
    assert store.nbytes == 26 * len(store)
    log[(119).to_bytes(8)] = None
    again = LabelStore(MEMORY_MS)
    again.merge(list(log), list(log.values()))
    assert set(held(again)) == set(held(store)) - {119}


def test_records_of_somebody_else_are_refused_and_nothing_is_applied() -> None:
    store = LabelStore(MEMORY_MS)
    apply(store, draw_labels(0)[:5])
    (key, *_), (value, *_) = store.changes()
    assert value is not None
    for bad_key, bad in ((key, b""), (key, b"\x02" + value[1:]), (key + b"x", value), (key, value[:-1] + b"\x09")):
        fresh = LabelStore(MEMORY_MS)
        with pytest.raises(LabelsCorrupt, match="restoring labels: expected"):
            fresh.merge([key, bad_key], [value, bad])
        assert len(fresh) == 0
    with pytest.raises(ValueError, match="2 keys do not match 1 values"):
        store.merge([key, key], [value])


def test_arguments_of_another_form_are_refused() -> None:
    store, one = LabelStore(MEMORY_MS), np.ones(1, np.int64)
    hashes, fraud = one.astype(np.uint64), one.astype(np.bool_)
    with pytest.raises(ValueError, match="hashes as uint64"):
        store.apply(one, one, fraud, one)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="event_time_ms as int64"):
        store.apply(hashes, np.ones(2, np.int64), fraud, one)
    with pytest.raises(ValueError, match="label_time_ms must be within"):
        store.apply(hashes, one, fraud, one << 62)
    assert len(store) == 0
    assert store.newest_ms is None
