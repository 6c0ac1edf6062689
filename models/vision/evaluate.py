"""How well a detector finds what people marked: average precision as COCO's own evaluation computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import files
from models.engine import Engine, ModelIncompatible, TrainingFailed
from models.manifest import Manifest
from models.vision.detector import Detector
from models.vision.pictures import Limits, PictureError, decode
from models.vision.preprocess import Preprocess

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
LABELS = ".txt"
CLASSES = "classes"  # the file of names that LabelImg leaves beside its label files
LIMITS = Limits(max_pixels=200_000_000, max_bytes=256 * 1024**2)  # one picture at a time, of one's own
MAX_LABEL_BYTES = 16 * 1024**2
BATCH = 8
LEAST_SCORE = 0.001  # COCO's evaluation ranks all that a detector gives: a higher floor cuts the curve short
OUTSIDE = 1e-3  # rounding in label files


@dataclass(frozen=True)
class Marked:
    """A picture and what people marked in it.

    Args:
        labels: int64 [m].
        boxes: float64 [m, 4] of centre x, centre y, width, height in shares of the picture.
    """

    path: Path
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """`ap` is the mean of the average precisions at overlaps of 0.50, 0.55, … 0.95, over the classes that are marked;
    `ap50` that at 0.50, `ap50_of` that of each label that is marked, by its number."""

    ap: float
    ap50: float
    pictures: int
    objects: int
    ap50_of: dict[int, float] = field(default_factory=dict)


def read_marked(images: Path, labels: Path, names: Sequence[str]) -> list[Marked]:
    """The pictures of a folder, each with its YOLO label file, `class cx cy w h` a line, of the other.

    A picture without a label file has nothing in it.

    Raises: TrainingFailed where a folder cannot be read, there are no pictures or no labels, two pictures share a label
        file, or a line is not as it should be.
    """
    paths = [path for path in _files(images) if path.suffix.lower() in PICTURES]
    if not paths:
        raise TrainingFailed(f"evaluating on {images}: expected pictures ({', '.join(sorted(PICTURES))}), got none")
    for one, other in pairwise(sorted(paths, key=lambda path: path.stem)):
        if one.stem == other.stem:
            raise TrainingFailed(
                f"evaluating on {images}: expected a label file for each picture, but {one.name} and {other.name} "
                f"have the same, {one.stem}{LABELS}; nothing was judged"
            )
    files_of = _label_files(labels)
    marked = [_read(path, files_of.get(path.stem), len(names)) for path in paths]
    if not any(len(each.labels) for each in marked):
        raise TrainingFailed(
            f"evaluating on {images}: expected label files named like the pictures in {labels}, e.g. "
            f"{paths[0].stem}.txt, got none with a line in it"
        )
    return marked


def unmatched(marked: Sequence[Marked], labels: Path) -> list[Path]:
    """The label files of a folder that belong to none of these pictures: what is marked in them is not judged."""
    pictures = {each.path.stem for each in marked} | {CLASSES}
    return [path for stem, path in _label_files(labels).items() if stem not in pictures]


def evaluate(
    manifest: Manifest, engine: Engine, marked: Sequence[Marked], report: Callable[[int], None] = lambda done: None
) -> Judged:
    """Run a detector over pictures and judge what it finds, a hundred objects a picture at most.

    Args:
        engine: with the model loaded.
        report: told after each batch how many pictures are done.

    Raises: ModelError, TrainingFailed.

    References: Lin et al., Microsoft COCO: Common Objects in Context, 2014.
    """
    sizes, found = find(manifest, engine, ((each.path.name, _picture(each.path)) for each in marked), report)
    return judge(marked, sizes, found)


def find(
    manifest: Manifest,
    engine: Engine,
    pictures: Iterable[tuple[str, NDArray[np.uint8]]],
    report: Callable[[int], None] = lambda done: None,
) -> tuple[list[tuple[int, int]], list[NDArray[np.float32]]]:
    """Run a detector over pictures for all that it gives, whatever its own threshold: what `judge` takes.

    Args:
        pictures: uint8 [h, w, 3] BGR, each with the name that errors have for it.
        report: told after each batch how many pictures are done.

    Returns: width and height of each picture in pixels, and its objects, as `Detector.decode` gives them.

    Raises: ModelError.
    """
    preprocess = Preprocess(manifest)
    detector = Detector(manifest, score=LEAST_SCORE)
    sizes: list[tuple[int, int]] = []
    found: list[NDArray[np.float32]] = []
    left = iter(pictures)
    while some := list(islice(left, BATCH)):
        here = [(picture.shape[1], picture.shape[0]) for _, picture in some]
        batch = preprocess.batch(len(some))
        placements = np.stack([preprocess.one(picture, row) for (_, picture), row in zip(some, batch, strict=True)])
        objects = detector.decode(engine.infer({preprocess.name: batch}), placements, np.array(here))
        if np.isnan(objects).any():
            raise ModelIncompatible(
                f"evaluating {manifest.name}/{manifest.version}: the network gave NaN for a picture among {some[0][0]} "
                f"and the {len(some) - 1} after it"
            )
        sizes += here
        found += list(objects)
        report(len(found))
    return sizes, found


def judge(marked: Sequence[Marked], sizes: Sequence[tuple[int, int]], found: Sequence[NDArray[np.float32]]) -> Judged:
    """Average precision of what was found, float32 [objects, 6] a picture as `Detector.decode` gives it.

    Args:
        sizes: width and height of each picture in pixels.

    Raises: TrainingFailed where what computes it is missing.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise TrainingFailed(
            f"evaluating detections: importing {error.name} failed; install it: pip install 'headrace[vision]'"
        ) from error
    truth = _truth(marked, sizes)
    results = list(_results(found))
    count = len(truth["annotations"])
    if not results:
        return Judged(0.0, 0.0, len(marked), count, {each["id"]: 0.0 for each in truth["categories"]})
    known = COCO(truth)
    judged = COCOeval_faster(known, known.loadRes(results), "bbox")
    judged.run()
    ap, ap50 = (float(value) for value in judged.stats[:2])
    # [overlap, recall, label, area, objects a picture]: at 0.50, of any area, a hundred objects.
    precision = judged.eval["precision"][0, :, :, 0, -1].mean(axis=0)
    labels = (each["id"] for each in truth["categories"])
    return Judged(ap, ap50, len(marked), count, dict(zip(labels, precision.tolist(), strict=True)))


