"""Recorded transactions through the stores of the stream give the inputs that the public definition gives."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from models.fraud.inputs import INPUTS, PLAIN_FEATURES
from models.fraud.protocol import plain_features
from models.fraud.recorded import recorded_inputs
from models.fraud.transactions import Ids, Transactions, read_transactions

SHARED = Path(__file__).parents[3] / "shared" / "data" / "fraud" / "transactions_2018-04-01_2018-08-14.parquet"
START_MS = 1_500_000_000_000


def make_transactions(count: int) -> Transactions:
    """Sixty days of a few cards and terminals, in order, some at the same moment; one terminal is mostly fraud."""
    dice = random.Random(4)
    times = sorted(dice.randrange(60 * 86_400) // 2 * 2 for _ in range(count))
    terminals = [dice.randrange(40) for _ in range(count)]
    return Transactions(
        transaction_ids=[b"%d" % number for number in range(count)],
        event_time_ms=np.array(times, np.int64) * 1000 + START_MS,
        cards=Ids.of([b"c%d" % dice.randrange(90) for _ in range(count)]),
        terminals=Ids.of([b"m%d" % terminal for terminal in terminals]),
        amount=np.array([round(dice.lognormvariate(3, 1), 2) for _ in range(count)]),
        fraud=np.array([dice.random() < (0.8 if terminal == 7 else 0.02) for terminal in terminals]),
    )


def test_the_plain_inputs_are_those_of_the_definition() -> None:
    transactions = make_transactions(11_000)
    done: list[int] = []
    inputs = recorded_inputs(transactions, done.append)
    assert inputs.shape == (len(transactions), len(INPUTS))
    assert INPUTS[: len(PLAIN_FEATURES)] == PLAIN_FEATURES
    np.testing.assert_allclose(inputs[:, : len(PLAIN_FEATURES)], plain_features(transactions), rtol=0, atol=1e-6)
    assert done == sorted(done)
    assert done[-1] == len(transactions)


def test_the_run_of_a_compromised_terminal_is_seen_a_week_late() -> None:
    transactions = make_transactions(6000)
    inputs = recorded_inputs(transactions)
    compromised = transactions.terminals.codes == transactions.terminals.names.index(b"m7")
    run, age = (inputs[:, INPUTS.index(name)] for name in ("terminal_fraud_run", "terminal_run_age_d"))
    assert run[compromised].mean() > 20 * run[~compromised].mean()
    assert age[run > 0].min() >= 7
    assert (age[run == 0] == 99).all()
    first_week = transactions.event_time_ms < transactions.event_time_ms[0] + 7 * 86_400_000
    assert not run[first_week].any()


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared fraud data")
def test_every_row_of_a_public_data_set_has_the_inputs_of_the_definition() -> None:
    transactions = read_transactions([SHARED])
    inputs = recorded_inputs(transactions)[:, : len(PLAIN_FEATURES)]
    np.testing.assert_allclose(inputs, plain_features(transactions), rtol=0, atol=1e-6)
    assert len(inputs) == 1_303_778
