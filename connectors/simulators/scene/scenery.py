"""All that does not move on a site, drawn in the light of the moment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.buildings import behind, rack, sky
from connectors.simulators.scene.fittings import prop
from connectors.simulators.scene.ground import WAREHOUSE, ground
from connectors.simulators.scene.light import Light
from connectors.simulators.scene.painter import Painter
from connectors.simulators.scene.solids import Posed, pose
from connectors.simulators.scene.viewpoint import Viewpoint

_LAMP_COLOUR = np.array([0.50, 0.74, 0.92])


@dataclass(frozen=True, eq=False)
class Standing:
    """Something that stands on the ground and hides what is behind it.

    Args:
        distance_m: from the camera, along the ground.
        place: x1, y1, x2, y2 of its pixels.
        mask: uint8 of that size, 255 where it is.
    """

    x: float
    y: float
    radius_m: float
    body: Posed
    distance_m: float
    place: tuple[int, int, int, int]
    mask: NDArray[np.uint8]


class Scenery:
    """A camera's ground, backdrop and standing things.

    Args:
        view: from where.
        style: one of STYLES.
        far: to what distance the ground is free, in metres.
        near: from what distance on.
        rng: the scenery's own generator.
    """

    def __init__(self, view: Viewpoint, style: str, near: float, far: float, rng: np.random.Generator) -> None:
        self.view, self.far = view, far
        self._empty = self._backed(ground(view, style, rng), style, rng)
        self._backdrop = behind(style, far, rng)
        self.standing = sorted(self._furnish(style, near, rng), key=lambda thing: -thing.distance_m)
        self.lamps = self._lamps(rng)
        self._reach = self._ground_places()

    def drawn(self, light: Light) -> NDArray[np.uint8]:
        """uint8[h, w, 3], everything in this light, before its tint."""
        picture = self._empty.copy()
        painter = Painter(picture)
        for body in self._backdrop:
            painter.paint(body.polygons(self.view, light), 1)
        shade(
            picture, self.view, [hull for thing in self.standing for hull in thing.body.shadow(light)], light, self.far
        )
        for thing in self.standing:
            painter.paint(thing.body.polygons(self.view, light), 1)
        return picture

    def illumination(self, light: Light) -> NDArray[np.uint8]:
        """uint8[h, w, 3] in 1/128: what each pixel is multiplied with: the tint, lamps at night, darker corners."""
        import cv2

        lamps = np.zeros(self._reach.shape[:2])
        for x, y, z in self.lamps if light.night > 0.02 else []:
            square = ((self._reach - np.array([x, y, 0.0])) ** 2 * [1, 1, 0.3]).sum(axis=2)
            lamps += np.exp(-square / (2 * (1.1 * z) ** 2))
        # Where lamps add up, the camera's exposure holds back.
        lit = np.array(light.tint) + light.night * (lamps / (1 + 0.45 * lamps))[:, :, None] * _LAMP_COLOUR
        rows, columns = np.mgrid[-1 : 1 : lit.shape[0] * 1j, -1 : 1 : lit.shape[1] * 1j]
        lit = lit * (1.03 - 0.16 * (rows**2 + columns**2))[:, :, None]
        small = (lit * 128).clip(0, 255).astype(np.uint8)
        size = (self.view.width, self.view.height)
        return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.uint8)

    def _backed(self, floor: NDArray[np.uint8], style: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The ground with the sky above the horizon, or in a hall its dark roof."""
        view = self.view
        over = np.full_like(floor, 70) if style == WAREHOUSE else sky(view.height, view.width, view.horizon_px, rng)
        tilt = math.tan(view.roll) * (np.arange(view.width) - view.width / 2)
        above = np.arange(view.height)[:, None] < (view.horizon_px + 1.5 + tilt)[None, :]
        backed: NDArray[np.uint8] = np.where(above[:, :, None], over, floor)
        return backed

    def _furnish(self, style: str, near: float, rng: np.random.Generator) -> list[Standing]:
        found: list[Standing] = []
        if style == WAREHOUSE:
            for side in (-1, 1):
                if rng.random() < 0.7:
                    y, long = float(rng.uniform(near + 6, self.far - 4)), 8.0
                    x = side * (self.view.half_width_m(y) * 0.9 + 0.5)
                    self._stand(found, rack(rng, long).solid.posed(pose(x, y, math.pi / 2)), (x, y, 1.2))
                    # Circles along the rack keep actors out of it.
                    found += [
                        Standing(
                            x, y + off, 1.0, found[-1].body, found[-1].distance_m, (0, 0, 0, 0), found[-1].mask[:0]
                        )
                        for off in (-2.5, 2.5)
                    ]
        for _ in range(int(rng.integers(4, 13))):
            solid, radius = prop(rng)
            y = float(rng.uniform(near + 0.5 + radius, self.far))
            x = float(rng.uniform(-1, 1)) * self.view.half_width_m(y)
            if radius > 1.8:  # a container stands at the back
                y = float(rng.uniform(self.far - 5, self.far))
            if all(math.hypot(x - thing.x, y - thing.y) > radius + thing.radius_m + 0.2 for thing in found):
                heading = float(rng.choice([0, math.pi / 2])) + float(rng.normal(0, 0.15))
                self._stand(found, solid.posed(pose(x, y, heading)), (x, y, radius))
        return found

    def _stand(self, found: list[Standing], body: Posed, at: tuple[float, float, float]) -> None:
        stencil = Painter(np.zeros((self.view.height, self.view.width, 3), np.uint8))
        even = Light((0.0, 0.0, 1.0), 0.0, (1.0, 1.0, 1.0), 0.0, 0.0)
        stencil.paint([(points, (255.0, 255.0, 255.0)) for points, _ in body.polygons(self.view, even)], 1)
        extent = stencil.extent(1)
        left, top, right, bottom = extent.box if extent else (0, 0, 0, 0)
        mask = np.ascontiguousarray(stencil.picture[top:bottom, left:right, 0])
        found.append(Standing(*at, body, math.hypot(at[0], at[1]), (left, top, right, bottom), mask))

    def _lamps(self, rng: np.random.Generator) -> list[tuple[float, float, float]]:
        """Where lamps hang, in metres."""
        lamps = []
        for _ in range(int(rng.integers(3, 6))):
            y = float(rng.uniform(5, self.far))
            lamps.append((float(rng.uniform(-0.9, 0.9)) * self.view.half_width_m(y), y, float(rng.uniform(4.5, 7))))
        return lamps

    def _ground_places(self) -> NDArray[np.float64]:
        """float64[h / 8, w / 8, 3]: where the rays of every eighth pixel meet the ground or the backdrop."""
        view = self.view
        rows, columns = np.mgrid[0 : view.height : 8, 0 : view.width : 8] + 4.0
        seen = np.stack([columns - view.width / 2, rows - view.height / 2, np.full_like(rows, view.focal_px)], axis=2)
        rays = seen @ view.rotation
        down = np.where(rays[..., 2] < -1e-6, view.height_m / np.maximum(-rays[..., 2], 1e-6), np.inf)
        along = np.minimum(down, (self.far + 2.5) / np.maximum(rays[..., 1], 1e-6))
        places: NDArray[np.float64] = view.place + along[..., None] * rays
        return places


