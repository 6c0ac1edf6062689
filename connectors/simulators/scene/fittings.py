"""What stands still on a site: signs, which are detected, and pallets, cones, boxes and the like, which are not."""

from __future__ import annotations

import math

import numpy as np

from connectors.simulators.scene.solids import Builder, Colour, Solid
from connectors.simulators.scene.vehicles import DARK, STEEL, darker, pick

WHITE: Colour = (238, 238, 238)
RED: Colour = (45, 40, 205)
YELLOW: Colour = (40, 205, 245)
BLUE: Colour = (185, 95, 25)
BLACK: Colour = (35, 35, 35)
ORANGE: Colour = (35, 115, 245)
WOOD: Colour = (110, 155, 190)
CRATES: tuple[Colour, ...] = (
    (110, 150, 185), (90, 130, 165), (170, 120, 60), (70, 110, 70), (60, 60, 160), (150, 150, 150), (200, 200, 205),
)  # fmt: skip
CONTAINERS: tuple[Colour, ...] = ((150, 90, 40), (50, 60, 150), (70, 120, 60), (150, 150, 155), (40, 110, 190))


def sign(rng: np.random.Generator) -> Solid:
    """A traffic or safety sign on a pole, or one that stands on the floor; it looks along +x."""
    build = Builder()
    if rng.random() < 0.25:
        return _floor_sign(build, rng)
    top = float(rng.uniform(1.9, 2.6))
    half = float(rng.uniform(0.3, 0.44))
    build.part().box((-0.05, 0.0), (-0.035, 0.035), (0.0, top), (150, 150, 150))
    _plate(build, int(rng.integers(5)), top - half, half, rng)
    return build.build()


def _floor_sign(build: Builder, rng: np.random.Generator) -> Solid:
    colour = (YELLOW, ORANGE, WHITE)[int(rng.integers(3))]
    tall, half = float(rng.uniform(0.9, 1.2)), float(rng.uniform(0.28, 0.36))
    build.part().prism([(-0.3, 0.0), (-0.26, 0.0), (0.0, tall), (-0.03, tall)], -half, half, darker(colour, 0.8))
    build.part(0.05).prism([(0.26, 0.0), (0.3, 0.0), (0.03, tall), (0.0, tall)], -half, half, colour)

    def front(y: float, z: float) -> tuple[float, float, float]:
        return 0.312 - 0.27 * z / tall, y * half, z

    build.face([front(-0.6, 0.42 * tall), front(0.6, 0.42 * tall), front(0.0, 0.85 * tall)], RED)
    build.face([front(-0.3, 0.5 * tall), front(0.3, 0.5 * tall), front(0.0, 0.74 * tall)], WHITE)
    build.face(
        [front(-0.7, 0.15 * tall), front(0.7, 0.15 * tall), front(0.7, 0.28 * tall), front(-0.7, 0.28 * tall)], BLACK
    )
    return build.build()


def _plate(build: Builder, kind: int, middle: float, half: float, rng: np.random.Generator) -> None:
    """Warning triangle, prohibition disc, stop octagon, mandatory disc, notice board."""
    corners = (3, 20, 8, 20, 4)[kind]
    start = {3: math.pi / 2, 8: math.pi / 8, 4: math.pi / 4}.get(corners, 0.0)
    wide = 1.25 if kind == 4 else 1.0
    circle = [
        (wide * math.cos(start + 2 * math.pi * i / corners), math.sin(start + 2 * math.pi * i / corners))
        for i in range(corners)
    ]
    notice = (BLUE, YELLOW, (70, 140, 40))[int(rng.integers(3))]
    rim = (RED, RED, RED, BLUE, notice)[kind]
    inner = (WHITE if rng.random() < 0.6 else YELLOW, WHITE, RED, BLUE, notice)[kind]

    def ring(x: float, size: float) -> list[tuple[float, float, float]]:
        return [(x, size * half * a, middle + size * half * b) for a, b in circle]

    build.part(0.1)
    build.face(ring(0.0, 1.15)[::-1], STEEL)
    build.face(ring(0.01, 1.15), WHITE if kind in (2, 3, 4) else rim)
    build.face(ring(0.02, 0.72 if kind < 2 else 1.05), inner)
    glyph = BLACK if kind in (0, 1) else WHITE
    for y, z, w, h in ((0.0, 0.05, 0.1, 0.32), (0.0, -0.42, 0.1, 0.09)) if kind != 2 else ((0.0, 0.0, 0.75, 0.2),):
        low, high = middle + (z - h) * half, middle + (z + h) * half
        build.face(
            [
                (0.03, (y - w) * half, low),
                (0.03, (y + w) * half, low),
                (0.03, (y + w) * half, high),
                (0.03, (y - w) * half, high),
            ],
            glyph,
        )


def prop(rng: np.random.Generator) -> tuple[Solid, float]:
    """Something that is not to be detected, and the radius in metres that it takes."""
    return PROPS[int(rng.integers(len(PROPS)))](rng)


def cone(rng: np.random.Generator) -> tuple[Solid, float]:
    build = Builder()
    tall = float(rng.uniform(0.5, 0.8))
    colour = pick(rng, (ORANGE, (50, 70, 230)), 8)
    build.part().box((-0.2, 0.2), (-0.2, 0.2), (0.0, 0.05), darker(colour, 0.6))
    build.part(0.05)
    for low, high, tone in ((0.05, 0.4, colour), (0.4, 0.65, WHITE), (0.65, 1.0, colour)):
        for step in range(8):
            a, b = 2 * math.pi * step / 8, 2 * math.pi * (step + 1) / 8
            wide, thin = 0.16 * (1.05 - low), 0.16 * (1.05 - high)
            rings = ((a, wide, low), (b, wide, low), (b, thin, high), (a, thin, high))
            corners = [(reach * math.cos(turn), reach * math.sin(turn), z * tall) for turn, reach, z in rings]
            build.face(corners, tone)
    return build.build(), 0.3


