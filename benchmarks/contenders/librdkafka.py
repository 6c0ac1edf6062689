"""The reference: librdkafka through confluent-kafka, batches of 512, a produce an event, commits after a flush."""

from __future__ import annotations

import time

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from benchmarks.contenders.contract import (
    COMMIT_INTERVAL_S,
    POLL_RECORDS,
    PRODUCER_LINGER_MS,
    Meter,
    Options,
    parse_options,
    report,
)
from benchmarks.work import Scorer


def _raise_undelivered(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def _clients(options: Options) -> tuple[Consumer, Producer]:
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap,
            "linger.ms": PRODUCER_LINGER_MS,
            "queue.buffering.max.messages": 1_000_000,
            "on_delivery": _raise_undelivered,
            "delivery.report.only.error": True,  # else a Python call for every record that was delivered
        }
    )
    return consumer, producer


def main() -> None:
    options = parse_options(__doc__)
    scorer, meter = Scorer(options.model), Meter()
    consumer, producer = _clients(options)
    consumer.subscribe([options.input])
    done, committed, committed_s = 0, 0, time.monotonic()
    while done < options.count:
        messages = consumer.consume(POLL_RECORDS, 0.5)
        if not messages:
            continue
        meter.begin()
        events = [orjson.loads(message.value()) for message in messages]
        for message, prediction in zip(messages, scorer.predictions(events), strict=True):
            producer.produce(options.output, orjson.dumps(prediction), key=message.key())
        producer.poll(0)
        done += len(messages)
        if time.monotonic() - committed_s > COMMIT_INTERVAL_S:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed, committed_s = done, time.monotonic()
    producer.flush()
    measurement = meter.end(done)
    if committed < done:  # with nothing new to commit, it raises
        consumer.commit(asynchronous=False)
    consumer.close()
    report(measurement)


if __name__ == "__main__":
    main()
