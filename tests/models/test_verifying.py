"""Verdicts on versions, and the times that come of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest

from models import timings
from models.engines.onnx import OnnxEngine
from models.repository import ZOO, Repository, open_engine
from models.timings import Timing, Timings, measure
from models.verifying import verify
from tests.models import networks


def test_a_good_version_is_ok_and_its_times_are_measured(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    (verdict,) = verify(Repository([tmp_path]), "scaling", 1)
    assert verdict.ok
    assert (verdict.reference, verdict.engine) == ("scaling/1", "onnx-cpu")
    assert verdict.timing is not None
    assert (verdict.timing.sha256, verdict.timing.engine) == (model.manifest.sha256, "onnx-cpu")
    assert list(verdict.timing.seconds) == [1, 64, 1024]
    assert all(seconds > 0 for seconds in verdict.timing.seconds.values())


@pytest.mark.parametrize(
    ("file", "content", "engine", "complaint"),
    [
        ("model.onnx", b"", "", "expected sha256"),
        ("manifest.toml", b"", "", "missing required field"),
        ("golden.npz", b"", "onnx-cpu", "reading golden batch"),
    ],
)
def test_a_bad_version_is_not_and_says_why(
    tmp_path: Path, file: str, content: bytes, engine: str, complaint: str
) -> None:
    (networks.save(tmp_path).path / file).write_bytes(content)
    (verdict,) = verify(Repository([tmp_path]), "scaling", 1)
    assert not verdict.ok
    assert (verdict.engine, verdict.timing) == (engine, None)
    assert complaint in verdict.why


@pytest.mark.parametrize("content", [None, b"another"])
def test_a_training_sample_that_is_not_the_one_of_the_manifest_is_not_ok(tmp_path: Path, content: bytes | None) -> None:
    path = networks.save(tmp_path, sample=networks.sample()).path / "sample.npz"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    (verdict,) = verify(Repository([tmp_path]), "scaling", 1)
    assert str(path) in verdict.why
    assert (verdict.engine, verdict.timing) == ("", None)


def test_a_golden_batch_that_is_not_reproduced_is_not_ok(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    other = networks.golden()
    (model.path / "golden.npz").write_bytes(type(other)(other.inputs, {"y": other.inputs["x"]}).encode())
    (verdict,) = verify(Repository([tmp_path]), "scaling", 1)
    assert "expected to be within rtol" in verdict.why


@pytest.mark.parametrize(
    ("said", "instead", "complaint"),
    [
        ('family = "', 'family = "no', "expected a `head.family` of yolox, .*; vision/1 is not served"),
        ("width = ", "width = 1", "expected one input of .*; vision/1 is not served"),
        (
            'family = "yolov8',
            'family = "fastestdet',
            "decoding the outputs of a fastestdet detector: .*; vision/1 is not served",
        ),
    ],
)
def test_a_detector_that_is_not_read_as_its_manifest_says_is_not_ok(
    tmp_path: Path, said: str, instead: str, complaint: str
) -> None:
    shutil.copytree(ZOO / "vision", tmp_path / "vision")
    manifest = tmp_path / "vision" / "1" / "manifest.toml"
    text = manifest.read_text()
    assert said in text
    manifest.write_text(text.replace(said, instead, 1))
    (verdict,) = verify(Repository([tmp_path]), "vision", 1)
    assert re.search(complaint, verdict.why)


@pytest.fixture
def timing(tmp_path: Path) -> Timing:
    model = networks.save(tmp_path / "models")
    engine = open_engine(model)
    try:
        return measure(engine, model.manifest.sha256, model.golden())
    finally:
        engine.close()


def test_times_are_kept_for_this_network_engine_and_machine(
    tmp_path: Path, timing: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Timings(tmp_path)
    assert known.get(timing.sha256, timing.engine) is None
    known.put(timing)
    known.put(timing)
    assert known.get(timing.sha256, timing.engine) == timing
    assert known.get("0" * 64, timing.engine) is None
    assert known.get(timing.sha256, "tensorrt-fp16") is None
    assert len(list((tmp_path / timings.FOLDER).iterdir())) == 1
    monkeypatch.setattr("platform.node", lambda: "another")
    assert known.get(timing.sha256, timing.engine) is None


@pytest.mark.parametrize("change", ["truncated", "junk", "another's", "huge", "link", "not utf-8"])
def test_a_file_of_times_that_is_not_as_expected_counts_as_none(tmp_path: Path, timing: Timing, change: str) -> None:
    known = Timings(tmp_path)
    known.put(timing)
    (path,) = (tmp_path / timings.FOLDER).iterdir()
    whole = path.read_bytes()
    if change == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(
            {
                "truncated": whole[:-5],
                "junk": b'{"seconds": {"1": "fast"}}',
                "another's": msgspec.json.encode(msgspec.structs.replace(timing, sha256="0" * 64)),
                "huge": whole + b" " * 100_000,
                "not utf-8": b"\xff" + whole,
            }[change]
        )
    assert known.get(timing.sha256, timing.engine) is None
    if change != "link":
        known.put(timing)
        assert known.get(timing.sha256, timing.engine) == timing


def test_the_folder_of_times_is_no_model(tmp_path: Path, timing: Timing) -> None:
    Timings(tmp_path / "models").put(timing)
    assert Repository([tmp_path / "models"]).names() == ["scaling"]


@pytest.mark.parametrize(("limit", "value"), [("MAX_RUN_S", 0.0), ("MAX_BATCH_BYTES", 64 * 16 - 1)])
def test_batches_that_are_too_much_are_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    model = networks.save(tmp_path)
    monkeypatch.setattr(timings, limit, value)
    engine = OnnxEngine()
    engine.load(model)
    assert list(measure(engine, model.manifest.sha256, model.golden()).seconds) == [1]
    engine.close()
