"""What every engine must prove for every bundled model and some small networks; a new one needs no new test here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import repository, selection
from models.engine import Engine, EngineUnavailable, ModelIncompatible
from models.repository import Model, Repository
from models.selection import EngineOptions
from tests.models import networks

Tensors = Mapping[str, NDArray[Any]]

ENGINES = [
    pytest.param(name, marks=[pytest.mark.gpu] if name in ("tensorrt", "onnx-cuda", "torch-cuda") else [])
    for name in selection.ENGINES
]
BUNDLED = [f"{name}/{version}" for name in Repository().names() for version in Repository().versions(name)]
ROWS = 37  # neither a power of two nor a multiple of a golden batch


@pytest.fixture(scope="module", params=[*BUNDLED, "scaling/1", "mixing/1"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    name, _, version = request.param.partition("/")
    if request.param in BUNDLED:
        return Repository().load(name, int(version))
    root = tmp_path_factory.mktemp("models")
    return networks.save(root) if name == "scaling" else networks.save_mixing(root)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Opened, which replays the golden batch."""
    name: str = request.param
    reason = selection.ENGINES[name].why_not()
    if reason:
        pytest.skip(f"{name}: {reason}")
    plans = tmp_path_factory.getbasetemp() / "plans"  # one build a model for the whole run
    opened = selection.open_by_name(model, name, EngineOptions(max_batch_size=32, plans=plans, build=True))
    yield opened
    opened.close()


@pytest.fixture
def batch(model: Model) -> dict[str, NDArray[Any]]:
    """`ROWS` different rows: the golden batch, repeated and scaled where it is not of integers."""
    golden = model.golden().inputs
    rng = np.random.default_rng(7)
    factor = rng.uniform(0.5, 1.5, ROWS)
    found = {}
    for name, array in golden.items():
        rows = np.resize(array, (ROWS, *array.shape[1:]))
        scaled = rows * factor.reshape(-1, *[1] * (rows.ndim - 1)) if rows.dtype.kind == "f" else rows
        found[name] = scaled.astype(rows.dtype)
    return found


def take(tensors: Tensors, rows: object) -> dict[str, NDArray[Any]]:
    return {name: array[rows] for name, array in tensors.items()}


def assert_close(got: Tensors, expected: Tensors, model: Model) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(
            got[name], array, rtol=model.manifest.golden.rtol, atol=model.manifest.golden.atol, err_msg=name
        )


def test_the_specs_are_the_manifests(engine: Engine, model: Model) -> None:
    assert {str(spec) for spec in engine.inputs} == {str(entry.spec()) for entry in model.manifest.inputs}
    assert {str(spec) for spec in engine.outputs} == {str(entry.spec()) for entry in model.manifest.outputs}


def test_a_batch_equals_its_rows_alone(engine: Engine, model: Model, batch: dict[str, NDArray[Any]]) -> None:
    together = engine.infer(batch)
    singles = [engine.infer(take(batch, slice(row, row + 1))) for row in range(ROWS)]
    assert_close(together, {name: np.concatenate([each[name] for each in singles]) for name in together}, model)
    for spec in engine.outputs:
        assert together[spec.name].shape == (ROWS, *spec.shape[1:])
        assert spec.accepts(together[spec.name])


def test_permuted_rows_permute_the_answers(engine: Engine, model: Model, batch: dict[str, NDArray[Any]]) -> None:
    order = np.random.default_rng(1).permutation(ROWS)
    assert_close(engine.infer(take(batch, order)), take(engine.infer(batch), order), model)


def test_rows_that_follow_change_nothing(engine: Engine, model: Model, batch: dict[str, NDArray[Any]]) -> None:
    alone = engine.infer(take(batch, slice(0, 5)))
    padded = take(batch, slice(0, 5))
    for name, array in padded.items():
        padded[name] = np.concatenate([array, np.zeros((8, *array.shape[1:]), array.dtype)])
    assert_close(take(engine.infer(padded), slice(0, 5)), alone, model)


@pytest.mark.parametrize("rows", [1, 2, 3, 31, 32, 33, 70])
def test_any_number_of_rows_is_served(engine: Engine, model: Model, batch: dict[str, NDArray[Any]], rows: int) -> None:
    index = np.arange(rows) % ROWS
    assert_close(engine.infer(take(batch, index)), take(engine.infer(batch), index), model)


