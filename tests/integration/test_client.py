"""A client that is closed while it is being opened."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from streams import settings
from streams.client import lone_consumer
from tests.conftest import Kafka

MOST_STEPS = 400
LIMIT_S = 60.0


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_start_that_is_cancelled_at_any_moment_leaves_no_connection_open(kafka: Kafka) -> None:
    async def run() -> list[dict[str, Any]]:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        for steps in range(MOST_STEPS):
            consumer = lone_consumer(settings.Kafka(kafka.bootstrap_servers))
            starting = asyncio.create_task(consumer.start())
            for _ in range(steps):
                await asyncio.sleep(0)
            done = not starting.cancel()
            await asyncio.wait({starting})
            await consumer.stop()
            del consumer, starting
            gc.collect()
            if done:
                return complaints
        raise AssertionError(f"the client is not open after {MOST_STEPS} steps of the loop")

    assert asyncio.run(asyncio.wait_for(run(), LIMIT_S)) == []
