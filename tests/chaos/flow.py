"""A producer that does not stop: events at a steady rate, whatever happens to the broker and to who reads them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator
from threading import Event, Thread

from tests import verify

Row = tuple[int, bytes | None, bytes | None, verify.Headers]

POISON = (b"poison", b"bad:features", b"bad:infer", b"bad:encode")
POISON_SHARE = 0.01


class Flow:
    """Writes rows at a steady rate from a thread until they end or it is stopped; a stall is made up for."""

    def __init__(self, servers: str, topic: str, rows: Iterable[Row], per_second: float) -> None:
        self._end = Event()
        self._rows, self._per_second = rows, per_second
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, args=(servers, topic))
        self._thread.start()

    def _run(self, servers: str, topic: str) -> None:
        try:
            verify.send(servers, topic, self._paced())
        except BaseException as error:
            self._error = error

    def _paced(self) -> Iterator[Row]:
        started = time.monotonic()
        for number, row in enumerate(self._rows):
            while not self._end.is_set() and number > (time.monotonic() - started) * self._per_second:
                self._end.wait(0.01)
            if self._end.is_set():
                return
            yield row

    def stop(self) -> None:
        """End it, once all that was sent is acknowledged.

        Raises:
            AssertionError: something was not.
        """
        self.abandon()
        assert not self._thread.is_alive(), "the producer does not come to an end"
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """End it, whatever became of what was sent."""
        self._end.set()
        self._thread.join(90)


def events(seed: int, partitions: int, keys: int, slow_share: float = 0.0) -> Iterator[Row]:
    """Events without end; a key is always on the same partition, and some come more often than others.

    One in a hundred is refused by the pipeline, each time for another reason.
    """
    dice = random.Random(seed)
    reasons = itertools.cycle(POISON)
    while True:
        key = int(keys * dice.random() ** 2)
        chance = dice.random()
        if chance < POISON_SHARE:
            value = next(reasons)
        elif chance < POISON_SHARE + slow_share:
            value = b"slow"
        else:
            value = b"{}"
        yield key % partitions, b"k%d" % key, value, []
