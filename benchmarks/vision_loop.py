"""A plain loop over frames: `python -m benchmarks.vision_loop BOOTSTRAP INPUT OUTPUT ROOT MODEL THREADS`.

What one would write with aiokafka and ONNX Runtime in an afternoon, until SIGTERM: each frame is decoded, fitted, seen
and published by itself, in as many threads as the worker has. It keeps no order, no tracks and no state, and knows
neither events nor dead letters nor what it must not commit. It says `ready` once it has its partitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.contract import POLL_RECORDS
from benchmarks.vision_bare import Eye
from models.repository import ZOO, Repository


def detections(eye: Eye, message: Any) -> bytes:
    """From a record with a JPEG to JSON with its objects."""
    tensor, placements, sizes = eye.preprocess.batch(1), np.empty((1, 4), np.float32), np.empty((1, 2), np.int32)
    eye.fit(message.value, tensor[0], placements[0], sizes[0])
    rows = eye.see(tensor, placements, sizes)[0]
    objects = [
        {"label": eye.labels[int(row[5])], "score": row[4], "box": row[:4]} for row in rows[rows[:, 5] >= 0].tolist()
    ]
    headers = dict(message.headers)
    return orjson.dumps({"frame": int(headers["frame"]), "event_time": int(headers["event-time"]), "objects": objects})


async def _echo(bootstrap: str, source: str, sink: str, eye: Eye, threads: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    consumer = AIOKafkaConsumer(source, bootstrap_servers=bootstrap, group_id=sink, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)

    async def serve(message: Any) -> None:
        seen = await loop.run_in_executor(threads, detections, eye, message)
        await producer.send(sink, seen, key=message.key, partition=message.partition)

    async with producer, consumer, asyncio.TaskGroup() as tasks:
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=100)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            fetched = await consumer.getmany(timeout_ms=500, max_records=POLL_RECORDS)
            for message in (each for messages in fetched.values() for each in messages):
                tasks.create_task(serve(message))


async def _main() -> None:
    bootstrap, source, sink, root, name, threads = sys.argv[1:]
    eye = Eye(Repository([Path(root), ZOO]).load(name), threads=1)
    task = asyncio.ensure_future(_echo(bootstrap, source, sink, eye, ThreadPoolExecutor(int(threads))))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    uvloop.run(_main())
