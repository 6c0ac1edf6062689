from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import falling, selection
from models.engine import Engine, EngineUnavailable, InferenceFailed, ModelIncompatible, TensorSpec
from models.engines.onnx import OnnxEngine
from models.falling import Fall, FallingEngine, open_falling
from models.repository import Model
from tests.models import networks
from tests.models.test_device import EXHAUSTED, LOST, NEITHER

BATCH = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
ANSWER = BATCH["x"] * networks.WEIGHTS


class Breaking:
    """An engine on a device that fails from its second batch on, with a runtime's own message."""

    def __init__(self, name: str, message: str, served: int = 1) -> None:
        self.name = name
        self.inputs = self.outputs = (TensorSpec("x", "float32", (None, 4)),)
        self.closed = 0
        self._message = message
        self._served = served

    def load(self, model: Model) -> None:
        self._served = 1

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self.closed:
            raise EngineUnavailable(f"inferring with {self.name}: the engine is not loaded")
        if not self._served:
            raise InferenceFailed(f"inferring on {self.name}: failed") from RuntimeError(self._message)
        self._served -= 1
        return {"y": tensors["x"] * networks.WEIGHTS}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def cpu() -> OnnxEngine:
    engine = OnnxEngine()
    engine.load_bytes(networks.scaling().SerializeToString(), "scaling/1")
    return engine


def unreachable() -> Engine:
    pytest.fail("this engine must not be opened")


@pytest.mark.parametrize("message", [*EXHAUSTED, *LOST])
def test_the_batch_in_which_the_device_fails_is_answered_by_the_next_engine(cpu: OnnxEngine, message: str) -> None:
    told: list[Fall] = []
    first = Breaking("tensorrt-fp32", message)
    engine = FallingEngine(first, ready=cpu, on_fall=told.append)
    for _ in range(4):
        np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)
    assert engine.name == "onnx-cpu"
    assert first.closed == 1
    assert engine.inputs == cpu.inputs
    assert engine.falls == tuple(told)
    (fall,) = told
    assert (fall.engine, fall.to) == ("tensorrt-fp32", "onnx-cpu")
    assert "inferring on tensorrt-fp32: failed" in fall.reason
    assert fall.seconds < 5


def test_of_calls_that_fail_at_once_one_makes_the_move_and_all_are_answered(cpu: OnnxEngine) -> None:
    together = threading.Barrier(4)

    class Crowded(Breaking):
        def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            together.wait(10)
            return super().infer(tensors)

    engine = FallingEngine(Crowded("tensorrt-fp32", LOST[0], served=0), ready=cpu)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: engine.infer(BATCH)["y"], range(4)))
    for answer in answers:
        np.testing.assert_array_equal(answer, ANSWER)
    assert [(fall.engine, fall.to) for fall in engine.falls] == [("tensorrt-fp32", "onnx-cpu")]


@pytest.mark.parametrize("message", NEITHER)
def test_an_error_of_the_batch_itself_moves_nothing(cpu: OnnxEngine, message: str) -> None:
    first = Breaking("tensorrt-fp32", message, served=0)
    engine = FallingEngine(first, ready=cpu)
    for _ in range(2):
        with pytest.raises(InferenceFailed, match="inferring on tensorrt-fp32: failed"):
            engine.infer(BATCH)
    assert (engine.name, engine.falls, first.closed) == ("tensorrt-fp32", (), 0)


def test_tensors_that_are_not_as_declared_move_nothing(cpu: OnnxEngine) -> None:
    engine = FallingEngine(cpu, ready=OnnxEngine())
    with pytest.raises(ModelIncompatible):
        engine.infer({"x": np.zeros((2, 5), np.float32)})
    assert engine.falls == ()
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)


def test_with_exhausted_memory_the_next_engine_on_the_device_is_tried_and_then_the_last(cpu: OnnxEngine) -> None:
    first = Breaking("tensorrt-fp32", EXHAUSTED[0], served=0)
    second = Breaking("onnx-cuda", EXHAUSTED[1])

    def open_second() -> Engine:
        assert first.closed  # and has given its memory back
        return second

    engine = FallingEngine(first, [("onnx-cuda", open_second)], cpu)
    engine.infer(BATCH)
    assert engine.name == "onnx-cuda"
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)
    assert [(fall.engine, fall.to) for fall in engine.falls] == [
        ("tensorrt-fp32", "onnx-cuda"),
        ("onnx-cuda", "onnx-cpu"),
    ]


def test_engines_on_a_lost_device_are_passed_over(cpu: OnnxEngine) -> None:
    engine = FallingEngine(Breaking("tensorrt-fp32", LOST[0], served=0), [("onnx-cuda", unreachable)], cpu)
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)
    assert engine.name == "onnx-cpu"


