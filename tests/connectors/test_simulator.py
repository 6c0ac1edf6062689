"""The simulated transactions keep their promises; tolerances are five standard deviations of what is measured."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from connectors.contract import ConnectorError
from connectors.simulators.population import PLANE, Population
from connectors.simulators.transactions import (
    COMPROMISED_TERMINAL,
    DAY_MS,
    FIELDS,
    LARGE_AMOUNT,
    STOLEN_CARD,
    STOLEN_SHARE,
    TransactionBlock,
    TransactionSettings,
    blocks,
)

SMALL = TransactionSettings(seed=3, customers=300, terminals=400)
GENUINE = TransactionSettings(large_amount=math.inf, terminal_compromise_rate=0, card_theft_rate=0)


def take(settings: TransactionSettings, count: int) -> list[TransactionBlock]:
    return list(itertools.islice(blocks(settings), count))


def joined(taken: list[TransactionBlock], column: str) -> np.ndarray:
    return np.concatenate([getattr(block, column) for block in taken])


def test_same_seed_gives_same_bytes_however_one_reads() -> None:
    whole = [block.records() for block in take(SMALL, 6)]
    stream = blocks(SMALL)
    for keys, values in whole:
        other = next(blocks(SMALL))  # another reader in between
        block = next(stream)
        assert (keys, values) == block.records()
        assert other.records() == whole[0]


def test_seeds_differ() -> None:
    first, second = (take(TransactionSettings(seed=seed), 1)[0] for seed in (1, 2))
    assert first.records() != second.records()
    assert not np.array_equal(first.amount[:50], second.amount[:50])


@pytest.mark.parametrize("customers", [300, 20_000])  # a day in one block, and in several
def test_event_times_and_ids_never_go_back(customers: int) -> None:
    taken = take(TransactionSettings(customers=customers), 12)
    times, ids = joined(taken, "event_time_ms"), joined(taken, "transaction_id")
    assert (np.diff(times) >= 0).all()
    assert np.array_equal(ids, np.arange(1, len(ids) + 1))
    start_ms = int(TransactionSettings().start.timestamp() * 1_000)
    assert start_ms <= times[0] < times[-1] < start_ms + 12 * DAY_MS


def test_rates_are_the_customers() -> None:
    settings = replace(GENUINE, customers=2_000)
    population = Population(settings)
    spread = 4 / math.sqrt(12) * math.sqrt(settings.customers)
    assert abs(population.transactions_per_day - 2 * settings.customers) < 5 * spread
    customer = joined(take(settings, 30), "customer")
    expected = population.share * population.transactions_per_day * 30
    assert abs(len(customer) - expected.sum()) < 5 * math.sqrt(expected.sum())
    counts = np.bincount(customer, minlength=settings.customers)
    chi2 = ((counts - expected) ** 2 / expected).sum()  # Poisson: mean n, variance 2 n + sum of 1 / expected
    assert abs(chi2 - settings.customers) < 5 * math.sqrt(2 * settings.customers + (1 / expected).sum())


def test_time_of_day_is_normal_around_noon() -> None:
    second = joined(take(GENUINE, 10), "event_time_ms") % DAY_MS / 1_000
    spread = math.sqrt(0.25 / len(second))
    assert abs((second < 43_200).mean() - 0.5) < 5 * spread
    within_day = math.erf(43_200 / 20_000 / math.sqrt(2))
    assert abs((np.abs(second - 43_200) < 20_000).mean() - math.erf(1 / math.sqrt(2)) / within_day) < 5 * spread


def test_amounts_follow_the_customers_habit() -> None:
    settings = GENUINE
    mean = Population(settings).mean_amount
    assert settings.min_mean_amount <= mean.min() < mean.max() <= settings.max_mean_amount
    taken = take(settings, 10)
    amount = joined(taken, "amount")
    relative = amount / mean[joined(taken, "customer")]
    # a negative draw is replaced by one with the mean itself: E = 1 + 0.5 phi(2)
    expected = 1 + 0.5 * math.exp(-2) / math.sqrt(2 * math.pi)
    assert abs(relative.mean() - expected) < 5 * relative.std() / math.sqrt(len(relative))
    assert amount.min() >= 0.01
    assert np.array_equal(amount, np.round(amount, 2))


@pytest.mark.parametrize("terminals", [1, 50, 5_000])
def test_customers_use_terminals_in_reach_or_the_nearest(terminals: int) -> None:
    settings = TransactionSettings(customers=200, terminals=terminals)
    population = Population(settings)
    customer, terminal = population.visits(np.random.default_rng(0), 5_000)
    home = np.column_stack(np.divmod(population.home, PLANE)) + 0.5
    distance = np.linalg.norm(home[:, None] - population.terminal_xy[None], axis=2)
    allowed = np.maximum(settings.radius, distance.min(axis=1))
    assert (distance[customer, terminal] <= allowed[customer] + 1e-9).all()


def test_every_terminal_in_reach_is_used_alike() -> None:
    population = Population(TransactionSettings(customers=1, terminals=5_000))
    _, terminal = population.visits(np.random.default_rng(0), 20_000)
    home = np.array(divmod(population.home[0], PLANE)) + 0.5
    in_reach = np.flatnonzero(np.linalg.norm(population.terminal_xy - home, axis=1) <= 5)
    used, counts = np.unique(terminal, return_counts=True)
    assert np.array_equal(used, in_reach)
    assert (np.abs(counts - 20_000 / len(in_reach)) < 5 * math.sqrt(20_000 / len(in_reach))).all()


def test_large_amounts_are_fraud_and_nothing_else() -> None:
    settings = TransactionSettings(large_amount=180, terminal_compromise_rate=0, card_theft_rate=0)
    for block in take(settings, 5):
        assert np.array_equal(block.fraud, block.amount > 180)
        assert np.array_equal(block.scenario, np.where(block.fraud, LARGE_AMOUNT, 0))
        assert block.fraud.any()


def test_compromised_terminals_are_fraud_for_28_days() -> None:
    settings = TransactionSettings(
        terminals=500, terminal_compromise_rate=0.002, large_amount=math.inf, card_theft_rate=0
    )
    population, days = Population(settings), 80
    masks = np.array([population.compromised(day) for day in range(days)])
    for column in masks.T:
        edges = np.flatnonzero(np.diff(column.astype(int), prepend=0, append=0))
        for first, end in edges.reshape(-1, 2):
            assert end - first >= 28 or first == 0 or end == days
    strikes = 0.002 * 500 * (days + 27)
    assert abs(masks.mean() / (1 - math.exp(-0.002 * 28)) - 1) < 5 / math.sqrt(strikes)
    for block, mask in zip(take(settings, 3), masks, strict=False):  # 10 000 a day are one block
        assert np.array_equal(block.fraud, mask[block.terminal])
        assert set(np.unique(block.scenario)) == {0, COMPROMISED_TERMINAL}


def test_stolen_cards_pay_five_times_as_much_a_third_of_the_time() -> None:
    settings = TransactionSettings(card_theft_rate=0.01, large_amount=math.inf, terminal_compromise_rate=0)
    population, relative, tried = Population(settings), [], 0
    for day, block in enumerate(take(settings, 20)):
        stolen = population.stolen(day)[block.customer]
        assert not block.fraud[~stolen].any()
        assert np.array_equal(block.scenario == STOLEN_CARD, block.fraud)
        assert (np.rint(block.amount[block.fraud] * 100).astype(int) % 5 == 0).all()
        relative.append((block.amount / population.mean_amount[block.customer])[block.fraud])
        tried += int(stolen.sum())
    ratio = np.concatenate(relative)
    assert abs(len(ratio) / tried - STOLEN_SHARE) < 5 * math.sqrt(STOLEN_SHARE * (1 - STOLEN_SHARE) / tried)
    assert abs(ratio.mean() - 5.135) < 5 * ratio.std() / math.sqrt(len(ratio))


def test_defaults_give_about_one_percent_of_fraud() -> None:
    taken = take(TransactionSettings(), 60)
    assert 0.005 < joined(taken, "fraud").mean() < 0.015
    assert set(np.unique(joined(taken, "scenario"))) == {0, 1, 2, 3}
    first, last = joined(taken[:20], "fraud").mean(), joined(taken[-20:], "fraud").mean()
    assert 0.5 < first / last < 2  # under way from the first day


def test_records_are_the_block() -> None:
    block = take(TransactionSettings(customers=300, max_mean_amount=5_000.0), 1)[0]
    keys, values = block.records()
    assert len(keys) == len(values) == len(block)
    required = {field.name for field in FIELDS if field.required}
    for index, (key, value) in enumerate(zip(keys, values, strict=True)):
        event = json.loads(value)
        assert event == {
            "transaction_id": f"t{block.transaction_id[index]:09d}",
            "card_id": f"c{block.customer[index]:07d}",
            "terminal_id": f"m{block.terminal[index]:07d}",
            "amount": block.amount[index],
            "event_time": block.event_time_ms[index],
        }
        assert set(event) == required
        assert key == event["card_id"].encode()


def test_a_million_customers() -> None:
    sizes = [len(block) for block in take(TransactionSettings(customers=1_000_000), 3)]
    assert all(8_192 - 500 < size < 8_192 + 500 for size in sizes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("customers", 0),
        ("customers", 1_000_001),
        ("terminals", 0),
        ("max_transactions_per_day", 0),
        ("min_mean_amount", 0),
        ("max_mean_amount", 4.0),
        ("radius", 0.5),
        ("radius", math.nan),
        ("large_amount", -1),
        ("terminal_compromise_rate", 1.5),
        ("compromised_days", 0),
        ("card_theft_rate", -0.1),
        ("stolen_days", 0),
        ("start", datetime(2025, 1, 1)),  # noqa: DTZ001 - the point
        ("start", datetime(2025, 1, 1, 6, tzinfo=UTC)),
        ("start", datetime(2025, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConnectorError, match=f"expected `{name}`") as caught:
        TransactionSettings(**{name: value})
    assert isinstance(caught.value, ValueError)
