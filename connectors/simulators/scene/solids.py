"""Things made of flat faces: how they are built, posed, shaded and sorted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.simulators.scene.light import Light
from connectors.simulators.scene.viewpoint import Viewpoint

Colour = tuple[float, float, float]
Polygon = tuple[NDArray[np.float64], Colour]
"""Corners float64[k, 2] in pixels, and its colour as blue, green, red from 0 to 255."""

Profile = Sequence[tuple[float, float]]

TYRE: Colour = (38, 36, 36)
RIM: Colour = (150, 150, 150)
GLASS: Colour = (105, 88, 70)


@dataclass(frozen=True, eq=False)
class Solid:
    """Parts of flat faces, in metres; x points forward, y left, z up, and the ground is z = 0.

    Args:
        vertices: float64[v, 3].
        vertex_part: int[v], the part that a vertex belongs to.
        faces: each face's corners, as indices of vertices; convex or not.
        face_part: int[f].
        normals: float64[f, 3], outward, of length 1.
        colours: float64[f, 3], blue, green, red from 0 to 255.
        nearer_m: float64[p], by how much a part is drawn as if it were nearer.
    """

    vertices: NDArray[np.float64]
    vertex_part: NDArray[np.int64]
    faces: tuple[NDArray[np.int64], ...]
    face_part: NDArray[np.int64]
    normals: NDArray[np.float64]
    colours: NDArray[np.float64]
    nearer_m: NDArray[np.float64]

    def posed(self, pose: NDArray[np.float64]) -> Posed:
        """The solid in the world.

        Args:
            pose: float64[4, 4], one for all parts, or float64[p, 4, 4].
        """
        each = np.broadcast_to(pose, (len(self.nearer_m), 4, 4))
        turn = each[self.vertex_part, :3, :3]
        vertices = np.einsum("vij,vj->vi", turn, self.vertices) + each[self.vertex_part, :3, 3]
        return Posed(self, vertices, np.einsum("fij,fj->fi", each[self.face_part, :3, :3], self.normals))


@dataclass(frozen=True, eq=False)
class Posed:
    """A solid in the world: vertices float64[v, 3] and normals float64[f, 3]."""

    solid: Solid
    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]

    def polygons(self, view: Viewpoint, light: Light) -> list[Polygon]:
        """What of it faces the camera, shaded, the farthest part first."""
        solid = self.solid
        pixels, _ = view.project(self.vertices)
        corner = self.vertices[[face[0] for face in solid.faces]]
        facing = np.einsum("fi,fi->f", self.normals, corner - view.place) < 0
        colours = solid.colours * light.shade(self.normals)[:, None]
        order = self._order(view)
        return [(pixels[solid.faces[face]], tuple(colours[face].tolist())) for face in order[facing[order]].tolist()]

    def shadow(self, light: Light) -> list[NDArray[np.float64]]:
        """The ground places float64[k, 2] that each part hides from the sun; their hull is its shadow."""
        flat = light.cast(self.vertices)
        part = self.solid.vertex_part
        return [flat[part == number] for number in range(len(self.solid.nearer_m))]

    def _order(self, view: Viewpoint) -> NDArray[np.int64]:
        """Faces from far to near by part; within a part as they were built, so that details cover their ground."""
        part = self.solid.vertex_part
        count = np.bincount(part)
        centre = np.stack([np.bincount(part, self.vertices[:, axis]) for axis in range(3)], axis=1) / count[:, None]
        distance = np.linalg.norm(centre - view.place, axis=1) - self.solid.nearer_m
        return np.argsort(-distance[self.solid.face_part], kind="stable")


class Builder:
    """Puts a solid together, part by part. Faces of one part must not hide one another from any side."""

    def __init__(self) -> None:
        self._vertices: list[tuple[float, float, float]] = []
        self._vertex_part: list[int] = []
        self._faces: list[list[int]] = []
        self._face_part: list[int] = []
        self._colours: list[Colour] = []
        self._nearer: list[float] = []

    def part(self, nearer_m: float = 0.0) -> Builder:
        """Begin a part: convex, up to the details on it."""
        self._nearer.append(nearer_m)
        return self

    def face(self, corners: Sequence[tuple[float, float, float]], colour: Colour) -> Builder:
        """A face whose corners go round anticlockwise, seen from outside."""
        first = len(self._vertices)
        self._vertices += corners
        self._vertex_part += [len(self._nearer) - 1] * len(corners)
        self._faces.append(list(range(first, first + len(corners))))
        self._face_part.append(len(self._nearer) - 1)
        self._colours.append(colour)
        return self

    def prism(self, profile: Profile, right: float, left: float, colour: Colour, inset: float = 0.0) -> Builder:
        """A side profile of (x, z), anticlockwise seen from the right, drawn out from y = right to y = left.

        Args:
            inset: by how much the sides lean in at the profile's highest points.
        """
        low, high = min(z for _, z in profile), max(z for _, z in profile)
        lean = [inset * (z - low) / max(high - low, 1e-6) for _, z in profile]
        near = [(x, right + by, z) for (x, z), by in zip(profile, lean, strict=True)]
        far = [(x, left - by, z) for (x, z), by in zip(profile, lean, strict=True)]
        self.face(near, colour)
        self.face(far[::-1], colour)
        for index in range(len(profile)):
            follows = (index + 1) % len(profile)
            self.face([near[follows], near[index], far[index], far[follows]], colour)
        return self

    def box(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], colour: Colour) -> Builder:
        """A box from the lower to the higher of each axis."""
        return self.prism([(x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1])], y[0], y[1], colour)

    def wheel(
        self, x: float, y: float, radius: float, width: float, hub: Colour = RIM, covered_by: float = 0.0
    ) -> Builder:
        """A wheel on the ground, with its hub, whose middle is at x, y.

        Args:
            covered_by: a wheel below a body shows its tread behind what is nearer than the wheel by this much, in
                metres, and its outer side before it; 0 for a wheel in the open.
        """
        angles = [2 * math.pi * step / 12 for step in range(12)]
        circle = [(math.cos(angle), math.sin(angle)) for angle in angles]
        tread = [(x + radius * a, radius + radius * b) for a, b in circle]
        rim = [(x + 0.55 * radius * a, radius + 0.55 * radius * b) for a, b in circle]
        self.part(-covered_by if covered_by else 0.05)
        self.prism(tread, y - width / 2, y + width / 2, TYRE)
        if covered_by:
            self.part(covered_by)
        side = (1 if y > 0 else -1) * (width / 2 + 0.01)
        for profile, out, colour in ((tread, side, TYRE), (rim, side * 1.05, hub)):
            corners = [(a, y + out, b) for a, b in profile]
            self.face(corners if side < 0 else corners[::-1], colour)
        return self

    def build(self) -> Solid:
        vertices = np.array(self._vertices, dtype=np.float64)
        faces = tuple(np.array(face, dtype=np.int64) for face in self._faces)
        normals = np.array([_normal(vertices[face]) for face in faces])
        return Solid(
            vertices,
            np.array(self._vertex_part, dtype=np.int64),
            faces,
            np.array(self._face_part, dtype=np.int64),
            normals,
            np.array(self._colours, dtype=np.float64),
            np.array(self._nearer, dtype=np.float64),
        )


def panel(build: Builder, y: float, profile: list[tuple[float, float]], colour: Colour) -> None:
    """A detail on a side of the part that was begun last: (x, z) anticlockwise seen from the right."""
    corners = [(x, y, z) for x, z in profile]
    build.face(corners if y < 0 else corners[::-1], colour)


def pose(x: float, y: float, heading: float, z: float = 0.0) -> NDArray[np.float64]:
    """float64[4, 4]: on the ground at x, y, turned by `heading` radians from +x towards +y."""
    sine, cosine = math.sin(heading), math.cos(heading)
    return np.array([[cosine, -sine, 0.0, x], [sine, cosine, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]])


def tilt(pivot_x: float, pivot_z: float, angle: float) -> NDArray[np.float64]:
    """float64[4, 4]: turned about the axis through (pivot_x, pivot_z) along y; a positive angle lifts the front."""
    sine, cosine = math.sin(angle), math.cos(angle)
    move_x = pivot_x - cosine * pivot_x + sine * pivot_z
    move_z = pivot_z - sine * pivot_x - cosine * pivot_z
    return np.array(
        [[cosine, 0.0, -sine, move_x], [0.0, 1.0, 0.0, 0.0], [sine, 0.0, cosine, move_z], [0.0, 0.0, 0.0, 1.0]]
    )


def _normal(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Newell's method: right for any flat polygon."""
    following = np.roll(corners, -1, axis=0)
    x, y, z = (corners - following).T
    u, v, w = (corners + following).T
    normal = np.array([(y * w).sum(), (z * u).sum(), (x * v).sum()])
    return normal / max(float(np.linalg.norm(normal)), 1e-12)
