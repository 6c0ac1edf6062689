"""Transactions in, fraud flags out: exact history per card, delayed labels per terminal, an ensemble, decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import repository
from models.engine import Engine
from models.fraud import habits
from models.fraud.decisions import Decisions
from models.fraud.history import CardHistory, warm_up
from models.fraud.inputs import inputs
from streams.clock import Clock, SystemClock
from streams.pipeline import Decoded
from streams.pipelines.fraud.flags import FlagWriter
from streams.pipelines.fraud.table import TerminalTable
from streams.pipelines.fraud.transactions import TransactionDecoder, Transactions
from streams.records import RecordBatch
from streams.settings import Fraud


class FraudPipeline:
    """The fraud domain, as `streams.pipeline.Pipeline` asks for it; `TransactionDecoder` says what is poison."""

    name = "fraud"

    def __init__(self, settings: Fraud, clock: Clock | None = None) -> None:
        root = repository.ZOO if settings.models is None else Path(settings.models)
        self._loaded = repository.load(root, settings.model, settings.version)
        self._engine: Engine = repository.open_engine(self._loaded, settings.engine)
        clock = clock or SystemClock()
        self.input_topic = settings.input
        self.output_topic = settings.output
        self.model = self._loaded.reference
        self.engine = self._engine.name
        self._decoder = TransactionDecoder(settings, clock)
        aside = TransactionDecoder(settings, clock)  # the table's reader has a thread of its own
        self.table = TerminalTable(settings.input, settings.labels, aside.good, aside.latest_ms)
        manifest = self._loaded.manifest
        decisions = Decisions(*settings.thresholds(self.model, manifest.thresholds), settings.rules)
        self._flags = FlagWriter(
            self.model, decisions, settings.rules, self.infer, manifest.baseline, settings.include_features
        )

    def warm_up(self) -> None:
        warm_up()
        self.table.warm_up()

    def new_store(self) -> CardHistory:
        return CardHistory()

    def decode(self, batch: RecordBatch) -> Decoded[Transactions]:
        return self._decoder(batch)

    def features(self, columns: Transactions, store: CardHistory) -> NDArray[np.float64]:
        # First, since it may fail or wait: an event that its card knows is not a new one when it is tried again.
        terminals = self.table.windows(columns.terminals, columns.event_time_ms)
        known = np.empty((len(columns), len(habits.COLUMNS)))
        windows = store.update(columns.keys, columns.event_time_ms, columns.amount, columns.offset, known)
        return inputs(columns.amount, columns.event_time_ms, windows, known, terminals)

    def infer(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        return self._engine.infer({"features": features.astype(np.float32, copy=False)})["score"]

    def encode(
        self, columns: Transactions, features: NDArray[np.float64], predictions: NDArray[np.float32]
    ) -> list[bytes]:
        return self._flags.encode(columns, features, predictions)

    def check_model(self) -> None:
        self._loaded.golden().replay(self._engine, self._loaded.manifest.golden, self._loaded.reference)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
