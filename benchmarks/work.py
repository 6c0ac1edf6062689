"""The work that every contender does to every event: decode, two features, one network, encode.

Small on purpose: what differs between contenders is then the way of a record, not the arithmetic.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from connectors.simulators.transactions import TransactionSettings
from connectors.simulators.transactions import blocks as simulate

SEED = 20_250_101
CARDS = 5_000
TERMINALS = 700
FIRST_EVENT_TIME_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
EVENT_INTERVAL_MS = 10
DAY_S = 86_400

POISON_EVERY = 100
INPUTS = 16  # width of the network's input, of which the two features fill the first two columns
HIDDEN = 64
FLAG_THRESHOLD = 0.5

# By hand, not by a JSON library: filling a topic and the open-loop sender must cost next to nothing.
_TRANSACTION = (
    b'{"transaction_id":"%s","card_id":"%s","terminal_id":"m%07d","amount":%.2f,'
    b'"event_time":%d,"country":"DE","channel":"ecom","mcc":5411}'
)


def transaction(index: int, amount: float, transaction_id: bytes | None = None) -> tuple[bytes, bytes]:
    """Return key (the card) and value (JSON) of one small transaction, about 180 bytes.

    Args:
        index: its place in the stream; card, terminal and event time follow from it.
        amount: in currency units, written with two decimals.
        transaction_id: an identity of the caller's own; `t` and the index otherwise.
    """
    card_id = b"c%07d" % (index % CARDS)
    identity = transaction_id or b"t%09d" % index
    event_time_ms = FIRST_EVENT_TIME_MS + index * EVENT_INTERVAL_MS
    return card_id, _TRANSACTION % (identity, card_id, index % TERMINALS, amount, event_time_ms)


def transactions(count: int, seed: int = SEED) -> Iterator[tuple[bytes, bytes]]:
    """Yield `count` transactions as (key, value): the same ones for the same seed."""
    draw = random.Random(seed).random
    for index in range(count):
        yield transaction(index, 200.0 * draw())


def simulated_transactions(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield `count` transactions of the product's simulator as (key, value): cards with habits, under 1 % fraud."""
    blocks = simulate(TransactionSettings())
    records = itertools.chain.from_iterable(zip(*block.records(), strict=True) for block in blocks)
    return itertools.islice(records, count)


def poisoned_transactions(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield simulated transactions of which every `POISON_EVERY`-th is cut off: not JSON."""
    for number, (key, value) in enumerate(simulated_transactions(count), start=1):
        yield key, value if number % POISON_EVERY else value[:-1]


def good(kind: str, count: int) -> int:
    """How many of `count` events of a kind get a prediction."""
    return count - count // POISON_EVERY if kind == "poisoned" else count


EVENTS: Mapping[str, Callable[[int], Iterator[tuple[bytes, bytes]]]] = {
    "small": transactions,
    "simulated": simulated_transactions,
    "poisoned": poisoned_transactions,
}


def write_network(path: Path, seed: int = SEED) -> None:
    """Write the 16-64-64-1 network as ONNX: input `x` float32 [n, 16], output `y` float32 [n, 1].

    Gemm, Relu, Gemm, Relu, Gemm, Sigmoid with seeded random weights: the same bytes for the same seed. It predicts
    nothing; it costs what a network of this size costs.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save  # the contenders need not load it

    rng = np.random.default_rng(seed)
    widths = (INPUTS, HIDDEN, HIDDEN, 1)
    nodes, weights, tensor = [], [], "x"
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        weight = (rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32)
        weights += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array(np.zeros(fan_out, np.float32), f"b{layer}"),
        ]
        last = layer == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [tensor, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        tensor = "y" if last else f"a{layer}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"z{layer}"], [tensor]))
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))


def features(events: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """Return float32 [n, 16]: amount, second of the day, zeros."""
    x = np.zeros((len(events), INPUTS), np.float32)
    for row, event in enumerate(events):
        x[row, 0] = event["amount"]
        x[row, 1] = event["event_time"] // 1000 % DAY_S
    return x


class Scorer:
    """The network behind ONNX Runtime on one thread: decoded events in, predictions out."""

    def __init__(self, model: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # broker and contender share the cores; a pool would only spin
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def scores(self, events: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return one score in [0, 1] an event, from one inference call."""
        y = self._session.run(None, {"x": features(events)})[0]
        return y[:, 0].tolist()  # type: ignore[no-any-return]

    def predictions(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return one prediction an event, in order: transaction_id, card_id, score, flagged."""
        return [
            {
                "transaction_id": event["transaction_id"],
                "card_id": event["card_id"],
                "score": score,
                "flagged": score > FLAG_THRESHOLD,
            }
            for event, score in zip(events, self.scores(events), strict=True)
        ]
