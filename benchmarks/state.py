"""State: how fast a worker gets its cards back from the changelog, and what they cost in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaProducer
from rich import box
from rich.table import Table

from benchmarks.processes import started
from benchmarks.topics import PARTITIONS, Topics
from models.fraud.blocks import DAY_MS
from models.fraud.history import CardHistory
from streams.emitter import Emitter, Letters
from streams.records import Outbox, Outgoing

FIRST_EVENT_TIME_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
SLICE = 20_000
WRITE_TIMEOUT_S = 60.0
LETTERS_ON_THE_WAY = 8
RUN_LIMIT_S = 300.0


@dataclass(frozen=True)
class Restored:
    """One restore."""

    cards: int
    records: int
    seconds: float
    state_bytes: int
    rss_bytes: int
    rss_before_bytes: int

    @property
    def records_per_s(self) -> float:
        return self.records / self.seconds

    @property
    def bytes_per_card(self) -> float:
        """What the state itself holds."""
        return self.state_bytes / self.cards

    def answer(self) -> dict[str, float]:
        """The machine-readable answer."""
        return {
            "restore_records_per_s": round(self.records_per_s),
            "restore_s": round(self.seconds, 3),
            "records": self.records,
            "bytes_per_card": round(self.bytes_per_card, 1),
            "rss_mib": round(self.rss_bytes / 2**20, 1),
            "rss_before_mib": round(self.rss_before_bytes / 2**20, 1),
        }


def run(sizes: tuple[int, ...], transactions: int, bootstrap: str, said: Callable[[str], None]) -> dict[str, Restored]:
    """Write a changelog for each number of cards, and restore it in a fresh process.

    Args:
        transactions: how many each card holds, spread over the 30 days of the longest window.
    """
    found: dict[str, Restored] = {}
    with Topics(bootstrap) as topics:
        for cards in sizes:
            said(f"writing the changelog of {cards:,} cards with {transactions} transactions each")
            topic = topics.create(f"changelog-{cards}")
            asyncio.run(_fill(bootstrap, topic, cards, transactions))
            said(f"restoring {cards:,} cards")
            arguments = ("--bootstrap", bootstrap, "--topic", topic, "--partitions", str(PARTITIONS))
            with started("restore", ("-m", "benchmarks.contenders.restore", *arguments)) as child:
                found[str(cards)] = Restored(**json.loads(child.finish(RUN_LIMIT_S).splitlines()[-1]))
    return found


async def _fill(bootstrap: str, topic: str, cards: int, transactions: int) -> None:
    """The changelog as compaction leaves it: each block of each card once."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        emitter, on_the_way = Emitter(producer, WRITE_TIMEOUT_S), []
        for partition in range(PARTITIONS):
            keys, values = await asyncio.to_thread(_changelog, partition, cards, transactions)
            for start in range(0, len(keys), SLICE):
                outgoing = Outgoing(topic, keys[start : start + SLICE], values[start : start + SLICE])
                letters = Letters(Outbox(partition, [outgoing]), FIRST_EVENT_TIME_MS)
                if (sent := await emitter.send(letters, lambda: True)) is not None:
                    on_the_way.append(sent)
                if len(on_the_way) >= LETTERS_ON_THE_WAY:
                    await on_the_way.pop(0).written()
        for sent in on_the_way:
            await sent.written()


def _changelog(partition: int, cards: int, transactions: int) -> tuple[list[bytes], list[bytes | None]]:
    history = CardHistory()
    for keys, times, offsets in _events(partition, cards, transactions):
        history.update(keys, times, np.full(len(keys), 12.5), offsets)
    return history.changes()


def _events(partition: int, cards: int, transactions: int) -> Iterator[tuple[list[bytes], np.ndarray, np.ndarray]]:
    own = [b"c%07d" % card for card in range(partition, cards, PARTITIONS)]
    step_ms = 30 * DAY_MS // transactions
    for number in range(transactions):
        for start in range(0, len(own), SLICE):
            keys = own[start : start + SLICE]
            times = np.full(len(keys), FIRST_EVENT_TIME_MS + number * step_ms)
            yield keys, times, np.arange(len(keys)) + number * len(own) + start


def table(found: dict[str, Restored]) -> Table:
    """Draw the results for a terminal of 80 columns."""
    drawn = Table(title="State restored from its changelog, one process", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("cards", "records", "seconds", "records/s", "bytes/card", "RSS MiB", "before"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for each in found.values():
        drawn.add_row(
            f"{each.cards:,}",
            f"{each.records:,}",
            f"{each.seconds:.2f}",
            f"{each.records_per_s:,.0f}",
            f"{each.bytes_per_card:,.0f}",
            f"{each.rss_bytes / 2**20:,.0f}",
            f"{each.rss_before_bytes / 2**20:,.0f}",
        )
    return drawn
