"""Frames of video as records: key camera_id, value the encoded picture, and three headers that say what it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiokafka.errors import MessageSizeTooLargeError

from connectors.video_frames import VideoFrame
from streams.clock import rfc3339
from streams.errors import ProduceError
from streams.producing import EventProducer, Pace
from streams.records import Headers

if TYPE_CHECKING:
    from connectors.video import VideoSource


def headers(frame: VideoFrame) -> Headers:
    """`content-type`, `frame` (its number) and `event-time` (RFC 3339)."""
    return [
        ("content-type", frame.content_type.encode()),
        ("frame", str(frame.frame).encode()),
        ("event-time", rfc3339(frame.event_time_ms / 1000).encode()),
    ]


async def relay(
    producer: EventProducer,
    source: VideoSource,
    camera: str,
    pace: Pace,
    stop: asyncio.Event,
    *,
    at_once: bool,
    on_frame: Callable[[VideoFrame], None] = lambda _: None,
) -> None:
    """Drive frames into a producer until the source or the pace ends, or `stop` is set; then the source is closed.

    The next frame is read in a thread while the current one leaves.

    Args:
        pace: its count and its seconds; the source itself keeps the time.
        at_once: whether each frame leaves when it comes, or with others.

    Raises:
        ProduceError: a write was not acknowledged. What the source raises, after what came before it was sent.
    """
    key, frames = camera.encode(), iter(source)
    started, sent = time.perf_counter(), 0
    largest: VideoFrame | None = None
    stopped = asyncio.create_task(stop.wait())
    following = asyncio.create_task(asyncio.to_thread(next, frames, None))
    try:
        while not pace.over(elapsed := time.perf_counter() - started, sent):
            left_s = pace.seconds - elapsed if pace.seconds else None
            await asyncio.wait({following, stopped}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() or not following.done() or (frame := following.result()) is None:
                break
            following = asyncio.create_task(asyncio.to_thread(next, frames, None))
            largest = frame if largest is None or len(frame.value) > len(largest.value) else largest
            await producer.send([key], [frame.value], [headers(frame)])
            if at_once:
                await producer.push()
            sent += 1
            on_frame(frame)
        await producer.flush()
    except ProduceError as error:
        if isinstance(error.__cause__, MessageSizeTooLargeError) and largest is not None:
            which = "" if largest.file is None else f", {largest.file},"
            raise ProduceError(
                f"{error}: the largest frame{which} has {len(largest.value):,} bytes, more than the topic takes; give "
                "--width or a lower --quality, or raise the topic's max.message.bytes"
            ) from error
        raise
    finally:
        source.close()
        stopped.cancel()
        await asyncio.wait({following})  # the thread must be done with the source before the loop ends
        if not following.cancelled():
            following.exception()
