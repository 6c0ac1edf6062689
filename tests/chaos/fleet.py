"""The workers of one consumer group and who looks after them: one that ends by itself is started again in its slot."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from tests.chaos.verdict import Lives, Tally
from tests.processes import WorkerProcess

RESTART_PAUSE_S, STOP_S = 0.5, 25.0
COUNTED = ("headrace_records_in_total", "headrace_records_out_total", "headrace_records_dead_lettered_total")


class Fleet:
    """Worker slots, each with one living worker, but for the moments between an end and the next start.

    Nothing happens by itself: `tend` is called by whoever waits.

    Args:
        start: start a worker in a slot.
        unplanned: told when a worker is gone that was not asked to go, before its successor starts.
        restarts: how many workers may end by themselves before that is a failure of its own.
    """

    def __init__(self, start: Callable[[str], WorkerProcess], unplanned: Callable[[], None], restarts: int) -> None:
        self._start = start
        self._unplanned = unplanned
        self._restarts = restarts
        self._started_at: dict[str, float] = {}
        self._seen: dict[int, Tally] = {}
        self._all_seen_last = True
        self._suspended: set[str] = set()
        self.slots: dict[str, WorkerProcess] = {}
        self.ends: list[str] = []  # the reasons of those that ended by themselves
        self._odd: list[str] = []

    def add(self, slot: str) -> WorkerProcess:
        """Start a worker in a slot; one that is there already is left to itself."""
        self._started_at[slot] = time.monotonic()
        self.slots[slot] = self._start(slot)
        return self.slots[slot]

    def remove(self, slot: str) -> None:
        """SIGTERM; it must end in order."""
        self._all_seen_last = False
        worker = self.slots.pop(slot)
        worker.terminate()
        self._must_end_in_order(worker)

    def kill(self, slot: str) -> None:
        """SIGKILL, and start the next one at once."""
        self._all_seen_last = False
        self.slots[slot].kill()
        self._unplanned()
        self.add(slot)

    def discard(self, worker: WorkerProcess) -> None:
        """SIGKILL one that has no slot any more; it may have ended by itself."""
        if not worker.alive:
            self.ended(worker)
            return
        self._all_seen_last = False
        worker.kill()
        self._unplanned()

    def suspend(self, slot: str) -> None:
        """SIGSTOP."""
        self._suspended.add(slot)
        self.slots[slot].suspend()

    def resume(self, slot: str) -> None:
        """SIGCONT."""
        self._suspended.discard(slot)
        self.slots[slot].resume()

    def tend(self) -> None:
        """Start again what has ended by itself.

        Raises:
            AssertionError: that was once too often.
        """
        for slot, worker in self.slots.items():
            if worker.alive or time.monotonic() < self._started_at[slot] + RESTART_PAUSE_S:
                continue
            self.ended(worker)
            self.add(slot)

    def ended(self, worker: WorkerProcess) -> None:
        """Look at a worker that has ended by itself."""
        self._all_seen_last = False
        self._unplanned()
        if odd := worker.oddity():
            self._odd.append(odd)
        self.ends.append(worker.output().splitlines()[-1] if worker.output() else "")
        assert len(self.ends) <= self._restarts, f"workers have ended {len(self.ends)} times: {self.ends[-3:]}"

    def ready(self) -> bool:
        """Whether all workers that are not suspended are ready."""
        return all(map(_is_ready, self._awake()))

    def assigned(self) -> int:
        """How many partitions the workers have that are ready and not suspended."""
        owned = 0
        for worker in filter(_is_ready, self._awake()):
            with suppress(OSError):  # it ends right now
                owned += int(worker.metric("headrace_assigned_partitions"))
        return owned

    def _awake(self) -> list[WorkerProcess]:
        return [worker for slot, worker in self.slots.items() if slot not in self._suspended]

    def tally(self) -> None:
        """Look at the metrics of all living workers."""
        for worker in self.slots.values():
            with suppress(OSError):
                self._seen[worker.pid] = Tally(*worker.metrics(*COUNTED))

    def stop(self) -> Lives:
        """End all in order, once everything is committed; returns what was counted."""
        self.tally()
        for worker in self.slots.values():
            worker.terminate()
        for worker in self.slots.values():
            self._must_end_in_order(worker)
        return Lives(list(self._seen.values()), self._all_seen_last, self._odd)

    def abandon(self) -> None:
        """SIGKILL all that still run."""
        for worker in self.slots.values():
            if worker.alive:
                worker.kill()

    def _must_end_in_order(self, worker: WorkerProcess) -> None:
        code = worker.ended(STOP_S)
        if code != 0:
            self._odd.append(f"a worker has ended with {code} after SIGTERM:\n{worker.output()[-2000:]}")


def _is_ready(worker: WorkerProcess) -> bool:
    try:
        return worker.alive and worker.listening and worker.ready()[0] == 200
    except OSError:  # it ends right now
        return False
