"""The light of a simulated site: sun, dusk, lamps at night, rain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AMBIENT = 0.62
_DAY, _DUSK, _NIGHT = (1.0, 1.0, 1.0), (0.62, 0.70, 0.88), (0.30, 0.22, 0.19)
_LOWEST_SUN = math.radians(14)  # shadows grow no longer than four times what casts them


@dataclass(frozen=True)
class Light:
    """The light at one moment.

    Args:
        sun: where it comes from, a unit vector; z is up.
        direct: what the sun adds to a face that looks at it, beside the ambient light.
        tint: blue, green, red factors of the whole picture before lamps.
        night: 0 by day to 1: how much the lamps matter.
        rain: 0 to 1.
    """

    sun: tuple[float, float, float]
    direct: float
    tint: tuple[float, float, float]
    night: float
    rain: float

    def shade(self, normals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Brightness float64[f] of faces with these unit normals float64[f, 3]; about 1 for a sunlit one."""
        sunlit = np.maximum(normals @ np.array(self.sun), 0.0)
        sky = 0.12 * normals[:, 2] - 0.06 * normals[:, 0]  # the sky lights from above, and a little from one side
        shaded: NDArray[np.float64] = AMBIENT + 0.12 + sky + self.direct * sunlit
        return shaded

    @property
    def shadow(self) -> float:
        """The brightness that is left in a shadow on the ground, from 0 to 1."""
        ambient = AMBIENT + 0.24
        return ambient / (ambient + self.direct * self.sun[2] + 0.25)

    def cast(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the shadows of points float64[n, 3] fall on the ground, float64[n, 2]."""
        return points[:, :2] - points[:, 2:] * (np.array(self.sun[:2]) / self.sun[2])


def daylight(hour: float, clouds: float, rain: float, turn: float = 0.0) -> Light:
    """The light at an hour from 0 to 24, below clouds from 0 to 1; `turn` is where the camera looks, in radians."""
    elevation = math.radians(58) * math.sin((hour - 6) / 12 * math.pi)
    azimuth = (hour - 12) / 12 * math.pi + turn
    day = _ramp(elevation, math.radians(-4), math.radians(16))
    tint = _mix(_NIGHT, _DUSK, min(1.0, 2 * day)) if day < 0.5 else _mix(_DUSK, _DAY, 2 * day - 1)
    gloom = 1 - 0.22 * clouds * day - 0.1 * rain * day
    low = max(elevation, _LOWEST_SUN)
    # The moon is where the sun would be by day.
    sun = (math.cos(low) * math.sin(azimuth), math.cos(low) * math.cos(azimuth), math.sin(low))
    return Light(sun, 0.62 * (1 - clouds) * day + 0.05, _mix((0, 0, 0), tint, gloom), 1 - day, rain)


def lamplight(brightness: float) -> Light:
    """The light in a hall, from above, the same at any hour."""
    return Light((0.1, -0.15, 0.98), 0.22, _mix((0, 0, 0), (0.95, 1.0, 1.0), brightness), 0.0, 0.0)


def _ramp(value: float, low: float, high: float) -> float:
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return share * share * (3 - 2 * share)


def _mix(
    one: tuple[float, float, float], other: tuple[float, float, float], share: float
) -> tuple[float, float, float]:
    a, b, c = ((1 - share) * low + share * high for low, high in zip(one, other, strict=True))
    return a, b, c
