"""A worker's restore in a process of its own: changelog to memory, its rate and what it holds afterwards."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import psutil

from models.fraud.history import CardHistory, warm_up
from streams.process import tune_interpreter
from streams.settings import Kafka
from streams.state import KeyedState


async def _restore(bootstrap: str, topic: str, partitions: int) -> dict[str, float]:
    warm_up()
    process = psutil.Process()
    before = process.memory_info().rss
    state = KeyedState(topic, CardHistory)
    report = await state.restore(range(partitions), Kafka(bootstrap_servers=bootstrap))
    stores = state.stores().values()
    return {
        "cards": sum(map(len, stores)),
        "records": report.records,
        "seconds": report.seconds,
        "state_bytes": sum(store.nbytes for store in stores),
        "rss_bytes": process.memory_info().rss,
        "rss_before_bytes": before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    options = parser.parse_args()
    tune_interpreter()
    answer = asyncio.run(_restore(options.bootstrap, options.topic, options.partitions))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
