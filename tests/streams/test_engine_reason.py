"""The header `engine-reason`: which better engines do not serve, and why, in one short line."""

from __future__ import annotations

import doctest
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from numpy.typing import NDArray

from models import selection
from models.engine import InferenceFailed
from models.engines.device import DeviceFault
from models.engines.onnx import OnnxEngine
from models.falling import Fall
from models.fraud.history import CardHistory
from models.selection import EngineKind, Passed
from streams import engine_reason
from streams.clock import ManualClock
from streams.engine_reason import LIMIT_BYTES, EngineReason, in_full
from streams.pipelines.fraud.pipeline import FraudPipeline
from streams.processor import Processor
from streams.settings import Fraud
from streams.state import KeyedState
from tests.models.test_device import EXHAUSTED, LOST
from tests.streams.inmemory import batch

NOW_S = 1_767_225_600.0  # 2026-01-01
NO_DRIVER = "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
ON_CPU_ONLY = "the installed onnxruntime is built for the CPU alone"
GIVEN_BY_A_MACHINE_WITHOUT_GPU = [
    Passed(name, f"opening fraud/2 on {name}: {NO_DRIVER}; it is not served by this engine")
    for name in ("tensorrt", "onnx-cuda")
]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_reason, "why_no_gpu", lambda: NO_DRIVER)


def test_the_example() -> None:
    assert doctest.testmod(engine_reason).failed == 0


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_says_so_in_few_bytes() -> None:
    line = EngineReason(GIVEN_BY_A_MACHINE_WITHOUT_GPU).after()
    assert line == "tensorrt, onnx-cuda: no GPU"
    assert len(line) <= 40


def test_a_machine_without_a_gpu_says_so_once_in_the_log() -> None:
    assert in_full({each.name: each.reason for each in GIVEN_BY_A_MACHINE_WITHOUT_GPU}) == [
        f"tensorrt, onnx-cuda: {NO_DRIVER}"
    ]
    assert in_full({"tensorrt": "no plan; build one", "onnx-cuda": "no provider"}) == [
        "tensorrt: no plan; build one", "onnx-cuda: no provider",
    ]  # fmt: skip


def test_there_is_none_where_the_best_engine_serves() -> None:
    assert EngineReason(()).after() == ""


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (f"opening fraud/2 on tensorrt: {ON_CPU_ONLY}; install another; it is not served", ON_CPU_ONLY),
        (
            "reading /var/cache/headrace/engines/fraud-2-0a1b.plan: it is not there; nothing was built for this yet; "
            "`headrace models build fraud` builds it",
            "reading fraud-2-0a1b.plan: it is not there",
        ),
        ("loading fraud/2 into tensorrt: RuntimeError: odd", "RuntimeError: odd"),
        ("opening a/1 on tensorrt: loading a/1 into tensorrt: the plan is refused", "the plan is refused"),
        (
            "replaying the golden batch of fraud/2 on onnx-cuda: score[3] is 1e-2 off; it is not served",
            "replaying the golden batch of fraud/2 on onnx-cuda: score[3] is 1e-2 off",
        ),
    ],
)
def test_a_reason_is_the_sentence_without_what_the_headers_say_already(reason: str, expected: str) -> None:
    assert EngineReason([Passed("tensorrt", reason)]).after() == f"tensorrt: {expected}"


@pytest.mark.parametrize("text", ["ä" * 500, "x" * 500, "😀" * 300, "a\tb\r\nc\x00\x1b[31m\x7f\u2028\ud800" * 20])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_is_one_line_within_its_limit_that_names_every_engine(text: str, count: int) -> None:
    names = ["tensorrt", "onnx-cuda", "onnx-rocm"][:count]
    line = EngineReason([Passed(name, f"{number} {text}") for number, name in enumerate(names)]).after()
    assert LIMIT_BYTES - 10 * count < len(line.encode()) <= LIMIT_BYTES
    assert line.isprintable()
    assert [part.partition(":")[0] for part in line.split("; ")] == names


@pytest.mark.parametrize(
    ("fault", "message", "expected"),
    [(DeviceFault.LOST, LOST[0], "GPU lost"), (DeviceFault.EXHAUSTED, EXHAUSTED[0], "GPU memory exhausted")],
)
def test_an_engine_that_fell_is_named_behind_those_passed_over(fault: DeviceFault, message: str, expected: str) -> None:
    reason = EngineReason([Passed("tensorrt", "opening fraud/2 on tensorrt: there is no plan")])
    fall = Fall("onnx-cuda", "onnx-cpu", f"{fault.value}: {message}", 0.1)
    assert reason.after() == "tensorrt: there is no plan"
    assert reason.after((fall,)) == f"tensorrt: there is no plan; onnx-cuda: {expected}"


def test_it_is_put_together_once_for_each_change() -> None:
    reason = EngineReason([Passed("tensorrt", "there is no plan")])
    fall = Fall("onnx-cuda", "onnx-cpu", f"{DeviceFault.LOST.value}: {LOST[0]}", 0.1)
    assert reason.after() is reason.after()
    assert reason.after((fall,)) is reason.after((fall,))


# In predictions


class Losing(OnnxEngine):
    """Answers as the engine on the CPU does, until its device is lost."""

    name = "onnx-cuda"
    lost = False

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self.lost:
            raise InferenceFailed(f"inferring with fraud/2 on {self.name}: {LOST[0]}")
        return super().infer(tensors)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[FraudPipeline]:
    kinds = dict(selection.ENGINES)
    kinds["tensorrt"] = EngineKind(lambda: "there is no plan", lambda options: OnnxEngine())
    kinds["onnx-cuda"] = EngineKind(lambda: None, lambda options: Losing())
    monkeypatch.setattr(selection, "ENGINES", kinds)
    made = FraudPipeline(Fraud(), clock=ManualClock(NOW_S))
    yield made
    made.close()


def _headers(processor: Processor[Any], offset: int) -> dict[str, bytes | None]:
    """Of the prediction for one transaction."""
    value = {"transaction_id": f"t{offset}", "card_id": "k", "terminal_id": "m1", "amount": 10.5}
    records = batch([json.dumps(value | {"event_time": int(NOW_S * 1000)}).encode()], start=offset)
    (flags,) = (each for each in processor.process([records]).outboxes[0].outgoing if each.topic == "fraud.flags")
    return dict(flags.headers_of(0))


def test_predictions_name_the_fall_from_the_batch_on_that_it_happened_in(
    pipeline: FraudPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = Processor(pipeline, KeyedState("fraud.changelog", CardHistory), clock=ManualClock(NOW_S))
    before = [_headers(processor, 0), _headers(processor, 1)]
    assert [(each["engine"], each["engine-reason"]) for each in before] == [
        (b"onnx-cuda", b"tensorrt: there is no plan")
    ] * 2
    monkeypatch.setattr(Losing, "lost", True)
    after = [_headers(processor, 2), _headers(processor, 3)]
    assert [(each["engine"], each["engine-reason"]) for each in after] == [
        (b"onnx-cpu", b"tensorrt: there is no plan; onnx-cuda: GPU lost")
    ] * 2


def test_an_engine_that_was_asked_for_by_name_has_no_reason(pipeline: FraudPipeline) -> None:
    asked = FraudPipeline(Fraud(engine="onnx-cpu"), clock=ManualClock(NOW_S))
    processor = Processor(asked, KeyedState("fraud.changelog", CardHistory), clock=ManualClock(NOW_S))
    headers = _headers(processor, 0)
    assert headers["engine"] == b"onnx-cpu"
    assert "engine-reason" not in headers
    asked.close()
