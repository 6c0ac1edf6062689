from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models.engine import EngineUnavailable, InferenceFailed, ModelCorrupt, ModelIncompatible, TensorSpec
from models.engines import onnx
from models.engines.onnx import SLICE_ROWS, OnnxEngine
from tests.models import networks


def scaling(threads: int) -> OnnxEngine:
    engine = OnnxEngine(threads)
    engine.load_bytes(networks.scaling().SerializeToString(), "scaling/1")
    return engine


@pytest.fixture
def engine() -> OnnxEngine:
    return scaling(1)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 16, SLICE_ROWS, SLICE_ROWS + 1, 3 * SLICE_ROWS + 7])
def test_any_batch_size_is_served(threads: int, rows: int) -> None:
    engine = scaling(threads)
    batch = np.random.default_rng(rows).random((rows, 4), dtype=np.float32)
    outputs = engine.infer({"x": batch})
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], batch * networks.WEIGHTS)
    engine.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_large_rows_go_through_one_by_one(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    engine, ran = scaling(threads), []
    run = onnxruntime.InferenceSession.run

    def running(session: Any, names: Any, tensors: dict[str, np.ndarray]) -> Any:
        ran.append(len(tensors["x"]))
        return run(session, names, tensors)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", running)
    monkeypatch.setattr(onnx, "SLICE_BYTES", 16)  # of one row of four numbers
    batch = np.random.default_rng(0).random((7, 4), dtype=np.float32)
    np.testing.assert_array_equal(engine.infer({"x": batch})["y"], batch * networks.WEIGHTS)
    assert ran == [1] * 7
    engine.close()


def test_several_threads_share_the_rows_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ran = scaling(3), []
    run = onnxruntime.InferenceSession.run

    def running(session: Any, names: Any, tensors: dict[str, np.ndarray]) -> Any:
        ran.append((threading.current_thread().name.startswith("onnx-cpu"), len(tensors["x"])))
        return run(session, names, tensors)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", running)
    for rows, expected in ((2, [(False, 2)]), (3, [(True, 1)] * 3), (8, [(True, 2), (True, 3), (True, 3)])):
        engine.infer({"x": np.ones((rows, 4), np.float32)})
        assert sorted(ran) == expected
        ran.clear()
    engine.close()


def test_rows_that_are_not_contiguous_are_served(engine: OnnxEngine) -> None:
    batch = np.arange(48, dtype=np.float32).reshape(6, 8)[::2, ::2]
    np.testing.assert_array_equal(engine.infer({"x": batch})["y"], batch * networks.WEIGHTS)


def test_the_specs_are_the_networks_own(engine: OnnxEngine) -> None:
    assert engine.inputs == (TensorSpec("x", "float32", (None, 4)),)
    assert engine.outputs == (TensorSpec("y", "float32", (None, 4)),)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({}, r"inputs of scaling/1: expected `x: float32 \[n, 4\]`, got no tensors"),
        ({"z": np.zeros((2, 4), np.float32)}, r"expected `x: float32 \[n, 4\]`, got only \['z'\]"),
        ({"x": np.zeros((2, 4))}, r"expected `x: float32 \[n, 4\]`, got float64 \[2, 4\]"),
        ({"x": np.zeros((2, 5), np.float32)}, r"got float32 \[2, 5\]"),
        ({"x": np.zeros(4, np.float32)}, r"got float32 \[4\]"),
        ({"x": np.zeros((2, 4), np.float32), "extra": np.zeros(1)}, r"expected only \['x'\], got \['extra'\] as well"),
    ],
)
def test_tensors_that_are_not_as_declared_are_refused(
    engine: OnnxEngine, tensors: dict[str, np.ndarray], complaint: str
) -> None:
    with pytest.raises(ModelIncompatible, match=complaint):
        engine.infer(tensors)


def test_a_runtime_failure_names_model_and_shapes(capfd: pytest.CaptureFixture[str]) -> None:
    engine = OnnxEngine()
    engine.load_bytes(networks.folding().SerializeToString(), "folding/3")
    assert engine.infer({"x": np.zeros((2, 4), np.float32)})["y"].shape == (2, 4)
    with pytest.raises(InferenceFailed, match=r"inferring with folding/3 on onnx-cpu: .* x: float32 \[3, 4\]"):
        engine.infer({"x": np.zeros((3, 4), np.float32)})
    assert engine.infer({"x": np.ones((2, 4), np.float32)})["y"].sum() == 8  # and it goes on serving
    assert capfd.readouterr() == ("", "")


def test_bytes_that_are_no_network_are_corrupt() -> None:
    with pytest.raises(ModelCorrupt, match="loading nonsense/1 into onnx-cpu: ONNX Runtime"):
        OnnxEngine().load_bytes(b"nonsense", "nonsense/1")


def test_a_network_whose_axes_are_named_in_no_utf8_is_corrupt() -> None:
    data = networks.scaling().SerializeToString().replace(b"\x12\x01n", b"\x12\x01\xff")
    with pytest.raises(ModelCorrupt, match="cannot make a session of it: 'utf-8' codec"):
        OnnxEngine().load_bytes(data, "scaling/1")


def test_an_engine_that_is_not_loaded_says_so(engine: OnnxEngine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailable, match="inferring with scaling/1: the engine is not loaded"):
        engine.infer({"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(EngineUnavailable, match="the engine is not loaded"):
        OnnxEngine().infer({})


def test_any_thread_may_call(engine: OnnxEngine) -> None:
    batch = np.ones((64, 4), np.float32)
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda factor: engine.infer({"x": batch * factor})["y"], np.arange(32, dtype=np.float32))
        )
    for factor, result in enumerate(results):
        np.testing.assert_array_equal(result, batch * factor * networks.WEIGHTS)


def test_nothing_heavy_is_imported_before_load() -> None:
    code = (
        "import sys, models.repository, models.fraud.attribution, models.fraud.evaluate, streams.cli.models;"
        "print(sorted({'onnxruntime', 'torch', 'onnx', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
