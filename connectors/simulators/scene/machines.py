"""Machines of a building site: excavators, wheel loaders and rollers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.solids import GLASS, TYRE, Builder, Colour, Solid, panel, pose, tilt
from connectors.simulators.scene.vehicles import DARK, SKINS, STEEL, darker, pick

MACHINE_COLOURS: tuple[Colour, ...] = ((35, 170, 235), (30, 120, 225), (40, 200, 225), (200, 205, 205), (60, 140, 70))


def excavator(rng: np.random.Generator) -> Solid:
    """Parts 0 to 1 are its tracks, 2 to 4 turn with its house, 5 is the boom, 6 the stick, 7 the bucket."""
    colour = pick(rng, MACHINE_COLOURS)
    build = Builder()
    track = [(-1.7, 0.25), (-1.4, 0.0), (1.4, 0.0), (1.7, 0.25), (1.7, 0.55), (1.4, 0.75), (-1.4, 0.75), (-1.7, 0.55)]
    inner = [(-1.4, 0.2), (1.4, 0.2), (1.4, 0.5), (-1.4, 0.5)]
    for side in (1, -1):
        y = sorted((side * 0.75, side * 1.25))
        build.part().prism(track, y[0], y[1], TYRE)
        panel(build, side * 1.26, inner, STEEL)
    house = [(-1.7, 0.9), (1.0, 0.9), (1.0, 1.35), (0.2, 1.75), (-1.5, 1.75), (-1.7, 1.5)]
    build.part(0.3).prism(house, -1.2, 1.2, colour)
    for side in (1, -1):
        panel(build, side * 1.21, [(-1.4, 1.1), (-0.3, 1.1), (-0.3, 1.5), (-1.4, 1.5)], darker(colour, 0.55))
    build.part(0.4).prism(
        [(-0.2, 1.3), (1.1, 1.3), (1.15, 1.9), (0.85, 2.75), (-0.2, 2.75)], 0.25, 1.15, darker(colour, 0.95)
    )
    panel(build, 1.16, [(0.0, 1.75), (1.0, 1.75), (0.8, 2.6), (0.0, 2.6)], GLASS)
    build.face([(0.0, 0.24, 1.75), (1.0, 0.24, 1.75), (0.8, 0.24, 2.6), (0.0, 0.24, 2.6)], GLASS)
    build.face([(1.16, 0.35, 1.6), (1.16, 1.05, 1.6), (0.9, 1.05, 2.6), (0.9, 0.35, 2.6)], GLASS)
    build.part(0.1).box((-2.0, -1.6), (-1.15, 1.15), (1.0, 1.6), darker(colour, 0.45))
    build.part(0.2).prism(
        [(0.8, 1.3), (1.1, 1.2), (2.9, 1.65), (4.2, 1.3), (4.2, 1.55), (2.8, 2.1)], -0.45, -0.15, colour
    )
    build.part(0.2).prism(
        [(3.9, 1.3), (4.3, 1.25), (6.6, 1.35), (6.6, 1.5), (4.2, 1.75)], -0.42, -0.18, darker(colour, 0.92)
    )
    build.part(0.2).prism([(6.4, 1.6), (6.3, 1.1), (6.7, 0.7), (7.1, 0.8), (6.9, 1.2), (6.75, 1.6)], -0.75, 0.15, STEEL)
    return build.build()


def excavator_pose(
    at: NDArray[np.float64], slew: float, boom: float, stick: float, bucket: float
) -> NDArray[np.float64]:
    """float64[8, 4, 4], the parts of an excavator at `at` with these joints, in radians."""
    house = at @ pose(0.0, 0.0, slew)
    arm = house @ tilt(0.95, 1.3, boom)
    fore = arm @ tilt(4.15, 1.45, stick)
    return np.stack([at, at, house, house, house, arm, fore, fore @ tilt(6.5, 1.4, bucket)])


def loader(rng: np.random.Generator) -> Solid:
    """A wheel loader: the last two parts are its arms and its bucket."""
    colour = pick(rng, MACHINE_COLOURS)
    build = Builder()
    build.part().prism([(-2.4, 0.7), (-0.2, 0.7), (-0.2, 1.75), (-2.2, 1.65), (-2.4, 1.3)], -0.75, 0.75, colour)
    for side in (1, -1):
        panel(build, side * 0.76, [(-2.1, 1.0), (-1.0, 1.0), (-1.0, 1.4), (-2.1, 1.4)], darker(colour, 0.55))
    build.part().prism([(-0.2, 0.7), (1.3, 0.7), (1.3, 1.2), (-0.2, 1.4)], -0.6, 0.6, darker(colour, 0.85))
    build.part(0.3).prism([(-0.6, 1.5), (0.75, 1.5), (0.6, 2.85), (-0.5, 2.85)], -0.65, 0.65, DARK)
    for side in (1, -1):
        panel(build, side * 0.66, [(-0.45, 1.7), (0.6, 1.7), (0.48, 2.6), (-0.4, 2.6)], GLASS)
    build.face([(0.76, -0.55, 1.65), (0.76, 0.55, 1.65), (0.63, 0.55, 2.65), (0.63, -0.55, 2.65)], GLASS)
    build.part(0.5).box((-0.62, 0.72), (-0.72, 0.72), (2.85, 2.98), colour)
    for x in (1.05, -1.4):
        for side in (1, -1):
            build.wheel(x, side * 0.95, 0.7, 0.5, colour)
    build.part(0.2).prism([(0.9, 1.1), (1.3, 0.95), (2.4, 0.45), (2.4, 0.65), (1.2, 1.35)], -0.45, 0.45, colour)
    build.part(0.3).prism([(2.2, 0.15), (3.2, 0.1), (3.1, 0.3), (2.6, 0.95), (2.2, 0.85)], -1.25, 1.25, STEEL)
    return build.build()


def loader_pose(at: NDArray[np.float64], lift: float) -> NDArray[np.float64]:
    """float64[11, 4, 4]: the parts of a wheel loader whose bucket is lifted by an angle in radians."""
    arms = at @ tilt(1.0, 1.2, lift)
    return np.stack([*[at] * 8, arms, arms @ tilt(2.3, 0.5, -0.5 * lift)])


def roller(rng: np.random.Generator) -> Solid:
    """A road roller: a drum in front, an open seat."""
    colour = pick(rng, MACHINE_COLOURS)
    circle = [
        (1.35 + 0.62 * math.cos(a), 0.62 + 0.62 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 15)[:-1].tolist()
    ]
    build = Builder()
    build.part().prism(circle, -0.85, 0.85, STEEL)
    build.part(0.1).prism([(0.4, 0.6), (2.1, 0.6), (2.1, 0.85), (0.4, 0.95)], -1.0, 1.0, colour)
    build.part().prism([(-2.0, 0.6), (0.5, 0.6), (0.5, 1.2), (-0.4, 1.2), (-2.0, 1.45)], -0.7, 0.7, colour)
    for side in (1, -1):
        panel(build, side * 0.71, [(-1.8, 0.8), (-0.8, 0.8), (-0.8, 1.1), (-1.8, 1.1)], DARK)
        build.wheel(-1.2, side * 0.72, 0.6, 0.4, colour)
    build.part(0.2).box((-0.5, -0.2), (-0.23, 0.23), (1.3, 1.85), (40, 200, 210))
    build.part(0.2).box((-0.45, -0.22), (-0.11, 0.11), (1.88, 2.12), pick(rng, SKINS))
    for x in (-0.9, 0.4):
        for side in (1, -1):
            y = sorted((side * 0.6, side * 0.66))
            build.part().box((x, x + 0.07), (y[0], y[1]), (1.2, 2.5), DARK)
    build.part(0.5).box((-1.1, 0.6), (-0.75, 0.75), (2.5, 2.6), colour)
    return build.build()
