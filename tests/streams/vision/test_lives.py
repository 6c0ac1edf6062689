"""The compiled lives of objects beside a plain one, over objects that come, jump, rest and change their label."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass, field

import numpy as np
import pytest

from streams.pipelines.vision.life_steps import DUE, MOVED, NEW, TURNED, Rules
from streams.pipelines.vision.lives import MOST_NAMES, Box, Lives, follow

LABELS = ("person", "forklift", "car")
START_MS = 1_767_225_600_000


def middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


@dataclass
class Plain:
    """One object, as the documentation of `streams.pipelines.vision.objects.Scene` has it."""

    rules: Rules
    frames: int
    label: str
    box: Box
    last_ms: int
    votes: int = 0
    score: float = 0.0
    scores: list[float] = field(default_factory=list)
    confirmed: bool = False
    best: tuple[float, Box | None, int | None] = (-1.0, None, None)
    reported: tuple[int, tuple[float, float]] = (0, (0.0, 0.0))
    resting: tuple[int, tuple[float, float]] = (0, (0.0, 0.0))
    restless: int = 0
    stationary: bool = False
    pending: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.first_ms = self.last_ms
        self.reported = self.resting = (self.last_ms, middle(self.box))

    def away(self, place: tuple[float, float], share: float) -> bool:
        size = math.sqrt(max((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]), 1.0))
        return math.dist(middle(self.box), place) > share * size

    def see(self, label: str, score: float, box: Box, frame: int | None, time_ms: int) -> int:
        self.last_ms, self.score, self.box = time_ms, score, box
        self.votes = min(self.votes + 1, 25) if label == self.label else self.votes - 1
        if self.votes <= 0:
            self.label, self.votes = label, 1
        if score > self.best[0]:
            self.best = score, box, frame
        found = 0
        if not self.confirmed:
            self.scores = [*self.scores, score][-self.frames :]
            self.confirmed = len(self.scores) == self.frames and (
                statistics.median(self.scores) >= self.rules.confirm_score
            )
            if self.confirmed:
                found |= NEW
                self.reported, self.pending = (time_ms, middle(box)), ()
        return found | self.rest(time_ms)

    def rest(self, time_ms: int) -> int:
        found, before = 0, self.stationary
        if not self.away(self.resting[1], self.rules.stationary_share):
            self.restless = 0
            if not self.stationary and time_ms - self.resting[0] >= self.rules.stationary_ms:
                self.stationary, self.pending = True, ("stationary",)
        else:
            self.restless += 1
            if self.restless == 3:
                self.resting, self.restless = (time_ms, middle(self.box)), 0
                if self.stationary:
                    self.stationary, self.pending = False, ("moving",)
        found |= TURNED if self.stationary != before else 0
        found |= MOVED if self.away(self.reported[1], self.rules.moved_share) else 0
        late = time_ms - self.reported[0] >= self.rules.update_ms
        return found | (DUE if self.confirmed and late and (found & MOVED or self.pending) else 0)


def shown(rng: random.Random, at: dict[int, tuple[float, float]], track_id: int) -> tuple[str, float, Box]:
    """An object that rests, creeps or jumps, whose size wavers and whose label is wrong at times."""
    x, y = at.setdefault(track_id, (rng.uniform(100, 900), rng.uniform(100, 500)))
    pace = rng.choice((0.0, 0.0, 0.0, 2.0, 2.0, 40.0)) if track_id % 3 else rng.uniform(-3, 3)
    x, y = at[track_id] = x + pace, y + pace / 2
    wide, high = rng.uniform(38, 42), rng.uniform(75, 85)
    label = LABELS[track_id % 3] if rng.random() < 0.6 else rng.choice(LABELS)
    return label, rng.uniform(0.2, 1), (x - wide, y - high, x + wide, y + high)


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@pytest.mark.parametrize("update_ms", [0, 700])
def test_a_life_goes_on_as_a_plain_one_does(frames: int, update_ms: int) -> None:
    rng = random.Random(frames * 10 + update_ms)
    rules = Rules(0.6, float(update_ms), 0.3, 900.0, 0.1)
    lives, plain, at, seen_flags = Lives.none(frames), dict[int, Plain](), dict[int, tuple[float, float]](), 0
    for number in range(600):
        time_ms, frame = START_MS + number * 100, number if number % 5 else None
        ids = sorted(rng.sample(range(1 + number // 60, 12 + number // 60), rng.randrange(9)))
        alive = np.arange(1 + number // 60, 12 + number // 60)
        objects = [shown(rng, at, track_id) for track_id in ids]
        # A box without a track, which is nobody's.
        boxes = np.array([(0, 0, 9, 9), *(box for _, _, box in objects)], np.float64)
        labels = ["car", *(label for label, _, _ in objects)]
        scores = np.array([0.9, *(score for _, score, _ in objects)])
        before = lives
        copies = [each.copy() for each in before[:3]]
        lives, rows, found, ended = follow(
            lives, alive, np.array([-1, *ids]), labels, scores, boxes, frame, time_ms, rules
        )
        assert {before.one(row).track_id for row in ended.tolist()} == plain.keys() - set(alive.tolist())
        plain = {track_id: life for track_id, life in plain.items() if track_id in alive}
        assert (rows[0], found[0]) == (-1, 0)
        for track_id, (label, score, box), row, flags in zip(ids, objects, rows[1:], found[1:], strict=True):
            if track_id not in plain:
                plain[track_id] = Plain(rules, frames, label, box, time_ms)
            life = plain[track_id]
            assert life.see(label, score, box, frame, time_ms) == flags
            assert lives.pending(row) == life.pending
            assert lives.one(row) == (
                track_id, life.label, life.first_ms, life.last_ms, life.score, life.box, *life.best, life.confirmed,
                life.stationary,
            )  # fmt: skip
            seen_flags |= int(flags)
            if flags & DUE:
                lives.reported(row, time_ms)
                life.reported, life.pending = (time_ms, middle(box)), ()
        assert all(map(np.array_equal, before[:3], copies))
        if number % 50 == 0:
            again = Lives.restored(lives.named().stored(), frames)
            assert again.stored() == lives.named().stored()
            lives = again
    assert seen_flags == NEW | DUE | MOVED | TURNED


def test_names_that_no_object_has_are_forgotten() -> None:
    lives, rules, one = Lives.none(3), Rules(0.5, 1000.0, 0.5, 1000.0, 0.2), np.ones(1)
    alive = np.array([1])
    for number in range(3 * MOST_NAMES):
        box = np.array([[0.0, 0, 9, 9]])
        lives, rows, *_ = follow(lives, alive, alive, [f"class {number}"], one, box, number, START_MS + number, rules)
        assert len(lives.labels) <= MOST_NAMES
        assert lives.one(int(rows[0])).label == f"class {number}"
