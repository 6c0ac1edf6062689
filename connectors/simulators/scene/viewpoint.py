"""Where a simulated camera stands and how the ground plane maps to its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Viewpoint:
    """A pinhole camera above the origin of the ground plane, that looks along +y and down.

    The ground is z = 0; x points right, y away from the camera, z up; all in metres.

    Args:
        width, height: of the picture, in pixels.
        focal_px: focal length, in pixels.
        height_m: of the camera above the ground.
        pitch: how far it looks down, in radians.
        roll: how far it is turned about its axis, in radians.
    """

    width: int
    height: int
    focal_px: float
    height_m: float
    pitch: float
    roll: float = 0.0

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """float64[3, 3], rows right, down, forward: takes a direction of the world to the camera's axes."""
        sine, cosine = math.sin(self.pitch), math.cos(self.pitch)
        forward = np.array([0.0, cosine, -sine])
        right, down = np.array([1.0, 0.0, 0.0]), np.array([0.0, -sine, -cosine])
        turn, keep = math.sin(self.roll), math.cos(self.roll)
        return np.stack([keep * right + turn * down, keep * down - turn * right, forward])

    @cached_property
    def place(self) -> NDArray[np.float64]:
        """float64[3], the camera's own place."""
        return np.array([0.0, 0.0, self.height_m])

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """float64[3, 4], homogeneous world to homogeneous pixel."""
        intrinsic = np.array(
            [[self.focal_px, 0.0, self.width / 2], [0.0, self.focal_px, self.height / 2], [0.0, 0.0, 1.0]]
        )
        matrix: NDArray[np.float64] = intrinsic @ np.column_stack([self.rotation, -self.rotation @ self.place])
        return matrix

    @cached_property
    def ground_homography(self) -> NDArray[np.float64]:
        """float64[3, 3], homogeneous pixel to homogeneous ground place (x, y) in metres."""
        inverse = np.linalg.inv(self.matrix[:, [0, 1, 3]])
        homography: NDArray[np.float64] = inverse / inverse[2, 2]
        return homography

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels float64[n, 2] and depths float64[n] in metres of world points float64[n, 3].

        A point that is less than 10 cm in front of the camera is projected as if it were 10 cm in front.
        """
        seen = points @ self.matrix[:, :3].T + self.matrix[:, 3]
        depth = np.maximum(seen[:, 2], 0.1)
        return seen[:, :2] / depth[:, None], depth

    def ground(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ground places float64[n, 2] in metres under pixels float64[n, 2]; those above the horizon lie behind."""
        homogeneous = np.column_stack([pixels, np.ones(len(pixels))]) @ self.ground_homography.T
        return homogeneous[:, :2] / homogeneous[:, 2:]

    @cached_property
    def horizon_px(self) -> float:
        """The row of the horizon in the middle column."""
        return self.height / 2 - self.focal_px * math.tan(self.pitch)

    def half_width_m(self, y: float) -> float:
        """How far to the side the ground is seen, at this distance."""
        depth = y * math.cos(self.pitch) + self.height_m * math.sin(self.pitch)
        return depth * self.width / 2 / self.focal_px
