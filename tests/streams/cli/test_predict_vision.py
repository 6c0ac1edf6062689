"""`headrace predict vision`: what real detectors find in real pictures, and what becomes of bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from connectors.simulators.camera import Site
from connectors.video import VideoError
from models.engine import ModelIncompatible, ModelNotFound
from streams.errors import HeadraceError
from tests.connectors.cameras import film
from tests.streams.cli.conftest import Outcome, run

DATA = Path(__file__).parents[3].parent / "shared/data"
DOG = DATA / "detection/images/dog.jpg"
BOTTLES = DATA / "detection/video/bottle-detection.mp4"

pytestmark = pytest.mark.skipif(
    not (DATA / "models/yolox_nano_416.onnx").exists(), reason="needs the detectors in ../shared/data"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: YOLOX nano as `yolox`."""
    folder = tmp_path_factory.mktemp("models")
    run(
        *("models", "add", DATA / "models/yolox_nano_416.onnx", "yolox", "--root", folder, "--task", "detect"),
        *("--labels", DATA / "detection/coco.names", "--description", "a test's", "--licence", "Apache-2.0"),
    )
    return folder


def predict(root: Path, source: object, *more: object, code: int = 0) -> Outcome:
    return run("predict", "vision", "--root", root, "--model", "yolox", "--from", source, *more, code=code)


def test_a_photograph_shows_what_people_see_in_it(root: Path, tmp_path: Path) -> None:
    done = predict(root, DOG, "--score", 0.5, "--draw", tmp_path / "seen.png", "--camera", "porch")
    (found,) = done.lines()
    assert {each["label"] for each in found["objects"]} == {"dog", "bicycle", "car"}
    assert (found["camera_id"], found["width"], found["height"], found["model"]) == ("porch", 768, 576, "yolox/1")
    seen, source = cv2.imread(str(tmp_path / "seen.png")), cv2.imread(str(DOG))
    assert seen.shape == source.shape
    changed = (seen != source).any(axis=2)
    for each in found["objects"]:
        x1, y1, x2, _ = (round(side) for side in each["box"])
        assert changed[y1, x1 + 5 : x2 - 5].mean() > 0.95
    assert changed.mean() < 0.12  # nothing is covered


@pytest.mark.parametrize(
    ("outputs", "both"),
    [
        (("--draw", "film"), "--from and --draw"),
        (("--events", "film"), "--from and --events"),
        (("--events", "new", "--output", "new"), "--events and --output"),
    ],
)
def test_no_file_is_written_that_is_read_or_written_already(
    root: Path, tmp_path: Path, outputs: tuple[str, ...], both: str
) -> None:
    path = tmp_path / "film"
    path.write_bytes(BOTTLES.read_bytes())
    named = [tmp_path / each if each in ("film", "new") else each for each in outputs]
    outcome = predict(root, path, *named, code=2)
    assert f"{both} are the same file" in outcome.err
    assert path.read_bytes() == BOTTLES.read_bytes()
    assert not (tmp_path / "new").exists()


def test_a_film_is_followed_and_drawn(root: Path, tmp_path: Path) -> None:
    arguments = ("--fps", 4, "--draw", tmp_path / "out.mp4", "--snapshots", tmp_path / "shots")
    outputs = ("--output", tmp_path / "found.jsonl", "--events", tmp_path / "events.jsonl")
    done = predict(root, BOTTLES, *arguments, *outputs)
    assert "160 frames" in done.err
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [each["frame"] for each in found] == sorted(each["frame"] for each in found)
    by_eye = json.loads((BOTTLES.parent / "contents.json").read_text())[BOTTLES.name]["bottles_by_eye"]
    for frame, bottles in by_eye.items():
        near = min(found, key=lambda each: abs(each["frame"] - int(frame)))
        followed = [each for each in near["objects"] if each["track_id"] and each["label"] == "bottle"]
        assert len(followed) == bottles, frame
    tracks = {each["track_id"] for row in found for each in row["objects"]} - {None}
    assert {int(path.stem) for path in (tmp_path / "shots/camera-1").iterdir()} == tracks
    new = [each["track_id"] for each in events if each["kind"] == "new"]
    assert new
    assert len(set(new)) == len(new)
    assert {each["track_id"] for each in events} == set(new) <= tracks, "a life begins before it goes on"
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.time for frame in container.decode(video=0)]
    assert len(frames) == 160
    assert frames[-1] == pytest.approx(39.8, abs=0.3)


