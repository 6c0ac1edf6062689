"""Video frames off the wire: headers read, pictures decoded and fitted into the network's input, in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vision.pictures import Limits, PictureError, decode
from models.vision.preprocess import Placement
from streams.clock import Clock
from streams.decoding import EARLIEST_MS
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows
from streams.pipelines.vision.camera import LONGEST_ID, Frame, Seen
from streams.records import Headers, RecordBatch
from streams.settings import Vision

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]

LARGEST_FRAME = 2**53  # what a reader of JSON in any language takes for the number that it is


class Fit(Protocol):
    """Makes room for a record batch's pictures, and fills it; any number of threads, each with its own row.

    `models.vision.preprocess.Preprocess` is one, for networks that see each picture whole.
    """

    @property
    def least(self) -> tuple[int, int] | None:
        """The fewest pixels, width and height, that a picture may be decoded at; None: all that it has."""

    def batch(self, rows: int) -> NDArray[Any]:
        """[rows, ...]: what the model that serves sees of so many pictures."""

    def one(self, picture: NDArray[np.uint8], out: NDArray[Any]) -> Placement:
        """Write a picture into one row, and say where in it it stands."""


class Sighting(NamedTuple):
    """What there is in one frame, and what became of it."""

    frame: Frame
    seen: Seen


@dataclass(slots=True)
class Frames:
    """Decoded frames, columnar.

    Args:
        cameras: ids, the records' keys.
        frame: int64 [n], as the camera counts.
        event_time_ms: int64 [n].
        offset: int64 [n].
        sizes: int32 [n, 2], width and height of the source picture.
        placements: float32 [n, 4], where the picture lies in the network's input (`models.vision.preprocess`).
        tensor: [n, ...], what the model sees, as its `Fit` writes it.
        seen: what there is in each, once it is known.
    """

    cameras: list[str]
    frame: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    offset: NDArray[np.int64]
    sizes: NDArray[np.int32]
    placements: NDArray[np.float32]
    tensor: NDArray[Any]
    seen: list[Sighting | None]

    def __len__(self) -> int:
        return len(self.cameras)

    def take(self, rows: Rows) -> Self:
        picked = rows.tolist()
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        taken: dict[str, Any] = {
            name: [column[row] for row in picked] if isinstance(column, list) else column[rows]
            for name, column in columns.items()
        }
        return type(self)(**taken)


@dataclass(slots=True)
class _Frame:
    """What one record becomes; `row` is its place in the record batch."""

    row: int
    camera: str
    frame: int
    event_time_ms: int
    size: tuple[int, int] = (0, 0)
    placement: NDArray[np.float32] | None = None


class FrameDecoder:
    """Record batches of frames as columns.

    Poison is: a record without a camera's id as its key, headers that cannot be read, an event time before 2000 or
    further ahead of the clock than `vision.max_future_s`, bytes that are no picture (`models.vision.pictures`), and
    one that promises more bytes or pixels than the settings allow.

    Args:
        fit: of the model that serves, asked for each record batch.
        threads: share a record batch's frames among them; None: the caller's own thread decodes.
    """

    def __init__(
        self,
        settings: Vision,
        fit: Callable[[], Fit],
        threads: Executor | None,
        clock: Clock,
    ) -> None:
        self._limits = Limits(max_bytes=settings.max_value_bytes, max_pixels=settings.max_pixels)
        self._max_future_s = settings.max_future_s
        self._fit, self._threads, self._clock = fit, threads, clock

    def __call__(self, batch: RecordBatch) -> Decoded[Frames]:
        """Read, decode and fit; a bad record is an entry in `poison`, never an exception."""
        fit = self._fit()
        latest_ms = int((self._clock.time() + self._max_future_s) * 1000)
        poison: dict[int, PoisonEvent] = {}
        found: list[_Frame] = []
        for row in range(len(batch)):
            try:
                found.append(_described(batch, row, latest_ms))
            except PoisonEvent as error:
                poison[row] = error
        tensor = fit.batch(len(found))

        def fill(place: int) -> PoisonEvent | None:
            return self._fill(fit, batch.values[found[place].row] or b"", found[place], tensor[place])

        in_turn = map if self._threads is None else self._threads.map
        for each, wrong in zip(found, in_turn(fill, range(len(found))), strict=True):
            if wrong is not None:
                poison[each.row] = wrong
        good = np.array([place for place, each in enumerate(found) if each.row not in poison], np.intp)
        kept = [found[place] for place in good.tolist()]
        rows = np.array([each.row for each in kept], np.intp)
        columns = Frames(
            [each.camera for each in kept],
            np.array([each.frame for each in kept], np.int64),
            np.array([each.event_time_ms for each in kept], np.int64),
            np.array(batch.offsets, np.int64)[rows],
            np.array([each.size for each in kept], np.int32).reshape(-1, 2),
            np.array([each.placement for each in kept], np.float32).reshape(-1, 4),
            tensor if len(good) == len(tensor) else tensor[good],
            [None] * len(kept),
        )
        return Decoded(columns, rows, poison)

    def _fill(self, fit: Fit, value: bytes, frame: _Frame, out: NDArray[Any]) -> PoisonEvent | None:
        try:
            picture = decode(value, self._limits, fit.least)
        except PictureError as error:
            return PoisonEvent("decode", str(error), error.kind)
        frame.size = (picture.width, picture.height)
        frame.placement = fit.one(picture.pixels, out)
        frame.placement[:2] /= picture.factor
        return None


def _described(batch: RecordBatch, row: int, latest_ms: int) -> _Frame:
    """The record without its picture. Raises: PoisonEvent."""
    headers = _read(batch.headers[row])
    frame = headers.get("frame")
    return _Frame(
        row,
        _camera(batch.keys[row]),
        batch.offsets[row] if frame is None else _number(frame),
        _event_time_ms(headers.get("event-time"), batch.timestamps_ms[row], latest_ms),
    )


def _read(headers: Headers) -> dict[str, bytes | None]:
    return {name: value for name, value in headers if value is not None}


def _camera(key: bytes | None) -> str:
    if not key or len(key) > LONGEST_ID:
        got = "none" if not key else f"{len(key)} bytes"
        raise PoisonEvent(
            "decode",
            f"expected the camera's id of 1 to {LONGEST_ID} bytes as the record's key, got {got}",
            "WrongKey",
        )
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise PoisonEvent(
            "decode", f"expected the camera's id in UTF-8 as the record's key, got {key!r}", "WrongKey"
        ) from None


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 16 or int(text) > LARGEST_FRAME:
        raise PoisonEvent(
            "decode", f"expected header `frame` to be a number from 0 to 2^53, got {text[:40]!r}", "InvalidHeader"
        )
    return int(text)


def _event_time_ms(text: bytes | None, timestamp_ms: int, latest_ms: int) -> int:
    """What the header says, in RFC 3339 or milliseconds; without it, the record's own timestamp."""
    time_ms = timestamp_ms if text is None else _milliseconds(text)
    if not EARLIEST_MS <= time_ms <= latest_ms:
        source = "the record's timestamp" if text is None else f"header `event-time` {text[:40]!r}"
        raise PoisonEvent(
            "decode", f"expected an event time from 2000 on and not ahead of the clock, got {source}", "EventTimeAbsurd"
        )
    return time_ms


def _milliseconds(text: bytes) -> int:
    if text.isdigit() and len(text) <= 16:
        return int(text)
    try:
        return round(msgspec.convert(text.decode(), _Aware).timestamp() * 1000)
    except (msgspec.ValidationError, UnicodeDecodeError, ValueError, OverflowError):
        raise PoisonEvent(
            "decode",
            "expected header `event-time` in RFC 3339 with an offset, or in milliseconds since the epoch, "
            f"got {text[:40]!r}",
            "InvalidHeader",
        ) from None
