"""Detectors and classifiers of one's own, as a person types it; among them real ones that nobody here trained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from models import repository
from models.engine import ModelRefused, TrainingFailed
from models.repository import Model, Repository
from models.vision.detector import Detector
from models.vision.evaluate import judge, read_marked
from models.vision.preprocess import Preprocess
from models.vision.testcard import draw
from tests.models.vision import networks
from tests.models.vision.manifests import ABSENT, SHARED
from tests.models.vision.test_evaluate import pycocotools
from tests.streams.cli.conftest import Outcome, run
from tests.streams.cli.terminal import on_terminal

SAID = ("--description", "Sees.", "--licence", "MIT")
shared = pytest.mark.skipif(not (SHARED / "detection").exists(), reason=ABSENT)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Yard Camera.v2.onnx").write_bytes(networks.frozen_detector())
    Path("cells.onnx").write_bytes(networks.classifier())
    Path("four.names").write_text("red\ngreen\nblue\nnone\n\n", encoding="utf-8-sig")


def add(*arguments: object, code: int = 0) -> Outcome:
    return run("models", "add", *arguments, *SAID, code=code)


def own() -> Repository:
    return Repository([Path(".headrace/models")])


def test_a_detector_is_added_under_its_files_name() -> None:
    outcome = add("Yard Camera.v2.onnx", "--task", "detect", "--labels", "four.names", "--score", "0.6", "--iou", "0.3")
    assert outcome.out.startswith("yard-camera-v2/1")
    assert "detect: letterbox to 64x64 rgb from 0 to 1; yolov8" in outcome.out
    assert "it was exported for one picture, and rewritten to take any number" in outcome.err
    manifest = own().load("yard-camera-v2").manifest
    assert manifest.labels == ("red", "green", "blue", "none")
    assert manifest.thresholds == {"score": 0.6, "iou": 0.3}
    assert manifest.task == "detect"
    assert "ok" in run("models", "verify", "yard-camera-v2").out
    again = add("Yard Camera.v2.onnx", "--task", "detect", "--labels", "four.names", "--score", "0.6", "--iou", "0.3")
    assert "yard-camera-v2/1 is this network already; nothing was changed" in again.err


@pytest.mark.parametrize(
    "other",
    [
        ("--labels", "other.names"), ("--colour", "bgr"), ("--scale", "1/128"), ("--resize", "stretch"),
        ("--score", "0.7"), ("--boxes", "xyxy"),
    ],
)  # fmt: skip
def test_a_network_that_is_to_be_read_in_another_way_is_another_version(other: tuple[str, str]) -> None:
    Path("other.names").write_text("crimson\ngreen\nblue\nnone\n")
    first = ("Yard Camera.v2.onnx", "yard", "--task", "detect", "--labels", "four.names")
    add(*first)
    assert add(*first, *other).out.startswith("yard/2")
    assert "yard/2 is this network already; nothing was changed" in add(*first, *other).err
    assert "yard/1 is this network already; nothing was changed" in add(*first).err
    assert own().versions("yard") == [1, 2]


def test_names_in_the_file_are_used_and_compared() -> None:
    network = onnx.load_from_string(networks.frozen_detector())
    onnx.helper.set_model_props(network, {"names": "{0: 'red', 1: 'green', 2: 'blue', 3: 'none'}"})
    Path("own.onnx").write_bytes(network.SerializeToString())
    outcome = add("own.onnx", "--task", "detect")
    assert "its 4 classes are called as the file itself says: `red`, `green`, `blue`, …" in outcome.err
    assert own().load("own").manifest.labels == ("red", "green", "blue", "none")
    assert "the file itself" not in add("own.onnx", "same", "--task", "detect", "--labels", "four.names").err
    Path("turned.names").write_text("none\nblue\nGreen\nred\n")
    outcome = add("own.onnx", "turned", "--task", "detect", "--labels", "turned.names")
    assert "the file itself calls classes otherwise, such as `red`, `green`, `blue`, …; they are" in outcome.err
    assert own().load("turned").manifest.labels == ("none", "blue", "Green", "red")


def test_labels_are_read_from_data_yaml() -> None:
    Path("data.yaml").write_text("train: images\nnames:\n  0: red\n  1: green\n  2: blue\n  3: none\n")
    add("Yard Camera.v2.onnx", "yard", "--task", "detect", "--labels", "data.yaml")
    assert own().load("yard").manifest.labels == ("red", "green", "blue", "none")


def test_what_boxes_are_taken_for_is_said_where_the_network_saw_nothing() -> None:
    Path("rows.onnx").write_bytes(networks.rows_detector(0.9, unit=64))
    task = ("rows.onnx", "--task", "detect", "--labels", "four.names")
    sentence = "rows.onnx: the network saw nothing in the test pictures"
    assert sentence in add(*task).err
    outcome = add(*task, "--normalised")
    assert outcome.out.startswith("rows/2")
    assert sentence not in outcome.err
    assert "rows/1 is this network already" in add(*task, "--pixels").err
    heads = [own().load("rows", version).manifest.head for version in (1, 2)]
    assert [head.normalised for head in heads if head] == [False, True]


def test_every_part_of_the_preparation_can_be_said() -> None:
    add(
        "Yard Camera.v2.onnx", "yard", "--task", "detect", "--labels", "four.names", "--family", "yolov8",
        "--size", "64", "--resize", "letterbox", "--align", "top-left", "--fill", "0", "--colour", "bgr",
        "--scale", "1/128", "--mean", "0.5,0.25, 1", "--std", "1 1/2 2", "--boxes", "xyxy", "--ids", "0",
    )  # fmt: skip
    manifest = own().load("yard").manifest
    assert manifest.picture is not None
    assert manifest.head is not None
    assert (manifest.picture.align, manifest.picture.fill, manifest.picture.colour) == ("top-left", 0, "bgr")
    assert (manifest.picture.scale, manifest.picture.mean, manifest.picture.std) == (
        1 / 128,
        (0.5, 0.25, 1),
        (1, 0.5, 2),
    )
    assert manifest.head.boxes == "xyxy"


def test_a_classifier_is_added_with_tiles() -> None:
    add(
        "cells.onnx",
        "--task",
        "classify",
        "--labels",
        "four.names",
        "--activation",
        "sigmoid",
        "--tile",
        "--combine",
        "mean",
    )
    manifest = own().load("cells").manifest
    assert manifest.head is not None
    assert manifest.picture is not None
    assert (manifest.head.activation, manifest.head.combine, manifest.picture.tile) == ("sigmoid", "mean", True)
    assert manifest.thresholds == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--task", "detect"), "which the file does not hold: --labels FILE, or --label NAME"),
        (("--family", "yolov8"), "--family needs --task detect or --task classify"),
        (("--labels", "four.names"), "--labels needs --task"),
        (("--tile",), "--tile needs --task"),
        (("--pixels",), "--pixels needs --task"),
        (("--task", "classify", "--labels", "four.names", "--pixels"), "--pixels are a detector's"),
        (("--task", "classify", "--labels", "four.names", "--family", "yolox"), "are a detector's"),
        (("--task", "detect", "--labels", "four.names", "--tile"), "--tile and --combine are a classifier's"),
        (("--task", "detect", "--labels", "four.names", "--combine", "max"), "are a classifier's"),
        (("--task", "detect", "--labels", "empty"), "reading empty: expected names, one a line, got 0 characters"),
        (("--task", "detect", "--labels", "gap"), "reading gap: expected a name in line 2, got none"),
        (("--task", "detect", "--labels", "bytes"), "expected text in UTF-8, one name a line"),
        (("--task", "detect", "--labels", "absent"), "'absent' does not exist"),
        (
            ("--task", "detect", "--labels", "four.names", "--size", "0x"),
            "expected WIDTHxHEIGHT, e.g. 640x640, got '0x'",
        ),
        (("--task", "detect", "--labels", "four.names", "--scale", "1/0"), "expected a number, e.g. 1/255, got '1/0'"),
        (("--task", "detect", "--labels", "four.names", "--mean", "1,a,2"), "expected numbers, one for each channel"),
        (
            ("--task", "detect", "--labels", "four.names", "--ids", "coco91"),
            "expected COCO's 80 labels with coco91, got 4",
        ),
        (("--task", "guess"), "'guess' is not one of"),
        (("--task", "detect", "--labels", "four.names", "--label", "a"), "--labels and --label exclude each other"),
        (("--task", "detect", "--labels", "four.names", "--score", "1.5"), "1.5 is not in the range"),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    Path("empty").touch()
    Path("gap").write_text("a\n\nb\n")
    Path("bytes").write_bytes(b"\xff\xfe\x00a")
    outcome = add("Yard Camera.v2.onnx", "yard", *arguments, code=2)
    assert sentence in " ".join(outcome.err.split())
    assert not Path(".headrace").exists()


def test_labels_that_do_not_fit_the_head_are_a_sentence() -> None:
    Path("two").write_text("a\nb\n")
    outcome = add("Yard Camera.v2.onnx", "--task", "detect", "--labels", "two", code=1)
    assert isinstance(outcome.result.exception, ModelRefused)
    assert (
        "with 2 labels, got [2, 8, 64] for 2 pictures: is the number of labels right? (it may be 3 or 4"
        in outcome.error
    )
    assert own().names() == []


def test_on_a_terminal_the_family_is_asked() -> None:
    Path("lists.onnx").write_bytes(networks.lists_detector())
    task = ("--task", "detect", "--labels", "four.names")
    assert "say which: --family ssd" in add("lists.onnx", *task, code=1).error
    said = on_terminal("add", "lists.onnx", *task, *SAID, answers=["yolox", "nms"], code=0)
    assert "the outputs fit several families" in said
    assert "'yolox' is not one of" in said
    head = own().load("lists").manifest.head
    assert head is not None
    assert head.family == "nms"


def test_the_outputs_are_asked_or_said() -> None:
    alike = np.random.default_rng(0).random((2, 30, 4)) * 0.4
    Path("alike.onnx").write_bytes(networks.constant_detector({"first": alike[0], "second": alike[1]}))
    task = ("--task", "detect", "--labels", "four.names")
    assert "say which: --outputs second,first or --outputs first,second" in add("alike.onnx", *task, code=1).error
    said = on_terminal("add", "alike.onnx", *task, *SAID, answers=["3", "2"], code=0)
    assert "several outputs fit rtdetr" in said
    assert "'3' is not one of" in said
    add("alike.onnx", "other", *task, "--outputs", "second, first")
    heads = [own().load(name).manifest.head for name in ("alike", "other")]
    assert [head.tensors for head in heads if head] == [("first", "second"), ("second", "first")]
    assert "--outputs needs --task" in add("alike.onnx", "other", "--outputs", "a", code=2).err


def test_what_is_no_detector_is_not_evaluated() -> None:
    outcome = run("models", "evaluate", "vision", "--model", "fraud", "--images", ".", "--labels", ".", code=1)
    assert "reading detections of fraud/2: expected the task 'detect' in its manifest" in outcome.error


def test_a_detector_is_evaluated_on_marked_pictures() -> None:
    add("Yard Camera.v2.onnx", "yard", "--task", "detect", "--labels", "four.names")
    cv2.imwrite("a.png", draw(64, 64, 1))
    Path("a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    outcome = run("models", "evaluate", "vision", "--model", "yard/1", "--images", ".", "--labels", ".", "--json")
    answer = json.loads(outcome.out.splitlines()[-1])
    assert list(answer) == ["ap", "ap50", "images", "objects"]
    assert (answer["images"], answer["objects"]) == (1, 1)


def test_a_picture_that_is_none_is_a_sentence() -> None:
    add("Yard Camera.v2.onnx", "yard", "--task", "detect", "--labels", "four.names")
    Path("a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    arguments = ("models", "evaluate", "vision", "--model", "yard", "--images", ".", "--labels", ".")
    for content, sentence in (
        (cv2.imencode(".jpg", draw(64, 64, 1))[1].tobytes()[:700], "reading a.jpg: decoding a JPEG of 64 x 64"),
        (cv2.imencode(".bmp", draw(64, 64, 1))[1].tobytes(), "reading a.jpg: decoding a picture: expected JPEG, PNG"),
        (b"", "reading a.jpg: decoding a picture: expected JPEG, PNG or WebP, got no bytes; nothing was judged"),
    ):
        Path("a.jpg").write_bytes(content)
        outcome = run(*arguments, code=1)
        assert isinstance(outcome.result.exception, TrainingFailed)
        assert sentence in outcome.error


# Real detectors


NETWORKS = {"FastestDet": "fastestdet", "yolox_nano_416": "yolox"}


def real(name: str) -> Model:
    file, names = SHARED / "models" / f"{name}.onnx", SHARED / "detection" / "coco.names"
    add(file, "real", "--task", "detect", "--labels", names)
    return own().load("real")


def seen(model: Model, paths: list[Path], score: float | None = None) -> tuple[list[tuple[int, int]], np.ndarray]:
    """All pictures in one batch."""
    pictures = [cv2.imread(str(path)) for path in paths]
    preprocess = Preprocess(model.manifest)
    batch = preprocess.batch(len(pictures))
    placements = np.stack([preprocess.one(picture, row) for picture, row in zip(pictures, batch, strict=True)])
    engine = repository.open_engine(model, "onnx-cpu")
    outputs = engine.infer({preprocess.name: batch})
    engine.close()
    sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
    return sizes, Detector(model.manifest, score).decode(outputs, placements, np.array(sizes))


@shared
@pytest.mark.parametrize("name", NETWORKS)
def test_a_real_detector_finds_what_is_in_the_pictures(name: str) -> None:
    model = real(name)
    assert model.manifest.head is not None
    assert model.manifest.head.family == NETWORKS[name]
    assert model.manifest.picture is not None
    assert model.manifest.picture.batch == 0
    images = SHARED / "detection" / "images"
    _, found = seen(model, [images / f"{each}.jpg" for each in ("dog", "person", "horses")])
    dog, person, horses = ({model.manifest.labels[int(row[5])] for row in rows if row[5] >= 0} for rows in found)
    assert {"dog", "bicycle"} <= dog
    assert dog & {"truck", "car"}
    # FastestDet, the smallest of all, takes the horse beside the person for a sheep.
    assert {"person", "dog"} | ({"horse"} if name != "FastestDet" else set()) <= person
    assert "horse" in horses


@shared
@pytest.mark.parametrize(("name", "ap50"), [("FastestDet", 0.59), ("yolox_nano_416", 0.73)])
def test_a_real_detector_is_as_precise_as_pycocotools_says(
    name: str, ap50: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = real(name)
    folder = SHARED / "detection" / "coco8"
    outcome = run("models", "evaluate", "vision", "--model", "real", "--images", folder, "--labels", folder, "--json")
    answer = json.loads(outcome.out.splitlines()[-1])
    marked = read_marked(folder, folder, model.manifest.labels)
    sizes, found = seen(model, [each.path for each in marked], score=0.001)
    monkeypatch.setattr("tests.models.vision.test_evaluate.NAMES", model.manifest.labels)
    expected = pycocotools(marked, sizes, list(found))
    assert [answer["ap"], answer["ap50"]] == pytest.approx(expected[:2], abs=1e-4)
    assert judge(marked, sizes, list(found)).ap50 == pytest.approx(answer["ap50"], abs=1e-4)
    assert answer["ap50"] >= ap50
