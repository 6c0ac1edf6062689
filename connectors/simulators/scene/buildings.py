"""What stands behind a simulated site: halls, racks, a shell of concrete, fences, the sky."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.fittings import CRATES, WHITE, YELLOW
from connectors.simulators.scene.ground import SITE, WAREHOUSE, clouded
from connectors.simulators.scene.solids import GLASS, Builder, Colour, Posed, pose
from connectors.simulators.scene.vehicles import DARK, STEEL, darker, pick

WALLS: tuple[Colour, ...] = (
    (170, 175, 178),
    (150, 140, 125),
    (120, 130, 150),
    (185, 190, 180),
    (105, 110, 112),
    (130, 150, 165),
)
CONCRETE: Colour = (150, 154, 156)
UPRIGHT: tuple[Colour, ...] = ((170, 90, 30), (40, 110, 230), (60, 140, 60))


def behind(style: str, far: float, rng: np.random.Generator) -> list[Posed]:
    """The buildings beyond the far edge of what the camera watches, from far to near."""
    if style == WAREHOUSE:
        return _hall(far, rng)
    if style == SITE:
        return [_shell(far, rng), *([_fence(far, rng)] if rng.random() < 0.6 else [])]
    return _street(far, rng)


def rack(rng: np.random.Generator, long: float) -> Posed:
    """A shelf of goods, `long` metres along x, at the origin."""
    build, upright = Builder(), pick(rng, UPRIGHT, 8)
    levels, bay = int(rng.integers(2, 4)), 2.0
    for level in range(levels):
        low = 1.5 * level
        build.part(0.01 * level).box((-long / 2, long / 2), (-0.5, 0.5), (low + 0.1, low + 0.2), (40, 110, 215))
        x = -long / 2 + 0.15
        while x < long / 2 - 0.9:
            wide, tall = float(rng.uniform(0.6, 1.1)), float(rng.uniform(0.4, 1.15))
            if rng.random() < 0.8:
                colour = pick(rng, CRATES)
                build.part(0.01 * level).box((x, x + wide), (-0.45, 0.45), (low + 0.2, low + 0.2 + tall), colour)
                for y, turn in ((-0.46, 1), (0.46, -1)):
                    label = [
                        (x + 0.3, y, low + 0.4),
                        (x + 0.5, y, low + 0.4),
                        (x + 0.5, y, low + 0.55),
                        (x + 0.3, y, low + 0.55),
                    ]
                    build.face(label[::turn], WHITE)
            x += wide + 0.12
    at = -long / 2
    while at <= long / 2 + 0.01:
        for y in (-0.5, 0.44):
            build.part(0.3 if y < 0 else 0.0).box(
                (at - 0.04, at + 0.04), (y, y + 0.06), (0.0, 1.5 * levels + 0.3), upright
            )
        at += bay
    return build.build().posed(pose(0.0, 0.0, 0.0))


def sky(height: int, width: int, horizon_px: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The sky down to the horizon, uint8[h, w, 3]: paler towards it, with clouds."""
    blue = np.array(pick(rng, ((225, 180, 130), (215, 205, 195), (230, 195, 160)), 8), np.float32)
    pale = np.array((232, 228, 222), np.float32)
    share = np.clip(np.arange(height, dtype=np.float32) / max(horizon_px, 1.0), 0, 1)[:, None, None]
    cover = np.clip(0.25 + 0.35 * clouded(rng, height, width, (120, 40)), 0, 1)[:, :, None]
    base = blue * (1 - share) + pale * share
    mixed: NDArray[np.uint8] = (base * (1 - 0.7 * cover) + 240 * 0.7 * cover).clip(0, 255).astype(np.uint8)
    return mixed


def _hall(far: float, rng: np.random.Generator) -> list[Posed]:
    """The back wall of a warehouse with its doors, and a row of racks before it."""
    build, colour = Builder(), pick(rng, WALLS, 6)
    build.part().box((-60, 60), (far + 2.5, far + 3.0), (0, 16), colour)
    y = far + 2.48
    for x in np.arange(-30.0, 30.0, 6.0).tolist():
        _panel(build, (x, x + 0.25), (0, 14), y, darker(colour, 0.85))
        if rng.random() < 0.5:
            _shutter(build, x + 1.2, y, rng)
        elif rng.random() < 0.6:
            _poster(build, x + float(rng.uniform(1, 4)), y, rng)
        _panel(build, (x + 1.5, x + 4.5), (5.2, 6.2), y, (215, 205, 190))
    _panel(build, (-60, 60), (0, 0.3), y, YELLOW)
    rows = [build.build().posed(pose(0, 0, 0))]
    for x in np.arange(-16.0, 17.0, 8.5).tolist():
        if rng.random() < 0.55:
            shelf = rack(rng, 6.0)
            rows.append(shelf.solid.posed(pose(x, far + 1.6, 0.0)))
    return rows


def _street(far: float, rng: np.random.Generator) -> list[Posed]:
    """Halls of different heights, far and near, behind a fence."""
    rows = []
    for distance, tall in ((far + 40, 14.0), (far + 6, 5.5)):
        build, x = Builder(), -70.0
        while x < 70:
            wide, high = float(rng.uniform(9, 22)), tall * float(rng.uniform(0.5, 1.3))
            if rng.random() < 0.8:
                _building(build, (x, x + wide), distance, high, rng)
            x += wide + float(rng.uniform(0, 8))
        rows.append(
            build.part().box((-0.1, 0.1), (distance, distance + 0.1), (0, 0.1), DARK).build().posed(pose(0, 0, 0))
        )
    return [*rows, *([_fence(far, rng)] if rng.random() < 0.6 else [])]


