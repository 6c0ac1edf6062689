from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.engine import TrainingFailed
from models.engines.onnx import OnnxEngine
from models.manifest import Tolerance
from models.vision.scenes import FILL, Scene, SceneSet, collect

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("onnx", reason="training needs the extra `train`")

from models.vision.assigner import assign  # noqa: E402
from models.vision.augment import augmented  # noqa: E402
from models.vision.boxes import complete_overlap, corners, overlap  # noqa: E402
from models.vision.export import INPUT, OUTPUT, to_onnx  # noqa: E402
from models.vision.fitting import FitSettings, Progress, fit  # noqa: E402
from models.vision.loss import detection_loss, padded  # noqa: E402
from models.vision.network import DetectorNetwork, Shape, grid  # noqa: E402
from models.vision.suppression import separate  # noqa: E402
from models.vision.train import ATOL, RTOL, judge, quality, tensor, train  # noqa: E402

TINY = Shape(width=64, height=64, classes=2, channels=(8, 8, 16, 16, 16), neck=16)
SETTINGS = FitSettings(shape=TINY, epochs=24, batch=8, rate=6e-3, threads=1)
LABELS = ("red", "blue")


def squares(count: int, seed: int) -> SceneSet:
    """A red or a blue rectangle, or both, on grey noise."""
    rng = np.random.default_rng(seed)

    def scene() -> Scene:
        picture = rng.integers(90, 130, (64, 64, 3)).astype(np.uint8)
        boxes, labels = [], []
        for label in range(2):
            if rng.random() < 0.7 or not boxes:
                x, y = rng.integers(0, 20, 2) + np.array([30 * label, 12])
                width, height = rng.integers(14, 26, 2)
                right, bottom = min(x + width, 64), min(y + height, 64)
                picture[y:bottom, x:right] = (20, 20, 220) if label == 0 else (220, 20, 20)
                boxes.append((x, y, right, bottom))
                labels.append(label)
        if len(boxes) == 2 and boxes[1][0] < boxes[0][2]:  # what the second hides is not to be seen
            boxes, labels = boxes[1:], labels[1:]
        return Scene(picture, np.array(boxes, np.float32), np.array(labels, np.int64))

    return collect((scene() for _ in range(count)), count, 64, 64)


def test_a_short_training_lowers_the_loss_and_finds_the_boxes() -> None:
    seen: list[Progress] = []
    trained = train(squares(96, 1), squares(32, 2), LABELS, SETTINGS, seen.append)
    assert [step.done for step in seen] == list(range(1, 24 * 12 + 1))
    assert seen[-1].loss < 0.35 * seen[0].loss
    assert set(trained.quality) == {"ap", "ap50", "ap50_red", "ap50_blue"}
    assert trained.quality["ap50"] > 0.8
    engine = OnnxEngine()
    engine.load_bytes(trained.onnx, "the detector")
    picture = np.full((1, 64, 64, 3), 110, np.uint8)
    picture[0, 20:44, 8:32] = (220, 20, 20)  # red first
    boxes, scores, labels = separate(engine.infer({INPUT: tensor(picture)})[OUTPUT][0])
    assert labels[0] == 0
    assert scores[0] > 0.5
    found, real = (torch.tensor(each) for each in (boxes[:1], np.array([[8.0, 20, 32, 44]], np.float32)))
    assert float(overlap(found, real)[0]) > 0.6
    trained.golden.replay(engine, Tolerance(RTOL, ATOL), "the detector")
    engine.close()


def test_the_same_training_gives_the_same_bytes() -> None:
    settings = FitSettings(shape=TINY, epochs=1, batch=8, threads=1)
    one, other = (train(squares(16, 1), squares(8, 2), LABELS, settings) for _ in range(2))
    assert one.onnx == other.onnx
    assert one.golden.encode() == other.golden.encode()
    another = train(squares(16, 1), squares(8, 2), LABELS, FitSettings(TINY, 1, 1, 8, threads=1))
    assert another.onnx != one.onnx


