"""headrace models evaluate: models beside what one would use instead, or beside what is true."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

import click
from rich.table import Table

from models.engine import TrainingFailed
from streams.cli.console import counting, recorded_option, terminal
from streams.cli.evaluate_vision import vision

FIGURES = {"auc": "AUC ROC", "ap": "average precision", "cp100": "card precision@100"}


@click.group(help="Judge a model by the protocol of its field, beside the models that others would use.")
def evaluate() -> None:
    pass


evaluate.add_command(vision)


@evaluate.command()
@recorded_option(required=True)
@click.option(
    "--train-start", type=click.DateTime(["%Y-%m-%d"]), required=True, help="First of the seven training days, UTC."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the weights.")
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object.")
def fraud(files: tuple[Path, ...], train_start: datetime, seed: int, as_json: bool) -> None:
    """Train on a week of transactions, wait a week for labels, test on the week after it.

    The protocol is that of the public Fraud Detection Handbook. Cards that are known to be compromised by a test day
    are left out of it; what came before the training days feeds the state of cards and terminals, labels a week
    late. Beside Headrace's network three models of scikit-learn are fitted to the handbook's 15 features. Needs the
    extra `train`; a quarter of a year takes a minute or two.

    \b
    Columns of the files: transaction_id, event_time, card_id, terminal_id, amount, fraud;
    or TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD.

    \b
    auc     area under the ROC curve
    ap      average precision: the area under the precision-recall curve
    cp100   share of compromised cards among the 100 that an inspector is shown each day, mean over the test days

    --json: for headrace, logistic_regression, random_forest and gradient_boosting these three figures.

    \b
    Example:
      headrace models evaluate fraud --transactions recorded.parquet --train-start 2025-05-01
    """
    try:
        from models.fraud import protocol
        from models.fraud.fitting import FitSettings, fit
        from models.fraud.recorded import recorded_inputs
        from models.fraud.transactions import read_transactions
    except ImportError as error:
        raise TrainingFailed(
            f"evaluating fraud: importing {error.name} failed; install what training needs: "
            "pip install 'headrace[train]'"
        ) from error
    found: dict[str, dict[str, float]] = {}
    with counting() as progress:
        transactions = read_transactions(files)
        rows = protocol.split(transactions, train_start.date())
        replay = progress.add_task("replaying transactions", total=len(transactions))
        inputs = recorded_inputs(transactions, lambda done: progress.update(replay, completed=done)).astype("float32")
        labels = transactions.fraud[rows.train]
        settings = FitSettings(seed=seed)
        epochs = progress.add_task("training epochs", total=2 * settings.epochs)
        fitted = fit(inputs[rows.train], labels, settings, lambda epoch: progress.update(epochs, completed=epoch.done))
        found["headrace"] = protocol.judge(fitted.ensemble.score(inputs[rows.test]), transactions, rows.test)
        others = progress.add_task("other models", total=len(protocol.REFERENCE_MODELS))
        plain = protocol.plain_features(transactions)
        for name in protocol.REFERENCE_MODELS:
            scores = protocol.reference_scores(name, plain[rows.train], labels, plain[rows.test])
            found[name] = protocol.judge(scores, transactions, rows.test)
            progress.advance(others)
    tested = transactions.fraud[rows.test]
    title = (
        f"{len(rows.train):,} transactions of training from {train_start:%Y-%m-%d}, {len(tested):,} of test, "
        f"{tested.sum():,} of them fraud"
    )
    terminal(stderr=as_json).print(_table(title, found))
    if as_json:
        rounded = {name: {key: round(value, 4) for key, value in figures.items()} for name, figures in found.items()}
        sys.stdout.write(json.dumps(rounded) + "\n")


def _table(title: str, found: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("model")
    for heading in FIGURES.values():
        table.add_column(heading, justify="right")
    for name, figures in found.items():
        table.add_row(name.replace("_", " "), *(f"{figures[key]:.3f}" for key in FIGURES))
    return table
