from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from connectors.simulators.camera import Site
from models import repository
from models.engine import RepositoryUnusable, TrainingFailed
from models.repository import Repository
from streams.cli.models import models
from streams.cli.scenes import FIRST_UNSEEN, FRAMES_PER_CAMERA, simulated_scenes
from tests.streams.cli.test_train import CliRunner, Result

needs_torch = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "onnx")), reason="training needs the extra `train`"
)


def run(*arguments: object, code: int = 0) -> Result:
    command = ["train", "vision", *map(str, arguments)]
    outcome = CliRunner().invoke(models, command, catch_exceptions=False, env={"COLUMNS": "200"})
    assert outcome.exit_code == code, outcome.output
    return outcome


@needs_torch
def test_training_saves_a_detector_that_serves(tmp_path: Path) -> None:
    printed = run("--frames", 16, "--epochs", 1, "--seed", 3, "--output", tmp_path).stdout
    model = Repository([tmp_path]).load("vision")
    manifest = model.manifest
    assert manifest.trained is not None
    assert manifest.trained.how == "headrace models train vision --frames 16 --epochs 1 --seed 3"
    assert "16 pictures of the simulated site camera, sites 4000000 and on;" in manifest.trained.on
    assert manifest.labels == Site.labels
    assert {"ap", "ap50", "ap50_person"} <= set(manifest.quality)
    assert set(manifest.thresholds) == {"score", "iou"}
    assert manifest.inputs[0].shape == (-1, 3, 288, 384)
    assert manifest.outputs[0].shape == (-1, 9, 2268)
    assert printed.startswith(model.reference)
    repository.open_engine(model, "onnx-cpu").close()


@needs_torch
def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryUnusable, match="nothing was begun"):
        run("--frames", 16, "--epochs", 1, "--output", tmp_path / "file" / "models")


def test_scenes_are_of_many_sites_and_the_same_again() -> None:
    one, again = (list(simulated_scenes(2 * FRAMES_PER_CAMERA + 1, FIRST_UNSEEN)) for _ in range(2))
    assert len(one) == 2 * FRAMES_PER_CAMERA + 1
    for scene, other in zip(one, again, strict=True):
        assert scene.picture.tobytes() == other.picture.tobytes()
        np.testing.assert_array_equal(scene.boxes, other.boxes)
        assert len(scene.boxes) == len(scene.labels)
    shown = [scene.picture.astype(int) for scene in one]
    within = np.abs(shown[0] - shown[1]).mean()
    assert within < 0.5 * np.abs(shown[0] - shown[FRAMES_PER_CAMERA]).mean()  # a dozen frames, three cameras


def test_training_without_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("train", "network", "export", "fitting", "loss", "assigner", "boxes"):
        monkeypatch.delitem(sys.modules, f"models.vision.{name}", raising=False)
    with pytest.raises(TrainingFailed, match=r"pip install 'headrace\[train\]'"):
        run("--frames", 12, "--output", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [("--frames", 0), ("--epochs", 0), ("--seed", 5_000)])
def test_a_number_out_of_range_is_a_usage_error(wrong: tuple[str, int]) -> None:
    assert "Invalid value" in run(*wrong, code=2).output