def test_the_file_says_what_the_network_says(tmp_path: Path) -> None:
    """Trained weights, unlike fresh ones, would show a statistic that was left out."""
    network = fit(squares(16, 1), FitSettings(shape=TINY, epochs=2, batch=8, threads=1))
    engine = OnnxEngine()
    engine.load_bytes(to_onnx(network), "the detector")
    assert [str(spec) for spec in (*engine.inputs, *engine.outputs)] == [
        "images: float32 [n, 3, 64, 64]",
        "output: float32 [n, 6, 84]",
    ]
    for rows in (1, 5):
        pictures = tensor(squares(rows, 3).pictures)
        with torch.no_grad():
            expected = network(torch.from_numpy(pictures)).numpy()
        got = engine.infer({INPUT: pictures})[OUTPUT]
        assert got.shape == (rows, 4 + 2, 64 + 16 + 4)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
        assert (got[:, 4:] >= 0).all()
        assert (got[:, 4:] <= 1).all()
        assert (got[:, 2:4] > 0).all()
    engine.close()


def test_the_bundled_shape_has_about_a_million_weights() -> None:
    network = DetectorNetwork(Shape())
    assert 0.8e6 < sum(parameter.numel() for parameter in network.parameters()) < 1.2e6
    with torch.no_grad():
        output = network.eval()(torch.zeros(2, 3, 288, 384))
    assert output.shape == (2, 9, 36 * 48 + 18 * 24 + 9 * 12)
    assert float(output[:, 4:].max()) < 0.1  # a fresh network claims nothing


def test_points_lie_in_the_middle_of_their_cells() -> None:
    points, strides = grid(64, 32)
    assert points.shape == (2, 8 * 4 + 4 * 2 + 2)
    assert points[:, 0].tolist() == [4, 4]
    assert points[:, 1].tolist() == [12, 4]  # row by row, as the heads' maps are read
    assert points[:, -1].tolist() == [48, 16]
    assert strides[0, [0, 32, -1]].tolist() == [8, 16, 32]


