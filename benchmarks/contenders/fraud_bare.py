"""What the fraud pipeline computes, in memory and without Kafka: a ceiling, not a contender.

Decode, card history, features, the bundled fraud network, encoded predictions and changelog records, in slices.
"""

from __future__ import annotations

import argparse

import msgspec
import numpy as np

from benchmarks.contenders.contract import Measurement, Meter, parse_options, report
from benchmarks.work import transactions
from models import repository
from models.engine import Engine
from models.fraud.features import features
from models.fraud.history import CardHistory, warm_up


class Transaction(msgspec.Struct):
    """As it comes."""

    transaction_id: str
    card_id: str
    terminal_id: str
    amount: float
    event_time: int


class Prediction(msgspec.Struct):
    """As it goes."""

    transaction_id: str
    card_id: str
    score: float
    flagged: bool
    model: str


def run(records: list[tuple[bytes, bytes]], size: int, engine: Engine, threshold: float, model: str) -> Measurement:
    """Process records in slices of `size`, as of one partition, and time it."""
    decoder, encoder, history, meter = msgspec.json.Decoder(Transaction), msgspec.json.Encoder(), CardHistory(), Meter()
    meter.begin()
    written = 0
    for start in range(0, len(records), size):
        batch = records[start : start + size]
        events = [decoder.decode(value) for _, value in batch]
        amount = np.array([event.amount for event in events], np.float64)
        event_time_ms = np.array([event.event_time for event in events], np.int64)
        offsets = np.arange(start, start + len(batch))
        windows = history.update([key for key, _ in batch], event_time_ms, amount, offsets)
        scores = engine.infer({"features": features(amount, event_time_ms, windows)})["score"].tolist()
        written += len(
            [
                encoder.encode(Prediction(event.transaction_id, event.card_id, score, score >= threshold, model))
                for event, score in zip(events, scores, strict=True)
            ]
        )
        history.changes()
    return meter.end(written)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--slice", type=int, default=512)
    own, common = parser.parse_known_args()
    options = parse_options(__doc__, common)
    model = repository.load(repository.ZOO, "fraud")
    engine = repository.open_engine(model)
    warm_up()
    records = list(transactions(options.count))
    report(run(records, own.slice, engine, model.manifest.thresholds["flag"], model.reference))


if __name__ == "__main__":
    main()
