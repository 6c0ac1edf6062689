"""What the fraud pipeline computes, in memory and without Kafka: a ceiling, not a contender.

The product's own decode, card history and features, inference and encode, in a plain loop over the same values.
"""

from __future__ import annotations

import argparse

from benchmarks.contenders.contract import Measurement, Meter, parse_options, report
from benchmarks.work import simulated_transactions
from streams import settings
from streams.pipelines.fraud import FraudPipeline
from streams.records import NO_HEADERS, RecordBatch


def run(pipeline: FraudPipeline, batches: list[RecordBatch]) -> Measurement:
    """Process the batches, as of one partition, and time it."""
    store, meter, written = pipeline.new_store(), Meter(), 0
    meter.begin()
    for batch in batches:
        columns = pipeline.decode(batch).columns
        features = pipeline.features(columns, store)
        written += len(pipeline.encode(columns, features, pipeline.infer(features)))
    return meter.end(written)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--slice", type=int, default=settings.Batch().max_batch_size)
    own, common = parser.parse_known_args()
    options = parse_options(__doc__, common)
    pipeline = FraudPipeline(settings.Fraud())
    pipeline.warm_up()
    keys, values = (list(column) for column in zip(*simulated_transactions(options.count), strict=True))
    batches = [
        RecordBatch(
            options.input,
            0,
            list(range(start, start + len(keys[start : start + own.slice]))),
            [0] * len(keys[start : start + own.slice]),
            keys[start : start + own.slice],
            values[start : start + own.slice],
            [NO_HEADERS] * len(keys[start : start + own.slice]),
        )
        for start in range(0, len(keys), own.slice)
    ]
    report(run(pipeline, batches))


if __name__ == "__main__":
    main()
