"""`headrace models thresholds fraud`, by a network whose scores can be worked out."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.engine import ModelIncompatible, TrainingFailed
from models.fraud.inputs import INPUTS
from models.golden import GoldenBatch
from models.manifest import TensorEntry
from models.repository import Repository
from streams.errors import SettingsError
from tests.models import networks
from tests.streams.cli.conftest import Outcome, run

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

DAY_MS = 86_400_000
START_MS = 20_089 * DAY_MS  # 2025-01-01
DAYS = 60
A_DAY = 40


def amounts_and_labels() -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Forty transactions a day, amounts 0 to 195 in steps of 5: half of those of 150 and more are frauds."""
    amounts = np.tile(np.arange(A_DAY) * 5.0, DAYS)
    return amounts, (amounts >= 150) & (np.arange(A_DAY * DAYS) % 2 == 1)


def scores(amounts: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (amounts / 200).astype(np.float32)


@pytest.fixture(scope="module")
def transactions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    amounts, fraud = amounts_and_labels()
    rows = np.arange(len(amounts))
    path = tmp_path_factory.mktemp("transactions") / "recorded.parquet"
    table = {
        "transaction_id": rows,
        "event_time": START_MS + rows // A_DAY * DAY_MS + rows % A_DAY * 1000,
        "card_id": rows % 7,
        "terminal_id": rows % 5,
        "amount": amounts,
        "fraud": fraud,
    }
    parquet.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose model `fraud` scores a two hundredth of the amount."""
    root = tmp_path_factory.mktemp("models")
    weights = np.zeros(len(INPUTS), np.float32)
    weights[INPUTS.index("amount")] = 1 / 200
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["score"])],
        "by-hand",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(INPUTS)])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(weights, "w")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    batch = np.arange(2 * len(INPUTS), dtype=np.float32).reshape(2, -1)
    manifest = networks.manifest(
        name="fraud",
        inputs=(TensorEntry("features", "float32", (-1, len(INPUTS))),),
        outputs=(TensorEntry("score", "float32", (-1,)),),
        thresholds={"review": 0.5, "block": 0.9},
    )
    onnx.checker.check_model(network)
    golden = GoldenBatch({"features": batch}, {"score": batch @ weights})
    Repository([root]).save(network.SerializeToString(), manifest, golden)
    return root


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def choose(transactions: Path, models: Path, *arguments: object, code: int = 0, **environment: str) -> Outcome:
    command = ("models", "thresholds", "fraud", "--transactions", transactions, *arguments)
    return run(*command, code=code, **({"MODELS__ROOT": str(models), "FRAUD__VERSION": "1"} | environment))


def total(review: float, block: float, first: int = 37, last: int = DAYS) -> float:
    """What a pair costs a day with the default costs, row by row."""
    amounts, fraud = (column[first * A_DAY : last * A_DAY] for column in amounts_and_labels())
    cost = 0.0
    for score, amount, is_fraud in zip(scores(amounts), amounts, fraud, strict=True):
        if score >= np.float32(block):
            cost += 0 if is_fraud else 15
        elif score >= np.float32(review):
            cost += 3
        else:
            cost += amount if is_fraud else 0
    return cost / (last - first)


def test_it_chooses_what_counting_every_pair_out_chooses(transactions: Path, models: Path) -> None:
    done = choose(transactions, models, "--json")
    answer = json.loads(done.out.splitlines()[-1])
    cuts = sorted({*scores(amounts_and_labels()[0]).tolist(), float("inf")})
    best = min(total(review, block) for review in cuts for block in cuts if review <= block)
    chosen = answer["chosen"]
    assert chosen["cost_per_day"] == pytest.approx(best)
    assert (chosen["review"], chosen["block"]) == (0.77, 0.97)  # 155 to 190 are looked at, 195 is always fraud
    assert (chosen["approved"], chosen["reviewed"], chosen["blocked"]) == (23 * 31, 23 * 8, 23)
    assert (chosen["recall"], chosen["genuine_affected"]) == (1, pytest.approx(4 / 35))
    assert answer["approving_all"]["block"] is None
    assert answer["in_use"]["cost_per_day"] == pytest.approx(total(0.5, 0.9))
    assert answer["approving_all"]["cost_per_day"] == pytest.approx(total(np.inf, np.inf))
    assert answer["costs"] == {"fraud_loss": 1.0, "review": 3.0, "friction": 15.0}
    assert (answer["from"], answer["until"]) == ("2025-02-07", "2025-03-02")
    assert "chosen" in done.err
    assert "2025-02-07 to 2025-03-01" in done.err


def test_costs_days_and_thresholds_in_use_are_what_one_says(transactions: Path, models: Path) -> None:
    arguments = ("--cost", "friction=1", "--cost", "fraud_loss=2", "--from", "2025-01-11", "--until", "2025-01-21")
    threshold = {"FRAUD__REVIEW_THRESHOLD": "0.25", "FRAUD__BLOCK_THRESHOLD": "0.25"}
    answer = json.loads(choose(transactions, models, *arguments, "--json", **threshold).out.splitlines()[-1])
    assert answer["costs"] == {"fraud_loss": 2.0, "review": 3.0, "friction": 1.0}
    assert (answer["from"], answer["until"]) == ("2025-01-11", "2025-01-21")
    assert (answer["chosen"]["review"], answer["chosen"]["block"]) == (0.77, 0.77)
    assert answer["chosen"]["cost_per_day"] == pytest.approx(4)
    assert (answer["in_use"]["review"], answer["in_use"]["blocked"]) == (0.25, 30 * 10)


def test_what_it_prints_can_be_pasted_into_the_settings(transactions: Path, models: Path) -> None:
    printed = choose(transactions, models).out
    assert all(word in printed for word in ("chosen", "in use", "approving all", "cost a day", "if review is there"))
    start = printed.index("[fraud]")
    assert tomllib.loads("\n".join(printed[start:].splitlines()[:3])) == {
        "fraud": {"review_threshold": 0.77, "block_threshold": 0.97}
    }


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_costs_are_drawn(transactions: Path, models: Path, tmp_path: Path, ending: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs the extra `train`")
    path = tmp_path / f"costs.{ending}"
    assert str(path) in choose(transactions, models, "--plot", path).out
    assert path.read_bytes().startswith(begins)


def test_where_nothing_costs_anything_there_is_still_a_picture(
    transactions: Path, models: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs the extra `train`")
    free = [word for name in ("fraud_loss", "review", "friction") for word in ("--cost", f"{name}=0")]
    printed = choose(transactions, models, *free, "--plot", tmp_path / "costs.png").out
    assert "block_threshold = inf" in printed
    assert (tmp_path / "costs.png").stat().st_size > 1000


def test_without_matplotlib_it_says_what_to_install(
    transactions: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = choose(transactions, models, "--plot", "costs.png", code=1)
    assert isinstance(done.result.exception, TrainingFailed)
    assert "pip install 'headrace[train]'" in done.error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--cost", "revue=3"), "expected one of fraud_loss, review, friction, got 'revue'"),
        (("--cost", "review=-3"), "expected a number >= 0 for review, got '-3'"),
        (("--cost", "review=nan"), "expected a number >= 0 for review, got 'nan'"),
        (("--cost", "review=inf"), "expected a number >= 0 for review, got 'inf'"),
        (("--cost", "review=many"), "expected a number >= 0 for review, got 'many'"),
        (("--cost", "review"), "expected NAME=NUMBER, got 'review'"),
        (("--cost", "review=3", "--cost", "review=4"), "'review' is given twice"),
        (("--plot", "costs.pdf"), "expected a file that ends in .png or .svg, got 'costs.pdf'"),
        (("--plot", "nowhere/costs.png"), "there is no folder"),
        (("--from", "yesterday"), "'yesterday' does not match the format"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_sentence(
    transactions: Path, models: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in " ".join(choose(transactions, models, *arguments, code=2).err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        (("--from", "2024-12-31"), "got 2024-12-31 to 2025-03-01"),
        (("--until", "2025-03-03"), "got 2025-02-07 to 2025-03-02"),
        (("--from", "2025-02-20", "--until", "2025-02-20"), "got 2025-02-20 to 2025-02-19"),
        (("--until", "2025-01-20"), "got 2025-02-07 to 2025-01-19; give --from to judge by days whose windows are"),
    ],
)
def test_days_that_the_files_do_not_hold_are_a_sentence(
    transactions: Path, models: Path, arguments: tuple[str, ...], got: str
) -> None:
    error = choose(transactions, models, *arguments, code=1).error
    assert "expected days between 2025-01-01 and 2025-03-01, which the files hold" in error
    assert got in error


def test_a_model_that_sees_something_else_is_a_sentence(transactions: Path, tmp_path: Path) -> None:
    networks.save(tmp_path, thresholds={"review": 0.5, "block": 0.9})
    done = choose(transactions, tmp_path, code=1, FRAUD__MODEL="scaling")
    assert isinstance(done.result.exception, ModelIncompatible)
    assert "expected the tensors `features: float32 [n, 26]` and `score: float32 [n]`, got `x: " in done.error


def test_a_model_without_thresholds_says_what_to_set(transactions: Path, tmp_path: Path) -> None:
    networks.save(tmp_path)
    done = choose(transactions, tmp_path, code=1, FRAUD__MODEL="scaling")
    assert "model scaling/1 has no threshold 'review', only flag: set fraud.review_threshold" in done.error


def test_a_rule_that_makes_no_sense_stops_it_at_once(transactions: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('[[fraud.rules]]\nname = "mine"\n', encoding="utf-8")
    assert isinstance(choose(transactions, models, code=1).result.exception, SettingsError)


def test_its_help_names_the_costs_and_shows_an_example() -> None:
    text = run("models", "thresholds", "fraud", "--help").out
    assert all(word in text for word in ("fraud_loss=1", "review=3", "friction=15", "Example", "--plot"))
