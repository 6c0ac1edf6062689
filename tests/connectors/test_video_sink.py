"""Films out: what a browser plays, at the times the pictures were taken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from connectors.video import VideoError
from connectors.video_sink import FilmWriter
from tests.connectors.cameras import number_of, picture


def written(path: Path, times_ms: list[int], size: tuple[int, int] = (64, 48)) -> list[tuple[int, np.ndarray]]:
    """What OpenCV reads of a film of so many pictures: milliseconds and pixels."""
    with FilmWriter(path) as film:
        for number, time_ms in enumerate(times_ms):
            film.write(picture(number, *size), time_ms)
    reader, found = cv2.VideoCapture(str(path)), []
    while True:
        good, pixels = reader.read()
        if not good:
            return found
        found.append((round(reader.get(cv2.CAP_PROP_POS_MSEC)), np.asarray(pixels)))


def test_pictures_stand_at_their_times(tmp_path: Path) -> None:
    found = written(tmp_path / "a.mp4", [1_700_000_000_000 + step for step in (0, 100, 140, 1000)])
    assert [time for time, _ in found] == [0, 100, 140, 1000]
    assert [number_of(bytes(cv2.imencode(".png", pixels)[1])) for _, pixels in found] == [0, 1, 2, 3]


def test_the_index_comes_first_so_that_a_browser_begins_at_once(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", list(range(0, 1000, 40)))
    content = (tmp_path / "a.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert b"avc1" in content


def test_times_that_go_back_or_leap_become_a_small_step(tmp_path: Path) -> None:
    found = written(tmp_path / "a.mp4", [5000, 5100, 5100, 0, 100, 10_000_000, 10_000_050])
    assert [time for time, _ in found] == [0, 100, 140, 180, 280, 320, 370]


def test_odd_sizes_lose_a_pixel_and_others_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with FilmWriter(path) as film:
        for number, size in enumerate(((65, 49), (640, 480), (10, 300))):
            film.write(picture(number, *size), number * 40)
    reader = cv2.VideoCapture(str(path))
    assert [reader.read()[1].shape for _ in range(3)] == [(48, 64, 3)] * 3


def test_a_film_of_nothing_is_removed(tmp_path: Path) -> None:
    FilmWriter(tmp_path / "a.mp4").close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"writing .*none/a\.mp4: there is no folder"):
        FilmWriter(tmp_path / "none" / "a.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with (
        pytest.raises(VideoError, match=r"writing .*folder\.mp4: Is a directory"),
        FilmWriter(tmp_path / "folder.mp4") as film,
    ):
        film.write(picture(0), 0)
