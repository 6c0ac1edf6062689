"""Lights that are seen themselves: lamps on masts, headlights, beacons."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.actors import CAR, FORKLIFT, MACHINE, Actor
from connectors.simulators.scene.light import Light
from connectors.simulators.scene.viewpoint import Viewpoint

_SPRITE_PX = 64
_WARM, _WHITE, _AMBER, _RED = (0.62, 0.86, 1.0), (0.92, 0.97, 1.0), (0.1, 0.6, 1.0), (0.1, 0.1, 1.0)
_BEACON_HZ = 1.3


class Glow:
    """Adds what shines to a picture.

    Args:
        view: from where.
        lamps: x, y, z of the lamps in metres.
    """

    def __init__(self, view: Viewpoint, lamps: list[tuple[float, float, float]]) -> None:
        self._view = view
        axis = np.linspace(-1, 1, _SPRITE_PX)
        square = axis[:, None] ** 2 + axis[None, :] ** 2
        halo = 0.75 * np.exp(-square / 0.06) + 0.35 * np.exp(-square / 0.25)
        self._sprite: NDArray[np.float32] = (255 * halo * (1 - square).clip(0, 1)).astype(np.float32)
        self._lamps = np.array(lamps)

    def add(self, picture: NDArray[np.uint8], actors: list[Actor], light: Light, time_s: float) -> None:
        """Draw the lights of lamps and actors into a picture, in place."""
        if light.night > 0.15:
            self._shine(picture, self._lamps, 0.45, _WARM, light.night)
        for actor in actors:
            if actor.label == CAR and light.night > 0.15:
                ahead = -math.sin(actor.heading) > 0.1  # towards the camera
                self._shine(
                    picture,
                    _places(actor, 2.2 if ahead else -2.2, 0.65, 0.7),
                    0.35 if ahead else 0.2,
                    _WHITE if ahead else _RED,
                    light.night,
                )
            if actor.label == FORKLIFT and light.night > 0.15 and -math.sin(actor.heading) > 0.1:
                self._shine(picture, _places(actor, 0.5, 0.45, 1.9), 0.3, _WHITE, light.night)
            beacon = math.sin(2 * math.pi * (_BEACON_HZ * time_s + actor.phase))
            if actor.label in (FORKLIFT, MACHINE) and actor.velocity > 0.1 and beacon > 0:
                top = 2.2 if actor.label == FORKLIFT else 2.9
                self._shine(picture, _places(actor, -0.3, 0.0, top), 0.22, _AMBER, beacon * (0.45 + 0.5 * light.night))

    def _shine(
        self,
        picture: NDArray[np.uint8],
        places: NDArray[np.float64],
        radius_m: float,
        colour: tuple[float, float, float],
        strength: float,
    ) -> None:
        import cv2

        pixels, depth = self._view.project(places)
        for (x, y), metres in zip(pixels.tolist(), depth.tolist(), strict=True):
            radius = min(max(3, round(radius_m * self._view.focal_px / metres)), picture.shape[1] // 8)
            left, top = round(x) - radius, round(y) - radius
            window = picture[max(top, 0) : max(top + 2 * radius, 0), max(left, 0) : max(left + 2 * radius, 0)]
            if not window.size or metres < 1:
                continue
            sprite = cv2.resize(self._sprite, (2 * radius, 2 * radius), interpolation=cv2.INTER_AREA)
            cut = sprite[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1], None]
            added = (cut * (np.array(colour, np.float32) * min(strength, 1.0))).astype(np.uint8)
            cv2.add(window, added, dst=window)


def _places(actor: Actor, forward: float, aside: float, z: float) -> NDArray[np.float64]:
    """One place on an actor, or two on both sides, float64[k, 3]."""
    sides = (aside, -aside) if aside else (0.0,)
    sine, cosine = math.sin(actor.heading), math.cos(actor.heading)
    return np.array([[actor.x + cosine * forward - sine * y, actor.y + sine * forward + cosine * y, z] for y in sides])
