"""What moves on a site: each with its looks, its way over the ground, and its pose at a moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene import machines, vehicles
from connectors.simulators.scene.fittings import sign
from connectors.simulators.scene.light import Light
from connectors.simulators.scene.people import Person, figure
from connectors.simulators.scene.solids import Polygon, Solid, pose
from connectors.simulators.scene.viewpoint import Viewpoint

PERSON, FORKLIFT, CAR, SIGN, MACHINE = range(5)
LABELS = ("person", "forklift", "car", "sign", "machine")


class Body(Protocol):
    """Something posed in the world, ready to be drawn."""

    def polygons(self, view: Viewpoint, light: Light) -> list[Polygon]:
        """What faces the camera, in the order of drawing."""
        ...

    def shadow(self, light: Light) -> list[NDArray[np.float64]]:
        """Ground places float64[k, 2] whose hulls are in its shadow."""
        ...


@dataclass
class Actor:
    """One thing to be detected, its state now.

    Args:
        label: index of LABELS.
        track: its number, never given again by the same camera.
        body: how it looks at a pose of float64[4, 4] after it has gone `walked` metres, at a time in seconds.
        radius_m: of the circle on the ground that it keeps for itself.
        speed: in metres a second when it is on its way.
        turn: how fast it turns, in radians a second.
    """

    label: int
    track: int
    body: Callable[[Actor, float], Body]
    radius_m: float
    speed: float
    turn: float
    x: float = 0.0
    y: float = 0.0
    heading: float = 0.0
    walked: float = 0.0
    velocity: float = 0.0
    target: tuple[float, float] = (0.0, 0.0)
    leaving: bool = False
    pause_s: float = 0.0
    stuck_s: float = 0.0
    phase: float = field(default=0.0)

    @property
    def moves(self) -> bool:
        return self.speed > 0

    def posed(self, time_s: float) -> Body:
        return self.body(self, time_s)


def make(label: int, track: int, rng: np.random.Generator) -> Actor:
    """A new actor of this label, with looks of its own."""
    actor = (_person, _forklift, _car, _sign, _machine)[label](track, rng)
    actor.phase = float(rng.uniform(0, 2 * math.pi))
    return actor


def _person(track: int, rng: np.random.Generator) -> Actor:
    person = Person.drawn(rng)
    stride = 0.42 * person.height
    crouches = bool(rng.random() < 0.3)

    def body(actor: Actor, time_s: float) -> Body:
        walking = actor.velocity > 0.15
        gait = actor.phase + actor.walked / stride * math.pi if walking else math.nan
        # Who waits may crouch for a while, as to look at something on the ground.
        stoop = 0.0 if walking or not crouches else max(0.0, min(1.0, 3 * math.sin(time_s / 4 + actor.phase)))
        return figure(person, (actor.x, actor.y), actor.heading, gait, stoop)

    return Actor(PERSON, track, body, 0.35, float(rng.uniform(0.8, 1.7)), 3.5)


def _forklift(track: int, rng: np.random.Generator) -> Actor:
    truck, carriage = vehicles.forklift(rng), vehicles.forks(rng)
    raised = float(rng.uniform(0.05, 0.35))

    def body(actor: Actor, time_s: float) -> Body:
        at = pose(actor.x, actor.y, actor.heading)
        lift = raised + (0.8 * max(0.0, math.sin(time_s / 3 + actor.phase)) if actor.velocity < 0.1 else 0.0)
        return _Pair(truck, at, carriage, at @ pose(0.0, 0.0, 0.0, lift))

    return Actor(FORKLIFT, track, body, 1.5, float(rng.uniform(1.2, 2.8)), 1.3)


def _car(track: int, rng: np.random.Generator) -> Actor:
    solid = vehicles.car(rng)
    return Actor(CAR, track, _rigid(solid), 2.3, float(rng.uniform(2.0, 5.0)), 0.9)


def _sign(track: int, rng: np.random.Generator) -> Actor:
    return Actor(SIGN, track, _rigid(sign(rng)), 0.4, 0.0, 0.0)


def _machine(track: int, rng: np.random.Generator) -> Actor:
    kind = int(rng.integers(5))
    if kind < 2:
        return _excavator(track, rng)
    if kind < 4:
        return _loader(track, rng)
    return Actor(MACHINE, track, _rigid(machines.roller(rng)), 2.2, float(rng.uniform(0.6, 1.2)), 0.5)


def _excavator(track: int, rng: np.random.Generator) -> Actor:
    solid = machines.excavator(rng)
    reach = float(rng.uniform(0.2, 1.2))

    def body(actor: Actor, time_s: float) -> Body:
        swing = time_s * 0.35 + actor.phase
        boom, stick = 0.35 + 0.25 * math.sin(2 * swing), -1.1 + 0.45 * math.sin(2 * swing + 1)
        joints = (reach * math.sin(swing), boom, stick, -0.6 + 0.6 * math.sin(2 * swing + 2))
        return solid.posed(machines.excavator_pose(pose(actor.x, actor.y, actor.heading), *joints))

    return Actor(MACHINE, track, body, 3.0, float(rng.uniform(0.3, 0.8)), 0.35)


def _loader(track: int, rng: np.random.Generator) -> Actor:
    solid = machines.loader(rng)

    def body(actor: Actor, time_s: float) -> Body:
        lift = 0.15 + 0.45 * max(0.0, math.sin(time_s * 0.3 + actor.phase))
        return solid.posed(machines.loader_pose(pose(actor.x, actor.y, actor.heading), lift))

    return Actor(MACHINE, track, body, 3.0, float(rng.uniform(0.8, 2.0)), 0.6)


def _rigid(solid: Solid) -> Callable[[Actor, float], Body]:
    def body(actor: Actor, time_s: float) -> Body:
        return solid.posed(pose(actor.x, actor.y, actor.heading))

    return body


class _Pair:
    """Two solids that belong together, drawn by their distance."""

    def __init__(
        self, one: Solid, one_pose: NDArray[np.float64], other: Solid, other_pose: NDArray[np.float64]
    ) -> None:
        self._bodies = (one.posed(one_pose), other.posed(other_pose))

    def polygons(self, view: Viewpoint, light: Light) -> list[Polygon]:
        by_distance = sorted(
            self._bodies, key=lambda body: -float(np.linalg.norm(body.vertices.mean(axis=0) - view.place))
        )
        return [polygon for body in by_distance for polygon in body.polygons(view, light)]

    def shadow(self, light: Light) -> list[NDArray[np.float64]]:
        return [hull for body in self._bodies for hull in body.shadow(light)]
