"""One version of the fraud model, ready to serve: its engine, its thresholds, its reasons."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from models.drift import DriftMonitor, Report, compare
from models.engine import Engine, ModelError, ModelIncompatible, TensorSpec
from models.fraud.decisions import Decisions
from models.fraud.inputs import INPUTS, STATE
from models.reference import SCORE, Reference
from models.repository import Model
from models.selection import EngineOptions
from streams.engined import Engined
from streams.pipelines.fraud.flags import FlagWriter
from streams.pipelines.fraud.transactions import Transactions
from streams.settings import Fraud

logger = logging.getLogger(__name__)

SPECS = (str(TensorSpec("features", "float32", (None, len(INPUTS)))), str(TensorSpec("score", "float32", (None,))))


class FraudModel(Engined):
    """Implements `streams.pipeline.Served`.

    Args:
        max_batch_size: of the batcher.

    Attributes:
        passed: better engines that do not serve here, and why.

    Raises:
        ModelError: the version cannot be served, or not by this pipeline.
        SettingsError: it has no thresholds, and there are none in the settings.
    """

    def __init__(self, loaded: Model, settings: Fraud, max_batch_size: int) -> None:
        manifest = loaded.manifest
        _check(loaded)
        decisions = Decisions(*settings.thresholds(loaded.reference, manifest.thresholds), settings.rules)
        super().__init__(loaded, settings.engine, EngineOptions(max_batch_size=max_batch_size))
        self._sample = _sample(loaded)
        self._monitor = None if self._sample is None else DriftMonitor(self._sample)
        score = partial(_infer, self._engine)  # not a method of this object: what refers to itself is freed late
        self._flags = FlagWriter(
            self.model, decisions, settings.rules, score, manifest.baseline, settings.include_features
        )

    def infer(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        return _infer(self._engine, features)

    def encode(
        self, columns: Transactions, features: NDArray[np.float64], predictions: NDArray[np.float32]
    ) -> Cells[bytes]:
        if self._monitor is not None:
            self._monitor.update(features, predictions, columns.event_time_ms, columns.keys)
        return self._flags.encode(columns, features, predictions)

    def drift(self) -> Callable[[], Report] | None:
        """Copy what it has seen lately; what is returned compares it with the training sample, in any thread."""
        if self._sample is None or self._monitor is None:
            return None
        return partial(compare, self._sample, self._monitor.window())


def _infer(engine: Engine, features: NDArray[np.floating]) -> NDArray[np.float32]:
    return engine.infer({"features": features.astype(np.float32, copy=False)})["score"]


def _check(loaded: Model) -> None:
    """Raise ModelIncompatible unless the network takes what the pipeline computes, and reasons have a baseline."""
    manifest = loaded.manifest
    got = tuple(str(entry.spec()) for entry in (*manifest.inputs, *manifest.outputs))
    if got != SPECS:
        raise ModelIncompatible(
            f"serving {loaded.reference} in pipeline fraud: expected {list(SPECS)}, got {list(got)}; it is not served"
        )
    if manifest.state not in ("", STATE):
        raise ModelIncompatible(
            f"serving {loaded.reference} in pipeline fraud: it expects the state {manifest.state!r}, the pipeline "
            f"keeps {STATE!r}; it is not served"
        )
    missing = [name for name in INPUTS if name not in manifest.baseline]
    if missing:
        raise ModelIncompatible(
            f"serving {loaded.reference} in pipeline fraud: expected a baseline for every input, got none for "
            f"{', '.join(missing)}; it is not served"
        )


def _sample(loaded: Model) -> Reference | None:
    """The training sample; one that is broken keeps nobody from serving."""
    try:
        sample = loaded.sample()
    except ModelError as error:
        logger.warning("%s", error)
        return None
    if sample is not None and sample.names != (*INPUTS, SCORE):
        logger.warning(
            "%s: expected a training sample of %d inputs and the score, got %s; drift is not watched",
            loaded.reference,
            len(INPUTS),
            ", ".join(sample.names),
        )
        return None
    return sample
