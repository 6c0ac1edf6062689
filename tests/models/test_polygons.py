"""Points in polygons, compared with OpenCV's answer."""

from __future__ import annotations

import numpy as np
import pytest

from models.vision.polygons import inside

SHAPES = (
    [(100.0, 100), (400, 120), (380, 400), (90, 350)],
    [(0.0, 0), (300, 0), (300, 300), (150, 50), (0, 300)],  # not convex
    [(500.0, 10), (520, 700), (510, 700)],
)


def packed() -> tuple[np.ndarray, np.ndarray]:
    return np.array([corner for shape in SHAPES for corner in shape]), np.cumsum([len(shape) for shape in SHAPES])


def test_points_are_where_opencv_says() -> None:
    cv2 = pytest.importorskip("cv2")
    points = np.random.default_rng(1).uniform(-20, 720, (3000, 2))
    found = inside(points, *packed())
    for number, shape in enumerate(SHAPES):
        contour = np.array(shape, np.float32).reshape(-1, 1, 2)
        expected = [cv2.pointPolygonTest(contour, (float(x), float(y)), False) > 0 for x, y in points]
        assert found[:, number].tolist() == expected
        assert 0 < found[:, number].sum() < len(points)


def test_a_point_on_a_shared_side_lies_in_one_of_both() -> None:
    corners = np.array([(0.0, 0), (10, 0), (10, 10), (0, 10), (10.0, 0), (20, 0), (20, 10), (10, 10)])
    points = np.array([(10.0, y) for y in range(10)])
    assert (inside(points, corners, np.array([4, 8])).sum(1) == 1).all()


def test_what_is_no_number_lies_nowhere() -> None:
    points = np.array([(np.nan, 150.0), (150.0, np.nan), (np.inf, 150.0)])
    assert not inside(points, *packed()).any()
