"""A plain world of moving boxes: what a detector would say of it, and which box is which object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1280, 720


class Observed(NamedTuple):
    """One frame: the truth, and what was detected of it."""

    time_ms: int
    ids: NDArray[np.int64]  # [m], of the true objects that are in the picture
    truth: NDArray[np.float32]  # [m, 4]
    boxes: NDArray[np.float32]  # [k, 4]
    scores: NDArray[np.float32]  # [k]
    classes: NDArray[np.int64]  # [k]


def watch(objects: int, frames: int, seed: int, fps: float = 25.0, speed: float = 0.6) -> list[Observed]:
    """Objects that walk about, cross and hide each other, leave and are replaced; detected with noise.

    Sizes are 60 to 200 px high, speeds about `speed` heights a second. A box that a nearer one covers by more than
    0.6 is missed three times in four, by more than 0.3 it has a low score; 4 % are missed anyway, some scores drop
    for half a second, boxes are off by 3 % of their height, and one frame in thirty shows something that is not there.
    """
    world = _World(objects, seed, 1 / fps, speed)
    return [world.frame(round(1_767_225_600_000 + number * 1000 / fps)) for number in range(frames)]


class _World:
    def __init__(self, objects: int, seed: int, dt: float, speed: float) -> None:
        self.random = np.random.default_rng(seed)
        self.dt, self.speed, self.count = dt, speed, objects
        self.next_id = 1
        self.at = np.zeros((objects, 2))  # bottom centre
        self.heading, self.pace, self.height, self.weak = (np.zeros(objects) for _ in range(4))
        self.kind, self.ids = np.zeros(objects, np.int64), np.zeros(objects, np.int64)
        for place in range(objects):
            self.spawn(place, edge=False)

    def spawn(self, place: int, *, edge: bool) -> None:
        random = self.random
        self.at[place] = random.uniform((100, 250), (WIDTH - 100, HEIGHT - 30))
        self.heading[place] = random.choice((0.0, np.pi)) + random.normal(0, 0.3)
        if edge:
            self.at[place, 0] = 0 if np.cos(self.heading[place]) > 0 else WIDTH
        self.height[place] = 60 + 140 * (self.at[place, 1] - 250) / (HEIGHT - 280)
        self.pace[place] = max(0.0, random.normal(self.speed, self.speed / 3)) * random.choice((1, 1, 1, 0.1))
        self.kind[place] = random.choice((0, 0, 1))
        self.ids[place], self.weak[place] = self.next_id, 0
        self.next_id += 1

    def move(self) -> None:
        self.heading += self.random.normal(0, 0.5 * np.sqrt(self.dt), self.count)
        step = (self.pace * self.height * self.dt)[:, None] * np.stack(
            (np.cos(self.heading), 0.4 * np.sin(self.heading)), 1
        )
        self.at += step
        self.at[:, 1] = self.at[:, 1].clip(250, HEIGHT - 30)
        for place in np.flatnonzero((self.at[:, 0] < -20) | (self.at[:, 0] > WIDTH + 20)):
            self.spawn(int(place), edge=True)

    def boxes(self) -> NDArray[np.float64]:
        width = self.height * np.where(self.kind == 1, 1.3, 0.4)
        x, y = self.at.T
        boxes = np.stack((x - width / 2, y - self.height, x + width / 2, y), 1)
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, WIDTH)
        return boxes

    def frame(self, time_ms: int) -> Observed:
        random = self.random
        self.move()
        boxes = self.boxes()
        inside = boxes[:, 2] - boxes[:, 0] > 8
        covered = _covered(boxes)
        self.weak = np.where(random.random(self.count) < 0.2 * self.dt, 0.5, self.weak - self.dt)
        missed = (random.random(self.count) < 0.04) | ((covered > 0.6) & (random.random(self.count) < 0.75))
        scores = random.normal(0.82, 0.07, self.count) - np.where(self.weak > 0, 0.45, 0) - 0.7 * covered.clip(0, 0.6)
        seen = inside & ~missed & (scores > 0.1)
        found = (boxes + random.normal(0, 0.03, boxes.shape) * self.height[:, None])[seen]
        false = random.random() < 1 / 30
        if false:
            corner = random.uniform((0, 200), (WIDTH - 80, HEIGHT - 150))
            found = np.vstack((found, [*corner, *(corner + random.uniform(30, 150, 2))]))
        scores = np.append(scores[seen], random.uniform(0.1, 0.65, int(false))).clip(0, 0.99)
        kinds = np.append(self.kind[seen], np.zeros(int(false), np.int64))
        order = np.argsort(-scores)
        return Observed(
            time_ms,
            self.ids[inside].copy(),
            boxes[inside].astype(np.float32),
            found[order].astype(np.float32),
            scores[order].astype(np.float32),
            kinds[order],
        )


def _covered(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n]: the largest share of each box that one nearer box covers."""
    sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], 1), 1)
    share = np.prod(sides.clip(0), 2) / area[:, None]
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    return np.where(nearer, share, 0).max(1)
