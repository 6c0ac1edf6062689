"""Simulated labels say of the simulated transactions what these are."""

from __future__ import annotations

import itertools
import json

import msgspec
import numpy as np
import pytest

from connectors.simulators.labels import FIELDS, records
from connectors.simulators.transactions import TransactionSettings, blocks
from streams.schemas import FraudLabel

DAY_MS = 86_400_000


@pytest.mark.parametrize("genuine", [False, True])
def test_labels_are_those_of_the_transactions_and_later_by_the_delay(genuine: bool) -> None:
    labelled = 0
    for block in itertools.islice(blocks(TransactionSettings(seed=3, customers=300, terminals=400)), 20):
        keys, values, times = records(block, 3 * DAY_MS, genuine=genuine)
        fraud = dict(zip((f"t{number:09d}" for number in block.transaction_id), block.fraud.tolist(), strict=True))
        transactions = [json.loads(value) for value in block.records()[1]]
        expected = [
            event | {"fraud": fraud[event["transaction_id"]], "label_time": event["event_time"] + 3 * DAY_MS}
            for event in transactions
            if genuine or fraud[event["transaction_id"]]
        ]
        assert [json.loads(value) for value in values] == expected
        assert keys == [event["card_id"].encode() for event in expected]
        assert times.tolist() == [event["label_time"] for event in expected]
        assert (np.diff(times) >= 0).all()
        labelled += len(values)
    assert labelled > 0


def test_a_record_has_the_fields_of_a_file_and_the_form_of_the_message() -> None:
    block = next(blocks(TransactionSettings(max_mean_amount=5_000.0)))
    _, values, _ = records(block, 0, genuine=True)
    assert all(set(json.loads(value)) == {field.name for field in FIELDS} for value in values)
    decoded = msgspec.json.decode(values[0], type=FraudLabel)
    assert (decoded.amount, decoded.fraud) == (block.amount[0], bool(block.fraud[0]))
    assert {field.name for field in FIELDS} == set(FraudLabel.__struct_fields__)