def _building(build: Builder, x: tuple[float, float], y: float, high: float, rng: np.random.Generator) -> None:
    colour = pick(rng, WALLS, 10)
    build.part().box(x, (y, y + 12), (0, high), colour)
    front = y - 0.02
    _panel(build, x, (high - 0.4, high), front, darker(colour, 0.7))
    at = x[0] + 0.8
    while at < x[1] - 3.2:
        kind = int(rng.integers(4))
        if kind == 0:
            _shutter(build, at, front, rng)
        elif kind == 1:
            for low in np.arange(1.2, high - 1.6, 2.6).tolist():
                _panel(build, (at, at + 1.6), (low, low + 1.2), front, GLASS)
        elif kind == 2:
            _poster(build, at, front, rng)
        at += 3.4


def _shutter(build: Builder, x: float, y: float, rng: np.random.Generator) -> None:
    """A roller door."""
    colour = pick(rng, WALLS)
    _panel(build, (x, x + 2.8), (0, 3.2), y - 0.01, darker(colour, 0.9))
    for low in np.arange(0.3, 3.1, 0.4).tolist():
        _panel(build, (x, x + 2.8), (low, low + 0.06), y - 0.02, darker(colour, 0.65))


def _poster(build: Builder, x: float, y: float, rng: np.random.Generator) -> None:
    """A notice on a wall: coloured as a sign is, yet none."""
    wide, tall = float(rng.uniform(0.6, 1.6)), float(rng.uniform(0.5, 1.4))
    back, mark = (
        pick(rng, (WHITE, YELLOW, (180, 90, 30), (60, 60, 190))),
        pick(rng, (DARK, (50, 50, 200), (150, 80, 30))),
    )
    _panel(build, (x, x + wide), (1.5, 1.5 + tall), y - 0.01, back)
    _panel(build, (x + 0.12 * wide, x + 0.7 * wide), (1.5 + 0.6 * tall, 1.5 + 0.85 * tall), y - 0.02, mark)
    _panel(build, (x + 0.12 * wide, x + 0.88 * wide), (1.5 + 0.2 * tall, 1.5 + 0.32 * tall), y - 0.02, mark)


def _shell(far: float, rng: np.random.Generator) -> Posed:
    """A building under construction: floors on columns, some walls, a scaffold."""
    build, floors, y = Builder(), int(rng.integers(2, 5)), far + 5
    start, bays = float(rng.uniform(-24, -8)), int(rng.integers(4, 9))
    end = start + 4 * bays
    build.part().box((start, end), (y + 6, y + 6.2), (0, 3.2 * floors), (96, 98, 100))
    for floor in range(floors):
        low = 3.2 * floor
        for bay in range(bays + 1):
            build.part(0.5).box(
                (start + 4 * bay - 0.2, start + 4 * bay + 0.2), (y + 0.2, y + 0.6), (low, low + 3.0), CONCRETE
            )
            if bay < bays and rng.random() < 0.3:
                wall = (start + 4 * bay + 0.2, start + 4 * bay + 3.8)
                build.part(0.6).box(
                    wall,
                    (y + 0.3, y + 0.5),
                    (low, low + float(rng.uniform(0.8, 3.0))),
                    pick(rng, ((90, 110, 165), CONCRETE), 6),
                )
        build.part(1.0).box((start - 0.5, end + 0.5), (y, y + 6), (low + 2.95, low + 3.2), darker(CONCRETE, 0.9))
    for x in np.arange(start, end, 2.0).tolist():
        build.part(2.0).box((x, x + 0.07), (y - 1.2, y - 1.13), (0, 3.2 * floors + 1), STEEL)
    for low in np.arange(2.0, 3.2 * floors + 1, 2.0).tolist():
        build.part(2.0).box((start, end), (y - 1.2, y - 0.6), (low, low + 0.07), (100, 130, 150))
    _crane(build, float(rng.uniform(-30, 30)), far + 55)
    return build.build().posed(pose(0, 0, 0))


def _crane(build: Builder, x: float, y: float) -> None:
    """A tower crane on the horizon."""
    colour: Colour = (50, 170, 220)
    build.part(-50).box((x - 0.5, x + 0.5), (y, y + 0.5), (0, 30), colour)
    build.part(-50).box((x - 8, x + 26), (y, y + 0.5), (29, 30), colour)
    build.part(-50).box((x - 8, x - 5), (y, y + 0.5), (27, 29), DARK)


def _fence(far: float, rng: np.random.Generator) -> Posed:
    build, y, colour = Builder(), far + 2.5, pick(rng, (STEEL, (70, 110, 70), (150, 150, 150)))
    for x in np.arange(-40.0, 40.0, 2.5).tolist():
        build.part().box((x, x + 0.08), (y, y + 0.08), (0, 2.0), colour)
    for low in (0.15, 0.55, 0.95, 1.35, 1.75):
        build.part().box((-40, 40), (y, y + 0.04), (low, low + 0.05), colour)
    return build.build().posed(pose(0, 0, 0))


def _panel(build: Builder, x: tuple[float, float], z: tuple[float, float], y: float, colour: Colour) -> None:
    """A rectangle on a wall that looks at the camera."""
    build.face([(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])], colour)
