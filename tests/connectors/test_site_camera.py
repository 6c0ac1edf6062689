from __future__ import annotations

import math
from collections import defaultdict
from itertools import islice, pairwise

import cv2
import numpy as np
import pytest

from connectors.jpeg import encode_jpeg
from connectors.simulators.camera import HIDDEN, SMALLEST_PX, Camera, CameraError, Frame, Site
from connectors.simulators.scene.light import daylight
from connectors.simulators.scene.painter import Painter
from connectors.simulators.scene.solids import Builder, Polygon, pose, tilt
from connectors.simulators.scene.viewpoint import Viewpoint

SMALL = {"width": 320, "height": 240}


def frames(camera: Camera, count: int) -> list[Frame]:
    return list(islice(camera, count))


def square(left: float, top: float, right: float, bottom: float) -> list[Polygon]:
    return [(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), (200.0, 100.0, 50.0))]


def test_the_same_settings_give_the_same_frames() -> None:
    one, other = (frames(Site(seed=4, **SMALL).camera(1), 3) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.picture.tobytes() == b.picture.tobytes()
        assert (a.truth, a.frame, a.event_time_ms) == (b.truth, b.frame, b.event_time_ms)
    again = Site(seed=4, **SMALL).camera(1)
    assert frames(again, 2)[1].truth == frames(again, 2)[1].truth == one[1].truth  # each iteration begins anew


def test_seeds_and_cameras_show_different_places() -> None:
    site = Site(seed=4, **SMALL)
    pictures = [frames(camera, 1)[0].picture for camera in (site.camera(0), site.camera(1), Site(5, **SMALL).camera(0))]
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert len({site.camera(number).view for number in range(4)}) == 4
    assert [site.camera(number).camera_id for number in range(2)] == ["camera-1", "camera-2"]


@pytest.mark.parametrize("size", [(64, 64), (333, 201), (640, 480), (1280, 720)])
def test_pictures_have_the_size_that_is_asked_for(size: tuple[int, int]) -> None:
    frame = frames(Site(seed=1, width=size[0], height=size[1]).camera(0), 2)[1]
    assert frame.picture.shape == (size[1], size[0], 3)
    assert frame.picture.dtype == np.uint8
    assert frame.picture.flags.c_contiguous
    assert frame.picture.std() > 8  # something is to be seen


def test_event_times_follow_the_frame_rate() -> None:
    found = frames(Site(seed=1, fps=8, start_ms=1_000, **SMALL).camera(0), 3)
    assert [(frame.frame, frame.event_time_ms) for frame in found] == [(0, 1_000), (1, 1_125), (2, 1_250)]


def test_truth_is_what_can_be_seen() -> None:
    labels = set()
    for seed in range(4):
        site = Site(seed=seed, fps=0.5)
        for number in range(3):
            for frame in frames(site.camera(number), 3):
                assert len({truth.track for truth in frame.truth}) == len(frame.truth)
                for truth in frame.truth:
                    left, top, right, bottom = truth.box
                    assert 0 <= left < right <= 640
                    assert 0 <= top < bottom <= 480
                    assert min(right - left, bottom - top) >= SMALLEST_PX
                    assert HIDDEN <= truth.visibility <= 1
                    assert truth.label == Site.labels[truth.index]
                    labels.add(truth.label)
    assert labels == {"person", "forklift", "car", "sign", "machine"}


def test_a_track_keeps_its_label_and_moves_no_faster_than_it_can() -> None:
    places = defaultdict(list)
    for number in range(3):
        for frame in frames(Site(seed=2, fps=5, **SMALL).camera(number), 40):
            for truth in frame.truth:
                places[number, truth.track].append((frame.frame, truth))
    moved = 0
    for seen in places.values():
        assert len({truth.label for _, truth in seen}) == 1
        for (before, one), (after, other) in pairwise(seen):
            way = math.dist(one.place_m, other.place_m)
            assert way <= 5.0 * (after - before) / 5 + 0.01
            moved += way > 0.05
    assert moved > 100


def test_nothing_drives_through_anything() -> None:
    for number in range(3):
        for frame in frames(Site(seed=8, fps=1, **SMALL).camera(number), 40):
            vehicles = [truth.place_m for truth in frame.truth if truth.label in ("forklift", "car", "machine")]
            people = [truth.place_m for truth in frame.truth if truth.label == "person"]
            for place in vehicles:
                assert all(math.dist(place, other) > 2.5 for other in vehicles if other is not place)
                assert all(math.dist(place, other) > 1.5 for other in people)


def test_places_on_the_ground_are_found_again_from_pixels() -> None:
    """What the unsafe distance is measured with: the bottom centre of a box, through the camera's homography."""
    off = []
    for number in range(3):
        camera = Site(seed=3, fps=1).camera(number)
        for frame in frames(camera, 10):
            for truth in frame.truth:
                if truth.label == "person" and truth.visibility > 0.99 and truth.box[3] < 478:
                    feet = np.array([(truth.box[0] + truth.box[2]) / 2, truth.box[3], 1.0])
                    x, y, scale = camera.view.ground_homography @ feet
                    off.append(math.dist((x / scale, y / scale), truth.place_m))
    assert len(off) > 20
    assert np.median(off) < 0.5
    assert max(off) < 1.5


def test_projection_is_that_of_opencv() -> None:
    view = Viewpoint(640, 480, 520.0, 4.8, 0.31, roll=0.05)
    points = np.random.default_rng(0).uniform((-6, 6, 0), (6, 30, 4), (200, 3))
    intrinsic = np.array([[520.0, 0, 320], [0, 520, 240], [0, 0, 1]])
    turn, _ = cv2.Rodrigues(view.rotation)
    expected, _ = cv2.projectPoints(points, turn, -view.rotation @ view.place, intrinsic, None)
    pixels, depth = view.project(points)
    np.testing.assert_allclose(pixels, expected[:, 0], atol=1e-6)
    assert np.linalg.det(view.rotation) == pytest.approx(1.0)
    on_ground = points * [1, 1, 0]
    np.testing.assert_allclose(view.ground(view.project(on_ground)[0]), on_ground[:, :2], atol=1e-6)
    assert (depth > 0).all()


def test_extent_counts_what_others_hide() -> None:
    painter = Painter(np.zeros((100, 100, 3), np.uint8))
    painter.paint(square(10, 10, 49, 49), 1)
    painter.paint(square(10, 10, 29, 49), 2)  # hides its left half
    hidden, seen = painter.extent(1), painter.extent(2)
    assert hidden is not None
    assert seen is not None
    assert hidden.visibility == pytest.approx(0.5, abs=0.03)
    assert hidden.box == pytest.approx((30, 10, 50, 50), abs=1)
    assert seen.visibility == 1
    painter.paint(square(0, 0, 60, 60), 3)
    assert painter.extent(1) is None
    assert painter.extent(9) is None  # never painted


def test_extent_counts_what_lies_outside_the_picture() -> None:
    painter = Painter(np.zeros((100, 100, 3), np.uint8))
    painter.paint(square(80, 20, 119, 59), 1)
    extent = painter.extent(1)
    assert extent is not None
    assert extent.visibility == pytest.approx(0.5, abs=0.03)
    assert extent.box == pytest.approx((80, 20, 100, 60), abs=1)
    painter.paint(square(200, 20, 240, 59), 2)
    assert painter.extent(2) is None


def test_what_stands_before_a_thing_hides_it() -> None:
    background = np.full((50, 50, 3), 7, np.uint8)
    painter = Painter(background.copy())
    painter.paint(square(10, 10, 29, 29), 1)
    painter.hide(np.full((20, 10), 255, np.uint8), background, (10, 10, 20, 30))
    extent = painter.extent(1)
    assert extent is not None
    assert extent.box[0] == 20
    assert (painter.picture[10:30, 10:20] == 7).all()


def test_a_box_shows_the_sides_that_look_at_the_camera() -> None:
    solid = Builder().part().box((-1, 1), (-1, 1), (0, 2), (100, 100, 100)).build()
    view, light = Viewpoint(640, 480, 500.0, 5.0, 0.3), daylight(12, 0.0, 0.0)
    assert len(solid.posed(pose(0, 12, 0)).polygons(view, light)) == 2  # front and top
    assert len(solid.posed(pose(0, 12, math.pi / 4)).polygons(view, light)) == 3
    outward = np.array([solid.vertices[face].mean(axis=0) - [0, 0, 1] for face in solid.faces])
    assert (np.einsum("fi,fi->f", outward, solid.normals) > 0.9).all()


def test_a_tilt_lifts_the_front() -> None:
    lifted = tilt(1.0, 0.5, 0.3) @ np.array([2.0, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(lifted[:3], [1 + math.cos(0.3), 0, 0.5 + math.sin(0.3)])


def test_nights_are_darker_than_days() -> None:
    def brightness(hour: float, number: int) -> float:
        return float(frames(Site(seed=6, hour=hour, **SMALL).camera(number), 1)[0].picture.mean())

    outdoors = [number for number in range(3) if Site(seed=6, **SMALL).camera(number).style != "warehouse"]
    assert len(outdoors) == 2
    for number in outdoors:
        assert brightness(0.5, number) < 0.75 * brightness(12, number)


def test_the_sun_goes_round_and_shadows_fall_away_from_it() -> None:
    morning, evening = daylight(8, 0.0, 0.0), daylight(16, 0.0, 0.0)
    assert morning.sun[0] < 0 < evening.sun[0]
    top = np.array([[0.0, 10.0, 2.0]])
    assert morning.cast(top)[0, 0] > 0 > evening.cast(top)[0, 0]
    assert daylight(12, 0.0, 0.0).shadow < daylight(12, 1.0, 0.0).shadow  # clouds soften shadows
    assert daylight(0, 0.0, 0.0).night == 1


def test_jpeg_keeps_the_picture() -> None:
    picture = frames(Site(seed=1, **SMALL).camera(0), 1)[0].picture
    fine, coarse = encode_jpeg(picture, 95), encode_jpeg(picture, 20)
    assert len(coarse) < len(fine) / 3
    back = cv2.imdecode(np.frombuffer(fine, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(back.astype(int) - picture).mean() < 6


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": -1},
        {"cameras": 0},
        {"width": 63},
        {"height": 100_000},
        {"fps": 0.0},
        {"fps": math.nan},
        {"hour": 25.0},
        {"day_s": -1.0},
        {"start_ms": -1},
    ],
)
def test_a_setting_out_of_range_is_a_sentence(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(CameraError, match=rf"simulating a site camera: expected `{name}` from .* to .*, got "):
        Site(**settings)  # type: ignore[arg-type]


def test_a_view_that_is_too_narrow_for_any_ground_is_a_sentence() -> None:
    with pytest.raises(CameraError, match="expected `height` from 64 to 400, got 480"):
        Site(width=100, height=480)
    for seed in range(10):
        assert frames(Site(seed=seed, width=100, height=400).camera(0), 1)[0].picture.shape == (400, 100, 3)


def test_a_camera_or_quality_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(CameraError, match="expected `camera` from 0 to 1, got 2"):
        Site(cameras=2).camera(2)
    with pytest.raises(ValueError, match="expected `quality` from 1 to 100, got 0"):
        encode_jpeg(np.zeros((8, 8, 3), np.uint8), 0)
