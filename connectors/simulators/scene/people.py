"""People: how they are built and clothed, how they stand, walk, carry and crouch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.light import Light
from connectors.simulators.scene.solids import Colour, Polygon
from connectors.simulators.scene.vehicles import SKINS, darker, pick
from connectors.simulators.scene.viewpoint import Viewpoint

VESTS: tuple[Colour, ...] = ((45, 235, 215), (20, 120, 250), (40, 200, 245))
SHIRTS: tuple[Colour, ...] = (
    (120, 60, 40), (60, 60, 65), (190, 190, 190), (50, 50, 150), (70, 110, 60), (150, 120, 70), (95, 70, 110),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((95, 60, 40), (50, 48, 48), (90, 120, 140), (60, 75, 70), (30, 110, 220))
HELMETS: tuple[Colour, ...] = ((40, 210, 245), (240, 240, 240), (35, 110, 240), (60, 60, 210), (200, 120, 40))
HAIR: tuple[Colour, ...] = ((30, 35, 45), (45, 70, 95), (110, 150, 180), (120, 120, 120))
BOOT: Colour = (35, 40, 48)
REFLECTIVE: Colour = (225, 230, 230)
CARTON: Colour = (105, 150, 185)

_CIRCLE = np.array([[math.cos(a), math.sin(a)] for a in np.linspace(0, 2 * math.pi, 11)[:-1]])


@dataclass(frozen=True)
class Person:
    """What somebody looks like; lengths in metres."""

    height: float
    girth: float
    shirt: Colour
    trousers: Colour
    skin: Colour
    hat: Colour
    helmet: bool
    vest: bool
    carries: bool

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Person:
        vest, helmet = bool(rng.random() < 0.62), bool(rng.random() < 0.62)
        return cls(
            height=float(rng.uniform(1.58, 1.95)),
            girth=float(rng.uniform(0.9, 1.2)),
            shirt=pick(rng, VESTS if vest else SHIRTS),
            trousers=pick(rng, TROUSERS),
            skin=pick(rng, SKINS),
            hat=pick(rng, HELMETS if helmet else HAIR),
            helmet=helmet,
            vest=vest,
            carries=bool(rng.random() < 0.18),
        )


@dataclass(frozen=True, eq=False)
class Figure:
    """A person at a place: joints float64[15, 3] in the world, in metres.

    Joints: pelvis 0, neck 1, head 2; hip, knee, foot 3-5 left and 6-8 right; shoulder, elbow, hand 9-11 and 12-14.
    """

    person: Person
    joints: NDArray[np.float64]
    heading: float

    def polygons(self, view: Viewpoint, light: Light) -> list[Polygon]:
        """The far leg and arm, the body and head, the near leg and arm."""
        sketch = _Sketch(self, view, light)
        left = np.array([-math.sin(self.heading), math.cos(self.heading)])
        left_is_far = float(left @ self.joints[0, :2]) > 0
        far, near = (0, 3) if left_is_far else (3, 0)
        facing = float(np.array([math.cos(self.heading), math.sin(self.heading)]) @ self.joints[0, :2]) < 0
        if self.person.carries and not facing:
            sketch.carton()
        sketch.arm(9 + far)
        sketch.leg(3 + far)
        sketch.leg(3 + near)
        sketch.trunk()
        sketch.head(facing)
        if self.person.carries and facing:
            sketch.carton()
        sketch.arm(9 + near)
        return sketch.polygons

    def shadow(self, light: Light) -> list[NDArray[np.float64]]:
        """As a solid's: ground places whose hulls are in shadow."""
        girth = 0.1 * self.person.girth
        chains = ((0, 1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10, 11), (12, 13, 14))
        around = girth * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
        return [light.cast((self.joints[list(chain)][:, None] + around).reshape(-1, 3)) for chain in chains]


