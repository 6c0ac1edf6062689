"""What the demo's vision worker is told of the simulated site."""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from streams.demo import home, site
from streams.pipelines.vision.camera import CameraState, Frame
from streams.pipelines.vision.distance import Ground
from streams.pipelines.vision.objects import Site
from streams.settings import CONFIG_VARIABLE, Settings, load

FRAMES = 60


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the demo writes them for its workers."""
    monkeypatch.chdir(tmp_path)
    home.HOME.mkdir(parents=True)
    return home.configure({"kafka": {"bootstrap_servers": "127.0.0.1:9"}, "vision": site.table()})


def test_workers_read_what_the_demo_has_written(settings: Settings) -> None:
    assert load({CONFIG_VARIABLE: os.fspath(home.CONFIG)}) == settings
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9"
    assert [camera.id for camera in settings.vision.cameras] == [
        site.site().camera(number).camera_id for number in range(site.CAMERAS)
    ]
    assert all(camera.zones for camera in settings.vision.cameras)


@pytest.mark.parametrize("number", range(site.CAMERAS))
def test_metres_on_the_ground_are_metres(settings: Settings, number: int) -> None:
    view = site.site().camera(number).view
    corners = np.array([[0.0, 9.0, 0.0], [2.0, 9.0, 0.0], [2.0, 12.0, 0.0]])  # the outer two are sqrt(13) m apart
    pixels, _ = view.project(corners)
    boxes = np.column_stack([pixels[:, 0] - 10, pixels[:, 1] - 50, pixels[:, 0] + 10, pixels[:, 1]])
    ground = Ground(settings.vision, settings.vision.cameras[number])
    places = ground.places(boxes, ["person"] * 3, view.width, view.height)
    apart = np.linalg.norm(places - np.roll(places, -1, axis=0), axis=1)
    np.testing.assert_allclose(apart, [2.0, 3.0, np.sqrt(13)], rtol=1e-9)


def test_who_sees_everything_has_something_to_tell_within_seconds(settings: Settings) -> None:
    """Zones and distances, of what really is there."""
    told: Counter[tuple[str, str]] = Counter()
    place = site.site()
    for number, known in enumerate(settings.vision.cameras):
        camera = place.camera(number)
        state = CameraState(camera.camera_id, Site(settings.vision, known))
        for frame in islice(camera, FRAMES):
            boxes = np.array([truth.box for truth in frame.truth], np.float64).reshape(-1, 4)
            classes = np.array([truth.index for truth in frame.truth], np.int64)
            seen = state.apply(
                Frame(
                    camera.camera_id, frame.frame, frame.frame, frame.event_time_ms, *place.size,
                    boxes, np.ones(len(boxes)), classes,
                ),
                camera.labels,
                0,
            )  # fmt: skip
            told.update((camera.camera_id, event.kind) for event in seen.events)
    for known in settings.vision.cameras:
        assert told[known.id, "zone"], known.id
    assert sum(count for (_, kind), count in told.items() if kind == "unsafe_distance") >= 2
