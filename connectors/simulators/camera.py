"""A simulated building site or warehouse, as its fixed cameras see it, with what there is to be found in each frame.

People, forklifts, cars, signs and machines move over a ground plane; the sun, dusk, lamps and rain light them. Every
frame is a function of the settings, the camera's number and the frame's number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.contract import ConnectorError
from connectors.simulators.scene.actors import LABELS, Actor
from connectors.simulators.scene.glow import Glow
from connectors.simulators.scene.ground import SITE, STYLES, WAREHOUSE, YARD
from connectors.simulators.scene.light import Light, daylight, lamplight
from connectors.simulators.scene.painter import Painter
from connectors.simulators.scene.scenery import Scenery, Standing, shade
from connectors.simulators.scene.sensor import Sensor
from connectors.simulators.scene.traffic import Ground, Traffic
from connectors.simulators.scene.viewpoint import Viewpoint

START_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
HIDDEN = 0.25  # of what is seen less than this share of, nobody can tell what it is
SMALLEST_PX = 8
TALLEST = 4  # times as high as wide; a narrower view holds no ground to stand on

_NUMBERS: dict[str, tuple[tuple[int, int], ...]] = {
    YARD: ((2, 6), (1, 3), (1, 4), (1, 4), (0, 2)),
    WAREHOUSE: ((2, 6), (1, 4), (0, 1), (1, 4), (0, 2)),
    SITE: ((2, 7), (0, 2), (0, 3), (1, 4), (1, 3)),
}
"""Per style and label: the fewest, and one more than the most, at a time."""

_REFRESH_S = 4.0  # how often the light on what stands still is drawn anew


class CameraError(ConnectorError, ValueError):
    """A setting of the simulated camera is out of its range."""


@dataclass(frozen=True)
class Truth:
    """One thing in a frame.

    Args:
        box: x1, y1, x2, y2 of what is visible of it, in pixels; the far edges are exclusive.
        label: one of LABELS; `index` is its place there.
        track: the thing's number, the same in all frames of this camera.
        visibility: the share of it that is neither hidden by others nor outside the picture.
        place_m: x, y of its middle on the ground.
    """

    box: tuple[int, int, int, int]
    label: str
    index: int
    track: int
    visibility: float
    place_m: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, uint8[h, w, 3] blue, green, red, and what is in it, nearest last."""

    picture: NDArray[np.uint8]
    truth: list[Truth]
    frame: int
    event_time_ms: int


class Site:
    """Some cameras over the places of one site.

    Same arguments, same frames, byte for byte (with one version of NumPy and OpenCV).

    Args:
        seed: Of the places, the people and their ways.
        cameras: How many; each has its own place and viewpoint.
        width, height: of the pictures, in pixels.
        fps: Frames a second of the site's time.
        start_ms: Event time of the first frame, milliseconds since the epoch.
        hour: The time of day at the first frame, from 0 to 24; drawn from the seed where it is None.
        day_s: How many of the site's seconds a day from light to light takes.

    Raises:
        CameraError: A value is out of range.

    Example:
        >>> frame = next(iter(Site(seed=1).camera(0)))
        >>> frame.picture.shape
        (480, 640, 3)
    """

    labels: tuple[str, ...] = LABELS

    def __init__(
        self,
        seed: int = 0,
        cameras: int = 4,
        width: int = 640,
        height: int = 480,
        fps: float = 10.0,
        start_ms: int = START_MS,
        hour: float | None = None,
        day_s: float = 1800.0,
    ) -> None:
        _check("seed", seed, 0, 2**32 - 1)
        _check("cameras", cameras, 1, 1_000)
        _check("width", width, 64, 3_840)
        _check("height", height, 64, min(2_160, TALLEST * width))
        _check("fps", fps, 0.01, 1_000)
        _check("start_ms", start_ms, 0, 2**53)
        _check("day_s", day_s, 1, 1e9)
        if hour is not None:
            _check("hour", hour, 0, 24)
        self.seed, self.cameras, self.fps, self.start_ms = seed, cameras, fps, start_ms
        self.size = width, height
        rng = np.random.default_rng([seed, 0])
        drawn = float(
            rng.choice(
                [rng.uniform(8, 16.5), rng.uniform(5.5, 7.5), rng.uniform(16.5, 18.5), rng.uniform(19, 29)],
                p=[0.52, 0.1, 0.13, 0.25],
            )
        )
        self.hour = drawn % 24 if hour is None else hour
        self.day_s = day_s
        self.clouds = float(rng.beta(0.7, 0.9))
        self.rain = float(rng.uniform(0.3, 1.0)) if self.clouds > 0.6 and rng.random() < 0.5 else 0.0
        self._first_style = int(rng.integers(len(STYLES)))

    def camera(self, number: int) -> Camera:
        """One of the cameras, from 0 on. Raises: CameraError."""
        _check("camera", number, 0, self.cameras - 1)
        return Camera(self, number, STYLES[(self._first_style + number) % len(STYLES)])


