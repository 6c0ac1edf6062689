"""What Headrace asks of TensorRT, on a stand-in; what TensorRT answers is tested where there is a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import selection
from models.engine import EngineUnavailable, InferenceFailed, ModelIncompatible
from models.engines import plan_cache, tensorrt_build
from models.engines.aside import Progress
from models.engines.device import DeviceFault, device_fault
from models.engines.sizes import fixed_sizes, profiles
from models.engines.tensorrt import TensorRtEngine
from models.manifest import Derived
from models.repository import Repository
from models.selection import EngineKind, EngineOptions
from tests.models import networks, stand_in_tensorrt
from tests.models.stand_in_tensorrt import Device

SCALING = networks.scaling().SerializeToString()
SIZES = fixed_sizes(100)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return stand_in_tensorrt.install(monkeypatch)


@pytest.fixture
def engine(device: Device, tmp_path: Path) -> TensorRtEngine:
    engine = TensorRtEngine(100, tmp_path)
    engine.load_bytes(SCALING, "scaling/1")
    return engine


def plan(folder: Path) -> Path:
    (found,) = folder.glob("scaling-1-*.plan")
    return found


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 63, 64, 65, 99, 100, 101, 250])
def test_any_number_of_rows_is_answered_by_graphs_of_fixed_sizes(
    engine: TensorRtEngine, device: Device, rows: int
) -> None:
    batch = np.random.default_rng(rows).random((rows, 4), dtype=np.float32)
    launches = device.launches
    np.testing.assert_array_equal(engine.infer({"x": batch})["y"], batch * networks.WEIGHTS)
    assert device.replays == -(-rows // 100)
    assert device.launches == launches  # nothing but replays


def test_bundled_models_keep_their_golden_batch(device: Device, tmp_path: Path) -> None:
    model = Repository().load("fraud")
    engine = TensorRtEngine(16, tmp_path)
    engine.load(model)
    assert engine.name == "tensorrt-fp32"
    selection.check_specs(model, engine)
    model.golden().replay(engine, model.manifest.golden, model.reference)


def test_several_inputs_and_outputs_of_several_types(device: Device, tmp_path: Path) -> None:
    model = networks.save_mixing(tmp_path)
    engine = TensorRtEngine(4, tmp_path)
    engine.load(model)
    selection.check_specs(model, engine)
    model.golden().replay(engine, model.manifest.golden, model.reference)


def test_a_network_that_cannot_be_captured_runs_without_graphs(device: Device, tmp_path: Path) -> None:
    device.fail_capture = True
    engine = TensorRtEngine(8, tmp_path)
    engine.load_bytes(SCALING, "scaling/1")
    batch = np.ones((11, 4), np.float32)
    np.testing.assert_array_equal(engine.infer({"x": batch})["y"], batch * networks.WEIGHTS)
    assert device.replays == 0


def test_a_plan_is_built_once_and_read_from_then_on(engine: TensorRtEngine, device: Device, tmp_path: Path) -> None:
    assert device.builds == 1
    TensorRtEngine(100, tmp_path, build=False).load_bytes(SCALING, "scaling/1")
    assert device.builds == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".plan", ".timing"]


@pytest.mark.parametrize("damage", ["truncated", "changed", "foreign", "unsealed"])
def test_a_plan_that_is_not_what_was_built_is_built_again(
    engine: TensorRtEngine, device: Device, tmp_path: Path, damage: str
) -> None:
    data = plan(tmp_path).read_bytes()
    other = plan_cache.PlanKey("0" * 64, "fp32", profiles(100), plan_cache.DeviceKey("10.0", "another", "7.5"))
    if damage == "foreign":
        plan_cache.write(plan(tmp_path), other, data)
    else:
        changed = {"truncated": data[:-1], "changed": data[:-1] + b"\0", "unsealed": b"plan"}[damage]
        plan(tmp_path).write_bytes(changed)
    with pytest.raises(EngineUnavailable, match=r"it is not loaded: .*`headrace models build scaling"):
        TensorRtEngine(100, tmp_path, build=False).load_bytes(SCALING, "scaling/1")
    again = TensorRtEngine(100, tmp_path)
    again.load_bytes(SCALING, "scaling/1")
    assert device.builds == 2
    assert plan(tmp_path).read_bytes() == data
    np.testing.assert_array_equal(again.infer({"x": np.ones((1, 4), np.float32)})["y"], [networks.WEIGHTS])


@pytest.mark.parametrize("change", ["network", "version", "gpu", "capability", "precision", "batch"])
def test_what_a_plan_depends_on_is_in_its_key(
    engine: TensorRtEngine, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    import tensorrt
    import torch

    onnx, rows, precision = SCALING, 100, "fp32"
    match change:
        case "network":
            onnx = networks.mixing().SerializeToString()
        case "version":
            monkeypatch.setattr(tensorrt, "__version__", "11.5.0")
        case "gpu":
            monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "another")
        case "capability":
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (12, 0))
        case "precision":
            precision = "fp16"
        case "batch":
            rows = 101
    other = TensorRtEngine(rows, tmp_path, build=False)
    with pytest.raises(
        EngineUnavailable, match=f"nothing was built for this yet; .*--max-batch-size {rows}` builds it"
    ):
        other.load_bytes(onnx, "scaling/1", precision)
    assert other.inputs == ()
    assert device.builds == 1


def test_kernel_times_are_kept_between_builds_and_damaged_ones_are_left(device: Device, tmp_path: Path) -> None:
    TensorRtEngine(2, tmp_path).load_bytes(SCALING, "scaling/1")
    TensorRtEngine(4, tmp_path).load_bytes(SCALING, "scaling/1")
    (timing,) = tmp_path.glob("*.timing")
    timing.write_bytes(b"damaged")
    TensorRtEngine(8, tmp_path).load_bytes(SCALING, "scaling/1")
    assert device.timing_given == [b"", b"kernel times", b""]


def test_precision_is_what_the_manifest_says(device: Device, tmp_path: Path) -> None:
    model = networks.save(tmp_path, derived=Derived("scaling/1", "headrace models optimise", "fp16"))
    engine = TensorRtEngine(2, tmp_path)
    assert engine.name == "tensorrt"
    engine.load(model)
    assert engine.name == "tensorrt-fp16"


def test_a_build_that_fails_says_what_tensorrt_said(device: Device, tmp_path: Path) -> None:
    device.refuse_build = "Error Code 10: Internal Error (Could not find any implementation for node)"
    with pytest.raises(EngineUnavailable, match="building scaling/1 for tensorrt: Error Code 10"):
        TensorRtEngine(2, tmp_path).load_bytes(SCALING, "scaling/1")
    with pytest.raises(EngineUnavailable, match="its parser refuses the network: "):
        TensorRtEngine(2, tmp_path).load_bytes(b"nonsense", "nonsense/1")
    assert list(tmp_path.glob("*.plan")) == []


def test_a_network_of_fixed_rows_is_refused(device: Device, tmp_path: Path) -> None:
    with pytest.raises(ModelIncompatible, match=r"tensor `y` whose first axis, the batch, is free .* got \[2, 4\]"):
        TensorRtEngine(2, tmp_path).load_bytes(networks.folding().SerializeToString(), "folding/1")


def test_a_device_that_fails_while_it_runs_is_known_as_such(engine: TensorRtEngine, device: Device) -> None:
    device.fail_capture = True
    engine.close()
    engine.load_bytes(SCALING, "scaling/1")
    device.fail_launch = "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access)"
    with pytest.raises(InferenceFailed, match=r"on tensorrt-fp32: failed on x: float32 \[1, 4\]: IExec") as caught:
        engine.infer({"x": np.ones((1, 4), np.float32)})
    assert device_fault(caught.value) is DeviceFault.LOST


def test_an_error_while_it_opens_leaves_nothing_open(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def exhausted(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch, "zeros", exhausted)
    engine = TensorRtEngine(2, tmp_path)
    with pytest.raises(EngineUnavailable, match="loading scaling/1 into tensorrt: RuntimeError: CUDA out of memory"):
        engine.load_bytes(SCALING, "scaling/1")
    assert engine.inputs == ()
    with pytest.raises(EngineUnavailable, match="not loaded"):
        engine.infer({"x": np.ones((1, 4), np.float32)})


def test_auto_serves_on_the_next_engine_until_there_is_a_plan(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = dict(selection.ENGINES)
    kinds["tensorrt"] = EngineKind(lambda: None, kinds["tensorrt"].make)
    kinds["onnx-cuda"] = EngineKind(lambda: "not here", kinds["onnx-cuda"].make)
    monkeypatch.setattr(selection, "ENGINES", kinds)
    model = networks.save(tmp_path)
    options = EngineOptions(max_batch_size=8, plans=tmp_path / "plans")
    first = selection.open_engine(model, "auto", options)
    assert first.engine.name == "onnx-cpu"
    assert "`headrace models build scaling --max-batch-size 8` builds it" in first.passed[0].reason
    told: list[Progress] = []
    tensorrt_build.build_plan(told.append, model, 8, tmp_path / "plans")
    assert told[-1] == Progress(1.0, "Building Engine")
    tensorrt_build.build_plan(pytest.fail, model, 8, tmp_path / "plans")  # is there already
    assert device.builds == 1
    second = selection.open_engine(model, "auto", options)
    assert (second.engine.name, second.passed) == ("tensorrt-fp32", ())


@pytest.mark.gpu
def test_a_plan_is_built_in_another_process(tmp_path: Path) -> None:
    reason = selection.ENGINES["tensorrt"].why_not()
    if reason:
        pytest.skip(f"tensorrt: {reason}")
    model = networks.save(tmp_path)
    aside = tensorrt_build.build_aside(model, 8, tmp_path / "plans")
    aside.wait()
    selection.open_by_name(model, "tensorrt", EngineOptions(max_batch_size=8, plans=tmp_path / "plans")).close()
