from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from models import repository, selection
from models.engine import Engine, EngineUnavailable, ModelCorrupt, ModelIncompatible
from models.engines.device import why_no_gpu
from models.engines.onnx import CUDA, OnnxCudaEngine, OnnxEngine, run_bound, why_no_cuda
from models.engines.tensorrt import why_no_tensorrt
from models.selection import AUTO, ORDER, EngineKind, EngineOptions, Passed
from tests.models import networks

BATCH = np.arange(8, dtype=np.float32).reshape(2, 4)


class Doubling(OnnxEngine):
    """Not what the golden batch says."""

    name = "doubling"

    def infer(self, tensors: object) -> dict[str, object]:  # type: ignore[override]
        return {name: 2 * array for name, array in super().infer(tensors).items()}  # type: ignore[arg-type]


def offer(monkeypatch: pytest.MonkeyPatch, **kinds: EngineKind) -> None:
    """Put other engines in the place of those that `auto` tries."""
    offered = {name.replace("_", "-"): kind for name, kind in kinds.items()}
    monkeypatch.setattr(selection, "ENGINES", dict(selection.ENGINES) | offered)


def test_every_engine_is_listed_with_its_reason() -> None:
    found = {each.name: each.reason for each in selection.available()}
    assert list(found) == list(selection.ENGINES)
    assert set(ORDER) <= set(found)
    assert found["onnx-cpu"] is None
    if why_no_gpu():
        assert all(found[name] for name in ("tensorrt", "onnx-cuda", "torch-cuda"))


def test_auto_takes_the_first_that_serves_and_says_why_not_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(
        monkeypatch,
        tensorrt=EngineKind(lambda: "there is no driver", lambda options: OnnxEngine()),
        onnx_cuda=EngineKind(lambda: None, lambda options: Doubling()),
    )
    selected = selection.open_engine(networks.save(tmp_path))
    assert selected.engine.name == "onnx-cpu"
    assert [each.name for each in selected.passed] == ["tensorrt", "onnx-cuda"]
    assert "opening scaling/1 on tensorrt: there is no driver" in selected.passed[0].reason
    assert "replaying the golden batch of scaling/1 on doubling" in selected.passed[1].reason
    assert selected.reason == "; ".join(f"{each.name}: {each.reason}" for each in selected.passed)
    np.testing.assert_array_equal(selected.engine.infer({"x": BATCH})["y"], BATCH * networks.WEIGHTS)


def test_the_best_engine_has_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, tensorrt=EngineKind(lambda: None, lambda options: OnnxEngine()))
    selected = selection.open_engine(networks.save(tmp_path))
    assert (selected.passed, selected.reason) == ((), "")


def test_an_engine_by_name_is_that_engine_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = networks.save(tmp_path)
    assert selection.open_engine(model, "onnx-cpu").passed == ()
    with pytest.raises(EngineUnavailable, match="no engine 'tpu'; there is"):
        selection.open_engine(model, "tpu")
    opened: list[Engine] = []

    def make(options: EngineOptions) -> Engine:
        opened.append(Doubling())
        return opened[0]

    offer(monkeypatch, onnx_cuda=EngineKind(lambda: None, make))
    with pytest.raises(ModelIncompatible, match="golden batch"):
        selection.open_engine(model, "onnx-cuda")
    with pytest.raises(EngineUnavailable, match="not loaded"):
        opened[0].infer({"x": BATCH})  # closed again


@pytest.mark.parametrize("name", selection.ENGINES)
def test_what_an_engine_calls_itself_is_known_before_it_is_opened(tmp_path: Path, name: str) -> None:
    reason = selection.ENGINES[name].why_not()
    if reason:
        pytest.skip(f"{name}: {reason}")
    model = networks.save(tmp_path)
    opened = selection.open_by_name(model, name, EngineOptions(max_batch_size=4, plans=tmp_path, build=True))
    assert opened.name == selection.served_name(name, model)
    opened.close()


