"""aiokafka for the latency benchmark: the same loop with no linger, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.contract import POLL_RECORDS, Options, parse_options
from benchmarks.work import Scorer


async def _echo(options: Options) -> None:
    scorer = Scorer(options.model)
    consumer = AIOKafkaConsumer(
        options.input, bootstrap_servers=options.bootstrap, group_id=options.group, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, linger_ms=0)
    async with producer, consumer:
        while True:
            fetched = await consumer.getmany(timeout_ms=500, max_records=POLL_RECORDS)
            for messages in fetched.values():
                events = [orjson.loads(message.value) for message in messages]
                for message, prediction in zip(messages, scorer.predictions(events), strict=True):
                    await producer.send(options.output, orjson.dumps(prediction), key=message.key)


async def _main(options: Options) -> None:
    task = asyncio.ensure_future(_echo(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    uvloop.run(_main(parse_options(__doc__)))
