"""Bytewax: its Kafka source in batches of 512, one inference a batch through flat_map_batch, its Kafka sink."""

from __future__ import annotations

import os
import sys
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from benchmarks.contenders.contract import POLL_RECORDS, Meter, Options, parse_options, report
from benchmarks.work import Scorer


class _Finish(StatelessSinkPartition[Any]):
    """Bytewax's own sink partition, and the end of the run after `count` records.

    `write_batch` of the inner one returns when the broker has acknowledged the batch.
    """

    def __init__(self, inner: StatelessSinkPartition[Any], count: int, meter: Meter) -> None:
        self._inner, self._left, self._count, self._meter = inner, count, count, meter

    def write_batch(self, items: list[Any]) -> None:
        self._inner.write_batch(items)
        self._left -= len(items)
        if self._left <= 0:
            report(self._meter.end(self._count))
            sys.stderr.flush()
            os._exit(0)  # a flow over a live topic has no other end

    def close(self) -> None:
        self._inner.close()


class _FinishingSink(DynamicSink[Any]):
    def __init__(self, inner: KafkaSink, count: int, meter: Meter) -> None:
        self._inner, self._count, self._meter = inner, count, meter

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Finish:
        return _Finish(self._inner.build(step_id, worker_index, worker_count), self._count, self._meter)


def _flow(options: Options) -> Dataflow:
    scorer, meter = Scorer(options.model), Meter()

    def score(messages: list[Any]) -> list[KafkaSinkMessage[Any, bytes]]:
        meter.begin()
        events = [orjson.loads(message.value) for message in messages]
        return [
            KafkaSinkMessage(message.key, orjson.dumps(prediction))
            for message, prediction in zip(messages, scorer.predictions(events), strict=True)
        ]

    brokers = [options.bootstrap]
    flow = Dataflow("benchmark")
    messages = op.input("input", flow, KafkaSource(brokers, [options.input], batch_size=POLL_RECORDS))
    predictions = op.flat_map_batch("score", messages, score)
    op.output("output", predictions, _FinishingSink(KafkaSink(brokers, options.output), options.count, meter))
    return flow


if __name__ == "__main__":
    cli_main(_flow(parse_options(__doc__)))  # type: ignore[no-untyped-call]
