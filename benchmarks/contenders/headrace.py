"""Headrace: the product's transport, batcher, pipeline, dead letters and commits around the benchmark's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.contenders.contract import Options, parse_options, report
from benchmarks.contenders.product import measure, product_settings
from benchmarks.work import DAY_S, FLAG_THRESHOLD, INPUTS
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows
from streams.records import RecordBatch


class Transaction(msgspec.Struct, gc=False):
    """As it comes."""

    transaction_id: str
    card_id: str
    amount: float
    event_time: int


class Prediction(msgspec.Struct, gc=False):
    """As it goes."""

    transaction_id: str
    card_id: str
    score: float
    flagged: bool


@dataclass(slots=True)
class Events:
    """Decoded transactions."""

    rows: list[Transaction]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> Self:
        return type(self)([self.rows[row] for row in rows.tolist()])


class SmallPipeline:
    """Decode, two features, the 16-64-64-1 network, encode, as a user of the product would write it."""

    name = "benchmark"
    model = "benchmark/1"
    engine = "onnx-cpu"
    engine_reason = ""
    table = None

    def __init__(self, options: Options) -> None:
        self.input_topic, self.output_topic = options.input, options.output
        session = ort.SessionOptions()
        session.intra_op_num_threads = session.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(options.model), session, providers=["CPUExecutionProvider"])
        self._decode = msgspec.json.Decoder(Transaction).decode
        self._encode = msgspec.json.Encoder().encode

    @property
    def served(self) -> Self:
        return self

    def warm_up(self) -> None:
        self.infer(np.zeros((1, INPUTS), np.float32))

    def new_store(self) -> None:
        return None

    def decode(self, batch: RecordBatch) -> Decoded[Events]:
        values: Sequence[Any] = batch.values
        try:
            return Decoded(Events(list(map(self._decode, values))), np.arange(len(values)))
        except (msgspec.MsgspecError, TypeError):
            return self._decode_each(values)

    def _decode_each(self, values: Sequence[Any]) -> Decoded[Events]:
        events, rows, poison = [], [], {}
        for row, value in enumerate(values):
            try:
                events.append(self._decode(value))
                rows.append(row)
            except (msgspec.MsgspecError, TypeError) as error:
                poison[row] = PoisonEvent("decode", str(error))
        return Decoded(Events(events), np.array(rows, np.intp), poison)

    def features(self, columns: Events, store: None) -> NDArray[np.float32]:
        x = np.zeros((len(columns), INPUTS), np.float32)
        x[:, 0] = [event.amount for event in columns.rows]
        x[:, 1] = np.array([event.event_time for event in columns.rows]) // 1000 % DAY_S
        return x

    def infer(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._session.run(None, {"x": features})[0][:, 0]
        return scores

    def encode(self, columns: Events, features: NDArray[np.float32], predictions: NDArray[np.float32]) -> list[bytes]:
        encode = self._encode
        return [
            encode(Prediction(event.transaction_id, event.card_id, score, score > FLAG_THRESHOLD))
            for event, score in zip(columns.rows, predictions.tolist(), strict=True)
        ]

    def check_model(self) -> None:
        self.warm_up()


if __name__ == "__main__":
    _options = parse_options(__doc__)
    report(measure(_options, product_settings(_options), SmallPipeline(_options)))
