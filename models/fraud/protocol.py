"""The public protocol by which fraud models are compared: recorded transactions, split, plain features, figures.

A week of training, a week in which its labels arrive, a week of test without the cards that are known to be
compromised by then. What is fitted to the training rows and how is no matter here: a model is its test rows' scores.

References: Y.-A. Le Borgne, W. Siblini, B. Lebichot, G. Bontempi: Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook. Université Libre de Bruxelles, 2022, chapters 3 to 5.
"""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.engine import TrainingFailed
from models.fraud import evaluate
from models.fraud.blocks import DAY_MS, Int, Int64, kernel
from models.fraud.evaluate import Labels, Scores
from models.fraud.transactions import Ids, Transactions

WINDOW_DAYS = (1, 7, 30)
LABEL_DELAY_DAYS = 7
NIGHT_ENDS = np.timedelta64(7, "h")  # hours 0 to 6
INSPECTED_CARDS = 100  # a day
REFERENCE_MODELS = ("logistic_regression", "random_forest", "gradient_boosting")


class Split(NamedTuple):
    """Rows to fit to and rows to be judged on, int64 [n] each."""

    train: Int64
    test: Int64


def split(
    transactions: Transactions, train_start: date, train_days: int = 7, delay_days: int = 7, test_days: int = 7
) -> Split:
    """Training rows and test rows; the labels of the days between them are too young to train on.

    A card's fraud is known `delay_days` after its day has passed: a test day is without the cards with a fraud in the
    training days, or on any later day up to `delay_days` + 1 days before it.

    Raises:
        TrainingFailed: The transactions begin after the first training day or end before the last test day.
    """
    day, cards, fraud = transactions.day, transactions.cards.codes, transactions.fraud
    start = (train_start - date(1970, 1, 1)).days
    tested = start + train_days + delay_days
    first, last = int(day.min()), int(day.max())
    if first > start or last < tested + test_days - 1:
        raise TrainingFailed(
            f"splitting transactions into {train_days} days of training, {delay_days} of delay and {test_days} of "
            f"test: expected days from {_date(start)} to {_date(tested + test_days - 1)}, got {_date(first)} to "
            f"{_date(last)}; choose another start of the training or add files"
        )
    test = []
    for today in range(tested, tested + test_days):
        known = cards[fraud & (day >= start) & (day < today - delay_days)]
        test.append(np.flatnonzero((day == today) & ~np.isin(cards, known)))
    return Split(np.flatnonzero((day >= start) & (day < start + train_days)), np.concatenate(test))


def judge(scores: Scores, transactions: Transactions, rows: Int64) -> dict[str, float]:
    """ROC AUC ("auc"), average precision ("ap"), card precision@100 ("cp100") of the test rows' scores.

    Args: finite scores of shape [n], the rows that they belong to, int64 [n].
    Raises: TrainingFailed where scores are malformed or only one class is there.
    """
    labels = transactions.fraud[rows]
    return {
        "auc": evaluate.roc_auc(scores, labels),
        "ap": evaluate.average_precision(scores, labels),
        "cp100": card_precision(scores, labels, transactions.cards.codes[rows], transactions.day[rows]),
    }


def card_precision(scores: Scores, labels: Labels, cards: Int64, days: Int64) -> float:
    """The mean over the days of the share of compromised cards among the 100 that an inspector is shown.

    A card's score is its day's highest; cards of equal score come in the order of their codes. A card with a fraud
    that was shown is detected and not shown again. A day of fewer cards counts as if 100 had been shown.

    Args: one row a transaction, shape [n] each.
    """
    detected = np.empty(0, np.int64)
    precisions = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & ~np.isin(cards, detected))
        ranked = rows[np.lexsort((cards[rows], -scores[rows]))]
        distinct, best = np.unique(cards[ranked], return_index=True)
        shown = distinct[np.argsort(best)[:INSPECTED_CARDS]]
        hits = np.intersect1d(shown, cards[rows[labels[rows]]])
        precisions.append(len(hits) / INSPECTED_CARDS)
        detected = np.union1d(detected, hits)
    return float(np.mean(precisions))