def test_an_engine_on_the_cpu_that_is_not_open_yet_is_opened_once(cpu: OnnxEngine) -> None:
    opened: list[Engine] = []

    def open_cpu() -> Engine:
        opened.append(cpu)
        return cpu

    engine = FallingEngine(Breaking("onnx-cuda", LOST[0], served=0), [("onnx-cpu", open_cpu)])
    engine.infer(BATCH)
    engine.infer(BATCH)
    assert opened == [cpu]


def test_an_engine_that_cannot_be_opened_is_passed_over(cpu: OnnxEngine) -> None:
    def fails() -> Engine:
        raise EngineUnavailable("loading scaling/1 into onnx-cuda: out of memory")

    engine = FallingEngine(Breaking("tensorrt-fp32", EXHAUSTED[0], served=0), [("onnx-cuda", fails)], cpu)
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)
    assert engine.falls[0].to == "onnx-cpu"


def test_an_engine_that_takes_too_long_is_passed_over_and_closed_when_it_comes(
    cpu: OnnxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(falling, "OPENING_LIMIT_S", 0.01)
    may_open, closed = threading.Event(), threading.Event()

    class Late(Breaking):
        def close(self) -> None:
            closed.set()

    def slow() -> Engine:
        assert may_open.wait(30)
        return Late("onnx-cuda", EXHAUSTED[0])

    engine = FallingEngine(Breaking("tensorrt-fp32", EXHAUSTED[0], served=0), [("onnx-cuda", slow)], cpu)
    engine.infer(BATCH)
    assert engine.name == "onnx-cpu"
    may_open.set()
    assert closed.wait(30)
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)


def test_with_nothing_below_the_error_is_raised_as_it_is() -> None:
    first = Breaking("onnx-cuda", LOST[0], served=0)
    engine = FallingEngine(first)
    for _ in range(2):
        with pytest.raises(InferenceFailed, match="inferring on onnx-cuda: failed"):
            engine.infer(BATCH)
    assert not first.closed


def test_a_device_that_refuses_to_be_let_go_stops_nothing(cpu: OnnxEngine) -> None:
    class Stuck(Breaking):
        def close(self) -> None:
            raise RuntimeError(LOST[0])

    engine = FallingEngine(Stuck("onnx-cuda", LOST[0], served=0), ready=cpu)
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)


def test_closing_closes_what_serves_and_what_is_kept_ready(cpu: OnnxEngine) -> None:
    first = Breaking("onnx-cuda", LOST[0])
    engine = FallingEngine(first, ready=cpu)
    engine.close()
    engine.close()
    assert first.closed == 2
    with pytest.raises(EngineUnavailable):
        engine.infer(BATCH)
    with pytest.raises(EngineUnavailable):
        cpu.infer(BATCH)


def test_another_network_is_not_loaded_above_engines_that_hold_the_old_one(cpu: OnnxEngine, tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    with pytest.raises(EngineUnavailable, match="loading scaling/1 into onnx-cuda: the engines below it are open"):
        FallingEngine(Breaking("onnx-cuda", ""), ready=cpu).load(model)
    engine = FallingEngine(OnnxEngine())
    engine.load(model)
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)


def test_auto_keeps_the_engine_on_the_cpu_open_below_the_one_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = networks.save(tmp_path)
    above = Breaking("onnx-cuda", LOST[0], served=3)  # two of them are the golden batch
    kinds = dict(selection.ENGINES)
    kinds["tensorrt"] = selection.EngineKind(lambda: "there is no plan", lambda options: OnnxEngine())
    kinds["onnx-cuda"] = selection.EngineKind(lambda: None, lambda options: above)
    monkeypatch.setattr(above, "load", lambda model: None)
    monkeypatch.setattr(above, "outputs", (TensorSpec("y", "float32", (None, 4)),))
    monkeypatch.setattr(selection, "ENGINES", kinds)
    engine, passed = open_falling(model)
    assert engine.name == "onnx-cuda"
    assert [each.name for each in passed] == ["tensorrt"]
    for _ in range(3):
        np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)
    assert engine.name == "onnx-cpu"
    engine.close()


def test_an_engine_asked_for_by_name_has_nothing_below_it(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    engine, passed = open_falling(model, "onnx-cpu")
    assert passed == ()
    np.testing.assert_array_equal(engine.infer(BATCH)["y"], ANSWER)
    engine.close()
    with pytest.raises(EngineUnavailable, match="no engine 'abacus'"):
        open_falling(model, "abacus")
