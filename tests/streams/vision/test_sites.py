"""What settings may say of cameras, and the sentence for each thing that they may not."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from streams.sites import MOST_CORNERS, Camera, SceneSettings, UnsafeDistance, Zone
from streams.sites import check_scenes as check
from tests.streams.vision.site import FLAT_GROUND, LABELS, SITE

SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
CLOSE = UnsafeDistance(("person", "forklift"), 3.0)


def with_zone(*zones: Zone, **more: Any) -> SceneSettings:
    return SceneSettings(cameras=(Camera("gate", zones, **more),))


def test_what_fits_is_accepted() -> None:
    check(SceneSettings())
    check(SITE, LABELS)
    check(with_zone(Zone("l", ((0, 0), (600, 0), (600, 50), (50, 50), (50, 400), (0, 400)))))
    # A real one, from px to metres, with perspective.
    check(with_zone(homography=((0.02, 0.001, -12.0), (0.0, 0.05, -18.0), (0.0, 0.004, -0.9))))
    check(SceneSettings(cameras=(Camera("a", homography=FLAT_GROUND),), unsafe_distances=(CLOSE,), heights_m={}))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (with_zone(Zone("z", SQUARE[:2])), r"cameras\[0\] 'gate' zones\[0\] 'z': expected a polygon of 3 to 64"),
        (with_zone(Zone("z", tuple((math.cos(i), math.sin(i)) for i in range(MOST_CORNERS + 1)))), "got 65"),
        (with_zone(Zone("z", (SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]))), "sides that do not cross, got side 0"),
        (with_zone(Zone("z", (*SQUARE, SQUARE[3]))), "sides that do not cross"),
        (with_zone(Zone("z", ((0, 0), (9, 0), (4, 0)))), "sides that do not cross"),
        (with_zone(Zone("z", (*SQUARE, SQUARE[0]))), "the first one again at the end"),
        (with_zone(Zone("z", ((0, 0), (1.02, 0), (1, 1), (0, 1)))), "expected shares from 0 to 1, or px"),
        (with_zone(Zone("z", ((-0.01, 0), (1, 0), (1, 1)))), "expected shares from 0 to 1, or px"),
        (with_zone(Zone("z", ((0, 0), (9, 0), (9, 9), (4, 0), (0, 9)))), "sides that do not cross"),
        (with_zone(Zone("z", ((0, 0), (1, 0), (math.nan, 1)))), r"polygon\[2\]: expected px, or shares"),
        (with_zone(Zone("z", ((0, 0), (1, 0), (1, 1e9)))), r"polygon\[2\]: expected px"),
        (with_zone(Zone("z", SQUARE), Zone("z", SQUARE)), r"zones\[1\] 'z': expected a name of its own"),
        (with_zone(Zone(" ", SQUARE)), "expected a name of 1 to 256"),
        (with_zone(Zone("z", SQUARE, inertia_frames=0)), "inertia_frames: expected a number from 1"),
        (with_zone(Zone("z", SQUARE, loiter_s=0.0)), "loiter_s: expected seconds"),
        (with_zone(*(Zone(str(i), SQUARE) for i in range(65))), "zones: expected at most 64, got 65"),
        (with_zone(field_of_view_deg=180.0), r"cameras\[0\] 'gate' field_of_view_deg: expected degrees"),
        (with_zone(homography=((1, 0, 0), (2, 0, 0), (0, 0, 1))), "'gate' homography: .* singular"),
        (with_zone(homography=((1, 2, 3), (2, 4, 6), (0, 0, 1))), "singular"),
        (with_zone(homography=((0, 0, 0), (0, 0, 0), (0, 0, 0))), "singular"),
        (with_zone(homography=((1, 0, math.inf), (0, 1, 0), (0, 0, 1))), "homography: expected finite numbers"),
        (SceneSettings(cameras=(Camera("a"), Camera("a"))), r"cameras\[1\] 'a': expected a name of its own"),
        (
            SceneSettings(unsafe_distances=(UnsafeDistance(("person", "dog"), 3.0),)),
            "height of 'dog' in vision.heights_m",
        ),
        (
            SceneSettings(unsafe_distances=(UnsafeDistance(("person", "car"), 0.0),)),
            "limit_m: expected a number from 0.01",
        ),
        (SceneSettings(unsafe_distances=(UnsafeDistance(("person", "car"), 3, 4),)), "critical_m: .* from 0 to 3"),
        (SceneSettings(unsafe_distances=(UnsafeDistance(("person", "car"), 3, clear_factor=0.5),)), "car' clear_f"),
        (SceneSettings(unsafe_distances=(UnsafeDistance(("person", "car"), math.nan),)), "limit_m: expected"),
        (SceneSettings(heights_m={"person": -1.0}), "heights_m 'person': expected metres"),
        (SceneSettings(confirm_frames=0), "confirm_frames: expected a number from 1 to 100, got 0"),
        (SceneSettings(confirm_score=math.nan), "confirm_score: expected"),
        (SceneSettings(lost_s=99.0), "lost_s: expected lost_s between 0 and 10"),
        (SceneSettings(low_score=0.9), "low_score <= high_score"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_sentence_that_names_the_place(wrong: SceneSettings, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(wrong)


def test_labels_are_those_of_the_model() -> None:
    with pytest.raises(ValueError, match=r"unsafe_distances\[0\] labels: .* got 'forklift'; did you mean 'forklifts'"):
        check(SceneSettings(unsafe_distances=(CLOSE,)), ("person", "forklifts"))
    with pytest.raises(
        ValueError, match=r"cameras\[0\] 'gate' zones\[0\] 'z' labels: .* one of car, person, got 'per'"
    ):
        check(with_zone(Zone("z", SQUARE, ("per",))), ("person", "car"))


def test_a_sites_settings_are_read_as_any_other() -> None:
    tree = {
        "cameras": [{"id": "gate", "zones": [{"name": "dock", "polygon": [[0, 0], [0.5, 0], [0.5, 1]]}]}],
        "unsafe_distances": [{"labels": ["person", "forklift"], "limit_m": 4}],
        "update_interval_s": "2.5",
    }
    vision = msgspec.convert(tree, SceneSettings, strict=False)
    check(vision)
    assert vision.cameras[0].zones[0].normalised
    assert vision.unsafe_distances[0].severe_m == 2
    assert vision.update_interval_s == 2.5
    tree["cameras"][0]["zones"][0]["polygn"] = []  # type: ignore[index]
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `polygn` - at `\$.cameras\[0\].zones\[0\]`"):
        msgspec.convert(tree, SceneSettings, strict=False)