def test_no_rows_are_no_answers(engine: Engine, batch: dict[str, NDArray[Any]]) -> None:
    outputs = engine.infer(take(batch, slice(0, 0)))
    for spec in engine.outputs:
        assert outputs[spec.name].shape == (0, *spec.shape[1:])
        assert outputs[spec.name].dtype == spec.dtype


def test_inputs_are_left_as_they_are_and_answers_are_the_callers(
    engine: Engine, model: Model, batch: dict[str, NDArray[Any]]
) -> None:
    before = {name: array.copy() for name, array in batch.items()}
    first = engine.infer(batch)
    kept = {name: array.copy() for name, array in first.items()}
    engine.infer(take(batch, slice(None, None, -1)))
    for name, array in before.items():
        np.testing.assert_array_equal(batch[name], array)
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)  # the next batch wrote somewhere else
        first[name][...] = 0
    assert_close(engine.infer(batch), kept, model)


def test_rows_may_lie_anywhere_and_be_read_only(engine: Engine, model: Model, batch: dict[str, NDArray[Any]]) -> None:
    expected = engine.infer(take(batch, slice(None, None, 2)))
    strided = {name: array[::2] for name, array in batch.items()}
    flipped = {name: np.asfortranarray(array[::2]) for name, array in batch.items()}
    locked = {name: np.ascontiguousarray(array[::2]) for name, array in batch.items()}
    for array in locked.values():
        array.flags.writeable = False
    for tensors in (strided, flipped, locked):
        assert_close(engine.infer(tensors), expected, model)


def test_several_threads_may_call_at_once(engine: Engine, model: Model, batch: dict[str, NDArray[Any]]) -> None:
    parts = [take(batch, slice(start, start + 5)) for start in range(8)]
    expected = [engine.infer(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for got, answer in zip(pool.map(engine.infer, parts * 4), expected * 4, strict=True):
            assert_close(got, answer, model)


def test_tensors_that_are_not_as_declared_are_refused_and_it_goes_on(
    engine: Engine, model: Model, batch: dict[str, NDArray[Any]]
) -> None:
    expected = engine.infer(batch)
    name = engine.inputs[0].name
    array = batch[name]
    wider = np.concatenate([array, array[:, :1]], axis=1)
    for wrong, complaint in (
        ({}, f"inputs of {model.reference}: expected `{name}: .*got no tensors"),
        ({each: other for each, other in batch.items() if each != name}, f"expected `{name}: "),
        (batch | {name: wider}, f"expected `{name}: .*, got "),
        (batch | {name: array[0]}, f"expected `{name}: .*, got "),
        (batch | {name: array.astype(np.float64)}, f"expected `{name}: .*, got float64"),
        (batch | {"extra": array}, r"got \['extra'\] as well"),
    ):
        with pytest.raises(ModelIncompatible, match=complaint):
            engine.infer(wrong)
    assert_close(engine.infer(batch), expected, model)


def test_a_closed_engine_says_so_however_often_it_is_closed(engine: Engine, batch: dict[str, NDArray[Any]]) -> None:
    engine.close()
    engine.close()
    assert engine.inputs == engine.outputs == ()
    with pytest.raises(EngineUnavailable, match="the engine is not loaded"):
        engine.infer(batch)


def test_a_closed_engine_may_be_loaded_again(engine: Engine, model: Model, batch: dict[str, NDArray[Any]]) -> None:
    expected = engine.infer(batch)
    engine.close()
    engine.load(model)
    assert_close(engine.infer(batch), expected, model)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_is_not_available_says_why(name: str, tmp_path: Path) -> None:
    reason = selection.ENGINES[name].why_not()
    model = networks.save(tmp_path)
    if reason is None:
        selection.open_by_name(model, name, EngineOptions(max_batch_size=4, plans=tmp_path, build=True)).close()
        return
    with pytest.raises(EngineUnavailable, match=f"opening scaling/1 on {name}: "):
        repository.open_engine(model, name)
    with pytest.raises(EngineUnavailable, match=f"loading scaling/1 into {name}: "):
        selection.ENGINES[name].make(EngineOptions()).load(model)
