"""Everything that is remembered of one camera: its tracks, its objects, and what was told of late; as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vision.tracking import Tracker
from streams.pipelines.vision import told
from streams.pipelines.vision.lives import LARGEST_FRAME, LATEST_MS
from streams.pipelines.vision.objects import Scene, Sight, Site, Stored
from streams.pipelines.vision.told import Told
from streams.schemas import VideoEvent

REWIND_MS = 10_000  # a frame that is older by more is no late one: the camera has begun again
REWIND_FRAMES = 32  # as is one with a number that is lower by more
VERSION = b"\x02"
LONGEST_ID = 256  # bytes of a camera's id

Order = Literal["next", "late", "restart"]


class Frame(NamedTuple):
    """The detections of one frame.

    Args:
        offset: of the input record.
        number: the frame's own, where it has one.
        width, height: of the picture in px.
        boxes: [k, 4], x1, y1, x2, y2 in px.
        scores: [k].
        classes: [k], integers.
    """

    camera_id: str
    offset: int
    number: int | None
    event_time_ms: int
    width: int
    height: int
    boxes: NDArray[Any]
    scores: NDArray[Any]
    classes: NDArray[Any]


class Seen(NamedTuple):
    """What there is to say of a frame.

    Args:
        ids: int64 [k], track ids; -1 for what is not followed, or not yet.
        zones: [k], names.
        events: to be published, in this order.
        order: whether the frame came in its turn; one that did not tells no more than where its objects are.
        repeated: whether it had been applied before; its events are those of the first time.
    """

    ids: NDArray[np.int64]
    zones: list[list[str]]
    events: list[VideoEvent]
    order: Order
    repeated: bool


class CameraCorrupt(ValueError):
    """Bytes cannot be what `CameraState.encode` wrote."""


class _Stored(msgspec.Struct, array_like=True):
    """What `encode` writes behind the version."""

    offset: int
    seen_ms: int
    frames: int
    number: int | None
    tracker: bytes
    scene: Stored
    told: list[Told]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class CameraState:
    """One camera's state.

    A frame whose input offset has been applied before changes nothing: its boxes get the ids of the tracks that were
    nearest at its time, and its events are those of the first time, so far as they are among the last `told.FRAMES`
    frames and `told.BYTES` bytes. A frame that is late changes nothing but the offset. A camera that begins again
    (frame 0, a number or a time far back) ends all objects.

    Attributes:
        offset: the last input offset applied; -1 before the first.
        seen_ms: processing time of that.
    """

    def __init__(self, camera_id: str, site: Site) -> None:
        self.camera_id = camera_id
        self.offset, self.seen_ms = -1, 0
        self._site, self._frames = site, 0
        self._number: int | None = None
        self._tracker = Tracker(site.vision.tracking())
        self._scene = Scene(camera_id, site)
        self._told: tuple[Told, ...] = ()

    def copy(self) -> CameraState:
        """One that goes its own way."""
        twin = object.__new__(type(self))  # copy.copy takes five times as long
        twin.__dict__.update(self.__dict__)
        twin._tracker, twin._scene = self._tracker.copy(), self._scene.copy()
        return twin

    def apply(self, frame: Frame, labels: Sequence[str], now_ms: int) -> Seen:
        """Take a frame in.

        Args:
            labels: names of the classes; a class without one is named by its number.
            now_ms: processing time.

        Raises:
            ValueError: the frame cannot be one. The state may have changed by then.
        """
        _check(frame)
        self.seen_ms = max(self.seen_ms, now_ms)
        boxes = np.ascontiguousarray(frame.boxes, np.float64)
        order = self._order(frame)
        repeated = frame.offset <= self.offset
        events: list[VideoEvent] = []
        if repeated:
            events = list(told.of(self._told, frame.offset))
        elif order == "restart":
            events = self._scene.end("restarted", frame.number, frame.event_time_ms)
            self._tracker.restart()
        scores = np.ascontiguousarray(frame.scores, np.float64)
        arguments = boxes, scores, frame.classes, frame.event_time_ms
        advances = not repeated and order != "late"
        ids = self._tracker.update(*arguments) if advances else self._tracker.look(*arguments)
        names = _names(frame.classes.tolist(), labels)
        within = self._site.zones.within(boxes, names, frame.width, frame.height)
        if advances:
            sight = Sight(
                frame.number, frame.event_time_ms, boxes, scores, names, ids, within, frame.width, frame.height
            )
            events += self._scene.update(sight, self._tracker.ids())
            self._number = frame.number
            self._frames += 1
            self._told = told.remember(self._told, self._frames, frame.offset, events)
        self.offset = max(self.offset, frame.offset)
        return Seen(ids, self._scene.zones(ids, within), events, order, repeated)

    def encode(self) -> bytes:
        """The whole state, exactly: some 400 bytes an object, and what was told of late."""
        stored = _Stored(
            self.offset, self.seen_ms, self._frames, self._number, self._tracker.encode(),
            self._scene.stored(), list(self._told),
        )  # fmt: skip
        return VERSION + _encode(stored)

    @classmethod
    def decode(cls, camera_id: str, site: Site, content: bytes) -> Self:
        """The state that `encode` was called on, but with these settings.

        Raises:
            CameraCorrupt: the bytes are none of ours.
        """
        doing = f"decoding the state of camera {camera_id!r}"
        if content[:1] != VERSION:
            raise CameraCorrupt(f"{doing}: expected a first byte of {VERSION!r}, got {content[:1]!r}")
        try:
            stored = _decode(content[1:])
            tracker = Tracker.decode(stored.tracker, site.vision.tracking())
            scene = Scene.restored(camera_id, site, stored.scene, tracker.ids().tolist())
            for each in stored.told:
                told.unpack(each.event)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise CameraCorrupt(f"{doing}: {error}") from None
        if stored.offset < -1:
            raise CameraCorrupt(f"{doing}: expected an offset, got {stored.offset}")
        state = cls(camera_id, site)
        state.offset, state.seen_ms = stored.offset, stored.seen_ms
        state._frames, state._number, state._tracker = stored.frames, stored.number, tracker
        state._scene, state._told = scene, tuple(stored.told)
        return state

    def _order(self, frame: Frame) -> Order:
        last_ms, last, number = self._tracker.time_ms, self._number, frame.number
        if last_ms is None:
            return "next"
        back = number is not None and last is not None and (number == 0 < last or last - number > REWIND_FRAMES)
        if back or last_ms - frame.event_time_ms > REWIND_MS:
            return "restart"
        return "next" if frame.event_time_ms > last_ms else "late"


def _check(frame: Frame) -> None:
    doing = f"following camera {frame.camera_id!r} at offset {frame.offset}"
    if not 0 <= frame.event_time_ms < LATEST_MS:
        raise ValueError(f"{doing}: expected an event time from 1970 to 9999, got {frame.event_time_ms} ms")
    if not (0 < frame.width <= 1 << 20 and 0 < frame.height <= 1 << 20):
        raise ValueError(f"{doing}: expected the size of a picture, got {frame.width} x {frame.height}")
    if not 0 <= frame.offset < 1 << 63:
        raise ValueError(f"{doing}: expected an offset")
    if frame.number is not None and not 0 <= frame.number < LARGEST_FRAME:
        raise ValueError(f"{doing}: expected a frame number below 2^62, got {frame.number}")


def _names(numbers: Sequence[int], labels: Sequence[str]) -> list[str]:
    if numbers and min(numbers) >= 0 and max(numbers) < len(labels):
        return [labels[each] for each in numbers]
    return [labels[each] if 0 <= each < len(labels) else str(each) for each in numbers]
