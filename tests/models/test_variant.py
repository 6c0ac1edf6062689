from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.engine import DerivationFailed, ModelIncompatible, TensorSpec
from models.fraud import evaluate
from models.precision.compare import compare, decisions
from models.precision.rows import Rows, check, evenly

pytest.importorskip("onnx", reason="needs the extra `optimise`")

from models.precision import variant
from models.precision.variant import GOLDEN, Speed, Variant, derive
from models.repository import Repository
from tests.models import precision_networks as networks

SPECS = [TensorSpec("x", "float32", (None, 4))]


def judge(outputs: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    return {"average_precision": evaluate.average_precision(outputs["y"][:, 0], labels)}


def no_judge(*_: object) -> dict[str, float]:
    return {}


def made(root: Path, network: bytes, precision: variant.Precision, **changes: object) -> Variant:
    parent = networks.save(root, network, **changes)
    return derive(parent, precision, networks.rows(), [networks.rows(3000, seed=2)], no_judge)


# What is measured


def test_differences_and_decisions_are_those_of_hand() -> None:
    expected, got = {"y": np.float32([0.1, 0.5, 0.7, 0.9])}, {"y": np.float32([0.1, 0.45, 0.72, 0.9])}
    rows = Rows("four", {"x": np.zeros((4, 4), np.float32)}, np.array([False, True, False, True]))
    found = compare(rows, expected, got, {"review": 0.5, "block": 0.8}, lambda y, _: {"sum": float(y["y"].sum())})
    assert found.largest == pytest.approx(0.05)
    assert found.mean == pytest.approx(0.0175)
    assert found.spread == pytest.approx(0.8)
    assert found.agreement == 0.75  # the second was reviewed, and is not any more
    assert found.losses == {"sum": pytest.approx(0.03, abs=1e-6)}


def test_decisions_are_thresholds_of_one_score_or_the_best_of_several() -> None:
    score = np.float32([0.1, 0.9, 0.5])
    assert decisions({"y": score}, {"review": 0.5, "block": 0.9}).tolist() == [0, 2, 1]
    assert decisions({"y": score[:, None]}, {"flag": 0.5}).tolist() == [0, 1, 1]
    assert decisions({"y": np.float32([[1, 2], [4, 3]])}, {}).tolist() == [1, 0]
    assert decisions({"y": score}, {}) is None
    assert decisions({"y": score, "z": score}, {"flag": 0.5}) is None


def test_an_output_that_is_not_finite_is_refused_and_not_judged() -> None:
    rows = Rows("two", {"x": np.zeros((2, 4), np.float32)}, np.array([False, True]))
    found = compare(rows, {"y": np.float32([0, 1])}, {"y": np.float32([0, np.nan])}, {}, no_judge)
    assert variant._complaints(found, 1.0) == ["an output is not finite on two"]


# What is kept and what is refused


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_good_variant_becomes_the_next_version(tmp_path: Path, precision: variant.Precision) -> None:
    parent = networks.save(tmp_path, networks.layers(), state="nothing/1", labels=("a", "b", "c", "d"))
    found = derive(parent, precision, networks.rows(), [networks.rows(3000, seed=2)], no_judge)
    assert [each.what for each in found.comparisons] == [GOLDEN, "3000 rows of seed 2"]
    # Which of four random numbers is largest is often close; it is this limit's own test that follows.
    assert [reason for reason in found.refusals() if "decisions" not in reason] == []
    saved = found.save(Repository([tmp_path]), "by a test", "400 rows of seed 1")
    assert saved.version == parent.version + 1
    derived = saved.manifest.derived
    assert (derived.parent, derived.how, derived.precision) == (parent.reference, "by a test", precision)
    assert derived.calibrated_on == "400 rows of seed 1"
    assert (saved.manifest.state, saved.manifest.labels) == (parent.manifest.state, parent.manifest.labels)
    assert saved.manifest.inputs == parent.manifest.inputs
    assert {"largest_difference", "speed_up_1", "speed_up_1024"} <= set(saved.manifest.quality)
    golden = saved.golden()
    np.testing.assert_array_equal(golden.outputs["y"], networks.run(saved.onnx_bytes(), golden.inputs["x"]))
    assert variant.original(Repository([tmp_path]), "scaling").version == parent.version
    with pytest.raises(DerivationFailed, match=r"got one that is itself derived from scaling/1"):
        derive(saved, precision, networks.rows(), [networks.rows()], no_judge)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_golden_batch_of_a_variant_catches_a_broken_engine(tmp_path: Path, precision: variant.Precision) -> None:
    found = made(tmp_path, networks.layers(), precision)

    class Broken:
        """Forgets the sign of its outputs, or a tenth of them."""

        name = "broken"

        def __init__(self, change: float) -> None:
            self._change = change

        def infer(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"y": networks.run(found.network, tensors["x"]) * np.float32(self._change)}

    found.golden.replay(Broken(1.0), found.tolerance, "scaling/2")
    for change in (-1.0, 0.9, 0.0):
        with pytest.raises(ModelIncompatible, match="expected to be within"):
            found.golden.replay(Broken(change), found.tolerance, "scaling/2")


@pytest.mark.parametrize("network", [networks.huge(), networks.cancelling(), networks.shared()])
def test_a_network_that_breaks_in_float16_keeps_its_outputs(tmp_path: Path, network: bytes) -> None:
    found = made(tmp_path, network, "fp16")
    assert [reason for reason in found.refusals() if "decisions" not in reason] == []
    assert "nodes stay in float32" in found.made


def test_a_network_that_loses_too_much_in_int8_is_refused(tmp_path: Path) -> None:
    refusals = made(tmp_path, networks.outlying(), "int8").refusals()
    assert any("outputs are off by" in reason and "golden batch" in reason for reason in refusals)
    assert any("of the decisions agree on 3000 rows of seed 2, at least 99.9% must" in reason for reason in refusals)


def test_a_figure_of_quality_may_lose_so_much_and_no_more(tmp_path: Path) -> None:
    found = made(tmp_path, networks.layers(), "int8")
    lossy = replace(found.comparisons[1], agreement=1.0, original={"ap": 0.8}, variant={"ap": 0.79})
    found = replace(found, comparisons=(found.comparisons[0], lossy))
    assert found.refusals(0.011) == []
    assert found.refusals(0.009) == ["ap is 0.0100 lower on 3000 rows of seed 2, allowed are 0.009"]
    better = replace(lossy, variant={"ap": 0.9})
    assert replace(found, comparisons=(found.comparisons[0], better)).refusals(0.0) == []


def test_faster_means_faster_with_full_batches(tmp_path: Path) -> None:
    found = made(tmp_path, networks.layers(), "fp16")
    assert [speed.rows for speed in found.speeds] == [1, 64, 1024]
    assert all(speed.original_s > 0 and speed.variant_s > 0 for speed in found.speeds)
    for ratio, faster in ((1.3, True), (1.0, False), (0.5, False)):
        assert replace(found, speeds=(Speed(1, 1, 1, 9), Speed(1024, 1, 1, ratio))).faster is faster


def test_a_network_that_takes_one_row_at_a_time(tmp_path: Path) -> None:
    network = networks.layers(rows=1)
    values = np.asarray(networks.rows(1, seed=9).tensors["x"])
    entries = {"inputs": networks.entry("x", 1), "outputs": networks.entry("y", 1)}
    parent = networks.save(tmp_path, network, values=values, **entries)
    found = derive(parent, "int8", networks.rows(40), [networks.rows(60, seed=2)], no_judge)
    assert [each.rows for each in found.comparisons] == [1, 60]
    assert [speed.rows for speed in found.speeds] == [1]
    found.save(Repository([tmp_path]), "by a test", "40 rows")


def test_the_bundled_fraud_model_in_int8_and_fp16(tmp_path: Path) -> None:
    """Golden rows serve as the sample: half are frauds, so their order is a label."""
    model = Repository().load("fraud", 2)
    golden = model.golden()
    features, scores = golden.inputs["features"], golden.outputs["score"]
    everything = Rows("golden rows", {"features": features}, scores > np.median(scores))

    def area(outputs: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
        return {"roc_auc": evaluate.roc_auc(outputs["score"], labels)}

    steps: list[str] = []
    for precision in ("int8", "fp16"):
        found = derive(model, precision, everything, [everything], area, on_step=steps.append)
        assert found.comparisons[1].losses["roc_auc"] < 0.005
        assert found.comparisons[1].agreement > 0.98
        assert found.tolerance.atol < 0.03
        saved = found.save(Repository([tmp_path]), "by a test", "golden rows")
        assert saved.manifest.thresholds == model.manifest.thresholds
        assert saved.manifest.baseline == model.manifest.baseline
        assert len(saved.onnx_bytes()) < 0.6 * len(model.onnx_bytes())
    assert len(steps) == 2 * variant.steps([everything])


# Bad rows


@pytest.mark.parametrize(("tensors", "labels", "error", "reason"), [
    ({"x": np.zeros((0, 4), np.float32)}, None, DerivationFailed, "expected at least 16 rows, got 0"),
    ({"x": np.zeros((15, 4), np.float32)}, None, DerivationFailed, "expected at least 16 rows, got 15"),
    ({}, None, DerivationFailed, "expected at least 16 rows, got 0"),
    ({"x": np.zeros((20, 5), np.float32)}, None, ModelIncompatible, r"expected `x: float32 \[n, 4\]`, got float32 "),
    ({"x": np.zeros((20, 4))}, None, ModelIncompatible, "got float64"),
    ({"z": np.zeros((20, 4), np.float32)}, None, ModelIncompatible, r"got only \['z'\]"),
    ({"x": np.float32(3)}, None, DerivationFailed, "at least 16 rows, got 0"),
    ({"x": np.zeros((20, 4), np.float32)}, np.zeros(19, bool), DerivationFailed, "as many rows each"),
    ({"x": np.full((20, 4), np.nan, np.float32)}, None, DerivationFailed, "20 rows of `x` with NaN or infinite ones"),
    ({"x": np.float32([[0, 0, 0, 0]] * 18 + [[0, 0, np.inf, 0]])}, None, DerivationFailed, "the first is row 18"),
])  # fmt: skip
def test_bad_rows_are_sentences(
    tensors: dict[str, np.ndarray], labels: np.ndarray | None, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        check(Rows("a file", tensors, labels), SPECS, "scaling/1", 16)


def test_nothing_is_derived_with_bad_rows(tmp_path: Path) -> None:
    parent = networks.save(tmp_path, networks.layers())
    wide = Rows("wide rows", {"x": np.zeros((20, 5), np.float32)})
    for calibration, held_out in ((wide, networks.rows()), (networks.rows(), wide)):
        with pytest.raises(ModelIncompatible, match=r"expected `x: float32 \[n, 4\]`"):
            derive(parent, "int8", calibration, [held_out], no_judge)


def test_rows_are_taken_evenly() -> None:
    rows = Rows("ten", {"x": np.arange(10)}, np.arange(10) > 4)
    assert evenly(rows, 4).tensors["x"].tolist() == [0, 3, 6, 9]
    assert evenly(rows, 99).tensors["x"].tolist() == list(range(10))
    assert len(evenly(Rows("none", {"x": np.arange(0)}), 4)) == 0


def test_without_the_extra_one_sentence_says_which(tmp_path: Path) -> None:
    """In a process of its own, where importing onnx fails."""
    networks.save(tmp_path, networks.layers())
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from models import repository\n"
        "from models.precision.rows import Rows\n"
        "from models.precision.variant import derive\n"
        "rows = Rows('rows', {'x': np.zeros((20, 4), np.float32)})\n"
        f"parent = repository.Repository([Path({str(tmp_path)!r})]).load('scaling')\n"
        "derive(parent, 'fp16', rows, [rows], None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "importing onnx failed; install what it needs: pip install 'headrace[optimise]'" in done.stderr