def plain_features(transactions: Transactions) -> NDArray[np.float64]:
    """float64 [n, 15], the handbook's features in the order of PLAIN_FEATURES, as they are defined.

    A row sees the rows up to itself in the order of arrival, whether or not that is the order of time t. A card's
    number and mean amount are over the times in (t - W, t], the row itself included; a terminal's number and share of
    frauds (0 where there is none) over (t - W - 7 days, t - 7 days]: labels come that late. W is 1, 7 and 30 days.
    This shares no code with the state of the stream and is what that state is tested against.
    """
    time = transactions.event_time_ms.astype("datetime64[ms]")
    today = time.astype("datetime64[D]")
    of_card = _windows(transactions.cards, transactions.event_time_ms, transactions.amount, 0)
    fraud, delay_ms = transactions.fraud.astype(np.float64), LABEL_DELAY_DAYS * DAY_MS
    of_terminal = _windows(transactions.terminals, transactions.event_time_ms, fraud, delay_ms)
    calendar = (transactions.amount, ~np.is_busday(today), time - today < NIGHT_ENDS)
    return np.column_stack((*calendar, of_card, of_terminal))


def reference_scores(
    name: str, train_features: NDArray[np.float64], train_labels: Labels, test_features: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit one of REFERENCE_MODELS, scikit-learn's with its defaults and seed 0, to standardised features.

    Args:
        name: Which one.
        train_features: float64 [m, k].
        train_labels: bool [m], fraud is True.
        test_features: float64 [n, k].

    Returns:
        float64 [n], probabilities of fraud.

    Raises:
        TrainingFailed: No such model, scikit-learn is not installed, or the training rows are of one class.
    """
    if name not in REFERENCE_MODELS:
        raise TrainingFailed(f"fitting a reference model: expected one of {', '.join(REFERENCE_MODELS)}, got {name!r}")
    if train_labels.all() or not train_labels.any():
        raise TrainingFailed(
            f"fitting {name} to {len(train_labels)} transactions: expected fraud and genuine ones, got only one kind"
        )
    try:
        from sklearn import ensemble, linear_model, preprocessing
    except ImportError as error:
        raise TrainingFailed(
            f"fitting {name}: it needs scikit-learn; install what training needs: pip install 'headrace[train]'"
        ) from error
    model: Any
    if name == "logistic_regression":
        model = linear_model.LogisticRegression(random_state=0, max_iter=1000)
    elif name == "random_forest":
        model = ensemble.RandomForestClassifier(random_state=0)
    else:
        model = ensemble.HistGradientBoostingClassifier(random_state=0)
    scaler = preprocessing.StandardScaler().fit(train_features)
    model.fit(scaler.transform(train_features), train_labels)
    probabilities: NDArray[np.float64] = model.predict_proba(scaler.transform(test_features))[:, 1]
    return probabilities


def _windows(groups: Ids, event_time_ms: Int64, values: NDArray[np.float64], delay_ms: int) -> NDArray[np.float64]:
    """float64 [n, 6]: number of the group's rows in each window, and the mean of their values, alternating."""
    count, total = np.zeros((2, len(values), len(WINDOW_DAYS)))
    rows = np.argsort(groups.codes, kind="stable")
    _look_back(rows, groups.codes, event_time_ms, values, delay_ms, count, total)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return np.stack((count, mean), axis=2).reshape(len(values), 2 * len(WINDOW_DAYS))


@kernel
def _look_back(
    rows: Int64,
    codes: Int64,
    event_time_ms: Int64,
    values: NDArray[np.float64],
    delay_ms: Int,
    count: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    """Walk from each row back through its group. `rows`: all, by group, then by arrival; `count`, `total`: [n, 3]."""
    peak = np.empty(len(rows), np.int64)  # the largest time in the group so far: where it is too old, all before are
    start = 0
    for at in range(len(rows)):
        row = rows[at]
        if codes[row] != codes[rows[start]]:
            start = at
        peak[at] = event_time_ms[row] if at == start else max(peak[at - 1], event_time_ms[row])
        until = event_time_ms[row] - delay_ms
        back = at
        while back >= start and peak[back] > until - WINDOW_DAYS[-1] * DAY_MS:
            time = event_time_ms[rows[back]]
            for window in range(len(WINDOW_DAYS)):
                if until - WINDOW_DAYS[window] * DAY_MS < time <= until:
                    count[row, window] += 1
                    total[row, window] += values[rows[back]]
            back -= 1


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))
