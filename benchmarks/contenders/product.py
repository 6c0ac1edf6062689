"""The product in a benchmark: its own worker, unchanged, in the contender's process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from typing import Any

import uvloop

from benchmarks.contenders.contract import Measurement, Meter, Options, parse_options
from streams import settings
from streams.process import tune_interpreter
from streams.worker import Worker

LOOK_S = 0.002


def parse_product_options(about: str | None) -> tuple[Options, settings.Settings]:
    """Read the command line of a contender that is the product: every contender's options, and the guarantee."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--guarantee", help="worker.processing_guarantee; the product's default without it")
    own, common = parser.parse_known_args()
    options = parse_options(about, common)
    return options, product_settings(options, own.guarantee)


def product_settings(options: Options, guarantee: str | None = None) -> settings.Settings:
    """The product's defaults; only the broker, the topics, the group and the guarantee are the benchmark's."""
    return settings.load(
        overrides={
            "kafka": {"bootstrap_servers": options.bootstrap},
            "worker": {"group": options.group, "http_port": 0, "processing_guarantee": guarantee},
            "fraud": {"input": options.input, "output": options.output, "labels": f"{options.output}.labels"},
        }
    )


def measure(options: Options, configured: settings.Settings, pipeline: Any) -> Measurement:
    """Run a worker until `options.count` records are done: outputs and changelog acknowledged, offsets committable."""
    meter = Meter()
    decode = pipeline.decode

    def decode_and_begin(batch: Any) -> Any:
        meter.begin()
        return decode(batch)

    pipeline.decode = decode_and_begin
    return _run(_measure(options, Worker(configured, pipeline), meter))


async def _measure(options: Options, worker: Worker, meter: Meter) -> Measurement:
    running = asyncio.create_task(worker.run())
    while worker.telemetry.value("headrace_records_in_total") < options.count:
        await asyncio.wait({running}, timeout=LOOK_S)
        if running.done():
            running.result()
            raise RuntimeError("the worker ended before its input did")
    measurement = meter.end(options.count)
    worker.stop()
    await running
    return measurement


def echo(configured: settings.Settings, pipeline: Any) -> None:
    """Run a worker until SIGTERM."""
    _run(_echo(Worker(configured, pipeline)))


async def _echo(worker: Worker) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()


def _run(main: Any) -> Any:
    logging.getLogger().setLevel(logging.ERROR)
    tune_interpreter()
    return uvloop.run(main)
