"""`headrace predict vision` with a classifier: from adding it to what is written on the picture."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.connectors.cameras import film
from tests.streams.cli.conftest import Outcome, run
from tests.streams.vision.colours import LABELS, network, noise, plain, png, scores


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the classifier is added as `colours`."""
    monkeypatch.chdir(tmp_path)
    Path("colours.onnx").write_bytes(network())
    Path("colours.txt").write_text("\n".join(LABELS))
    run(
        *("models", "add", "colours.onnx", "--task", "classify", "--labels", "colours.txt", "--activation", "softmax"),
        *("--scale", "1", "--mean", "0,0,0", "--std", "1,1,1", "--tile", "--description", "Mine.", "--licence", "MIT"),
    )


def predict(source: object, *more: object, code: int = 0, **environment: str) -> Outcome:
    return run("predict", "vision", "--model", "colours", "--from", source, *more, code=code, **environment)


def test_a_folder_of_pictures_is_classified_and_bad_ones_are_dead_letters() -> None:
    folder = Path("pictures")
    folder.mkdir()
    pictures = [noise(seed) for seed in range(3)]
    for number, content in enumerate([*map(png, pictures), b"no picture", png(plain(0, 0, 0))]):
        (folder / f"{number}.png").write_bytes(content)
    done = predict(folder, "--strict", code=1, VISION__TOP="2")
    for message, picture in zip(done.lines(), pictures, strict=True):
        reckoned = scores(picture)
        best = sorted(range(len(LABELS)), key=lambda each: -reckoned[each])[:2]
        assert message["classes"] == [
            {"label": LABELS[each], "score": pytest.approx(reckoned[each], abs=1e-4)} for each in best
        ]
        assert message["objects"] == []
    letters = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert [(each["frame"], each["stage"], each["type"]) for each in letters] == [
        (3, "decode", "PictureForeign"), (4, "infer", "NonFinite"),
    ]  # fmt: skip


def test_the_best_classes_are_written_into_the_upper_left_corner() -> None:
    source = plain(40, 200, 60, 640, 480)
    Path("green.png").write_bytes(png(source))
    predict("green.png", "--draw", "seen.png", VISION__TOP="3")
    seen = cv2.imread("seen.png")
    changed = (seen != source).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows[0], columns[0]) <= (10, 10)
    assert rows[-1] < 480 // 4
    assert columns[-1] < 640 // 2
    grounds = [tuple(seen[row, columns[0] + 2].tolist()) for row in range(rows[0] + 8, rows[-1], 20)]
    assert len(set(grounds)) == len(grounds) == 3  # a plate for each label, in its own colour


def test_a_film_has_its_classes_written_on_every_frame() -> None:
    path = film(Path("a.mp4"), 6, size=(320, 240))
    done = predict(path, "--draw", "out.mp4")
    assert [each["frame"] for each in done.lines()] == list(range(6))
    with av.open("out.mp4") as container:
        drawn = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        plain_frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(drawn) == 6
    for seen, source in zip(drawn, plain_frames, strict=True):
        changed = np.abs(seen.astype(int) - source).max(axis=2) > 60
        assert changed[:40, :60].mean() > 0.2
        assert changed[140:, 160:].mean() < 0.05


def test_what_is_about_objects_is_refused() -> None:
    Path("green.png").write_bytes(png(plain(40, 200, 60)))
    shots = predict("green.png", "--snapshots", "shots", code=2)
    assert "--snapshots is for objects; colours/1 is a classifier, which finds and follows none" in " ".join(
        shots.err.split()
    )
    assert not Path("shots").exists()
    assert "--score is for objects" in predict("green.png", "--score", 0.5, code=2).err