def figure(person: Person, place: tuple[float, float], heading: float, gait: float, stoop: float) -> Figure:
    """Somebody at a place on the ground.

    Args:
        gait: the phase of the walk in radians, or NaN for somebody who stands.
        stoop: 0 upright to 1 crouching.
    """
    tall = person.height
    swing = 0.0 if math.isnan(gait) else 0.42 * math.sin(gait)
    leg, thigh = 0.50 * tall, 0.26 * tall
    low = leg * (1 - 0.45 * stoop)
    lean = 0.06 + 0.35 * stoop
    neck = np.array([lean * 0.33 * tall, 0.0, low + 0.32 * tall * math.cos(lean)])
    head = neck + np.array([0.02 + 0.03 * stoop, 0.0, 0.1 * tall])
    points = [np.array([0.0, 0.0, low]), neck, head]
    for side, sway in ((1, swing), (-1, -swing)):
        points += _leg(side * 0.055 * tall, low, (thigh, leg - thigh), sway, stoop, gait)
    for side, sway in ((1, -swing), (-1, swing)):
        points += _arm(neck, side * 0.115 * tall * person.girth, tall, sway, reaching=person.carries or stoop > 0.5)
    local = np.array(points)
    sine, cosine = math.sin(heading), math.cos(heading)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return Figure(person, local @ turn.T + np.array([*place, 0.0]), heading)


def _leg(
    y: float, hip: float, lengths: tuple[float, float], sway: float, stoop: float, gait: float
) -> list[NDArray[np.float64]]:
    thigh, shin = lengths
    forward = sway + 0.9 * stoop
    knee = np.array([thigh * math.sin(forward), y, hip - thigh * math.cos(forward)])
    back = sway - (0.0 if math.isnan(gait) else 0.35 * max(0.0, math.cos(gait) * (1 if y > 0 else -1))) - 0.9 * stoop
    foot = knee + np.array([shin * math.sin(back), 0.0, -shin * math.cos(back)])
    foot[2] = max(foot[2], 0.04)
    return [np.array([0.0, y, hip]), knee, foot]


def _arm(neck: NDArray[np.float64], y: float, tall: float, sway: float, *, reaching: bool) -> list[NDArray[np.float64]]:
    shoulder = neck + np.array([0.0, y, -0.02 * tall])
    upper, fore = 0.17 * tall, 0.16 * tall
    if reaching:
        elbow = shoulder + np.array([0.3 * upper, 0.0, -0.9 * upper])
        return [shoulder, elbow, elbow + np.array([fore, -0.3 * y, 0.1 * fore])]
    elbow = shoulder + np.array([upper * math.sin(sway), 0.15 * y, -upper * math.cos(sway)])
    bend = sway + 0.3
    return [shoulder, elbow, elbow + np.array([fore * math.sin(bend), 0.0, -fore * math.cos(bend)])]


