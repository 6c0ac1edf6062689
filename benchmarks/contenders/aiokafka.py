"""aiokafka on uvloop: getmany, an inference a partition's records, a send an event, commits after a flush."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.contract import (
    COMMIT_INTERVAL_S,
    POLL_RECORDS,
    PRODUCER_LINGER_MS,
    Measurement,
    Meter,
    Options,
    parse_options,
    report,
)
from benchmarks.work import Scorer

MAX_BATCH_BYTES = 262_144  # aiokafka's 16 KiB would cap it at 80 records a request


async def _run(options: Options, scorer: Scorer, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> Measurement:
    meter, done, committed_s = Meter(), 0, time.monotonic()
    sent: list[asyncio.Future[Any]] = []

    async def settle() -> None:
        await producer.flush()
        for acknowledgement in sent:
            acknowledgement.result()  # raises what the broker refused
        sent.clear()

    while done < options.count:
        fetched = await consumer.getmany(timeout_ms=500, max_records=POLL_RECORDS)
        for messages in fetched.values():
            meter.begin()
            events = [orjson.loads(message.value) for message in messages]
            for message, prediction in zip(messages, scorer.predictions(events), strict=True):
                sent.append(await producer.send(options.output, orjson.dumps(prediction), key=message.key))
            done += len(messages)
        if time.monotonic() - committed_s > COMMIT_INTERVAL_S:
            await settle()
            await consumer.commit()
            committed_s = time.monotonic()
    await settle()
    measurement = meter.end(done)
    await consumer.commit()
    return measurement


async def _main(options: Options) -> Measurement:
    scorer = Scorer(options.model)
    consumer = AIOKafkaConsumer(
        options.input,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=POLL_RECORDS,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap, linger_ms=PRODUCER_LINGER_MS, max_batch_size=MAX_BATCH_BYTES
    )
    async with producer, consumer:
        return await _run(options, scorer, consumer, producer)


if __name__ == "__main__":
    report(uvloop.run(_main(parse_options(__doc__))))
