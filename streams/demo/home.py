"""Where a demo keeps its things, and what its processes share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tomli_w
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import settings
from streams.client import lone_consumer
from streams.fetching import fetch_record_batches
from streams.settings import Kafka, Settings

HOME = Path(".headrace/demo")
JARS = Path(".headrace/kafka/jars")
CONFIG = HOME / "headrace.toml"
PARTITIONS = 4
MOST_RECORDS = 4096  # of a record batch
POLL_S = 0.1


def configure(tables: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Write the settings that the demo's workers read, and read them as they do."""
    CONFIG.write_text("# Written by `headrace demo` whenever it starts.\n\n" + tomli_w.dumps(tables), encoding="utf-8")
    return settings.load({}, CONFIG)


@asynccontextmanager
async def consumer(kafka: Kafka, topics: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """A subscriber to all partitions of topics of the demo, from their start."""
    opened = lone_consumer(kafka, fetch_max_wait_ms=100)
    await opened.start()
    try:
        fetch_record_batches(opened, MOST_RECORDS)
        opened.assign([TopicPartition(topic, partition) for topic in topics for partition in range(PARTITIONS)])
        yield opened
    finally:
        await opened.stop()


async def until(holds: Callable[[], bool], timeout_s: float) -> None:
    """Until something holds, or for so long."""
    deadline = time.perf_counter() + timeout_s
    while time.perf_counter() < deadline:
        if holds():
            return
        await asyncio.sleep(POLL_S)