def _truth(marked: Sequence[Marked], sizes: Sequence[tuple[int, int]]) -> dict[str, list[dict[str, Any]]]:
    annotations: list[dict[str, Any]] = []
    for picture, (each, (width, height)) in enumerate(zip(marked, sizes, strict=True), 1):
        for label, (cx, cy, w, h) in zip(each.labels.tolist(), each.boxes.tolist(), strict=True):
            box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    images = [{"id": place, "width": width, "height": height} for place, (width, height) in enumerate(sizes, 1)]
    labels = sorted({label for each in marked for label in each.labels.tolist()})
    return {"images": images, "annotations": annotations, "categories": [{"id": each} for each in labels]}


def _results(found: Sequence[NDArray[np.float32]]) -> Iterator[dict[str, Any]]:
    for picture, objects in enumerate(found, 1):
        for x1, y1, x2, y2, score, label in objects[objects[:, 5] >= 0].astype(np.float64).tolist():
            box = [x1, y1, x2 - x1, y2 - y1]
            yield {"image_id": picture, "category_id": int(label), "bbox": box, "score": score}


def _picture(path: Path) -> NDArray[np.uint8]:
    data = files.read(path, LIMITS.max_bytes, then="nothing was judged", through_links=True)
    try:
        return decode(data, LIMITS).pixels
    except PictureError as error:
        raise TrainingFailed(f"reading {path}: {error}; nothing was judged") from None


def _files(folder: Path) -> list[Path]:
    """What is in a folder, sorted. Raises: TrainingFailed where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise TrainingFailed(f"reading {folder}: {error.strerror or error}; nothing was judged") from error


def _label_files(folder: Path) -> dict[str, Path]:
    """The label files of a folder by what their pictures are called, without suffixes."""
    return {path.stem: path for path in _files(folder) if path.suffix.lower() == LABELS}


def _read(path: Path, labels: Path | None, count: int) -> Marked:
    lines: list[str] = []
    if labels is not None:
        data = files.read(labels, MAX_LABEL_BYTES, then="nothing was judged", through_links=True)
        lines = data.decode("utf-8-sig", "replace").splitlines()
    rows = [_row(line, f"{labels}:{number}", count) for number, line in enumerate(lines, 1) if line.strip()]
    numbers = np.array(rows, np.float64).reshape(-1, 5)
    return Marked(path, numbers[:, 0].astype(np.int64), numbers[:, 1:])


def _row(line: str, place: str, count: int) -> tuple[float, ...]:
    try:
        row = tuple(map(float, line.split()))
    except ValueError:
        row = ()
    if len(row) != 5 or not all(map(math.isfinite, row)):
        raise TrainingFailed(f"reading {place}: expected `class cx cy w h`, five numbers, got {line.strip()[:80]!r}")
    if not (row[0].is_integer() and 0 <= row[0] < count):
        raise TrainingFailed(
            f"reading {place}: expected a class of 0 to {count - 1}, since the model has {count} labels, got "
            f"{line.split()[0]}; was this marked with other labels?"
        )
    if not all(-OUTSIDE <= value <= 1 + OUTSIDE for value in row[1:]) or min(row[3:]) <= 0:
        raise TrainingFailed(
            f"reading {place}: expected shares of the picture's sides, 0 to 1, with a width and height above 0, got "
            f"{line.strip()[:80]!r}"
        )
    return row
