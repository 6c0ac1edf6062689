"""Cars and forklifts: solids of many builds and colours."""

from __future__ import annotations

import numpy as np

from connectors.simulators.scene.solids import GLASS, Builder, Colour, Solid, panel

CAR_COLOURS: tuple[Colour, ...] = (
    (235, 235, 235), (40, 40, 42), (150, 150, 152), (40, 40, 170), (150, 80, 35), (95, 60, 40), (70, 110, 60),
    (190, 200, 210), (60, 130, 190), (110, 30, 90), (205, 170, 120), (30, 150, 215),
)  # fmt: skip
FORKLIFT_COLOURS: tuple[Colour, ...] = (
    (40, 190, 240), (30, 100, 230), (40, 40, 190), (70, 140, 40), (170, 100, 40), (190, 190, 190), (150, 150, 40),
)  # fmt: skip
STEEL: Colour = (70, 70, 74)
DARK: Colour = (48, 48, 50)
LAMP: Colour = (235, 250, 255)
RED_LAMP: Colour = (40, 40, 210)
SKINS: tuple[Colour, ...] = ((150, 180, 225), (120, 150, 200), (80, 110, 165), (50, 75, 115))


def pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 14.0) -> Colour:
    """One of the colours, a little off."""
    chosen = np.array(colours[int(rng.integers(len(colours)))]) + rng.normal(0, spread, 3)
    blue, green, red = chosen.clip(20, 250).tolist()
    return blue, green, red


def darker(colour: Colour, by: float) -> Colour:
    return colour[0] * by, colour[1] * by, colour[2] * by


def car(rng: np.random.Generator) -> Solid:
    """A saloon, an estate, a van or a pickup; its length is 3.6 to 5.6 m."""
    kind = int(rng.integers(4))
    long = float(rng.uniform(3.7, 4.7)) if kind < 2 else float(rng.uniform(4.8, 5.6))
    half, width = long / 2, float(rng.uniform(0.84, 0.95))
    belt, roof = (0.92, 1.45) if kind < 2 else ((1.15, 2.1) if kind == 2 else (1.0, 1.75))
    colour = pick(rng, CAR_COLOURS)
    build = Builder()
    _car_body(build, half, width, belt, colour)
    _car_cabin(build, kind, half, width, (belt, roof), colour)
    axle = half - 0.8
    radius = 0.33 if kind < 2 else 0.38
    for x in (axle, -axle):
        for side in (1, -1):
            build.wheel(x, side * (width - 0.1), radius, 0.24, covered_by=5.0)
    return build.build()


def _car_body(build: Builder, half: float, width: float, belt: float, colour: Colour) -> None:
    bonnet = belt - 0.12
    profile = [(-half, 0.3), (half, 0.3), (half + 0.04, 0.62), (half - 0.1, bonnet), (half * 0.4, belt), (-half, belt)]
    build.part().prism(profile, -width, width, colour)
    front, back = half + 0.06, -half - 0.02
    for side in (1, -1):
        inner, outer = sorted((side * (width - 0.45), side * (width - 0.08)))
        build.face(
            [(front, inner, 0.6), (front, outer, 0.6), (front - 0.05, outer, 0.78), (front - 0.05, inner, 0.78)], LAMP
        )
        build.face([(back, outer, 0.62), (back, inner, 0.62), (back, inner, 0.82), (back, outer, 0.82)], RED_LAMP)
        panel(
            build, side * (width + 0.005), [(-half, 0.3), (half, 0.3), (half, 0.4), (-half, 0.4)], darker(colour, 0.5)
        )
        panel(
            build, side * (width + 0.008), [(0.02, 0.45), (0.05, 0.45), (0.05, belt), (0.02, belt)], darker(colour, 0.7)
        )
    build.face([(front, -0.5, 0.4), (front, 0.5, 0.4), (front, 0.5, 0.55), (front, -0.5, 0.55)], DARK)


def _car_cabin(
    build: Builder, kind: int, half: float, width: float, heights: tuple[float, float], colour: Colour
) -> None:
    belt, roof = heights
    foot, brow = half * 0.42, half * 0.12
    back_foot, back_brow = (
        (-half * 0.86, -half * 0.5),
        (-half * 0.98, -half * 0.85),
        (-half, -half),
        (-half * 0.2, -half * 0.15),
    )[kind]
    if kind == 2:
        foot, brow = half * 0.72, half * 0.5
    profile = [(back_foot, belt), (foot, belt), (brow, roof), (back_brow, roof)]
    build.part(0.6).prism(profile, -width + 0.04, width - 0.04, colour, inset=0.14)
    tall = roof - belt
    low, high = belt + 0.12 * tall, roof - 0.14 * tall

    def along(start: float, end: float, z: float) -> float:
        return start + (end - start) * (z - belt) / tall

    window_back = 0.1 if kind == 2 else along(back_foot, back_brow, high) + 0.16
    glass = [
        (max(along(back_foot, back_brow, low) + 0.16, window_back), low), (along(foot, brow, low) - 0.14, low),
        (along(foot, brow, high) - 0.12, high), (window_back, high),
    ]  # fmt: skip
    for side in (1, -1):
        corners = [(x, side * (width - 0.03 - 0.14 * (z - belt) / tall), z) for x, z in glass]
        build.face(corners if side < 0 else corners[::-1], GLASS)
    wide = width - 0.2
    _across(
        build, along(foot, brow, low) + 0.02, along(foot, brow, high) + 0.02, (low, high), wide, GLASS, forward=True
    )
    if kind != 2:
        back = (along(back_foot, back_brow, low) - 0.02, along(back_foot, back_brow, high) - 0.02)
        _across(build, back[0], back[1], (low, high), wide, GLASS, forward=False)


