"""The events that were told of late, kept to be told again.

A worker may die when its changelog is written and its outputs are not. The frames come again then, to a state that
contains them already, and must yield the same events.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import msgspec

from streams.schemas import VideoEvent

FRAMES = 128  # as many of one camera, at most, may be applied and not written
BYTES = 1 << 14  # what that may cost: two seconds of a hundred objects that move
MOST_EVENT_BYTES = 1 << 20
WINDOW_BITS = 10  # an event and what it has in common; the memory of a larger one costs more than the packing

# What events have in common, so that a kept one takes some 120 bytes; part of the state's version.
_COMMON = (
    b'"reason":"gone","restarted","best_score":0.,"best_box":[,"best_frame":,"zones_visited":["last_seen":"'
    b'"zone","zone":"","action":"enter","loiter","leave","duration_s":"state":"raised","escalated","cleared",'
    b'"severity":"warning","critical","other":{"track_id":,"label":"forklift","box":[]},"distance_m":,"closest_m":,'
    b'"limit_m":,"causes":["moved","entered","left","stationary","moving"]'
    b'{"kind":"unsafe_distance","end","new","update","camera_id":"","frame":,"event_time":"2026-01-01T00:00:00.000Z",'
    b'"track_id":,"label":"person","score":0.,"box":[],"zones":[],"first_seen":"2026-01-01T00:00:00.000Z",'
    b'"stationary":true,"stationary":false}'
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(VideoEvent).decode


class Told(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One event; `frame` counts the frames applied to the camera so far, `event` is packed."""

    frame: int
    offset: int
    event: bytes


def remember(kept: Sequence[Told], frame: int, offset: int, events: Sequence[VideoEvent]) -> tuple[Told, ...]:
    """What is to be kept after one more frame: the latest, bounded in frames and in bytes.

    Of a frame everything is kept, or nothing: told in part, its events would be numbered otherwise than the first time.
    The newest frame that tells anything is kept, however much it is.
    """
    if not events and (not kept or kept[0].frame > frame - FRAMES):
        return tuple(kept)
    following = (*kept, *(Told(frame, offset, _pack(event)) for event in events))
    size, first = sum([len(each.event) for each in following]), 0
    while first < len(following):
        oldest = following[first].frame
        if oldest > frame - FRAMES and (size <= BYTES or oldest == following[-1].frame):
            break
        while first < len(following) and following[first].frame == oldest:
            size -= len(following[first].event)
            first += 1
    return following[first:]


def of(kept: Sequence[Told], offset: int) -> Iterator[VideoEvent]:
    """The events of the frame at an input offset, in their order."""
    return (unpack(each.event) for each in kept if each.offset == offset)


def unpack(packed: bytes) -> VideoEvent:
    """An event.

    Raises:
        ValueError: it is none.
    """
    unpacking = zlib.decompressobj(-15, _COMMON)
    try:
        content = unpacking.decompress(packed, MOST_EVENT_BYTES)
    except zlib.error as error:
        raise ValueError(f"unpacking an event: {error}") from None
    return _decode(content)


def _pack(event: VideoEvent) -> bytes:
    packing = zlib.compressobj(6, zlib.DEFLATED, -WINDOW_BITS, 1, zlib.Z_DEFAULT_STRATEGY, _COMMON)
    return packing.compress(_encode(event)) + packing.flush()
