"""Pictures that are the same whenever they are made, to try a network on: shapes and shades instead of noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPES = 12


def draw(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """A picture, uint8 [height, width, 3]: a shaded ground with rectangles and ellipses on it."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = (x / width)[..., None] * random.uniform(40, 120, 3) + (y / height)[..., None] * random.uniform(40, 120, 3)
    picture = shade + random.uniform(0, 15, 3)
    for shape in range(SHAPES):
        centre, half = random.uniform(0, 1, 2), random.uniform(0.03, 0.3, 2)
        across = np.abs(np.stack((x / width, y / height), axis=-1) - centre) / half
        inside = (across**2).sum(axis=-1) < 1 if shape % 2 else across.max(axis=-1) < 1
        picture[inside] = random.uniform(0, 255, 3)
    drawn: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return drawn
