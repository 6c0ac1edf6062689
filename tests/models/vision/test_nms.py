"""Suppression beside one that compares every pair."""

from __future__ import annotations

import numpy as np
import pytest

from models.vision.nms import MAX_CANDIDATES, ranked, suppress
from tests.models.vision import plain


def boxes_of(count: int, seed: int, classes: int = 3) -> list[plain.Box]:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (count, 2))
    sides = random.uniform(2, 30, (count, 2))
    scores = random.permutation(count) / count + 0.001
    labels = random.integers(0, classes, count)
    rows = np.concatenate((corners, corners + sides), axis=1).astype(np.float32).astype(float)
    return [
        (*map(float, row), float(np.float32(score)), int(label))
        for row, score, label in zip(rows, scores, labels, strict=True)
    ]


def run(pictures: list[list[plain.Box]], limit: float, most: int = 300) -> list[list[plain.Box]]:
    rows = np.array([box for boxes in pictures for box in boxes], np.float64).reshape(-1, 6)
    of = np.repeat(np.arange(len(pictures)), [len(boxes) for boxes in pictures])
    shuffled = np.random.default_rng(0).permutation(len(rows))
    rows, of = rows[shuffled], of[shuffled]
    scores = rows[:, 4].astype(np.float32)
    order, starts = ranked(of, scores, len(pictures))
    out = np.zeros((len(pictures), most, 6), np.float32)
    out[:, :, 5] = -1
    suppress(rows[order, :4].astype(np.float32), scores[order], rows[order, 5].astype(np.int64), starts, limit, out)
    return [[(*map(float, row[:5]), int(row[5])) for row in picture if row[5] >= 0] for picture in out]


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.45, 0.7])
@pytest.mark.parametrize("classes", [1, 3])
def test_what_stays_is_what_stays_when_every_pair_is_compared(limit: float, classes: int) -> None:
    pictures = [boxes_of(count, seed, classes) for seed, count in enumerate((0, 1, 40, 200))]
    expected = [plain.suppress(boxes, limit) for boxes in pictures]
    assert any(len(kept) < len(boxes) for kept, boxes in zip(expected, pictures, strict=True))
    assert run(pictures, limit) == expected


def test_a_limit_of_one_keeps_all() -> None:
    boxes = boxes_of(50, 1)
    assert len(run([boxes + boxes[:3]], 1.0)[0]) == 53


def test_boxes_without_area_go() -> None:
    boxes = [(5.0, 5.0, 5.0, 9.0, 0.9, 0), (9.0, 5.0, 2.0, 9.0, 0.8, 0), (1.0, 1.0, 2.0, 2.0, 0.5, 0)]
    assert run([boxes], 0.5) == [[boxes[2]]]
    nan = [(float("nan"), 0.0, 5.0, 5.0, 0.9, 0)]
    assert run([nan], 0.5) == [[]]


def test_only_the_best_of_a_flood_are_compared_and_other_pictures_do_not_feel_it() -> None:
    flood, few = boxes_of(12_000, 2), boxes_of(30, 3)
    best = sorted(flood, key=lambda box: -box[4])
    found = run([few, flood, few], 0.45, most=100)
    assert found[0] == found[2] == plain.suppress(few, 0.45)
    assert found[1] == plain.suppress(best[:2000], 0.45)[:100]


def test_no_more_candidates_of_a_picture_are_ranked_than_allowed() -> None:
    of = np.repeat([0, 1, 2], [5, MAX_CANDIDATES + 7, 4])
    scores = np.random.default_rng(4).random(len(of), np.float32)
    order, starts = ranked(of, scores, 4)
    assert starts.tolist() == [0, 5, 5 + MAX_CANDIDATES, 9 + MAX_CANDIDATES, 9 + MAX_CANDIDATES]
    of_flood = scores[order[starts[1] : starts[2]]]
    assert of_flood.tolist() == sorted(scores[of == 1].tolist(), reverse=True)[:MAX_CANDIDATES]


def test_equal_scores_stay_in_order() -> None:
    order, _ = ranked(np.zeros(6, np.int64), np.array([0.5, 0.9, 0.5, 0.9, 0.5, 0.1], np.float32), 1)
    assert order.tolist() == [1, 3, 0, 2, 4, 5]
