"""How actors find their ways over the ground: targets, turns, pauses, and no two in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectors.simulators.scene.actors import CAR, LABELS, MACHINE, PERSON, SIGN, Actor, make
from connectors.simulators.scene.viewpoint import Viewpoint

_STEP_S = 0.2  # longer steps would carry a car through a person
_OFF_M = 3.5  # how far outside the view somebody comes in and goes out
_DETOURS = (0.0, 0.5, -0.5, 1.1, -1.1)
_LEAVES = (0.2, 0.2, 0.3, 0.0, 0.05)
"""Per label: how often the next target lies outside the view."""


@dataclass(frozen=True)
class Ground:
    """The part of the ground that a camera watches: from `near` to `far` metres ahead, as wide as is seen."""

    view: Viewpoint
    near: float
    far: float

    def inside(self, rng: np.random.Generator, nearest: float) -> tuple[float, float]:
        """A place that is seen, evenly over the depth, at least `nearest` metres ahead of the near edge."""
        y = float(rng.uniform(self.near + nearest, self.far))
        return float(rng.uniform(-0.88, 0.88)) * self.view.half_width_m(y), y

    def outside(self, rng: np.random.Generator, nearest: float) -> tuple[float, float]:
        """A place beside the view."""
        y = float(rng.uniform(self.near + nearest, self.far))
        return float(rng.choice([-1, 1])) * (self.view.half_width_m(y) + _OFF_M), y


class Traffic:
    """All actors of a camera, and their next moments.

    Args:
        ground: where they move.
        numbers: how many there are of each of LABELS.
        obstacles: x, y, radius in metres of what stands in the way.
        rng: the traffic's own generator.
    """

    def __init__(
        self,
        ground: Ground,
        numbers: Sequence[int],
        obstacles: Sequence[tuple[float, float, float]],
        rng: np.random.Generator,
    ) -> None:
        self.actors: list[Actor] = []
        self._ground, self._rng, self._obstacles = ground, rng, list(obstacles)
        self._next_track = 1
        for label in sorted(range(len(LABELS)), key=lambda label: label == PERSON):  # the large ones find room first
            for _ in range(numbers[label]):
                self._admit(label)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        steps = max(1, math.ceil(seconds / _STEP_S - 1e-9))
        for _ in range(steps):
            for actor in self.actors:
                if actor.moves:
                    self._step(actor, seconds / steps)

    def _admit(self, label: int) -> None:
        """Somebody who is there from the beginning, where there is room."""
        actor = self._make(label)
        for _ in range(20):
            actor.x, actor.y = self._ground.inside(self._rng, self._margin(actor))
            if self._free(actor, actor.x, actor.y) >= 0:
                self.actors.append(actor)
                self._aim(actor)
                return

    def _make(self, label: int) -> Actor:
        actor = make(label, self._next_track, self._rng)
        self._next_track += 1
        actor.heading = float(self._rng.uniform(-math.pi, math.pi))
        if label == SIGN:
            actor.heading = -math.pi / 2 + float(self._rng.normal(0, 0.45))
        if label in (CAR, MACHINE) and self._rng.random() < 0.5:
            actor.pause_s = float(self._rng.uniform(10, 120))  # parked, or at work in its place
        return actor

    @staticmethod
    def _margin(actor: Actor) -> float:
        """How far ahead of the near edge it keeps, so that a machine does not fill the picture."""
        return 0.6 + 1.4 * actor.radius_m

    def _aim(self, actor: Actor) -> None:
        """Choose where to go next."""
        actor.leaving = bool(self._rng.random() < _LEAVES[actor.label])
        choose = self._ground.outside if actor.leaving else self._ground.inside
        actor.target = choose(self._rng, self._margin(actor))
        actor.stuck_s = 0.0

    def _step(self, actor: Actor, dt: float) -> None:
        actor.velocity = 0.0
        if actor.pause_s > 0:
            actor.pause_s -= dt
            return
        dx, dy = actor.target[0] - actor.x, actor.target[1] - actor.y
        if math.hypot(dx, dy) < max(0.5, 0.8 * actor.radius_m):
            self._arrive(actor)
            return
        off = _wrapped(math.atan2(dy, dx) - actor.heading)
        actor.heading += min(max(off, -actor.turn * dt), actor.turn * dt)
        self._move(actor, actor.speed * max(0.12, math.cos(off)), dt)

    def _move(self, actor: Actor, speed: float, dt: float) -> None:
        """Go forward where there is room, aside where there is not; whoever is stuck goes elsewhere."""
        here = self._free(actor, actor.x, actor.y)
        for detour in _DETOURS if actor.label == PERSON else _DETOURS[:1]:
            heading = actor.heading + detour
            x, y = actor.x + speed * dt * math.cos(heading), actor.y + speed * dt * math.sin(heading)
            if self._free(actor, x, y) >= min(0.0, here):
                actor.x, actor.y, actor.velocity = x, y, speed
                actor.heading += 0.5 * detour
                actor.walked += speed * dt
                return
        actor.stuck_s += dt
        if actor.stuck_s > 2.0:
            self._aim(actor)

    def _arrive(self, actor: Actor) -> None:
        if actor.leaving:
            self._replace(actor)
            return
        actor.pause_s = float(self._rng.exponential(4.0 if actor.label == PERSON else 8.0))
        self._aim(actor)

    def _replace(self, actor: Actor) -> None:
        """Who has left the view comes back as somebody else, after a while."""
        new = self._make(actor.label)
        for _ in range(20):
            new.x, new.y = self._ground.outside(self._rng, self._margin(new))
            if self._free(new, new.x, new.y, but=actor) >= 0:
                break
        new.heading = math.atan2(0.0, -new.x)
        new.pause_s = float(self._rng.exponential(3.0))
        self.actors[self.actors.index(actor)] = new
        self._aim(new)
        new.leaving, new.target = False, self._ground.inside(self._rng, self._margin(new))

    def _free(self, actor: Actor, x: float, y: float, but: Actor | None = None) -> float:
        """The room in metres between an actor at this place and whatever is nearest; negative where they overlap."""
        room = math.inf
        for other in self.actors:
            if other is not actor and other is not but:
                room = min(room, math.hypot(other.x - x, other.y - y) - other.radius_m)
        for left, ahead, radius in self._obstacles:
            room = min(room, math.hypot(left - x, ahead - y) - radius)
        return room - actor.radius_m


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
