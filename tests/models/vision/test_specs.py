"""The manifest's tables for vision: old manifests without them stay, absurd ones are refused."""

from __future__ import annotations

import msgspec
import pytest

from models import manifest as manifest_file
from models.engine import ModelCorrupt
from models.repository import Repository
from models.vision.specs import Head, Picture
from tests.models.vision.manifests import detector

GOOD = detector(Head("gfl", ("out",), strides=(8, 16)), mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0))


def test_what_is_written_is_read_again() -> None:
    assert manifest_file.decode(manifest_file.encode(GOOD), "here") == GOOD


def test_a_manifest_of_before_has_no_task() -> None:
    manifest = Repository().load("fraud").manifest
    assert (manifest.task, manifest.picture, manifest.head) == ("", None, None)
    assert b"picture" not in manifest_file.encode(manifest)


@pytest.mark.parametrize(
    ("table", "key", "value", "sentence"),
    [
        ("picture", "width", 0, "`picture` of 1 to 8192 pixels a side, got 0x64"),
        ("picture", "height", 100_000, "`picture` of 1 to 8192 pixels a side, got 64x100000"),
        ("picture", "fill", 256, "`picture.fill` of 0 to 255, got 256"),
        ("picture", "scale", float("nan"), "a finite `picture.scale` above 0, got nan"),
        ("picture", "scale", 0.0, "a finite `picture.scale` above 0, got 0.0"),
        ("picture", "mean", (1.0, float("inf"), 0.0), "`picture.mean` of 3 finite numbers"),
        ("picture", "mean", (1.0,), "`picture.mean` of 3 finite numbers"),
        ("picture", "std", (1.0, 1.0, 0.0), "`picture.std` above 0"),
        ("picture", "batch", 2, "`picture.batch` of 0 .* or 1, got 2"),
        ("picture", "overlap", 1.0, "`picture.overlap` of 0 to 0.9"),
        ("picture", "resize", "squash", "Invalid enum value 'squash'"),
        ("picture", "colour", "cmyk", "Invalid enum value 'cmyk'"),
        ("picture", "width", 4.5, "Expected `int`, got `float`"),
        ("head", "ids", (1, 2), "`head.ids` of 3 different numbers"),
        ("head", "ids", (1, 2, 2), "`head.ids` of 3 different numbers"),
        ("head", "ids", (-1, 2, 3), "`head.ids` of 0 to 1048576, got -1 to 3"),
        ("head", "ids", (1, 2, 10**9), "`head.ids` of 0 to 1048576"),
        ("head", "strides", (0, 8), "at most 8 `head.strides` of 1 to 1024"),
        ("head", "strides", tuple(range(1, 20)), "at most 8 `head.strides`"),
        ("head", "offset", float("nan"), "`head.offset` of 0 to 1, got nan"),
        ("head", "tensors", ("a",) * 65, "at most 64 `head.tensors`"),
        ("head", "family", "a\x1b[2J", "texts without control characters"),
    ],
)
def test_what_no_detector_can_be_is_refused(table: str, key: str, value: object, sentence: str) -> None:
    tables = msgspec.to_builtins(GOOD)
    tables[table][key] = value
    text = msgspec.toml.encode(tables)
    with pytest.raises(ModelCorrupt, match=sentence):
        manifest_file.decode(text, "here")


def test_a_task_without_its_tables_is_refused() -> None:
    for field in ("picture", "head"):
        text = manifest_file.encode(msgspec.structs.replace(GOOD, **{field: None}))
        with pytest.raises(ModelCorrupt, match="expected the tables `picture` and `head` with the task 'detect'"):
            manifest_file.decode(text, "here")
    with pytest.raises(ModelCorrupt, match="expected `labels` with the task 'detect', got none"):
        manifest_file.decode(manifest_file.encode(msgspec.structs.replace(GOOD, labels=())), "here")
    with pytest.raises(ModelCorrupt, match="Invalid enum value 'guess'"):
        manifest_file.decode(manifest_file.encode(GOOD).replace(b'"detect"', b'"guess"'), "here")


@pytest.mark.parametrize(("key", "value"), [("score", 7.0), ("score", -1.0), ("iou", 1.5)])
def test_a_threshold_of_a_detector_that_no_score_or_overlap_can_have_is_refused(key: str, value: float) -> None:
    text = manifest_file.encode(msgspec.structs.replace(GOOD, thresholds={key: value}))
    with pytest.raises(ModelCorrupt, match=f"`thresholds.{key}` of 0 to 1 with the task 'detect', got {value}"):
        manifest_file.decode(text, "here")


def test_colours_have_as_many_numbers_as_channels() -> None:
    grey = detector(Head("yolov8"), colour="grey", mean=(0.5,), std=(0.5,))
    assert manifest_file.decode(manifest_file.encode(grey), "here").picture == Picture(
        64, 64, colour="grey", mean=(0.5,), std=(0.5,)
    )