def test_a_model_that_no_engine_can_read_is_corrupt(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    model.onnx_path.write_bytes(model.onnx_path.read_bytes()[:-1])
    with pytest.raises(ModelCorrupt, match="expected sha256"):
        selection.open_engine(model, AUTO)


def test_the_repository_opens_what_the_selection_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EngineOptions] = []

    def make(options: EngineOptions) -> Engine:
        seen.append(options)
        return OnnxEngine(options.threads)

    offer(monkeypatch, tensorrt=EngineKind(lambda: None, make))
    repository.open_engine(networks.save(tmp_path), threads=2).close()
    assert [(each.threads, each.build) for each in seen] == [(2, False)]


def test_passed_engines_read_as_one_line() -> None:
    engine = OnnxEngine()
    assert selection.Selected(engine, (Passed("a", "no x"), Passed("b", "no y"))).reason == "a: no x; b: no y"


def test_a_runtime_without_cuda_is_named_once_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("the installed onnxruntime is built with CUDA")
    monkeypatch.setattr("models.engines.onnx.why_no_gpu", lambda: None)
    assert why_no_cuda() == "the installed onnxruntime is built for the CPU alone; install onnxruntime-gpu in its place"
    with pytest.raises(EngineUnavailable, match="loading scaling/1 into onnx-cuda: the installed onnxruntime is built"):
        OnnxCudaEngine().load_bytes(networks.scaling().SerializeToString(), "scaling/1")


def test_a_provider_that_onnx_runtime_leaves_out_silently_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if why_no_gpu() is None:
        pytest.skip("there is a GPU here, on which the provider may start")
    monkeypatch.setattr("models.engines.onnx.why_no_cuda", lambda: None)
    with (
        warnings.catch_warnings(),  # a build without the provider warns, one with it says nothing to the caller
        pytest.raises(EngineUnavailable, match=r"left out its CUDA provider: .*; it is not served by this engine"),
    ):
        warnings.simplefilter("ignore")
        OnnxCudaEngine().load_bytes(networks.scaling().SerializeToString(), "scaling/1")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("missing", ["tensorrt", "torch"])
def test_with_a_gpu_tensorrt_needs_its_packages(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr("models.engines.tensorrt.why_no_gpu", lambda: None)
    monkeypatch.setattr("models.engines.tensorrt.find_spec", lambda name: None if name == missing else object())
    monkeypatch.setattr("models.engines.tensorrt._installed", lambda: "11.4.0")
    assert why_no_tensorrt() == f"{missing} cannot be imported: pip install 'headrace[gpu]'"


@pytest.mark.parametrize(
    ("version", "refused"), [("10.16.1.11", True), ("11.4.0.106", False), ("12.0.0", True), (None, False)]
)
def test_tensorrt_of_another_generation_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str | None, refused: bool
) -> None:
    monkeypatch.setattr("models.engines.tensorrt.why_no_gpu", lambda: None)
    monkeypatch.setattr("models.engines.tensorrt.find_spec", lambda name: object())
    monkeypatch.setattr("models.engines.tensorrt._installed", lambda: version)
    reason = why_no_tensorrt()
    assert reason == (f"expected TensorRT 11, got {version}: pip install 'headrace[gpu]'" if refused else None)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_bound_tensors_give_what_a_plain_run_gives(rows: int) -> None:
    """The way through IO binding, on the CPU's own memory."""
    import onnxruntime

    session = onnxruntime.InferenceSession(networks.mixing().SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(rows).normal(size=(2 * rows, 8)).astype(np.float32)[::2, ::2]
    x.flags.writeable = False
    k = np.arange(rows, dtype=np.int64)[:, None]
    product, sign = run_bound(session, {"x": x, "k": k}, ["product", "sign"], "cpu")
    np.testing.assert_array_equal(product, x * k.astype(np.float32))
    np.testing.assert_array_equal(sign, np.sign(x[:, 0]))