class Camera:
    """One camera of a site: iterate it for its frames, without end; each iteration begins at frame 0.

    `camera_id` is its name, `labels` what it shows, `view` where it stands: `view.ground_homography` takes a
    homogeneous pixel to the place on the ground in metres.
    """

    labels: tuple[str, ...] = LABELS

    def __init__(self, site: Site, number: int, style: str) -> None:
        self.camera_id = f"camera-{number + 1}"
        self.style = style
        self._site, self._number = site, number
        rng = np.random.default_rng([site.seed, number, 1])
        self.view = _viewpoint(site.size, rng)
        bottom = np.array([[site.size[0] / 2, float(site.size[1])]])
        near = float(self.view.ground(bottom)[0, 1])
        self._ground = Ground(self.view, near, near + float(rng.uniform(16, 21)))
        self._turn = float(rng.uniform(-math.pi, math.pi))
        self._indoor = float(rng.uniform(0.8, 1.05))

    def __iter__(self) -> Iterator[Frame]:
        site, ground = self._site, self._ground
        scenery = Scenery(
            self.view, self.style, ground.near, ground.far, np.random.default_rng([site.seed, self._number, 2])
        )
        rng = np.random.default_rng([site.seed, self._number, 3])
        numbers = [int(rng.integers(low, high)) for low, high in _NUMBERS[self.style]]
        obstacles = [(thing.x, thing.y, thing.radius_m) for thing in scenery.standing]
        stage = _Stage(scenery, Sensor(*site.size, rng), Traffic(ground, numbers, obstacles, rng))
        frame, since_refresh = 0, math.inf
        while True:
            time_s = frame / site.fps
            if since_refresh >= _REFRESH_S:
                stage.light_up(self._light(time_s))
                since_refresh = 0.0
            picture, truth = stage.frame(time_s, np.random.default_rng([site.seed, self._number, 4, frame]))
            yield Frame(picture, truth, frame, site.start_ms + round(time_s * 1000))
            stage.traffic.advance(1 / site.fps)
            frame, since_refresh = frame + 1, since_refresh + 1 / site.fps

    def _light(self, time_s: float) -> Light:
        site = self._site
        if self.style == WAREHOUSE:
            return lamplight(self._indoor)
        return daylight((site.hour + time_s / site.day_s * 24) % 24, site.clouds, site.rain, self._turn)


class _Stage:
    """A camera's moment: what stands still as it was last lit, and who is where."""

    def __init__(self, scenery: Scenery, sensor: Sensor, traffic: Traffic) -> None:
        self.traffic = traffic
        self._scenery, self._sensor = scenery, sensor
        self._glow = Glow(scenery.view, scenery.lamps)

    def light_up(self, light: Light) -> None:
        self._light = light
        self._background = self._scenery.drawn(light)
        self._illumination = self._scenery.illumination(light)
        self._sensor.adapt(light.night)

    def frame(self, time_s: float, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Truth]]:
        import cv2

        view, light = self._scenery.view, self._light
        painter = Painter(self._background.copy())
        seen = [actor for actor in self.traffic.actors if self._in_sight(actor)]
        bodies = {actor.track: actor.posed(time_s) for actor in seen}
        shade(
            painter.picture,
            view,
            [hull for body in bodies.values() for hull in body.shadow(light)],
            light,
            self._scenery.far,
        )
        things = sorted(enumerate(seen, 1), key=lambda pair: -math.hypot(pair[1].x, pair[1].y))
        waiting = [thing for thing in self._scenery.standing if thing.mask.size]
        for number, actor in things:
            distance = math.hypot(actor.x, actor.y)
            while waiting and waiting[0].distance_m > distance:
                self._hide(painter, waiting.pop(0))
            painter.paint(bodies[actor.track].polygons(view, light), number)
        for thing in waiting:
            self._hide(painter, thing)
        picture = cv2.multiply(painter.picture, self._illumination, scale=1 / 128).astype(np.uint8)
        self._glow.add(picture, seen, light, time_s)
        shake = abs(float(rng.normal(0, 1.6))) if rng.random() < 0.08 else 0.0
        truth = [found for number, actor in things if (found := _truth(actor, painter, number))]
        return self._sensor.exposed(picture, light.rain, shake, rng), truth

    def _hide(self, painter: Painter, thing: Standing) -> None:
        painter.hide(thing.mask, self._background, thing.place)

    def _in_sight(self, actor: Actor) -> bool:
        """Whether it is before the camera, and not far beside what it sees."""
        view = self._scenery.view
        return actor.y > 1.5 and abs(actor.x) < view.half_width_m(actor.y) + 5


def _truth(actor: Actor, painter: Painter, number: int) -> Truth | None:
    extent = painter.extent(number)
    if extent is None or extent.visibility < HIDDEN:
        return None
    left, top, right, bottom = extent.box
    if min(right - left, bottom - top) < SMALLEST_PX:
        return None
    visibility, place = round(extent.visibility, 3), (round(actor.x, 3), round(actor.y, 3))
    return Truth(extent.box, LABELS[actor.label], actor.label, actor.track, visibility, place)


def _viewpoint(size: tuple[int, int], rng: np.random.Generator) -> Viewpoint:
    """A camera on a mast or a wall: 3.5 to 6.5 m high, the horizon in the upper fifth of the picture."""
    width, height = size
    focal = width / 2 / math.tan(math.radians(float(rng.uniform(54, 74))) / 2)
    horizon = float(rng.uniform(0.04, 0.2))
    pitch = math.atan((0.5 - horizon) * height / focal)
    return Viewpoint(width, height, focal, float(rng.uniform(3.6, 6.4)), pitch, float(rng.normal(0, 0.012)))


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise CameraError(f"simulating a site camera: expected `{name}` from {low} to {high}, got {value!r}")
