"""Frames through a classifier: what a picture shows is what the network says by hand, tile by tile if it is large."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.simulators.camera import Site
from models.engine import ModelIncompatible
from streams.clock import ManualClock
from streams.pipelines.vision.pipeline import VisionPipeline
from streams.processor import Processor
from streams.replay import Replay, Replayed
from streams.schemas import VideoDetections
from streams.settings import Models, Vision
from tests.streams.inmemory import batch
from tests.streams.vision import colours
from tests.streams.vision.colours import LABELS, SIDE, noise, plain, png, scores

NOW_S = 1_767_225_600.0  # 2026-01-01
NOW_MS = int(NOW_S * 1000)
BLACK = png(plain(0, 0, 0))


@pytest.fixture
def opened() -> Iterator[list[VisionPipeline]]:
    """Pipelines to be closed."""
    found: list[VisionPipeline] = []
    yield found
    for each in found:
        each.close()


class Stage:
    """A pipeline with the model `colours`."""

    def __init__(self, root: Path, opened: list[VisionPipeline]) -> None:
        self._root, self._opened = root, opened

    def pipeline(self, *, labels: Sequence[str] = LABELS, settings: dict[str, Any] | None = None, **how: Any) -> Any:
        if not (self._root / "colours").exists():
            colours.save(self._root, labels=labels, **how)
        vision = Vision(model="colours", threads=2, **(settings or {}))
        self._opened.append(VisionPipeline(vision, Models(root=str(self._root)), ManualClock(NOW_S)))
        return self._opened[-1]

    def see(self, pictures: Sequence[bytes], **how: Any) -> Replayed:
        return see(self.pipeline(**how), pictures)

    def classes(self, picture: bytes, **how: Any) -> dict[str, float]:
        """Label -> score of one picture."""
        (message,) = messages(self.see([picture], **how))
        return {each["label"]: each["score"] for each in message["classes"]}


@pytest.fixture
def stage(tmp_path: Path, opened: list[VisionPipeline]) -> Stage:
    return Stage(tmp_path, opened)


def see(pipeline: VisionPipeline, pictures: Sequence[bytes]) -> Replayed:
    replay = Replay(pipeline, ManualClock(NOW_S))
    return replay.process([b"gate"] * len(pictures), list(pictures), timestamps_ms=[NOW_MS] * len(pictures))


def messages(replayed: Replayed) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for value in replayed.values]


def expected(reckoned: NDArray[np.float64], top: int = 5) -> list[tuple[str, float]]:
    """Labels and scores, best first; of equals the one that the model names first."""
    ranked = sorted(range(len(reckoned)), key=lambda each: (-reckoned[each], each))
    return [(LABELS[each], float(reckoned[each])) for each in ranked[:top]]


def test_the_most_probable_labels_come_first_with_the_networks_own_scores(stage: Stage) -> None:
    pictures = [noise(seed) for seed in range(20)]
    answered = stage.see([png(each) for each in pictures], settings={"top": 3})
    assert not answered.dead_letters
    for number, (message, picture) in enumerate(zip(messages(answered), pictures, strict=True)):
        assert list(message) == [
            "camera_id", "frame", "event_time", "width", "height", "objects", "model", "classes",
        ]  # fmt: skip
        assert (message["camera_id"], message["frame"], message["model"]) == ("gate", number, "colours/1")
        assert (message["width"], message["height"], message["objects"]) == (SIDE, SIDE, [])
        assert message["event_time"] == "2026-01-01T00:00:00.000Z"
        want = expected(scores(picture), 3)
        assert [each["label"] for each in message["classes"]] == [label for label, _ in want]
        assert [each["score"] for each in message["classes"]] == pytest.approx([score for _, score in want], abs=1e-4)
    assert len({each["classes"][0]["label"] for each in messages(answered)}) > 1
    for value in answered.values:
        msgspec.json.decode(value or b"", type=VideoDetections)


def test_of_equal_scores_the_label_that_the_model_names_first_is_first(stage: Stage) -> None:
    red = stage.classes(png(plain(200, 0, 0)))
    assert list(red) == ["red", "reddish", "any", "green", "blue"]
    assert red["red"] == red["reddish"]
    assert red["green"] == red["blue"]


def test_no_more_labels_come_than_there_are(stage: Stage) -> None:
    assert list(stage.classes(png(plain(9, 0, 200)), labels=LABELS[:2], settings={"top": 9})) == ["red", "green"]


def test_a_larger_picture_without_tiles_is_seen_whole(stage: Stage) -> None:
    halves = np.hstack([plain(200, 0, 0, 64, 128), plain(0, 0, 200, 64, 128)])
    jpeg = bytes(cv2.imencode(".jpg", halves)[1])
    assert stage.classes(jpeg) == pytest.approx(dict(expected(scores(halves))), abs=0.01)


class Counting:
    """An engine that notes how many rows each call had."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.rows: list[int] = []

    def infer(self, inputs: dict[str, NDArray[Any]]) -> Any:
        self.rows.append(len(next(iter(inputs.values()))))
        return self._engine.infer(inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_a_large_picture_is_what_its_tiles_are_together(stage: Stage, combine: str) -> None:
    picture, small = noise(5, 40, 28), noise(6)
    picture[:20, :20] = plain(250, 5, 5, 20, 20)
    pipeline = stage.pipeline(tile=True, combine=combine, settings={"max_batch_size": 4})
    counting = pipeline.served._engine = Counting(pipeline.served._engine)
    large, other = messages(see(pipeline, [png(picture), png(small)]))
    # Tiles of 16 pixels that share a quarter with their neighbours: 3 across 40, 2 down 28.
    parts = [scores(picture[y : y + SIDE, x : x + SIDE]) for y in (0, 12) for x in (0, 12, 24)]
    together = np.max(parts, axis=0) if combine == "max" else sum(parts) / len(parts)
    got = {each["label"]: each["score"] for each in large["classes"]}
    assert got == pytest.approx(dict(expected(np.asarray(together))), abs=1e-4)
    assert (large["width"], large["height"]) == (40, 28)
    assert {each["label"]: each["score"] for each in other["classes"]} == pytest.approx(
        dict(expected(scores(small))), abs=1e-4
    )
    assert counting.rows == [4, 2, 1]


def test_a_vast_picture_takes_no_more_memory_than_its_pixels_and_one_call(stage: Stage) -> None:
    pipeline = stage.pipeline(tile=True, settings={"max_batch_size": 8})
    counting = pipeline.served._engine = Counting(pipeline.served._engine)
    decoded = pipeline.decode(batch([png(noise(1, 600, 500))], keys=[b"gate"], topic="f", headers=[[TIME]]))
    (held,) = decoded.columns.tensor[0]
    assert (held.dtype, held.nbytes) == (np.uint8, 600 * 500 * 3)
    pipeline.served.infer(decoded.columns.tensor)
    assert max(counting.rows) == 8
    assert sum(counting.rows) > 900


TIME = ("event-time", str(NOW_MS).encode())


def test_tiles_have_all_pixels_of_a_jpeg(stage: Stage) -> None:
    halves = np.hstack([plain(200, 0, 0, 64, 128), plain(0, 0, 200, 64, 128)])
    found = stage.classes(bytes(cv2.imencode(".jpg", halves)[1]), tile=True)
    red, blue = scores(plain(200, 0, 0)), scores(plain(0, 0, 200))
    assert (found["red"], found["blue"]) == pytest.approx((red[0], blue[2]), abs=0.02)


@pytest.mark.parametrize(("width", "height"), [(200, 9), (9, 200)])
def test_tiles_of_a_strip_have_its_ends_although_pictures_are_cropped(stage: Stage, width: int, height: int) -> None:
    strip = plain(0, 0, 200, width, height)
    without = stage.classes(png(strip), tile=True, resize="crop", fill=0)
    strip[: 3 if height > width else None, : 3 if width > height else None] = (0, 0, 255)
    assert stage.classes(png(strip))["red"] > 2 * without["red"]


def test_pictures_that_are_seen_in_tiles_are_served_one_by_one(stage: Stage) -> None:
    assert stage.pipeline(tile=True).batch.max_batch_size == 1


def test_others_take_as_many_as_the_settings_say(stage: Stage) -> None:
    assert stage.pipeline(settings={"max_batch_size": 7}).batch.max_batch_size == 7


@pytest.mark.parametrize("tile", [False, True])
def test_a_picture_that_is_none_or_gives_nan_costs_no_other(stage: Stage, tile: bool) -> None:
    good = [png(noise(seed)) for seed in range(3)]
    pipeline = stage.pipeline(tile=tile)
    alone = [each["classes"] for each in messages(see(pipeline, good))]
    replayed = see(pipeline, [good[0], b"no picture", BLACK, good[1], good[2][:60], good[2]])
    assert [each["classes"] for each in messages(replayed)] == alone
    assert [each["frame"] for each in messages(replayed)] == [0, 3, 5]
    told = {each.row: dict(each.headers) for each in replayed.dead_letters}
    assert {row: (headers["error.stage"], headers["error.type"]) for row, headers in told.items()} == {
        1: (b"decode", b"PictureForeign"),
        2: (b"infer", b"NonFinite"),
        4: (b"decode", b"PictureTruncated"),
    }


def test_nan_in_one_tile_is_nan_of_the_picture(stage: Stage) -> None:
    picture = noise(3, 64, 64)
    picture[:32, :32] = 0
    replayed = see(stage.pipeline(tile=True), [png(noise(4, 64, 64)), png(picture)])
    assert [each.row for each in replayed.dead_letters] == [1]
    assert len(replayed.values) == 1


def test_nan_alone_is_a_dead_letter_and_the_model_goes_on(stage: Stage) -> None:
    replayed = stage.see([BLACK] * 3)
    assert [dict(each.headers)["error.type"] for each in replayed.dead_letters] == [b"NonFinite"] * 3


def test_nothing_is_remembered_and_nothing_told_beside(stage: Stage) -> None:
    pipeline = stage.pipeline()
    assert pipeline.new_store() is None
    assert pipeline.topics_beside == ()
    record = batch([png(noise(1))], keys=[b"gate"], headers=[[TIME]])
    (outbox,) = Processor[Any](pipeline, clock=ManualClock(NOW_S)).process([record]).outboxes
    assert [each.topic for each in outbox.outgoing if len(each)] == ["video.detections"]


@pytest.mark.parametrize("tile", [False, True])
def test_micro_batches_at_once_give_what_they_give_one_by_one(stage: Stage, tile: bool) -> None:
    pipeline = stage.pipeline(tile=tile, settings={"max_batch_size": 4})
    pipeline.warm_up()
    processor = Processor[Any](pipeline, clock=ManualClock(NOW_S))
    batches = [
        batch([png(noise(7 * number + each, 24, 24)) for each in range(7)], keys=[b"gate"] * 7, headers=[[TIME]] * 7)
        for number in range(12)
    ]
    with ThreadPoolExecutor(4) as threads:
        begun = list(threads.map(lambda each: processor.begin([each]), batches))
    for each, alone in zip(begun, batches, strict=True):
        (at_once,), (one,) = processor.finish(each).outboxes, processor.process([alone]).outboxes
        assert [list(other.values) for other in at_once.outgoing] == [list(other.values) for other in one.outgoing]


def test_another_version_of_the_task_takes_over_and_one_of_another_task_is_refused(
    stage: Stage, tmp_path: Path
) -> None:
    pipeline = stage.pipeline()
    fewer = colours.save(tmp_path, labels=LABELS[:3], version=2, tile=True)
    detector = colours.save(tmp_path, version=3, task="detect")
    processor = Processor[Any](pipeline, clock=ManualClock(NOW_S))
    with pytest.raises(ModelIncompatible) as refused:
        pipeline.open(3, detector.manifest.sha256)
    assert str(refused.value) == (
        "serving colours/3 in the place of colours/1: expected the same task, 'classify', got 'detect'; add it under a "
        "name of its own, and set vision.model to that"
    )
    assert messages(see(pipeline, [png(noise(1))]))[0]["model"] == "colours/1"
    processor.exchange(pipeline.open(2, fewer.manifest.sha256))
    picture = noise(8, 28, 16)
    (message,) = messages(see(pipeline, [png(picture)]))
    assert message["model"] == "colours/2"
    want = np.maximum(scores(picture[:, :SIDE], 3), scores(picture[:, 12:], 3))
    assert [(each["label"], each["score"]) for each in message["classes"]] == [
        (label, pytest.approx(score, abs=1e-4)) for label, score in expected(want)
    ]


def test_a_model_without_a_task_does_not_serve() -> None:
    with pytest.raises(ModelIncompatible) as refused:
        VisionPipeline(Vision(model="fraud"))
    assert "expected the task 'detect' or 'classify' in its manifest, got ''" in str(refused.value)
    assert "add it with --task detect or --task classify" in str(refused.value)


def test_a_detectors_messages_have_no_classes() -> None:
    frame = next(iter(Site(3).camera(0)))
    with closing(VisionPipeline(Vision(threads=1), clock=ManualClock(NOW_S))) as pipeline:
        (message,) = messages(see(pipeline, [png(frame.picture)]))
    assert message["objects"]
    assert "classes" not in message
