"""Drawing: boxes where they are, one colour a label, words that lie in the picture and not on each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from models.vision.drawing import PALETTE, Drawing, Outline, Shown, crop


def grey(width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def drawn(*objects: Shown, size: tuple[int, int] = (320, 240), zones: tuple[Outline, ...] = ()) -> NDArray[np.uint8]:
    pixels = grey(*size)
    Drawing().draw(pixels, objects, zones)
    return pixels


def test_a_box_is_a_line_around_what_it_shows() -> None:
    pixels = drawn(Shown("car", 0.9, (100, 80, 200, 180)))
    changed = (pixels != 128).any(axis=2)
    for x, y in ((100, 130), (200, 130), (150, 180), (150, 80)):
        assert (pixels[y, x] == Drawing().colour("car")).all(), (x, y)
    assert not changed[84:176, 104:196].any()  # nothing covers the object
    assert not changed[:50].any()
    assert not changed[:, :90].any()
    assert changed[60:78, 102:150].any()  # the plate above it


def test_a_label_keeps_its_colour_and_no_two_share_one() -> None:
    names = [f"label {number}" for number in range(len(PALETTE))]
    drawing = Drawing()
    colours = [drawing.colour(name) for name in names]
    assert len(set(colours)) == len(PALETTE)
    assert [drawing.colour(name) for name in names] == colours
    assert Drawing().colour("person") == Drawing().colour("person")
    assert drawing.colour("one more") in PALETTE


def plate_areas(*objects: Shown) -> list[NDArray[np.bool_]]:
    """Where each object's own colour fills, drawn together."""
    pixels = drawn(*objects)
    drawing = Drawing()
    return [(pixels == drawing.colour(each.label)).all(axis=2) for each in objects]


def test_plates_of_boxes_in_one_place_do_not_cover_each_other() -> None:
    box = (60, 60, 260, 200)
    areas = plate_areas(*(Shown(name, 0.9, box) for name in ("car", "person", "dog")))
    rows = [set(np.flatnonzero(area[:, :130].sum(axis=1) > 30)) - {60, 200} for area in areas]
    assert all(len(each) >= 8 for each in rows)
    assert all(not one & other for one, other in itertools.combinations(rows, 2))


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 319, 239),
        (-50, -50, 20, 20),
        (300, 200, 900, 900),
        (0, 0, 1, 1),
        (-1e30, -1e30, 1e30, 1e30),
        (310, 0, 319, 5),
    ],
)
def test_words_lie_in_the_picture_wherever_the_box_is(box: tuple[float, float, float, float]) -> None:
    pixels = drawn(Shown("car", 0.9, box, 12))
    plate = (pixels == Drawing().colour("car")).all(axis=2)
    assert plate.sum() > 800


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 9), (40, 600), (4000, 3)])
def test_any_size_of_picture_is_drawn_on(size: tuple[int, int]) -> None:
    drawn(Shown("car", 0.9, (0, 0, 9, 9), 1), Shown("größer 人", 2.0, (1, 0, 3, 9)), size=size,
          zones=(Outline("yard", [(0, 0), (9, 0), (9, 9)]),))  # fmt: skip


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (float("nan"), 0, 5, 5), (0, 0, float("inf"), 5)])
def test_what_has_no_area_is_not_drawn(box: tuple[float, float, float, float]) -> None:
    assert (drawn(Shown("car", 0.9, box)) == 128).all()


def test_a_zone_is_a_veil_that_thickens_when_someone_is_in_it() -> None:
    zone = Outline("dock", [(100, 50), (300, 50), (300, 230), (100, 230)])
    empty, occupied = drawn(zones=(zone,)), drawn(Shown("car", 0.9, (5, 100, 60, 200), None, ("dock",)), zones=(zone,))
    assert 128 < empty[100, 200, 0] < occupied[100, 200, 0] < 200
    assert (empty[100, 90] == 128).all()
    assert (empty[50, 200] > 220).all()
    assert (
        drawn(zones=(Outline("line", [(0, 0), (9, 9)]), Outline("odd", [(0, 0), (9, 9), (float("nan"), 3)]))) == 128
    ).all()


def test_ten_thousand_boxes_are_drawn() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (10_000, 2))
    boxes = np.hstack((corners, corners + rng.uniform(1, 60, (10_000, 2)))).tolist()
    pixels = drawn(*(Shown("car", 0.5, (x1, y1, x2, y2)) for x1, y1, x2, y2 in boxes))
    assert (pixels != 128).any(axis=2).mean() > 0.75


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((100, 100, 200, 150), (60, 120)),
        ((-10, -10, 1000, 1000), (240, 320)),
        ((400, 400, 500, 500), (1, 1)),
        ((5, 5, 5.2, 5.2), (2, 2)),
        ((-1e308, -1e308, 1e308, 1e308), (240, 320)),
    ],
)
def test_a_crop_is_the_box_and_a_tenth_more(box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    assert crop(grey(), box).shape[:2] == shape
