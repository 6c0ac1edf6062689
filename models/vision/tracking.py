"""One camera's tracks: which box in a frame is which object of the frames before."""

from __future__ import annotations

import struct
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.vision.association import (
    CLASS,
    ID,
    MISSED,
    MOST_TRACKS,
    NONE,
    SEEN_MS,
    TRACK_WORDS,
    VAR,
    VAR_V,
    Float64,
    H,
    Int64,
    Limits,
    W,
    confirmed,
    kernel,
    look,
    step,
)
from models.vision.thresholds import GAP_S, Tracking

MOST_BOXES = 300  # of a frame, those with the highest scores
GAP_MS = round(GAP_S * 1000)
TIME_LIMIT_MS = 1 << 52  # event times are held as float64
LARGEST_PX = 1e6
MOST_CLASSES = 1 << 20
HEADER = struct.Struct("<2sBxIqq")  # magic, version, tracks, event time, next id
MAGIC, VERSION = b"tr", 1
NEVER = -(1 << 62)  # event time before the first frame


class TrackerCorrupt(ValueError):
    """Bytes cannot be what `Tracker.encode` wrote."""


class Tracker:
    """Gives the objects before one camera ids that stay: ByteTrack with time steps from event time, and widened boxes.

    A box begins a track that is confirmed, and gets its id, by a second one in the next frame. Ids begin at 1 and are
    never used again. A track prefers boxes of its own class, and takes one of another where both nearly coincide.
    Bounded: `MOST_TRACKS` tracks, the best `MOST_BOXES` boxes of a frame. Not thread-safe.

    Example:
        >>> tracker, box = Tracker(), np.array([[10, 10, 50, 90]], np.float32)
        >>> [tracker.update(box, np.ones(1), np.zeros(1, int), time).tolist() for time in (0, 40, 80)]
        [[-1], [1], [1]]
    """

    def __init__(self, settings: Tracking | None = None) -> None:
        settings = settings or Tracking()
        self._limits = Limits(
            settings.low_score, settings.high_score, settings.new_score, float(round(settings.lost_s * 1000))
        )
        self._tracks: Float64 = np.empty((0, TRACK_WORDS))
        self._time_ms, self._next_id = NEVER, 1

    def __len__(self) -> int:
        """Tracks held, those that are not confirmed among them."""
        return len(self._tracks)

    @property
    def time_ms(self) -> int | None:
        """Event time of the last frame; None before the first one."""
        return None if self._time_ms == NEVER else self._time_ms

    def ids(self) -> Int64:
        """Of the confirmed tracks that live: what is not among them never comes back."""
        return confirmed(self._tracks)

    def update(self, boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], event_time_ms: int) -> Int64:
        """Go on to a frame, and say which box is which object.

        A frame that is not later than the last one changes nothing: its boxes are compared with where the tracks
        were then. After a gap of more than `GAP_MS` all tracks are new.

        Args:
            boxes: [k, 4], x1, y1, x2, y2 in px. Those that are not finite, empty or beyond 1e6 px are no objects.
            scores: [k], as `classes`.

        Returns:
            int64 [k]: track ids; -1 for what is not tracked, or not yet.

        Raises:
            ValueError: an argument is not of that form. Nothing has changed then.
        """
        boxes, scores, classes = _checked(boxes, scores, classes, event_time_ms)
        ids = np.full(len(boxes), NONE, np.int64)
        rows = _usable(boxes, scores, classes)
        if len(rows) < len(boxes):
            boxes, scores, classes = boxes[rows], scores[rows], classes[rows]
        passed_ms = event_time_ms - self._time_ms
        if passed_ms <= 0:
            ids[rows] = self._look(boxes, classes, passed_ms)
            return ids
        tracks = self._tracks if passed_ms <= GAP_MS else self._tracks[:0]
        dt = passed_ms / 1000 if len(tracks) else 0.0
        self._tracks, self._next_id, ids[rows] = step(
            tracks, self._next_id, boxes, scores, classes, float(event_time_ms), dt, self._limits
        )
        self._time_ms = event_time_ms
        return ids

    def look(self, boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], event_time_ms: int) -> Int64:
        """Like `update`, for a frame that was there before or came too late: nothing changes."""
        boxes, scores, classes = _checked(boxes, scores, classes, event_time_ms)
        ids = np.full(len(boxes), NONE, np.int64)
        rows = _usable(boxes, scores, classes)
        ids[rows] = self._look(boxes[rows], classes[rows], event_time_ms - self._time_ms)
        return ids

    def restart(self) -> None:
        """Forget tracks and time, for a camera that begins again; ids go on."""
        self._tracks, self._time_ms = self._tracks[:0], NEVER

    def copy(self) -> Self:
        """One that goes its own way; costs next to nothing, since arrays are never written to."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def encode(self) -> bytes:
        """The whole state, exactly, in 24 bytes and 120 a track."""
        header = HEADER.pack(MAGIC, VERSION, len(self._tracks), self._time_ms, self._next_id)
        return header + self._tracks.astype("<f8", copy=False).tobytes()

    @classmethod
    def decode(cls, content: bytes, settings: Tracking | None = None) -> Self:
        """The tracker that `encode` was called on, but with these settings.

        Raises:
            TrackerCorrupt: the bytes are none of ours.
        """
        if len(content) < HEADER.size or content[:2] != MAGIC:
            raise TrackerCorrupt(f"decoding a tracker: expected {MAGIC!r} and a header, got {content[:8]!r}")
        _, version, count, time_ms, next_id = HEADER.unpack_from(content)
        if version != VERSION:
            raise TrackerCorrupt(f"decoding a tracker: expected version {VERSION}, got {version}")
        expected = HEADER.size + count * TRACK_WORDS * 8
        if count > MOST_TRACKS or len(content) != expected:
            raise TrackerCorrupt(
                f"decoding a tracker: expected at most {MOST_TRACKS} tracks, and {expected} bytes for {count}, "
                f"got {len(content)}"
            )
        tracks = np.frombuffer(content, "<f8", offset=HEADER.size).reshape(-1, TRACK_WORDS).astype(np.float64)
        _check_tracks(tracks, time_ms, next_id)
        tracker = cls(settings)
        tracker._tracks, tracker._time_ms, tracker._next_id = tracks, time_ms, next_id
        return tracker

    def _look(self, boxes: Float64, classes: Int64, passed_ms: int) -> Int64:
        if abs(passed_ms) > GAP_MS:
            return np.full(len(boxes), NONE, np.int64)
        return look(self._tracks, boxes, classes, passed_ms / 1000)


def warm_up() -> None:
    """Compile the kernels, or load them."""
    tracker, box = Tracker(), np.array([[0.0, 0, 9, 9]])
    for time_ms in (0, 40, 40):
        tracker.update(box, np.ones(1), np.zeros(1, np.int64), time_ms)
    tracker.ids()


def _checked(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], event_time_ms: int
) -> tuple[Float64, Float64, Int64]:
    k = len(boxes)
    if boxes.shape != (k, 4) or scores.shape != (k,) or classes.shape != (k,):
        raise ValueError(
            f"tracking: expected boxes [k, 4], scores [k] and classes [k], got {list(boxes.shape)}, "
            f"{list(scores.shape)} and {list(classes.shape)}"
        )
    if not -TIME_LIMIT_MS < event_time_ms < TIME_LIMIT_MS:
        raise ValueError(f"tracking: expected an event time within ±{TIME_LIMIT_MS} ms, got {event_time_ms}")
    if classes.dtype.kind not in "iu":
        raise ValueError(f"tracking: expected classes as integers, got {classes.dtype}")
    # Contiguous, always: the kernels are compiled for one kind of array.
    return (
        np.ascontiguousarray(boxes, np.float64),
        np.ascontiguousarray(scores, np.float64),
        np.ascontiguousarray(classes, np.int64),
    )


def _usable(boxes: Float64, scores: Float64, classes: Int64) -> Int64:
    """Rows of the boxes that can be objects, the best `MOST_BOXES` of them, in their order."""
    rows = _sound(boxes, scores, classes)
    if len(rows) > MOST_BOXES:
        rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[:MOST_BOXES]])
    return rows


@kernel
def _sound(boxes: Float64, scores: Float64, classes: Int64) -> Int64:
    """Rows of the boxes that can be objects."""
    rows, count = np.empty(len(boxes), np.int64), 0
    for row in range(len(boxes)):
        x1, y1, x2, y2 = boxes[row]
        good = max(abs(x1), abs(y1), abs(x2), abs(y2)) <= LARGEST_PX and x2 > x1 and y2 > y1
        if good and np.isfinite(scores[row]) and 0 <= classes[row] < MOST_CLASSES:
            rows[count] = row
            count += 1
    return rows[:count]


def _check_tracks(tracks: Float64, time_ms: int, next_id: int) -> None:
    ids, classes = tracks[:, ID], tracks[:, CLASS]
    confirmed = ids[ids > 0]
    holds = (
        bool(np.isfinite(tracks).all())
        and (time_ms == NEVER or abs(time_ms) < TIME_LIMIT_MS)
        and 0 < next_id < 1 << 52
        and bool((tracks[:, (ID, CLASS, SEEN_MS, MISSED)] % 1 == 0).all())
        and bool((ids >= 0).all() and (ids < next_id).all() and (classes >= 0).all() and (classes < MOST_CLASSES).all())
        and len(np.unique(confirmed)) == len(confirmed)
        and bool((tracks[:, (MISSED, VAR, VAR_V)] >= 0).all() and (tracks[:, SEEN_MS] <= time_ms).all())
        and bool((tracks[:, (W, H)] > 0).all() and (np.abs(tracks[:, W:]) < 1e12).all())
    )
    if not holds:
        raise TrackerCorrupt("decoding a tracker: expected tracks that can have come about, got others")