def test_pictures_of_a_folder_are_not_followed_and_bad_ones_are_dead_letters(root: Path, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        (tmp_path / f"{number}.jpg").write_bytes(DOG.read_bytes())
    (tmp_path / "3.jpg").write_bytes(DOG.read_bytes()[:50_000])
    done = predict(root, tmp_path, "--strict", code=1)
    found = done.lines()
    assert [each["frame"] for each in found] == [0, 1, 3]
    assert found[0]["objects"] == found[1]["objects"]
    assert {each["track_id"] for row in found for each in row["objects"]} == {None}
    letter = json.loads(done.err.splitlines()[0])
    assert (letter["frame"], letter["stage"], letter["type"]) == (2, "decode", "PictureTruncated")
    assert "dead letters: 1 at decode" in done.err


def test_a_folder_of_damaged_pictures_alone_is_all_dead_letters(root: Path, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    assert predict(root, tmp_path).out == ""


def test_mistakes_are_sentences(root: Path, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 3)
    several = predict(root, path, "--draw", tmp_path / "one.png", code=1)
    assert isinstance(several.result.exception, HeadraceError)
    assert "expected one picture, got several; give --draw OUT.mp4" in several.error
    assert several.out == ""
    assert not (tmp_path / "one.png").exists()
    assert "expected a name ending in .mp4" in predict(root, path, "--draw", tmp_path / "a.gif", code=1).error
    assert isinstance(predict(root, tmp_path / "none.mp4", code=1).result.exception, VideoError)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((48, 64, 3), np.uint8))
    pictures = predict(root, tmp_path, "--snapshots", tmp_path / "shots", code=2)
    assert "pictures are each by themselves" in " ".join(pictures.err.split())
    told = predict(root, tmp_path, "--events", tmp_path / "events.jsonl", code=2)
    assert "--events is for what is followed" in " ".join(told.err.split())
    fraud = run("predict", "vision", "--root", root, "--model", "fraud", "--from", path, code=1)
    assert isinstance(fraud.result.exception, ModelIncompatible)
    assert "add it with --task detect" in fraud.error
    missing = run("predict", "vision", "--root", root, "--model", "none", "--from", path, code=1)
    assert isinstance(missing.result.exception, ModelNotFound)


def test_cameras_zones_and_limits_are_those_of_the_settings(root: Path, tmp_path: Path) -> None:
    settings = tmp_path / "headrace.toml"
    settings.write_text(
        "[vision]\nversion = 7\nmax_pixels = 500_000\n[[vision.cameras]]\nid = 'porch'\n"
        "[[vision.cameras.zones]]\nname = 'left'\npolygon = [[0.05, 0.1], [0.5, 0.1], [0.5, 0.98], [0.05, 0.98]]\n"
    )
    arguments = ("predict", "vision", "--root", root, "--from", DOG, "--draw", tmp_path / "seen.png")
    done = run(*arguments, "--model", "yolox", "--camera", "porch", "--score", 0.5, CONFIG=str(settings))
    zones = {each["label"]: each["zones"] for each in done.lines()[0]["objects"]}
    assert zones == {"dog": ["left"], "bicycle": ["left"], "car": []}
    seen, source = cv2.imread(str(tmp_path / "seen.png")), cv2.imread(str(DOG))
    row = round(0.98 * source.shape[0])
    changed = (seen[row - 2 : row + 3] != source[row - 2 : row + 3]).any(axis=(0, 2))
    assert changed[60:360].mean() > 0.95  # the zone's lower edge
    other = run(*arguments, "--model", "yolox", "--camera", "yard", "--score", 0.5, CONFIG=str(settings))
    assert {tuple(each["zones"]) for each in other.lines()[0]["objects"]} == {()}
    assert isinstance(run(*arguments, code=1, CONFIG=str(settings)).result.exception, ModelNotFound)  # vision/7
    settings.write_text("[vision]\nmax_pixels = 400_000\n")
    letter = json.loads(run(*arguments, "--strict", code=1, CONFIG=str(settings)).err.splitlines()[0])
    assert (letter["frame"], letter["type"]) == (0, "PictureTooLarge")


def test_without_a_model_it_is_the_bundled_one(tmp_path: Path) -> None:
    frame = next(iter(Site(3).camera(0)))
    cv2.imwrite(str(tmp_path / "site.png"), frame.picture)
    (found,) = run("predict", "vision", "--from", tmp_path / "site.png").lines()
    assert found["model"] == "vision/1"
    assert {each["label"] for each in found["objects"]} & {truth.label for truth in frame.truth}
    assert "expected an id" in run("predict", "vision", "--from", tmp_path, "--camera", "", code=2).err


def test_a_film_without_objects_gives_a_line_a_frame(root: Path, tmp_path: Path) -> None:
    found = predict(root, film(tmp_path / "a.mp4", 11, size=(320, 240)), "--score", 0.9).lines()
    assert [(each["frame"], each["objects"]) for each in found] == [(number, []) for number in range(11)]
    times = np.array([each["event_time"].removesuffix("Z") for each in found], "datetime64[ms]")
    assert set(np.diff(times)) == {np.timedelta64(50, "ms")}
