from __future__ import annotations

import asyncio

import faust

from streams.recovery import StateRecovery


def test_a_seek_that_takes_longer_than_a_request_does_not_end_recovery() -> None:
    """For Faust a wait that times out is a service that was stopped: the loop that answers rebalances would end."""

    async def run() -> bool:
        app = faust.App("slow", broker="kafka://127.0.0.1:1", web_enabled=False)
        done = asyncio.Event()

        async def seek() -> None:
            await asyncio.sleep(0.2)
            done.set()

        await StateRecovery(app, app.tables)._wait(seek(), timeout=0.01)
        return done.is_set()

    assert asyncio.run(run())
