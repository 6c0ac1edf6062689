"""Transactions in, fraud flags out: exact history per card, delayed labels per terminal, an ensemble, decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fraud import habits
from models.fraud.history import CardHistory, warm_up
from models.fraud.inputs import inputs
from models.fraud.sample import FILLING_DAYS
from models.repository import Model
from streams.clock import Clock, SystemClock
from streams.pipeline import Decoded
from streams.pipelines.fraud import approved
from streams.pipelines.fraud.served import FraudModel
from streams.pipelines.fraud.table import TerminalTable
from streams.pipelines.fraud.transactions import TransactionDecoder, Transactions
from streams.records import RecordBatch
from streams.settings import Batch, Fraud, Models
from streams.versions import Versions


class FraudPipeline:
    """The fraud domain, as `streams.pipeline.Pipeline` asks for it; `TransactionDecoder` says what is poison."""

    name = "fraud"
    comparable = True

    def __init__(
        self, settings: Fraud, models: Models | None = None, batch: Batch | None = None, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        repository = (models or Models()).repository()
        self._versions = Versions(repository, self.name, settings.model, settings.version)
        self.rollout_of = settings.model
        self._max_batch_size = (batch or Batch()).max_batch_size
        self.served = self._serve(self._versions.first())
        clock = clock or SystemClock()
        self.input_topic = settings.input
        self.output_topic = settings.output
        self._decoder = TransactionDecoder(settings, clock)
        aside = TransactionDecoder(settings, clock)  # the table's reader has a thread of its own
        self.table = TerminalTable(
            settings.input, settings.labels, aside.good, aside.latest_ms, settings.max_value_bytes
        )

    def open(self, version: int, sha256: str) -> FraudModel:
        """Make another version ready, as `streams.serving` asks for it; from any thread.

        Raises:
            ModelError, SettingsError: it must not serve.
        """
        return self._serve(self._versions.asked(version, sha256))

    def _serve(self, loaded: Model) -> FraudModel:
        return FraudModel(loaded, self._settings, self._max_batch_size)

    def warm_up(self) -> None:
        warm_up()
        approved.warm_up()
        self.table.warm_up()

    def new_store(self) -> CardHistory:
        return CardHistory()

    def decode(self, batch: RecordBatch) -> Decoded[Transactions]:
        return self._decoder(batch)

    def event_time(self, batch: RecordBatch) -> int | None:
        return self._decoder.first_time(batch)

    def features(self, columns: Transactions, store: CardHistory) -> NDArray[np.float64]:
        # First, since it may fail or wait: an event that its card knows is not a new one when it is tried again.
        terminals = self.table.windows(columns.terminals, columns.event_time_ms)
        known = np.empty((len(columns), len(habits.COLUMNS)))
        windows = store.update(columns.keys, columns.event_time_ms, columns.amount, columns.offset, known)
        return inputs(columns.amount, columns.event_time_ms, windows, known, terminals)

    def unsettled(self) -> str:
        """Why features do not mean yet what they did in training; empty where they do."""
        covered = self.table.covered_days
        if covered >= FILLING_DAYS:
            return ""
        return f"the state covers {covered:.1f} days of the {FILLING_DAYS} that the features look back on"

    def close(self) -> None:
        """Release the model."""
        self.served.close()
