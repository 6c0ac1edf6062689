"""The safe point for a restore: state is read back before its partitions flow, and heartbeats go on meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.types.tuples import TP

Restore = Callable[[list[int]], Awaitable[None]]
Flowing = Callable[[list[int]], None]


class StateRecovery(Recovery):
    """Restores where Faust would resume the streams of a new assignment.

    There the partitions are paused, the flow is stopped, and Faust is outside the join callback, so a long restore
    cannot exceed the session or the rebalance timeout. `on_partitions_assigned` is not safe: recovery may resume
    the streams while its handlers still run.
    """

    # Between revoked and assigned the generation is still the old one, and Faust would resume revoked partitions.
    _revoked = False

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._revoked = True
        super().on_partitions_revoked(revoked)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 - Faust's
        # For Faust a wait that takes longer is the end of its service: no rebalance would ever be answered again. A
        # coordinator that is away for too long ends the worker, and a new rebalance ends the wait.
        await super()._wait(coro)

    async def on_rebalance(self, *args: Any, **kwargs: Any) -> None:
        self._revoked = False
        await super().on_rebalance(*args, **kwargs)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        partitions = sorted({tp.partition for tp in self.app.consumer.assignment()})
        # _wait cancels the restore, and raises, when another rebalance begins; what was read so far stays.
        await self._wait(self.tables.restore(partitions))
        if self._revoked:
            return
        await super()._resume_streams(generation_id)
        if self._revoked:  # meanwhile: what has just been resumed is not ours
            self.app.consumer.stop_flow()
            self.app.flow_control.suspend()
            return
        self.tables.flowing(partitions)


def state_manager(restore: Restore, flowing: Flowing) -> type[TableManager]:
    """A table manager class for `faust.App(TableManager=…)` that keeps no tables and calls `restore`.

    Args:
        restore: takes the partition numbers of an assignment; returns once their state is complete.
        flowing: takes them again once their records are being fetched.
    """

    class StateManager(TableManager):
        async def restore(self, partitions: list[int]) -> None:
            await restore(partitions)

        def flowing(self, partitions: list[int]) -> None:
            flowing(partitions)

        _recovery: Recovery | None

        @property
        def recovery(self) -> Recovery:
            if self._recovery is None:
                self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
            return self._recovery

        async def on_start(self) -> None:
            # Faust sleeps for a second first; there are no tables to wait for.
            await self._update_channels()
            await self.recovery.start()

    return StateManager
