from __future__ import annotations

from itertools import pairwise, permutations
from math import factorial

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.engines.onnx import OnnxEngine
from models.fraud.attribution import MAX_BATCH, MAX_GROUPS, Group, GroupShapley, Score

WIDTH = 9
GROUPS = [Group("a", (4, 0)), Group("b", (2,)), Group("c", (1, 3, 8)), Group("d", (5, 7)), Group("e", (6,))]
BASELINE = np.linspace(-1, 1, WIDTH).astype(np.float32)


def tangled(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """A score whose features all interact, float64 [n]."""
    x = rows.astype(np.float64)
    return np.tanh(x[:, 0] * x[:, 1] - x[:, 2]) + np.prod(1 + x / 3, axis=1) + np.abs(x @ np.arange(WIDTH)) / 10


def linear(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    return rows.astype(np.float64) @ np.arange(WIDTH)


def network(width: int, seed: int = 0) -> OnnxEngine:
    """features float32 [n, width] -> 128 -> 64 -> score float32 [n], on ONNX Runtime."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [numpy_helper.from_array(np.array([-1], np.int64), "flat")], "features"
    for layer, (inputs, outputs) in enumerate(pairwise((width, 128, 64, 1))):
        kernel = rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        weights += [
            numpy_helper.from_array(kernel.astype(np.float32), f"w{layer}"),
            numpy_helper.from_array(rng.normal(size=outputs).astype(np.float32), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        nodes.append(helper.make_node("Relu", [f"z{layer}"], [f"h{layer}"]))
        last = f"h{layer}"
    nodes[-1] = helper.make_node("Reshape", ["z2", "flat"], ["score"])
    graph = helper.make_graph(
        nodes,
        "by-hand",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        weights,
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    engine = OnnxEngine()
    engine.load_bytes(model.SerializeToString(), "by-hand/1")
    return engine


def by_orders(
    score: Score, groups: list[Group], baseline: NDArray[np.float32], row: NDArray[np.float32]
) -> list[float]:
    """The definition: turn the baseline into the row, group by group, in every order; average what each step adds."""
    totals = dict.fromkeys((group.name for group in groups), 0.0)
    for order in permutations(groups):
        mixed = baseline.copy()
        before = float(score(mixed[None])[0])
        for group in order:
            for column in group.columns:
                mixed[column] = row[column]
            after = float(score(mixed[None])[0])
            totals[group.name] += after - before
            before = after
    return [total / factorial(len(groups)) for total in totals.values()]


def some_rows(number: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows of which each group equals the baseline in about a third."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(number, WIDTH)).astype(np.float32)
    for group in GROUPS:
        still = rng.random(number) < 1 / 3
        columns = list(group.columns)
        rows[np.ix_(still, columns)] = BASELINE[columns]
    return rows


def test_contributions_are_what_groups_add_averaged_over_all_orders() -> None:
    rows = some_rows(12)
    found = GroupShapley(tangled, GROUPS, BASELINE).contributions(rows)
    expected = [by_orders(tangled, GROUPS, BASELINE, row) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_two_groups_share_what_they_do_together() -> None:
    groups = [Group("own", (0,)), Group("left", (1,)), Group("right", (2,))]
    attribution = GroupShapley(lambda x: 2 * x[:, 0] + x[:, 1] * x[:, 2], groups, np.zeros(3, np.float32))
    found = attribution.contributions(np.array([[5, 3, 4], [0, 3, 0]], np.float32))
    np.testing.assert_allclose(found, [[10, 6, 6], [0, 0, 0]], atol=1e-12)


def test_contributions_of_a_linear_score_are_weight_times_deviation() -> None:
    rows = some_rows(20)
    found = GroupShapley(linear, GROUPS, BASELINE).contributions(rows)
    deviations = (rows.astype(np.float64) - BASELINE) * np.arange(WIDTH)
    expected = np.stack([deviations[:, list(group.columns)].sum(axis=1) for group in GROUPS], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_contributions_add_up_to_the_score_minus_the_baselines() -> None:
    rows = some_rows(500)
    attribution = GroupShapley(tangled, GROUPS, BASELINE)
    assert attribution.baseline_score == tangled(BASELINE[None])[0]
    sums = attribution.contributions(rows).sum(axis=1)
    np.testing.assert_allclose(sums, tangled(rows) - attribution.baseline_score, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 6, 7, 8, MAX_GROUPS])
def test_they_add_up_on_a_float32_network(groups: int) -> None:
    engine = network(width=40)
    rng = np.random.default_rng(groups)
    baseline, rows = rng.normal(size=40).astype(np.float32), rng.normal(size=(30, 40)).astype(np.float32)
    shuffled = rng.permutation(40)
    parts = [Group(str(i), tuple(shuffled[i::groups].tolist())) for i in range(groups)]
    attribution = GroupShapley(lambda x: engine.infer({"features": x})["score"], parts, baseline)
    scores = engine.infer({"features": rows})["score"].astype(np.float64)
    sums = attribution.contributions(rows).sum(axis=1)
    np.testing.assert_allclose(sums, scores - attribution.baseline_score, rtol=0, atol=1e-5)
    assert np.abs(sums).max() > 0.1


def test_a_group_at_the_baseline_contributes_exactly_nothing_even_where_scores_depend_on_the_batch() -> None:
    def wobbling(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return tangled(rows) + np.arange(len(rows)) * 1e-7

    rows = some_rows(200)
    found = GroupShapley(wobbling, GROUPS, BASELINE).contributions(rows)
    still = np.stack([(rows == BASELINE)[:, list(group.columns)].all(axis=1) for group in GROUPS], axis=1)
    assert still.any(axis=0).all()
    assert (found[still] == 0).all()
    assert (found[~still] != 0).all()


def test_no_coalition_is_scored_twice_and_no_batch_is_over_the_bound() -> None:
    batches: list[NDArray[np.float32]] = []

    def score(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        batches.append(rows)
        return tangled(rows)

    attribution = GroupShapley(score, GROUPS, BASELINE)
    assert [batch.tolist() for batch in batches] == [[BASELINE.tolist()]]
    batches.clear()
    rows = some_rows(100)
    before = rows.copy()
    attribution.contributions(rows)
    np.testing.assert_array_equal(rows, before)
    scored = np.concatenate(batches)
    moved = [sum((row != BASELINE)[list(group.columns)].any() for group in GROUPS) for row in rows]
    assert len(scored) == sum(2**number - 1 for number in moved)
    assert scored.dtype == np.float32
    assert all(0 < len(batch) <= MAX_BATCH for batch in batches)
    assert len(batches) <= -(-100 * 2 ** len(GROUPS) // MAX_BATCH)


def test_many_rows_are_as_one_by_one() -> None:
    rows = some_rows(150)
    attribution = GroupShapley(tangled, GROUPS, BASELINE)
    one_by_one = np.concatenate([attribution.contributions(row[None]) for row in rows])
    np.testing.assert_allclose(attribution.contributions(rows), one_by_one, rtol=0, atol=1e-12)


def test_rows_that_are_not_contiguous() -> None:
    rows = some_rows(20)
    attribution = GroupShapley(tangled, GROUPS, BASELINE)
    apart = np.asfortranarray(np.repeat(rows, 2, axis=0))[::2]
    np.testing.assert_array_equal(attribution.contributions(apart), attribution.contributions(rows))


def test_neither_no_rows_nor_the_baseline_itself_are_scored() -> None:
    calls = []

    def score(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        calls.append(len(rows))
        return tangled(rows)

    attribution = GroupShapley(score, GROUPS, BASELINE)
    found = attribution.contributions(np.empty((0, WIDTH), np.float32))
    assert found.shape == (0, len(GROUPS))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(attribution.contributions(BASELINE[None]), np.zeros((1, len(GROUPS))))
    assert calls == [1]


def test_a_baseline_that_its_owner_changes_later_is_kept() -> None:
    baseline = BASELINE.copy()
    attribution = GroupShapley(linear, GROUPS, baseline)
    expected = attribution.contributions(some_rows(5))
    baseline += 1
    np.testing.assert_array_equal(attribution.contributions(some_rows(5)), expected)


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ([], r"grouping 3 columns: expected 1 to 10 groups, got 0"),
        ([Group(str(i), (i,)) for i in range(11)], "expected 1 to 10 groups, got 11"),
        ([Group("a", (0, 2))], r"got columns \[1\] in none"),
        ([Group("a", (0, 1)), Group("b", (1, 2))], "got column 1 in 'a' and in 'b'"),
        ([Group("a", (0, 1, 1, 2))], "got column 1 in 'a' and in 'a'"),
        ([Group("a", (0, 1, 2)), Group("b", ())], "at least one column in group 'b', got none"),
        ([Group("a", (0, 1)), Group("b", (2, 3))], "expected columns below 3, got 3 in 'b'"),
        ([Group("a", (0, 1)), Group("b", (-1,))], "expected columns below 3, got -1 in 'b'"),
        ([Group("a", (0, 1)), Group("a", (2,))], r"expected groups of distinct names, got \['a', 'a'\]"),
    ],
)
def test_groups_that_are_no_partition_are_refused(groups: list[Group], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GroupShapley(lambda x: x[:, 0], groups, np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("score", "baseline", "complaint"),
    [
        (linear, np.where(np.arange(WIDTH) == 2, np.nan, 0), "expected finite values, got nan in column 2"),
        (lambda x: x[:, :1], BASELINE, r"expected one finite score of shape \[1\], got .* of shape \[1, 1\]"),
        (lambda x: np.full(len(x), np.inf), BASELINE, r"expected one finite score of shape \[1\], got \[inf\]"),
    ],
)
def test_a_baseline_that_cannot_be_compared_with_is_refused(
    score: Score, baseline: NDArray[np.float32], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        GroupShapley(score, GROUPS, baseline.astype(np.float32))


@pytest.mark.parametrize("shape", [(2, WIDTH - 1), (2, 1), (WIDTH,)])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected rows of shape \[k, 9\], got"):
        GroupShapley(linear, GROUPS, BASELINE).contributions(np.zeros(shape, np.float32))