def pallets(rng: np.random.Generator) -> tuple[Solid, float]:
    """A stack of pallets, perhaps with boxes on it."""
    build = Builder()
    layers = int(rng.integers(1, 7))
    for layer in range(layers):
        low = 0.15 * layer
        build.part().box((-0.6, 0.6), (-0.5, 0.5), (low + 0.02, low + 0.07), darker(WOOD, 0.6))
        build.part().box((-0.6, 0.6), (-0.5, 0.5), (low + 0.09, low + 0.14), pick(rng, (WOOD,), 8))
    if rng.random() < 0.6:
        colour, low = pick(rng, CRATES), 0.15 * layers
        high = low + float(rng.uniform(0.4, 1.2))
        build.part(0.1).box((-0.56, 0.56), (-0.46, 0.46), (low, high), colour)
        build.face(
            [(-0.57, 0.1, low), (-0.57, -0.1, low), (-0.57, -0.1, high), (-0.57, 0.1, high)], darker(colour, 0.8)
        )
        build.face(
            [(-0.1, -0.47, low), (0.1, -0.47, low), (0.1, -0.47, high), (-0.1, -0.47, high)], darker(colour, 0.8)
        )
    return build.build(), 0.9


def boxes(rng: np.random.Generator) -> tuple[Solid, float]:
    build = Builder()
    low = 0.0
    for _ in range(int(rng.integers(1, 4))):
        half, high = float(rng.uniform(0.25, 0.5)), low + float(rng.uniform(0.3, 0.6))
        build.part(low * 0.2).box((-half, half), (-half, half), (low, high), pick(rng, CRATES))
        low = high
    return build.build(), 0.7


def barrel(rng: np.random.Generator) -> tuple[Solid, float]:
    """A barrel, and perhaps a second one."""
    build = Builder()
    for x in (0.0, 0.7)[: int(rng.integers(1, 3))]:
        colour = pick(rng, ((170, 90, 30), (50, 50, 170), (60, 60, 60), (60, 130, 60), (40, 180, 220)))
        build.part()
        circle = [(math.cos(2 * math.pi * i / 12), math.sin(2 * math.pi * i / 12)) for i in range(12)]
        for low, high, tone in ((0.0, 0.3, 1.0), (0.3, 0.34, 0.8), (0.34, 0.9, 1.0)):
            for (a, b), (c, d) in zip(circle, circle[1:] + circle[:1], strict=True):
                build.face(
                    [
                        (x + 0.3 * a, 0.3 * b, low),
                        (x + 0.3 * c, 0.3 * d, low),
                        (x + 0.3 * c, 0.3 * d, high),
                        (x + 0.3 * a, 0.3 * b, high),
                    ],
                    darker(colour, tone),
                )
        build.face([(x + 0.3 * a, 0.3 * b, 0.9) for a, b in circle], darker(colour, 0.9))
    return build.build(), 0.6


def container(rng: np.random.Generator) -> tuple[Solid, float]:
    """A shipping container with its ribs."""
    build = Builder()
    colour = pick(rng, CONTAINERS)
    half = float(rng.choice([1.5, 3.0]))
    build.part().box((-half, half), (-1.2, 1.2), (0.1, 2.6), colour)
    for step in range(int(half * 5)):
        x = -half + 0.2 + step * 0.4
        if x + 0.16 < half:
            for y, corners in ((-1.21, 1), (1.21, -1)):
                face = [(x, y, 0.25), (x + 0.16, y, 0.25), (x + 0.16, y, 2.45), (x, y, 2.45)]
                build.face(face[::corners], darker(colour, 0.82))
    build.face(
        [(half + 0.01, -0.03, 0.2), (half + 0.01, 0.03, 0.2), (half + 0.01, 0.03, 2.5), (half + 0.01, -0.03, 2.5)], DARK
    )
    return build.build(), half + 0.4


def barrier(rng: np.random.Generator) -> tuple[Solid, float]:
    """A red and white plank on two feet."""
    build = Builder()
    other = (RED, ORANGE, (40, 40, 40))[int(rng.integers(3))]
    back = YELLOW if other == (40, 40, 40) else WHITE
    for x in (-0.8, 0.8):
        build.part().box((x - 0.05, x + 0.05), (-0.25, 0.25), (0.0, 0.08), DARK)
        build.part().box((x - 0.03, x + 0.03), (-0.03, 0.03), (0.0, 1.0), STEEL)
    build.part(0.1).box((-1.0, 1.0), (-0.05, 0.05), (0.75, 1.0), back)
    for step in range(5):
        x = -0.95 + 0.4 * step
        for y, turn in ((-0.06, 1), (0.06, -1)):
            build.face([(x, y, 0.75), (x + 0.2, y, 0.75), (x + 0.3, y, 1.0), (x + 0.1, y, 1.0)][::turn], other)
    return build.build(), 1.1


def bollard(rng: np.random.Generator) -> tuple[Solid, float]:
    """A post with bands: thin and upright as a person is."""
    build = Builder()
    tall = float(rng.uniform(1.0, 1.7))
    build.part()
    for step in range(4):
        build.box((-0.1, 0.1), (-0.1, 0.1), (step * tall / 4, (step + 1) * tall / 4), (YELLOW, BLACK)[step % 2])
    return build.build(), 0.3


PROPS = (cone, cone, pallets, pallets, boxes, barrel, container, barrier, bollard)