def _across(
    build: Builder, x_low: float, x_high: float, z: tuple[float, float], half: float, colour: Colour, *, forward: bool
) -> None:
    """A detail that looks forward or back."""
    corners = [(x_low, -half, z[0]), (x_low, half, z[0]), (x_high, half * 0.92, z[1]), (x_high, -half * 0.92, z[1])]
    build.face(corners if forward else corners[::-1], colour)


def forklift(rng: np.random.Generator) -> Solid:
    """A counterbalance truck with its driver, with a load or without; parts from FORK on move with its forks."""
    colour = pick(rng, FORKLIFT_COLOURS)
    size = float(rng.uniform(0.92, 1.15))
    s = size
    build = Builder()
    hull = [
        (-1.3 * s, 0.3),
        (0.75 * s, 0.3),
        (0.75 * s, 0.75 * s),
        (0.1 * s, 0.75 * s),
        (-0.3 * s, 1.05 * s),
        (-1.25 * s, 1.1 * s),
        (-1.4 * s, 0.7 * s),
    ]
    lower, upper = (
        [hull[0], hull[1], hull[2], (-1.38 * s, 0.75 * s)],
        [(-1.38 * s, 0.75 * s), (-0.3 * s, 0.75 * s), (-0.3 * s, 1.05 * s), (-1.25 * s, 1.1 * s)],
    )
    build.part().prism(lower, -0.55 * s, 0.55 * s, colour)
    build.part(0.1).prism(upper, -0.53 * s, 0.53 * s, darker(colour, 0.85) if rng.random() < 0.5 else DARK)
    for side in (1, -1):
        build.wheel(0.5 * s, side * 0.5 * s, 0.34 * s, 0.24, colour, covered_by=1.0)
        build.wheel(-0.95 * s, side * 0.48 * s, 0.28 * s, 0.2, colour, covered_by=1.0)
    _driver(build, rng, s)
    _guard(build, s)
    _mast(build, s)
    return build.build()


def _driver(build: Builder, rng: np.random.Generator, s: float) -> None:
    clothes: Colour = pick(rng, ((40, 220, 210), (30, 130, 240), (140, 80, 40), (70, 70, 70)))
    build.part(0.1).box((-0.45 * s, -0.1 * s), (-0.23, 0.23), (1.0 * s, 1.55 * s), clothes)
    build.part(0.1).box((-0.1 * s, 0.3 * s), (-0.2, 0.2), (0.95 * s, 1.1 * s), (95, 70, 50))
    build.part(0.1).box((-0.38 * s, -0.15 * s), (-0.11, 0.11), (1.58 * s, 1.84 * s), pick(rng, SKINS))


def _guard(build: Builder, s: float) -> None:
    """The overhead guard: four posts and a roof of bars."""
    for side in (1, -1):
        y = sorted((side * 0.46 * s, side * 0.52 * s))
        build.part().prism(
            [(-0.75 * s, 1.05 * s), (-0.67 * s, 1.05 * s), (-0.42 * s, 2.08 * s), (-0.5 * s, 2.08 * s)],
            y[0],
            y[1],
            DARK,
        )
        build.part().prism(
            [(0.62 * s, 0.75 * s), (0.7 * s, 0.75 * s), (0.42 * s, 2.08 * s), (0.34 * s, 2.08 * s)], y[0], y[1], DARK
        )
    build.part(0.4).box((-0.55 * s, 0.45 * s), (-0.52 * s, 0.52 * s), (2.08 * s, 2.15 * s), STEEL)
    for step in range(4):
        x = (-0.42 + 0.22 * step) * s
        build.face(
            [
                (x, -0.42 * s, 2.16 * s),
                (x + 0.12, -0.42 * s, 2.16 * s),
                (x + 0.12, 0.42 * s, 2.16 * s),
                (x, 0.42 * s, 2.16 * s),
            ],
            (105, 105, 108),
        )


def _mast(build: Builder, s: float) -> None:
    for side in (1, -1):
        y = sorted((side * 0.3 * s, side * 0.42 * s))
        build.part(0.05).box((0.82 * s, 0.96 * s), (y[0], y[1]), (0.1, 2.2 * s), STEEL)
    build.part(0.03).box((0.84 * s, 0.92 * s), (-0.3 * s, 0.3 * s), (2.1 * s, 2.2 * s), STEEL)


def forks(rng: np.random.Generator) -> Solid:
    """A forklift's carriage and forks on the ground, perhaps with a pallet of boxes on them."""
    build = Builder()
    build.part(0.1).box((1.0, 1.06), (-0.45, 0.45), (0.05, 0.5), DARK)
    for side in (1, -1):
        y = sorted((side * 0.2, side * 0.34))
        build.part().box((1.05, 2.1), (y[0], y[1]), (0.05, 0.1), DARK)
    if rng.random() < 0.55:
        tall = float(rng.uniform(0.4, 1.1))
        build.part().box((1.1, 2.2), (-0.55, 0.55), (0.11, 0.24), (95, 140, 175))
        colour = pick(rng, ((110, 150, 185), (180, 180, 180), (150, 120, 80), (210, 215, 215), (80, 120, 80)))
        build.part(0.02).box((1.12, 2.18), (-0.52, 0.52), (0.24, 0.24 + tall), colour)
        build.face(
            [(1.11, 0.52, 0.6), (1.11, -0.52, 0.6), (1.11, -0.52, 0.66), (1.11, 0.52, 0.66)], darker(colour, 0.7)
        )
        panel(build, -0.53, [(1.12, 0.5), (2.18, 0.5), (2.18, 0.56), (1.12, 0.56)], darker(colour, 0.7))
        panel(build, 0.53, [(1.12, 0.5), (2.18, 0.5), (2.18, 0.56), (1.12, 0.56)], darker(colour, 0.7))
    return build.build()
