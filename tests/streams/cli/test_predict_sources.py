"""`headrace predict vision` of films that are not whole, of folders, and of places where nothing can be drawn."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.connectors.cameras import film, jpeg
from tests.connectors.test_video_damage import cut, textured, with_noise
from tests.streams.cli.conftest import Outcome, run


def predict(source: object, *more: object, code: int = 0) -> Outcome:
    return run("predict", "vision", "--from", source, *more, code=code)


def place(number: int, folder: Path) -> Path:
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), np.full((120, 160, 3), 40 * number, np.uint8))
    return path


# Films that are not whole


def test_a_whole_film_is_not_said_to_be_cut_off(tmp_path: Path) -> None:
    done = predict(film(tmp_path / "a.mp4", 20), "--strict")
    assert "could not be decoded" not in done.err
    assert "the film ends" not in done.err


def test_a_film_that_is_cut_off_is_said_to_be_and_fails_strict(tmp_path: Path) -> None:
    path = cut(textured(tmp_path / "a.mkv"))
    done = predict(path, "--fps", 2)
    assert "the film ends after 2." in done.err
    assert " s of the 5.0 s that it should have" in done.err
    assert predict(path, "--fps", 2, "--strict", code=1).out.count("\n") == len(done.lines())


def test_frames_that_cannot_be_decoded_are_counted_and_fail_strict(tmp_path: Path) -> None:
    done = predict(with_noise(textured(tmp_path / "a.mp4")), "--strict", code=1)
    frames = len(done.lines())
    assert 0 < frames < 100
    assert f"; at least {100 - frames} could not be decoded" in done.err


# Pictures and their names


def test_predictions_and_dead_letters_of_pictures_name_their_files(tmp_path: Path) -> None:
    place(1, tmp_path)
    (tmp_path / '2 "\u00e9".jpg').write_bytes(b"no picture")
    place(3, tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "4.gif").write_bytes(b"no picture")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "folder").mkdir()
    done = predict(tmp_path)
    assert [(each["frame"], each["file"]) for each in done.lines()] == [(0, "1.png"), (2, "3.png")]
    for line in done.out.splitlines():
        assert list(json.loads(line))[-1] == "file"
    (letter,) = (json.loads(line) for line in done.err.splitlines() if line.startswith("{"))
    assert (letter["frame"], letter["file"], letter["type"]) == (1, '2 "\u00e9".jpg', "PictureForeign")
    assert done.err.count("files left out, whose names are not those of pictures: 2") == 1


def test_a_picture_alone_is_named_and_frames_of_a_film_are_not(tmp_path: Path) -> None:
    (found,) = predict(place(1, tmp_path)).lines()
    assert found["file"] == "1.png"
    assert all("file" not in each for each in predict(film(tmp_path / "a.mp4", 3)).lines())


# Where to draw


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        ("none/x.png", "there is no folder"),
        ("none/x.mp4", "there is no folder"),
        ("x.gif", "expected a name ending in .mp4, .png, .jpg or .jpeg"),
        ("folder.png", "expected the name of a file, got a folder"),
        ("folder.mp4", "expected the name of a file, got a folder"),
    ],
)
def test_nothing_is_predicted_where_nothing_can_be_drawn(tmp_path: Path, draw: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.mp4").mkdir()
    done = predict(place(1, tmp_path), "--draw", tmp_path / draw, code=1)
    assert message in done.error
    assert (done.out, done.err) == ("", "")


def test_a_folder_is_not_drawn_into_one_picture(tmp_path: Path) -> None:
    folder, seen = tmp_path / "pictures", tmp_path / "seen.png"
    folder.mkdir()
    place(1, folder)
    assert f"drawn: 1 frames to {seen}" in predict(folder, "--draw", seen).err
    seen.unlink()
    place(2, folder)
    done = predict(folder, "--draw", seen, "--output", tmp_path / "out.jsonl", code=1)
    assert "expected one picture, got several" in done.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_what_was_drawn_is_said_at_the_end(tmp_path: Path) -> None:
    path, out = film(tmp_path / "a.mp4", 5), tmp_path / "out.mp4"
    assert predict(path, "--draw", out).err.splitlines()[-1] == f"drawn: 5 frames to {out}"
    nothing = predict(path, "--snapshots", tmp_path / "shots", "--score", 1)
    assert nothing.err.splitlines()[-1] == "drawn: 5 frames; nothing was written"
    (tmp_path / "bad.jpg").write_bytes(jpeg(1)[:-200])
    bad = predict(tmp_path / "bad.jpg", "--draw", tmp_path / "seen.png")
    assert bad.err.splitlines()[-1] == "drawn: 0 frames; nothing was written"
