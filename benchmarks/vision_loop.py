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
import onnxruntime as ort
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.contract import POLL_RECORDS
from models.repository import ZOO, Model, Repository
from models.vision.detector import Detector
from models.vision.pictures import decode
from models.vision.preprocess import Preprocess


class Eye:
    """From a record with a JPEG to JSON with its objects; any number of threads."""

    def __init__(self, model: Model) -> None:
        self._preprocess, self._detector = Preprocess(model.manifest), Detector(model.manifest)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model.onnx_bytes(), options, providers=["CPUExecutionProvider"])
        self._outputs = [entry.name for entry in model.manifest.outputs]

    def see(self, message: Any) -> bytes:
        preprocess = self._preprocess
        tensor, placements = preprocess.batch(1), np.empty((1, 4), np.float32)
        picture = decode(message.value, at_least=(preprocess.picture.width, preprocess.picture.height))
        placements[0] = preprocess.one(picture.pixels, tensor[0])
        placements[0, :2] /= picture.factor
        found = self._session.run(self._outputs, {preprocess.name: tensor})
        outputs, size = dict(zip(self._outputs, found, strict=True)), np.array([[picture.width, picture.height]])
        rows = self._detector.decode(outputs, placements, size)[0]
        labels = self._detector.labels
        objects = [
            {"label": labels[int(row[5])], "score": row[4], "box": row[:4]} for row in rows[rows[:, 5] >= 0].tolist()
        ]
        headers = dict(message.headers)
        return orjson.dumps(
            {"frame": int(headers["frame"]), "event_time": int(headers["event-time"]), "objects": objects}
        )


async def _echo(bootstrap: str, source: str, sink: str, eye: Eye, threads: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    consumer = AIOKafkaConsumer(source, bootstrap_servers=bootstrap, group_id=sink, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)

    async def serve(message: Any) -> None:
        seen = await loop.run_in_executor(threads, eye.see, message)
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
    eye = Eye(Repository([Path(root), ZOO]).load(name))
    task = asyncio.ensure_future(_echo(bootstrap, source, sink, eye, ThreadPoolExecutor(int(threads))))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    uvloop.run(_main())