def shade(
    picture: NDArray[np.uint8], view: Viewpoint, hulls: list[NDArray[np.float64]], light: Light, far: float
) -> None:
    """Darken the ground inside the hulls of these ground places, with soft edges, in place."""
    import cv2

    if not hulls or light.shadow > 0.97:
        return
    every = np.concatenate(hulls)
    every = np.column_stack([every[:, 0], np.minimum(every[:, 1], far + 2.4).clip(0.5), np.zeros(len(every))])
    pixels, _ = view.project(every)
    corners = (pixels / 2).clip(-4000, 4000).astype(np.float32)
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 3, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 4, (view.width // 2, view.height // 2))
    if (high <= low).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    ends = np.cumsum([len(hull) for hull in hulls])
    for hull in np.split(corners - low.astype(np.float32), ends[:-1]):
        around = cv2.convexHull(hull)
        cv2.fillConvexPoly(mask, (around * 8).astype(np.int32), 255, cv2.LINE_8, 3)
    mask = cv2.GaussianBlur(mask, (5, 5), 0).astype(np.uint8)
    left, top = int(low[0]) * 2, int(low[1]) * 2
    window = picture[top : int(high[1]) * 2, left : int(high[0]) * 2]
    kept = cv2.LUT(mask, (255 - np.arange(256) * (1 - light.shadow)).astype(np.uint8))
    wide = cv2.resize(kept, (window.shape[1], window.shape[0]), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(window, cv2.merge([wide, wide, wide]), dst=window, scale=1 / 255)
