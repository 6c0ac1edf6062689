"""Fit the fraud ensemble to labelled rows. Needs torch and scikit-learn (extra `train`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from models.engine import TrainingFailed
from models.fraud.ensemble import SLICE_ROWS, FraudEnsemble

LEAST_LEAF_ROWS = 30


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Weighting frauds or drawing more of them lowered average precision on later weeks, so a row counts once; the bins
    are what makes the few frauds tell.

    Args:
        seed: Weights, dropout and the order of the rows.
        epochs: Passes over the rows.
        batch_rows: Rows a step.
        learning_rate: Adam's first step size; it falls to zero along a cosine.
        weight_decay: Of AdamW.
        members: Perceptrons in the ensemble.
        hidden: Width of their layers.
        dropout: Share of hidden units left out in a step.
        leaves: Bins of an input at most.
        validation_share: Of the rows, the last by time: they calibrate the scores, before all rows are fitted.
    """

    seed: int = 0
    epochs: int = 15
    batch_rows: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    members: int = 4
    hidden: int = 64
    dropout: float = 0.2
    leaves: int = 9
    validation_share: float = 2 / 7


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: epochs done of all, the calibrating fit's included, and the last one's mean loss."""

    done: int
    of: int
    loss: float


class Fitted(NamedTuple):
    """A fitted ensemble, and what chooses thresholds for it.

    Args:
        ensemble: fitted to all rows.
        held_out: float32 [m], calibrated scores of the last m rows by an ensemble that had not seen them.
    """

    ensemble: FraudEnsemble
    held_out: NDArray[np.float32]


def fit(
    inputs: NDArray[np.float32],
    labels: NDArray[np.bool_],
    settings: FitSettings | None = None,
    on_epoch: Callable[[Progress], None] = lambda _: None,
) -> Fitted:
    """Fit an ensemble to the first rows, calibrate it on the last, then fit all rows and keep that calibration.

    The same rows and settings give the same weights on one machine and torch version.

    Args:
        inputs: float32 [n, d], raw, in the order of event time.
        labels: bool [n], True for fraud.

    Raises:
        TrainingFailed: inputs are not finite, or there are not both kinds of rows before and after the split.
    """
    settings = settings or FitSettings()
    epochs = settings.epochs
    cut = len(labels) - round(len(labels) * settings.validation_share)
    _check(inputs, labels, cut)
    with deterministic(settings.seed):
        first = _fit(inputs[:cut], labels[:cut], settings, lambda n, loss: on_epoch(Progress(n, 2 * epochs, loss)))
        slope, shift = _calibration(first, inputs[cut:], labels[cut:])
        _calibrate(first, slope, shift)
        held_out = first.score(inputs[cut:])
    with deterministic(settings.seed):
        ensemble = _fit(inputs, labels, settings, lambda n, loss: on_epoch(Progress(epochs + n, 2 * epochs, loss)))
    _calibrate(ensemble, slope, shift)
    return Fitted(ensemble, held_out)


def _fit(
    inputs: NDArray[np.float32],
    labels: NDArray[np.bool_],
    settings: FitSettings,
    on_epoch: Callable[[int, float], None],
) -> FraudEnsemble:
    edges = [_edges(column, labels, settings.leaves) for column in inputs.T]
    ensemble = FraudEnsemble(edges, settings.members, settings.hidden, settings.dropout)
    rows, wanted = torch.from_numpy(inputs), torch.from_numpy(labels).float()
    ensemble.standardise_on(rows)
    optimiser = torch.optim.AdamW(ensemble.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    for number in range(1, settings.epochs + 1):
        loss = _epoch(ensemble, rows, wanted, optimiser, settings.batch_rows)
        schedule.step()
        on_epoch(number, loss)
    return ensemble


def _edges(column: NDArray[np.float32], labels: NDArray[np.bool_], leaves: int) -> NDArray[np.float32]:
    """Borders of an input's bins: its smallest and largest value, and where a decision tree on it alone would split.

    None for an input of two values: its logarithm says all of it.

    References: Gorishniy et al. 2022, section 3.2.2 (target-aware bins).
    """
    if len(np.unique(column)) <= 2:
        return np.empty(0, np.float32)
    tree = DecisionTreeClassifier(
        criterion="log_loss", max_leaf_nodes=leaves, min_samples_leaf=LEAST_LEAF_ROWS, random_state=0
    ).fit(column[:, None], labels)
    splits = tree.tree_.threshold[tree.tree_.feature >= 0]
    borders: NDArray[np.float32] = np.unique(np.array([column.min(), *splits, column.max()], np.float32))
    return borders


def _epoch(
    ensemble: FraudEnsemble, inputs: Tensor, wanted: Tensor, optimiser: torch.optim.Optimizer, batch_rows: int
) -> float:
    ensemble.train()
    total = 0.0
    for rows in torch.split(torch.randperm(len(inputs)), batch_rows):
        optimiser.zero_grad()
        logits = ensemble.member_logits(ensemble.encode(inputs[rows]))
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, wanted[rows].expand_as(logits), reduction="none"
        )
        losses.mean(dim=1).sum().backward()  # every member learns as if it were alone
        optimiser.step()
        total += losses.detach().sum().item() / len(logits)
    ensemble.eval()
    return total / len(inputs)


@torch.no_grad()
def _calibration(
    ensemble: FraudEnsemble, inputs: NDArray[np.float32], labels: NDArray[np.bool_]
) -> tuple[float, float]:
    """Slope and shift that make the log-odds those of the rows' own frauds (Platt scaling)."""
    parts = torch.split(torch.from_numpy(inputs), SLICE_ROWS)
    logits = torch.cat([ensemble.logits(part) for part in parts]).double().numpy()
    line = LogisticRegression(C=np.inf).fit(logits[:, None], labels)
    return max(float(line.coef_[0, 0]), 1e-3), float(line.intercept_[0])


def _calibrate(ensemble: FraudEnsemble, slope: float, shift: float) -> None:
    ensemble.slope.fill_(slope)
    ensemble.shift.fill_(shift)


def _check(inputs: NDArray[np.float32], labels: NDArray[np.bool_], cut: int) -> None:
    if inputs.dtype != np.float32 or inputs.ndim != 2 or len(inputs) != len(labels) or labels.dtype != np.bool_:
        raise TrainingFailed(
            f"fitting the fraud ensemble: expected float32 [n, d] and bool [n], got {inputs.dtype} "
            f"{list(inputs.shape)} and {labels.dtype} {list(labels.shape)}"
        )
    if not np.isfinite(inputs).all():
        row, column = np.argwhere(~np.isfinite(inputs))[0].tolist()
        raise TrainingFailed(
            f"fitting the fraud ensemble: expected finite inputs, got {inputs[row, column]} in row {row}, "
            f"input {column}"
        )
    for part, what in ((labels[:cut], "to fit"), (labels[cut:], "to calibrate on")):
        if part.all() or not part.any():
            raise TrainingFailed(
                f"fitting the fraud ensemble: expected fraud and genuine ones among {len(part)} rows {what}, got only "
                "one kind; train on more days"
            )


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeded, and on one thread: the sums of several threads depend on their number. Restores what was set."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