class _Sketch:
    """Collects a figure's polygons: limbs are tapered strokes, lighter on the side of the sun."""

    def __init__(self, figure: Figure, view: Viewpoint, light: Light) -> None:
        self.polygons: list[Polygon] = []
        self._person = figure.person
        self._figure, self._view = figure, view
        self._pixels, depth = view.project(figure.joints)
        self._metre = view.focal_px / depth
        towards = np.array(light.sun[:2]) @ np.array([1.0, 0.0])
        self._lit = 0.9 + 0.35 * light.direct
        self._dim = 0.74
        self._sunny_side = 1.0 if towards >= 0 else -1.0

    def leg(self, hip: int) -> None:
        person = self._person
        thick = 0.075 * person.girth
        self._stroke(hip, hip + 1, (thick * 1.15, thick * 0.85), person.trousers)
        self._stroke(hip + 1, hip + 2, (thick * 0.85, thick * 0.6), person.trousers)
        radius = 0.075 * self._metre[hip + 2]
        forward = (
            np.array([math.cos(self._figure.heading) * 0.9, -0.15 * math.sin(self._figure.heading) + 0.1]) * radius
        )
        self._add(self._pixels[hip + 2] + forward + _CIRCLE * [radius, radius * 0.62], BOOT)

    def arm(self, shoulder: int) -> None:
        person = self._person
        sleeve = darker(person.shirt, 0.82) if not person.vest else darker(person.trousers, 1.15)
        self._stroke(shoulder, shoulder + 1, (0.055 * person.girth, 0.048), sleeve)
        self._stroke(shoulder + 1, shoulder + 2, (0.048, 0.036), sleeve)
        self._add(self._pixels[shoulder + 2] + _CIRCLE * 0.05 * self._metre[shoulder + 2], self._toned(person.skin))

    def trunk(self) -> None:
        """From the hips to the shoulders; a vest has two bright bands."""
        corners = self._pixels[[3, 6, 12, 9]]
        radii = self._metre[[3, 6, 12, 9]] * np.array([0.095, 0.095, 0.075, 0.075]) * self._person.girth
        cloud = (corners[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2)
        outline = _hull(cloud)
        self._add(outline, self._toned(self._person.shirt, self._dim))
        middle = outline.mean(axis=0)
        lit = (outline - middle) * [0.62, 0.97] + middle
        lit[:, 0] += self._sunny_side * 0.25 * radii.mean()
        self._add(lit, self._toned(self._person.shirt, self._lit))
        if self._person.vest:
            low, high = self._pixels[0], self._pixels[1]
            half = np.ptp(outline[:, 0]) * 0.44
            for share in (0.22, 0.52):
                centre = low + share * (high - low)
                thick = 0.028 * self._metre[0]
                self._add(
                    centre + np.array([[-half, -thick], [half, -thick], [half, thick], [-half, thick]]), REFLECTIVE
                )

    def head(self, facing: bool) -> None:
        person, metre, centre = self._person, float(self._metre[2]), self._pixels[2]
        radius = 0.105 * metre
        self._stroke(1, 2, (0.05, 0.05), person.skin)
        self._add(centre + _CIRCLE * [radius * 0.86, radius * 1.12], self._toned(person.skin if facing else person.hat))
        dome = _CIRCLE * [radius * 1.0, radius * 0.95] - [0, radius * 0.42]
        dome[:, 1] = np.minimum(dome[:, 1], -0.25 * radius if facing else 0.1 * radius)
        self._add(centre + dome * (1.12 if person.helmet else 1.0), self._toned(person.hat, self._lit))
        if person.helmet:
            brim = np.array([[-1.25, -0.38], [1.25, -0.38], [1.15, -0.12], [-1.15, -0.12]]) * radius
            self._add(centre + brim, self._toned(darker(person.hat, 0.8)))

    def carton(self) -> None:
        """What is carried, between the hands."""
        centre = self._pixels[[11, 14]].mean(axis=0)
        half = 0.2 * self._metre[11]
        self._add(centre + np.array([[-1, -0.9], [1, -0.9], [1, 0.6], [-1, 0.6]]) * half, self._toned(CARTON, 0.85))
        self._add(
            centre + np.array([[-1, -0.9], [1, -0.9], [0.9, -1.15], [-0.9, -1.15]]) * half, self._toned(CARTON, 1.05)
        )

    def _stroke(self, start: int, end: int, radii: tuple[float, float], colour: Colour) -> None:
        a, b = self._pixels[start], self._pixels[end]
        first, last = radii[0] * self._metre[start], radii[1] * self._metre[end]
        along = b - a
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        tip = along / max(float(np.hypot(*along)), 1e-6)
        corners = [
            a + across * first,
            a - tip * first * 0.6,
            a - across * first,
            b - across * last,
            b + tip * last * 0.6,
            b + across * last,
        ]
        self._add(np.array(corners), self._toned(colour, self._dim))
        shift = self._sunny_side * (1 if across[0] >= 0 else -1)
        lit = [
            a + across * first * shift * 0.9,
            a - across * first * shift * 0.1,
            b - across * last * shift * 0.1,
            b + across * last * shift * 0.9,
        ]
        self._add(np.array(lit), self._toned(colour, self._lit))

    def _add(self, corners: NDArray[np.float64], colour: Colour) -> None:
        self.polygons.append((corners, colour))

    @staticmethod
    def _toned(colour: Colour, by: float = 0.95) -> Colour:
        return min(colour[0] * by, 255.0), min(colour[1] * by, 255.0), min(colour[2] * by, 255.0)


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    import cv2

    hull: NDArray[np.float64] = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    return hull
