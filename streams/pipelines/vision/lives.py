"""The lives of the objects before a camera: what is remembered of each from frame to frame.

An object is a row of three arrays, and a compiled kernel carries all that a frame shows over to it. Arrays are not
written to once a frame has been told of, so that copies share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import msgspec
import numpy as np

from models.vision.association import NONE, Float64, Int64
from streams.pipelines.vision.life_steps import (
    BEST_BOX,
    BEST_FRAME,
    BEST_SCORE,
    BOX,
    CONFIRMED,
    FIRST_MS,
    ID,
    LABEL,
    LAST_MS,
    PENDING,
    REAL,
    REPORTED_MS,
    RESTING_MS,
    SCORE,
    SCORED,
    STATIONARY,
    WHOLE,
    Rules,
    carry,
    report,
)
from streams.sites import SceneSettings

Cause = Literal["moved", "entered", "left", "stationary", "moving"]
Box = tuple[float, float, float, float]
LATEST_MS = 253_402_300_800_000  # the year 10000, which no RFC 3339 time reaches
LARGEST_FRAME = 1 << 62
MOST_NAMES = 1024  # from so many, those that no object has any more are forgotten
_PENDING: tuple[tuple[Cause, ...], ...] = ((), ("stationary",), ("moving",))


class Life(NamedTuple):
    """One object, to be told of."""

    track_id: int
    label: str
    first_ms: int
    last_ms: int
    score: float
    box: Box
    best_score: float
    best_box: Box
    best_frame: int | None
    confirmed: bool
    stationary: bool


class StoredLives(msgspec.Struct, array_like=True):
    """Lives as they are written: little-endian arrays, the scores of those that are not confirmed, and their labels."""

    whole: bytes
    real: bytes
    scores: bytes
    labels: list[str]


class Lives(NamedTuple):
    """The objects that are known, in the order in which they appeared.

    Args:
        whole: [n, WHOLE].
        real: [n, REAL].
        scores: [n, confirm_frames], the latest of each that is not confirmed, the oldest first.
        labels: names by their places.
    """

    whole: Int64
    real: Float64
    scores: Float64
    labels: Mapping[str, int]

    @classmethod
    def none(cls, confirm_frames: int) -> Self:
        """No objects."""
        return cls(np.empty((0, WHOLE), np.int64), np.empty((0, REAL)), np.empty((0, confirm_frames)), {})

    def naming(self, labels: Sequence[str]) -> Self:
        """The same, with the names of these labels, too."""
        fresh = [label for label in dict.fromkeys(labels) if label not in self.labels]
        if not fresh:
            return self
        if len(self.labels) + len(fresh) > MOST_NAMES:
            return self.named(labels)
        return self._replace(labels={**self.labels, **{name: at for at, name in enumerate(fresh, len(self.labels))}})

    def named(self, labels: Sequence[str] = ()) -> Self:
        """The same, with the names of these labels and of those that it needs, and no others."""
        before, old = list(self.labels), self.whole[:, LABEL].tolist()
        if not labels and list(dict.fromkeys(old)) == list(range(len(before))):
            return self
        names = dict.fromkeys([*[before[number] for number in old], *labels])
        following = {name: number for number, name in enumerate(names)}
        whole = self.whole.copy()
        whole[:, LABEL] = [following[before[number]] for number in old]
        return self._replace(whole=whole, labels=following)

    def one(self, row: int) -> Life:
        """What is known of one."""
        whole, real = self.whole[row].tolist(), self.real[row].tolist()
        return Life(
            whole[ID],
            list(self.labels)[whole[LABEL]],
            whole[FIRST_MS],
            whole[LAST_MS],
            real[SCORE],
            tuple(real[BOX : BOX + 4]),
            real[BEST_SCORE],
            tuple(real[BEST_BOX : BEST_BOX + 4]),
            None if whole[BEST_FRAME] == NONE else whole[BEST_FRAME],
            bool(whole[CONFIRMED]),
            bool(whole[STATIONARY]),
        )

    def pending(self, row: int) -> tuple[Cause, ...]:
        """What the next update of one is to say of rest."""
        return _PENDING[self.whole[row, PENDING]]

    def reported(self, row: int, time_ms: int) -> None:
        """An event of its life was told, with the frame that `follow` has just carried it to."""
        report(self.whole[row], self.real[row], time_ms)

    def stored(self) -> StoredLives:
        """All of it; of lives that are `named`, the same bytes for the same ones."""
        whole, real, scores, labels = self
        tentative = scores[whole[:, CONFIRMED] == 0]
        return StoredLives(
            whole.astype("<i8", copy=False).tobytes(),
            real.astype("<f8", copy=False).tobytes(),
            tentative.astype("<f8", copy=False).tobytes(),
            list(labels),
        )

    @classmethod
    def restored(cls, stored: StoredLives, confirm_frames: int) -> Self:
        """The lives that `stored` was called on, to be confirmed by so many frames.

        Raises:
            ValueError: they cannot be any.
        """
        whole = np.frombuffer(stored.whole, "<i8").reshape(-1, WHOLE).astype(np.int64)
        real = np.frombuffer(stored.real, "<f8").reshape(len(whole), REAL).astype(np.float64)
        tentative = whole[:, CONFIRMED] == 0
        count = int(np.count_nonzero(tentative))
        kept = np.frombuffer(stored.scores, "<f8").reshape(count, -1 if count else 0)
        if complaint := _complaint(whole, real, kept, stored.labels):
            raise ValueError(complaint)
        scores = np.zeros((len(whole), confirm_frames))
        for row, latest in zip(np.flatnonzero(tentative).tolist(), kept, strict=True):
            held = latest[: whole[row, SCORED]][-confirm_frames:]
            scores[row, : len(held)], whole[row, SCORED] = held, len(held)
        return cls(whole, real, scores, {label: number for number, label in enumerate(stored.labels)})


def _complaint(whole: Int64, real: Float64, kept: Float64, labels: Sequence[str]) -> str | None:
    """What is wrong with arrays of the right form."""
    ids, scored, confirmed = whole[:, ID], whole[:, SCORED], whole[:, CONFIRMED]
    if len(np.unique(ids)) != len(ids) or bool((ids < 1).any()):
        return "expected objects with tracks, one each, got others"
    times = whole[:, (FIRST_MS, LAST_MS, REPORTED_MS, RESTING_MS)]
    if not bool(((times >= 0) & (times < LATEST_MS)).all()):
        return "expected times from 1970 to 9999, got others"
    if not (bool(np.isfinite(real).all()) and bool(np.isfinite(kept).all())):
        return "expected finite numbers, got others"
    most = np.where(confirmed == 0, kept.shape[1], 0)
    flags, numbers, frames = whole[:, (CONFIRMED, STATIONARY)], whole[:, LABEL], whole[:, BEST_FRAME]
    holds = (
        ((flags == 0) | (flags == 1)).all()
        and ((scored >= 0) & (scored <= most)).all()
        and ((numbers >= 0) & (numbers < len(labels))).all()
        and len(set(labels)) == len(labels)
        and ((frames >= NONE) & (frames < LARGEST_FRAME)).all()
        and ((whole[:, PENDING] >= 0) & (whole[:, PENDING] < len(_PENDING))).all()
    )
    return None if holds else "expected objects that can have come about, got others"


def follow(
    lives: Lives, alive: Int64, ids: Int64, labels: Sequence[str], scores: Float64, boxes: Float64, frame: int | None,
    time_ms: int, rules: Rules,
) -> tuple[Lives, Int64, Int64, Int64]:  # fmt: skip
    """Carry lives over to a frame with k boxes.

    Args:
        alive: ids of all tracks that live after it, seen or not.
        ids, scores: [k]; an id of NONE is that of a box which is not tracked.
        labels: k names.
        boxes: [k, 4].
        frame: its number, where it has one.

    Returns:
        lives that share nothing with those before, the row of each box [k], NONE without a track, and what there is to
        tell of it [k], the sum of `NEW`, `DUE`, `MOVED` and `TURNED`; and the rows [e] of the lives before that have
        ended.
    """
    lives = lives.naming([label for label, track_id in zip(labels, ids.tolist(), strict=True) if track_id != NONE])
    numbers = np.array([lives.labels.get(label, NONE) for label in labels], np.int64)
    whole, real, kept, rows, found, ended = carry(
        lives.whole, lives.real, lives.scores, alive, ids, numbers, scores, boxes, NONE if frame is None else frame,
        time_ms, rules,
    )  # fmt: skip
    return Lives(whole, real, kept, lives.labels), rows, found, ended


def warm_up() -> None:
    """Compile the kernels, or load them."""
    box, one = np.array([[0.0, 0, 9, 9]]), np.ones(1, np.int64)
    lives, *_ = follow(Lives.none(1), one, one, ["all"], np.ones(1), box, 0, 0, Rules.of(SceneSettings()))
    lives.reported(0, 0)