def test_complete_overlap_is_the_papers() -> None:
    """Against the formula, written out in floats."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        (ax, ay, bx, by), (aw, ah, bw, bh) = rng.uniform(0, 30, 4), rng.uniform(2, 30, 4)
        width, height = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
        common = max(width, 0) * max(height, 0)
        share = common / (aw * ah + bw * bh - common)
        around = (max(ax + aw, bx + bw) - min(ax, bx)) ** 2 + (max(ay + ah, by + bh) - min(ay, by)) ** 2
        apart = (ax + aw / 2 - bx - bw / 2) ** 2 + (ay + ah / 2 - by - bh / 2) ** 2
        unlike = 4 / math.pi**2 * (math.atan(aw / ah) - math.atan(bw / bh)) ** 2
        expected = share - apart / around - unlike**2 / (1 - share + unlike)
        one, other = (torch.tensor(box) for box in ([ax, ay, ax + aw, ay + ah], [bx, by, bx + bw, by + bh]))
        assert float(complete_overlap(one, other)) == pytest.approx(expected, abs=1e-5)
        assert float(overlap(one, other)) == pytest.approx(share, abs=1e-6)


def test_points_learn_the_object_that_they_fit() -> None:
    points, strides = grid(64, 64)
    objects = padded(
        [torch.tensor([[0.0, 0, 32, 32], [30, 30, 62, 62]]), torch.zeros(0, 4)],
        [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)],
    )
    size = torch.full((2, points.shape[1]), 30.0)
    boxes = corners(torch.cat([points, size]).T)[None].expand(2, -1, -1)
    scores = torch.full((2, points.shape[1], 2), 0.3)
    found = assign(boxes, scores, (points, strides), objects)
    assert not found.chosen[1].any()  # the second picture is empty
    assert float(found.scores[1].sum()) == 0
    chosen = points.T[found.chosen[0]]
    assert 2 <= len(chosen) <= 20
    for place, box, score in zip(
        chosen, found.boxes[0][found.chosen[0]], found.scores[0][found.chosen[0]], strict=True
    ):
        near = 0 if place.sum() < 62 else 1
        assert box.tolist() == objects[0][0, near].tolist()
        assert score[near] > 0
        assert score[1 - near] == 0
    best = found.scores[0].amax(dim=0)
    expected = overlap(boxes[0][:, None], objects[0][0][None]).amax(dim=0)
    np.testing.assert_allclose(best.numpy(), expected.numpy(), rtol=1e-4)  # the best point's target is its overlap


def test_an_object_smaller_than_a_cell_is_learned_by_someone() -> None:
    points, strides = grid(64, 64)
    objects = padded([torch.tensor([[6.0, 5, 10, 9]])], [torch.tensor([0])])  # between the points
    boxes = corners(torch.cat([points, strides.expand(2, -1)]).T)[None]
    found = assign(boxes, torch.full((1, points.shape[1], 1), 0.1), (points, strides), objects)
    assert found.chosen.any()


def test_the_loss_is_least_for_the_truth() -> None:
    points, strides = grid(64, 64)
    real = torch.tensor([[16.0, 16, 48, 48]])
    objects = padded([real], [torch.tensor([1])])
    centre = torch.tensor([[32.0], [32], [32], [32]]).expand(4, points.shape[1])
    right = torch.full((1, 2, points.shape[1]), -9.0)
    inside = ((points - 32).abs() < 16).all(dim=0)
    right[0, 1, inside] = 9.0
    exact = detection_loss(centre[None], right, (points, strides), objects)
    shifted = detection_loss(centre[None] + torch.tensor([9.0, 0, 0, 0])[:, None], right, (points, strides), objects)
    silent = detection_loss(centre[None], torch.full_like(right, -9.0), (points, strides), objects)
    assert float(exact) < float(shifted)
    assert float(exact) < float(silent)


def test_pictures_without_objects_have_a_finite_loss() -> None:
    points, strides = grid(64, 64)
    objects = padded([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
    boxes = torch.ones(1, 4, points.shape[1], requires_grad=True)
    loss = detection_loss(boxes, torch.zeros(1, 2, points.shape[1]), (points, strides), objects)
    assert math.isfinite(float(loss.detach()))


def test_scenes_are_scaled_into_the_top_left_corner() -> None:
    picture = np.zeros((100, 50, 3), np.uint8)
    picture[..., 0] = 200  # blue
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    scenes = collect([Scene(picture, boxes, np.array([1]))], 1, 64, 64)
    assert (scenes.pictures[0, :, :32] == (0, 0, 200)).all()
    assert (scenes.pictures[0, :, 32:] == FILL).all()
    np.testing.assert_allclose(scenes.boxes[0], boxes * 0.64, rtol=1e-6)


def test_changed_scenes_keep_their_boxes_on_their_objects() -> None:
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(60):
        picture = np.full((64, 96, 3), 20, np.uint8)
        picture[20:40, 50:80] = 230
        out, (boxes, labels) = augmented(picture, (np.array([[50, 20, 80, 40]], np.float32), np.array([3])), rng)
        assert out.shape == picture.shape
        if not len(boxes):
            continue
        assert labels.tolist() == [3]
        # What is brighter than the ground and than the fill beside the picture.
        rows, columns = np.nonzero(out.min(axis=2) > max(140, 0.8 * int(out.max())))
        np.testing.assert_allclose(boxes[0], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=2.0)
        changed += not np.array_equal(boxes[0], [50, 20, 80, 40])
    assert changed > 30


def test_scenes_that_do_not_fit_are_sentences() -> None:
    scene = Scene(np.zeros((10, 10, 3), np.uint8), np.zeros((2, 4), np.float32), np.zeros(1, np.int64))
    with pytest.raises(TrainingFailed, match=r"expected a picture \[h, w, 3\] and boxes \[k, 4\] with k labels"):
        collect([scene], 1, 64, 64)
    with pytest.raises(TrainingFailed, match="expected 3, got 0"):
        collect([], 3, 64, 64)
    scenes = squares(4, 0)
    with pytest.raises(TrainingFailed, match=r"expected pictures .* and 2 labels, got .* and 3"):
        train(scenes, scenes, ("a", "b", "c"), SETTINGS)
    wrong = SceneSet(scenes.pictures, scenes.boxes, [labels + 2 for labels in scenes.labels])
    with pytest.raises(TrainingFailed, match="labelled from 0 to 1, got 2 to 3"):
        train(wrong, scenes, LABELS, SETTINGS)
    empty = SceneSet(scenes.pictures, [boxes[:0] for boxes in scenes.boxes], [row[:0] for row in scenes.labels])
    with pytest.raises(TrainingFailed, match="got no object at all"):
        train(scenes, empty, LABELS, SETTINGS)


def test_a_class_that_no_scene_has_is_left_out_of_the_quality() -> None:
    table = np.full((2, 10), 0.5)
    table[1] = np.nan
    assert quality(table, LABELS) == {"ap": 0.5, "ap50": 0.5, "ap50_red": 0.5}


def test_judging_reports_how_far_it_is() -> None:
    engine, done = OnnxEngine(), []
    engine.load_bytes(to_onnx(DetectorNetwork(TINY)), "the detector")
    assert judge(engine, squares(10, 0), 2, done.append).shape == (2, 10)
    assert done == [8, 10]
    engine.close()
