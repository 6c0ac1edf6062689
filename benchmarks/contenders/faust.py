"""Faust as its documentation writes it: an agent over a topic, one event at a time, `topic.send`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile

import mode.loop

mode.loop.use("uvloop")  # before faust is imported, as it asks

import faust  # noqa: E402
import orjson  # noqa: E402

from benchmarks.contenders.contract import PRODUCER_LINGER_MS, Meter, Options, parse_options, report  # noqa: E402
from benchmarks.work import Scorer  # noqa: E402

PARTITIONS = 4


def _app(options: Options, folder: str) -> faust.App:
    return faust.App(
        options.group,
        broker=f"kafka://{options.bootstrap}",
        datadir=folder,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=1000,
        producer_linger=PRODUCER_LINGER_MS / 1000,
        producer_max_batch_size=262_144,
        stream_wait_empty=False,
        web_enabled=False,
    )


def _run(options: Options, folder: str) -> None:
    scorer, meter = Scorer(options.model), Meter()
    app = _app(options, folder)
    worker = faust.Worker(app, loglevel="ERROR", stdout=sys.stderr, redirect_stdouts=False)
    source = app.topic(options.input, value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")
    sink = app.topic(options.output, value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw")

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def score(stream: faust.types.StreamT[bytes]) -> None:
        done = 0
        async for key, value in stream.items():
            meter.begin()
            prediction = scorer.predictions([orjson.loads(value)])[0]
            await sink.send(key=key, value=orjson.dumps(prediction))
            done += 1
            if done == options.count:
                break
        await app.producer.flush()
        report(meter.end(done))
        os.kill(os.getpid(), signal.SIGTERM)  # how a worker is stopped: it commits and leaves its group

    worker.execute_from_commandline()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as data:
        _run(parse_options(__doc__), data)
