"""The compiled looks at a detector's outputs, beside numpy."""

from __future__ import annotations

import numpy as np
import pytest

from models.vision.heads.scan import scan
from models.vision.placement import in_source

FLOOR = np.float32(0.9)
LABELS = np.array([6, 4, 9])  # columns 5, 7 and 8 are no label's, and 10 on are no class scores
LAST = 10


def scanned(rows: np.ndarray, by_row: bool) -> tuple[np.ndarray, ...]:
    tensor = rows if by_row else np.ascontiguousarray(rows.swapaxes(1, 2))
    found, missing = scan(tensor, by_row, LABELS, LAST, FLOOR)
    return *found, missing


@pytest.mark.parametrize("by_row", [True, False])
def test_what_passes_is_what_passes_in_numpy(by_row: bool) -> None:
    rows = np.random.default_rng(3).random((4, 60, 12), np.float32)
    rows[1, :, 4:LAST] = 0
    own = rows[:, :, LABELS]
    picture, box = np.nonzero(own.max(axis=2) >= FLOOR)
    of, boxes, scores, labels, missing = scanned(rows, by_row)
    assert 0 < len(picture) < 240
    assert np.array_equal(of, picture)
    assert np.array_equal(boxes, rows[picture, box, :4])
    assert np.array_equal(scores, own.max(axis=2)[picture, box])
    assert np.array_equal(labels, own.argmax(axis=2)[picture, box])
    assert not missing.any()


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("column", range(12))
def test_nan_is_seen_in_every_column(by_row: bool, column: int) -> None:
    rows = np.zeros((3, 20, 12), np.float32)
    rows[1, 13, column] = np.nan
    assert scanned(rows, by_row)[-1].tolist() == [False, True, False]


def test_objects_are_placed_in_their_pictures_and_cut_off_there() -> None:
    random = np.random.default_rng(4)
    corners = random.uniform(-300, 600, (5, 40, 2)).astype(np.float32)
    objects = np.concatenate((corners, corners + random.uniform(1, 200, (5, 40, 2)), random.random((5, 40, 2))), axis=2)
    objects[:, :, 5] = random.integers(-1, 3, (5, 40))
    placements = random.uniform((0.3, 0.3, 0, 0), (2, 2, 90, 90), (5, 4)).astype(np.float32)
    sizes = random.integers(100, 900, (5, 2))
    found = in_source(objects.astype(np.float32), placements, sizes)
    assert len(found) == 5
    for seen, picture, (scale_x, scale_y, x, y), (width, height) in zip(
        found, objects, placements.tolist(), sizes.tolist(), strict=True
    ):
        expected = [
            box
            for x1, y1, x2, y2, score, label in picture.tolist()
            for box in [
                [
                    *(min(max((x1 - x) / scale_x, 0), width), min(max((y1 - y) / scale_y, 0), height)),
                    *(min(max((x2 - x) / scale_x, 0), width), min(max((y2 - y) / scale_y, 0), height)),
                    *(score, label),
                ]
            ]
            if label >= 0 and box[2] > box[0] and box[3] > box[1]
        ]
        assert 0 < len(expected) < 40
        assert [each.dtype for each in seen] == [np.float64, np.float64, np.int64]
        np.testing.assert_allclose(np.column_stack(seen), expected, rtol=1e-4, atol=1e-2)
