"""Average precision beside pycocotools' own, and label files that are not as they should be."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.engine import ModelCorrupt, TrainingFailed
from models.vision.evaluate import Judged, Marked, judge, read_marked, unmatched

pytest.importorskip("faster_coco_eval", reason="evaluating detectors needs the extra `vision`")
NAMES = ("cat", "dog", "bird")


def pycocotools(marked: list[Marked], sizes: list[tuple[int, int]], found: list[np.ndarray]) -> list[float]:
    """`ap`, `ap50`, and that of each of NAMES; -1 for one that is not marked."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for picture, (each, (width, height)) in enumerate(zip(marked, sizes, strict=True)):
        for label, (cx, cy, w, h) in zip(each.labels, each.boxes, strict=True):
            box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": picture, "category_id": int(label), "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
        for x1, y1, x2, y2, score, label in found[picture].astype(float):
            if label >= 0:
                results.append(
                    {"image_id": picture, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
                )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": place, "width": w, "height": h} for place, (w, h) in enumerate(sizes)],
            "annotations": annotations,
            "categories": [{"id": label} for label in range(len(NAMES))],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    of_each = evaluation.eval["precision"][0, :, :, 0, 2].mean(axis=0)
    return [float(value) for value in (*evaluation.stats[:2], *of_each)]


def guesses(marked: list[Marked], sizes: list[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """What is marked, a little off, some twice, some of another label, some not at all, and some from nowhere."""
    random = np.random.default_rng(seed)
    found = []
    for each, (width, height) in zip(marked, sizes, strict=True):
        boxes = np.repeat(each.boxes, 2, axis=0) * [width, height, width, height]
        boxes += random.normal(0, 0.06, boxes.shape) * boxes[:, [2, 3, 2, 3]]
        labels = np.repeat(each.labels, 2)
        labels[random.random(len(labels)) < 0.2] = 0
        rows = np.concatenate(
            (
                boxes[:, :2] - boxes[:, 2:] / 2,
                boxes[:, :2] + boxes[:, 2:] / 2,
                random.random((len(boxes), 1)),
                labels[:, None],
            ),
            axis=1,
        )
        kept = rows[random.random(len(rows)) < 0.8]
        unused = np.tile([0.0, 0, 0, 0, 0, -1], (3, 1))
        found.append(np.concatenate((kept, unused)).astype(np.float32))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_precision_is_what_pycocotools_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = [(640, 480), (100, 300), (1920, 1080), (64, 64)]
    marked = []
    for place in range(len(sizes)):
        count = int(random.integers(0, 12)) if place else 5
        boxes = np.concatenate((random.uniform(0.3, 0.7, (count, 2)), random.uniform(0.02, 0.5, (count, 2))), axis=1)
        marked.append(Marked(Path(f"{place}.jpg"), random.integers(0, 2, count), boxes))
    found = guesses(marked, sizes, seed)
    got = judge(marked, sizes, found)
    of_each = [got.ap50_of.get(label, -1) for label in range(len(NAMES))]
    assert [got.ap, got.ap50, *of_each] == pytest.approx(pycocotools(marked, sizes, found), abs=1e-6)
    assert 0 < got.ap < got.ap50 < 1
    assert (got.pictures, got.objects) == (4, sum(len(each.labels) for each in marked))


def test_what_is_marked_itself_is_perfect_and_nothing_is_nought() -> None:
    marked = [Marked(Path("a.jpg"), np.array([0, 2]), np.array([[0.5, 0.5, 0.2, 0.4], [0.2, 0.2, 0.1, 0.1]]))]
    exact = np.array([[40, 30, 60, 70, 0.9, 0], [15, 15, 25, 25, 0.8, 2]], np.float32)
    one = pytest.approx(1.0)
    assert judge(marked, [(100, 100)], [exact]) == Judged(one, one, 1, 2, {0: one, 2: one})
    assert judge(marked, [(100, 100)], [exact[:1]]).ap50_of == {0: one, 2: 0}
    assert judge(marked, [(100, 100)], [exact[:0]]) == Judged(0.0, 0.0, 1, 2, {0: 0, 2: 0})


def folder(path: Path, line: str | bytes = "1 0.5 0.5 0.1 0.1\n") -> Path:
    cv2.imwrite(str(path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(path / "b.jpg"), np.zeros((8, 8, 3), np.uint8))
    (path / "a.txt").write_bytes(line if isinstance(line, bytes) else line.encode())
    return path


def test_a_folder_of_pictures_and_labels(tmp_path: Path) -> None:
    folder(tmp_path, "1 0.5 0.5 0.1 0.1\n\n 2 0.25 0.5 0.5 1\n")
    marked = read_marked(tmp_path, tmp_path, NAMES)
    assert [each.path.name for each in marked] == ["a.png", "b.jpg"]
    assert marked[0].labels.tolist() == [1, 2]
    assert marked[0].boxes.tolist() == [[0.5, 0.5, 0.1, 0.1], [0.25, 0.5, 0.5, 1.0]]
    assert marked[1].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "3 0.5 0.5 0.1 0.1",
            r"a.txt:1: expected a class of 0 to 2, since the model has 3 labels, got 3; was this marked",
        ),
        ("-1 0.5 0.5 0.1 0.1", "expected a class of 0 to 2, .* got -1"),
        ("0.5 0.5 0.5 0.1 0.1", "expected a class of 0 to 2, .* got 0.5"),
        ("cat 0.5 0.5 0.1 0.1", "expected `class cx cy w h`, five numbers, got 'cat"),
        ("0 0.5 0.5 0.1", "expected `class cx cy w h`, five numbers"),
        ("0 0.5 0.5 nan 0.1", "expected `class cx cy w h`, five numbers"),
        ("0 250 0.5 0.1 0.1", "expected shares of the picture's sides"),
        ("0 0.5 0.5 0 0.1", "expected shares of the picture's sides"),
        (b"\xff\xfe\x00", "expected `class cx cy w h`, five numbers"),
        ("", "expected label files named like the pictures in .*, e.g. a.txt, got none"),
    ],
)
def test_a_label_that_cannot_be_is_a_sentence(tmp_path: Path, line: str | bytes, sentence: str) -> None:
    with pytest.raises(TrainingFailed, match=sentence):
        read_marked(folder(tmp_path, line), tmp_path, NAMES)


@pytest.mark.parametrize("name", ["a.txt", "a.TXT"])
def test_a_label_file_may_begin_with_a_byte_order_mark_and_end_in_capitals(tmp_path: Path, name: str) -> None:
    folder(tmp_path, b"\xef\xbb\xbf1 0.5 0.5 0.1 0.1\r\n2 0.5 0.5 0.1 0.1\r\n")
    (tmp_path / "a.txt").rename(tmp_path / name)
    assert read_marked(tmp_path, tmp_path, NAMES)[0].labels.tolist() == [1, 2]


def test_a_label_file_that_is_not_there_behind_its_link_is_a_sentence(tmp_path: Path) -> None:
    (folder(tmp_path) / "b.txt").symlink_to("nowhere.txt")
    with pytest.raises(ModelCorrupt, match=r"reading .*b.txt: No such file or directory; nothing was judged"):
        read_marked(tmp_path, tmp_path, NAMES)


def test_two_pictures_that_share_a_label_file_are_a_sentence(tmp_path: Path) -> None:
    cv2.imwrite(str(folder(tmp_path) / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TrainingFailed, match=r"a.jpg and a.png have the same, a.txt; nothing was judged"):
        read_marked(tmp_path, tmp_path, NAMES)


def test_label_files_without_a_picture_are_told(tmp_path: Path) -> None:
    folder(tmp_path)
    for name in ("b.txt", "c.txt", "classes.txt"):
        (tmp_path / name).write_text("")
    assert unmatched(read_marked(tmp_path, tmp_path, NAMES), tmp_path) == [tmp_path / "c.txt"]


def test_a_folder_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(TrainingFailed, match=r"reading .*a.txt: Not a directory; nothing was judged"):
        read_marked(tmp_path, tmp_path / "a.txt", NAMES)  # root, who runs some of these tests, may read all folders


def test_a_folder_without_pictures_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"expected pictures \(.jpeg, .jpg, .png, .webp\), got none"):
        read_marked(tmp_path, tmp_path, NAMES)
    folder(tmp_path)
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(ModelCorrupt, match="expected a file, got a folder"):
        read_marked(tmp_path, tmp_path, NAMES)


def test_without_what_computes_it_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    marked = [Marked(Path("a.jpg"), np.array([0]), np.array([[0.5, 0.5, 0.2, 0.4]]))]
    with pytest.raises(TrainingFailed, match=r"pip install 'headrace\[vision\]'"):
        judge(marked, [(8, 8)], [np.zeros((0, 6), np.float32)])
