"""What the fraud pipeline computes, in memory and without Kafka: a ceiling, not a contender.

The product's own decode, card and terminal history, features, inference, decisions and encode, in a plain loop over the
same values.
"""

from __future__ import annotations

import argparse

from benchmarks.batches import record_batches
from benchmarks.contenders.contract import Measurement, Meter, parse_options, report
from streams import settings
from streams.pipelines.fraud.pipeline import FraudPipeline
from streams.records import RecordBatch


def run(pipeline: FraudPipeline, batches: list[RecordBatch]) -> Measurement:
    """Process the batches, as of one partition, and time it."""
    model, store, meter, written = pipeline.served, pipeline.new_store(), Meter(), 0
    meter.begin()
    for batch in batches:
        columns = pipeline.decode(batch).columns
        pipeline.table.append(batch.partition, columns)
        features = pipeline.features(columns, store)
        written += len(model.encode(columns, features, model.infer(features)))
    return meter.end(written)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--slice", type=int, default=settings.Batch().max_batch_size)
    own, common = parser.parse_known_args()
    options = parse_options(__doc__, common)
    pipeline = FraudPipeline(settings.Fraud())
    pipeline.warm_up()
    batches = record_batches(options.count, own.slice, options.input)
    report(run(pipeline, batches))


if __name__ == "__main__":
    main()
