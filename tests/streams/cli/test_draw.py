"""`headrace subscribe video.detections --draw --snapshots`: the right boxes on the right frames."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import confluent_kafka
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.video import VideoError
from streams.errors import HeadraceError, TopicError
from tests.conftest import Kafka, MakeTopics
from tests.connectors.cameras import number_of, picture
from tests.streams.cli.conftest import Run

SIZE = (320, 240)


class Site:
    """Frames and detections of cameras, written by an independent client."""

    def __init__(self, kafka: Kafka, frames: str, detections: str) -> None:
        self.frames, self.detections = frames, detections
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True}
        )
        self._offsets = [0, 0]

    def frame(self, camera: str, value: bytes, partition: int = 0) -> str:
        self._producer.produce(self.frames, value, camera, partition=partition)
        self._offsets[partition] += 1
        return f"{self.frames}/{partition}/{self._offsets[partition] - 1}"

    def detect(self, camera: str, place: str | None, message: object, partition: int = 0) -> None:
        value = message if isinstance(message, bytes) else json.dumps(message).encode()
        headers = [("id", place.encode())] if place is not None else []
        self._producer.produce(self.detections, value, camera, partition=partition, headers=headers)

    def film(self, camera: str, frames: int, partition: int = 0, skip: int = 1) -> None:
        """Frames whose bar tells their number, and for each `skip`-th one a detection of the bar."""
        for number in range(frames):
            place = self.frame(camera, bytes(cv2.imencode(".jpg", picture(number, *SIZE))[1]), partition)
            if number % skip == 0:
                self.detect(camera, place, message_of(number), partition)

    def flush(self) -> None:
        assert self._producer.flush(20) == 0


def message_of(number: int) -> dict[str, object]:
    bar = [0, 40, (number % 16 + 1) * SIZE[0] // 16, 200]
    shown = {"label": "bar", "score": 0.5 + number / 100, "box": bar, "track_id": 7, "zones": []}
    time = f"2026-01-01T00:00:{number / 10:06.3f}Z"
    return {"camera_id": "c", "frame": number, "event_time": time, "width": 320, "height": 240, "objects": [shown]}


@pytest.fixture
def site(kafka: Kafka, make_topics: MakeTopics) -> Site:
    return Site(kafka, *make_topics("video.frames", "video.detections", partitions=2))


def film_of(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [(float(frame.time or 0), frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]


def test_each_detection_is_drawn_on_its_own_frame(headrace: Run, site: Site, tmp_path: Path) -> None:
    site.film("gate", 40, skip=2)
    site.flush()
    out = tmp_path / "out.mp4"
    done = headrace("subscribe", site.detections, "--from", "earliest", "--limit", 20, "--draw", out)
    assert f"20 frames to {out}" in done.err
    assert done.out == ""
    frames = film_of(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert [round(time, 2) for time, _ in frames] == [round(number * 0.2, 2) for number in range(20)]
    for index, (_, pixels) in enumerate(frames):
        number = index * 2
        assert number_of(bytes(cv2.imencode(".png", pixels[210:])[1])) == number % 16
        edge = min((number % 16 + 1) * 20, 319)
        plain = picture(number, *SIZE)
        changed = np.abs(pixels[80:190].astype(int) - plain[80:190]).max(axis=(0, 2)) > 60
        assert changed[edge - 2 : edge + 3].any(), index
        assert not changed[edge + 6 :].any(), index


def test_the_zones_of_a_camera_are_drawn_on_its_film(headrace: Run, site: Site, tmp_path: Path) -> None:
    settings = tmp_path / "headrace.toml"
    zone = "name = 'dock'\npolygon = [[0.5, 0.25], [0.9, 0.25], [0.9, 0.8], [0.5, 0.8]]\n"
    settings.write_text(f"[[vision.cameras]]\nid = 'gate'\n[[vision.cameras.zones]]\n{zone}")
    site.film("gate", 1, partition=0)
    site.film("yard", 1, partition=1)
    site.flush()
    arguments = ("--from", "earliest", "--limit", 2, "--draw", tmp_path / "out.mp4")
    headrace("subscribe", site.detections, *arguments, CONFIG=str(settings))
    gate, yard = (film_of(tmp_path / f"out.{camera}.mp4")[0][1].astype(int) for camera in ("gate", "yard"))
    changed = np.abs(gate - yard).max(axis=2) > 40
    assert changed[190:195, 170:280].any(axis=0).mean() > 0.9  # its lower edge
    assert not changed[:, :140].any()


def test_a_film_without_what_writes_it_says_what_to_install(
    headrace: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "connectors.video_sink", raising=False)
    done = headrace("subscribe", site.detections, "--draw", tmp_path / "out.mp4", code=1)
    assert isinstance(done.result.exception, VideoError)
    assert "drawing a film needs PyAV: pip install 'headrace[video]'" in done.error
    arguments = ("--from", "earliest", "--seconds", 0.3, "--snapshots", tmp_path / "shots")
    assert "0 frames; nothing was written" in headrace("subscribe", site.detections, *arguments).err


def test_cameras_have_a_film_each_and_a_key_chooses_one(headrace: Run, site: Site, tmp_path: Path) -> None:
    site.film("gate", 6, partition=0)
    site.film("../yard 2", 4, partition=1)
    site.film("/yard 2", 3, partition=1)
    site.flush()
    out, folder = tmp_path / "out.mp4", tmp_path / "shots"
    options = ("--draw", out, "--snapshots", folder)
    headrace("subscribe", site.detections, "--from", "earliest", "--limit", 13, *options)
    films = {path.name: len(film_of(path)) for path in tmp_path.glob("*.mp4")}
    assert films == {"out.gate.mp4": 6, "out._yard_2.mp4": 4, "out._yard_2_again.mp4": 3}
    assert {path.parent.name for path in folder.rglob("*.jpg")} == {"gate", "_yard_2", "_yard_2_again"}
    one = tmp_path / "one.mp4"
    arguments = ("--from", "earliest", "--seconds", 2, "--draw", one, "--key", "../yard 2")
    headrace("subscribe", site.detections, *arguments)
    assert len(film_of(one)) == 4


def test_the_best_picture_of_each_track_is_kept(headrace: Run, site: Site, tmp_path: Path) -> None:
    site.film("gate", 16)
    site.flush()
    folder = tmp_path / "shots"
    done = headrace("subscribe", site.detections, "--from", "earliest", "--limit", 16, "--snapshots", folder)
    assert f"16 frames; snapshots of 1 tracks in {folder}" in done.err
    (path,) = folder.rglob("*.jpg")
    assert path == folder / "gate" / "7.jpg"
    pixels = cv2.imread(str(path))
    assert pixels.shape == (192, 320, 3)  # of the largest box, and a tenth more above and below
    assert (pixels[:, :, 2] > 150).mean() > 0.9


def test_what_cannot_be_drawn_is_counted_and_the_rest_is_drawn(headrace: Run, site: Site, tmp_path: Path) -> None:
    site.detect("gate", site.frame("gate", b"no picture"), message_of(0))
    place = site.frame("gate", bytes(cv2.imencode(".jpg", picture(1, *SIZE))[1]))
    odd = {"label": "x", "score": 1, "box": [50, 50, 50, 10]}
    wide = {"label": "wide " * 40, "score": 7, "box": [-1e9, -5, 1e12, 9e9]}
    site.detect("gate", place, {"objects": [odd, wide]})
    site.detect("gate", None, message_of(0))
    site.detect("gate", "nonsense", message_of(0))
    site.detect("gate", f"{site.frames}/9/1", message_of(0))
    site.detect("gate", site.frame("gate", bytes(cv2.imencode(".png", picture(1, 64, 1))[1])), message_of(0))
    site.detect("gate", place, b"{")
    site.detect("gate", place, {"objects": [{"label": "x"}]})
    site.flush()
    out = tmp_path / "out.mp4"
    done = headrace("subscribe", site.detections, "--from", "earliest", "--limit", 8, "--draw", out, "--format", "json")
    assert len(done.lines()) == 8
    assert f"1 frames to {out}; 7 left out" in done.err
    assert len(film_of(out)) == 1


def test_classes_are_written_on_the_film_and_have_no_snapshots(headrace: Run, site: Site, tmp_path: Path) -> None:
    found = [{"label": "bar", "score": 0.8}, {"label": "none", "score": 0.2}]
    for number in range(3):
        place = site.frame("gate", bytes(cv2.imencode(".jpg", picture(number, *SIZE))[1]))
        site.detect("gate", place, message_of(number) | {"objects": [], "classes": found})
    site.flush()
    out, shots = tmp_path / "out.mp4", tmp_path / "shots"
    arguments = ("--from", "earliest", "--limit", 3, "--draw", out, "--snapshots", shots)
    done = headrace("subscribe", site.detections, *arguments)
    assert f"3 frames to {out}" in done.err
    assert "snapshots" not in done.err
    assert not shots.exists()
    for number, (_, pixels) in enumerate(film_of(out)):
        changed = np.abs(pixels.astype(int) - picture(number, *SIZE)).max(axis=2) > 60
        assert changed[5:30, 5:40].mean() > 0.5
        assert not changed[60:200].any()


def test_a_film_of_nothing_leaves_no_file(headrace: Run, site: Site, tmp_path: Path) -> None:
    done = headrace("subscribe", site.detections, "--seconds", 0.3, "--draw", tmp_path / "out.mp4")
    assert "0 frames; nothing was written" in done.err
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_sentences(headrace: Run, site: Site, tmp_path: Path) -> None:
    avi = headrace("subscribe", site.detections, "--draw", tmp_path / "out.avi", code=1)
    assert isinstance(avi.result.exception, HeadraceError)
    assert "expected a name ending in .mp4" in avi.error
    assert "there is no folder" in headrace("subscribe", site.detections, "--draw", "/none/out.mp4", code=1).error
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "within"):
        no_folder = headrace("subscribe", site.detections, "--snapshots", folder, code=1)
        assert "expected a folder, got the file" in no_folder.error
    site.detect("gate", "no.such.topic/0/1", message_of(0))
    site.flush()
    gone = headrace("subscribe", site.detections, "--from", "earliest", "--draw", tmp_path / "out.mp4", code=1)
    assert isinstance(gone.result.exception, TopicError)
    assert "no.such.topic" in gone.error


def test_what_holds_no_detections_says_so_whatever_it_is_called(headrace: Run, site: Site, tmp_path: Path) -> None:
    event = {"kind": "new", "camera_id": "gate", "track_id": 7, "label": "bar", "score": 0.5, "box": [1, 2, 3, 4]}
    place = site.frame("gate", bytes(cv2.imencode(".jpg", picture(0, *SIZE))[1]))
    for number in range(3):
        site.detect("gate", f"{place}/{number}", event)
    site.flush()
    out = tmp_path / "out.mp4"
    for topic, records, ends in ((site.detections, 3, "--limit"), (site.frames, 1, "--seconds")):
        arguments = ("--from", "earliest", ends, 3, "--draw", out)
        refused = headrace("subscribe", topic, *arguments, VISION__OUTPUT="elsewhere", code=1)
        assert isinstance(refused.result.exception, TopicError)
        assert f"drawing {topic}: expected detections, got {records} records" in refused.error
        assert refused.error.endswith("subscribe to what vision writes them to, elsewhere by the settings")
    assert list(tmp_path.iterdir()) == []


def test_nobody_waits_for_detections_where_none_come(headrace: Run, site: Site, tmp_path: Path) -> None:
    for number in range(120):
        site.detect("gate", f"{site.frames}/0/{number}/0", {"kind": "new"})
    site.flush()
    refused = headrace("subscribe", site.detections, "--from", "earliest", "--snapshots", tmp_path / "shots", code=1)
    assert "none is one" in refused.error


def test_a_record_that_names_an_event_names_no_frame(headrace: Run, site: Site, tmp_path: Path) -> None:
    place = site.frame("gate", bytes(cv2.imencode(".jpg", picture(0, *SIZE))[1]))
    site.detect("gate", f"{place}/0", message_of(0))
    site.flush()
    done = headrace("subscribe", site.detections, "--from", "earliest", "--limit", 1, "--draw", tmp_path / "out.mp4")
    assert "0 frames; nothing was written; 1 left out" in done.err
