"""headrace models thresholds: the thresholds that would have cost least, on transactions whose labels are known."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table

from models.engine import ModelIncompatible, TensorSpec, TrainingFailed
from streams.cli.console import counting, pairs, recorded_option, terminal
from streams.cli.cost_plot import draw, figure

if TYPE_CHECKING:
    from models.fraud.costs import Costs, Outcome, ThresholdCosts
    from models.fraud.transactions import Transactions
    from models.repository import Model

EPOCH = date(1970, 1, 1)
SCORED_ROWS = 16_384  # at a time
SHOWN = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, math.inf)
PLOTS = (".png", ".svg")


@click.group(help="Choose a model's thresholds by what decisions cost.")
def thresholds() -> None:
    pass


def _costs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Costs:
    from models.fraud.costs import Costs

    known = [field.name for field in fields(Costs)]
    found: dict[str, float] = {}
    for name, text in pairs(context, parameter, values).items():
        if name not in known:
            raise click.BadParameter(f"expected one of {', '.join(known)}, got {name!r}", context, parameter)
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not 0 <= found[name] < math.inf:
            raise click.BadParameter(f"expected a number >= 0 for {name}, got {text!r}", context, parameter)
    return Costs(**found)


def _plot_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in PLOTS:
        raise click.BadParameter(f"expected a file that ends in .png or .svg, got {str(path)!r}", context, parameter)
    if path is not None and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.absolute().parent)!r}", context, parameter)
    return path


@thresholds.command()
@recorded_option(required=True)
@click.option(
    "--cost",
    "costs",
    multiple=True,
    callback=_costs,
    metavar="NAME=NUMBER",
    help="What decisions cost, see above; may be given again.",
)
@click.option(
    "--from",
    "first",
    type=click.DateTime(["%Y-%m-%d"]),
    help="First day to judge by, UTC  [default: the 38th of the files]",
)
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), help="The day after the last, UTC  [default: the end of the files]"
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_plot_file,
    help="Draw the costs into this file, .png or .svg.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object.")
def fraud(
    files: tuple[Path, ...],
    costs: Costs,
    first: datetime | None,
    until: datetime | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Find the two thresholds, review and block, that would have cost least a day on recorded transactions.

    The model that the settings name scores every transaction as it would have been scored when it came, with
    labels a week late; rules are left aside. Take days that the model was not trained on. The first 37 days, when
    windows of 30 days and late labels are still filling, count only if you ask for them. Needs the extra `train`.

    \b
    Columns of the files: transaction_id, event_time, card_id, terminal_id, amount, fraud;
    or TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD.

    \b
    --cost NAME=NUMBER, in the currency of the amounts:
      fraud_loss=1   share of its amount that an approved fraud costs; more than 1 with a fee on top
      review=3       each transaction reviewed; a reviewed fraud is stopped
      friction=15    each genuine transaction blocked; a blocked fraud costs nothing

    \b
    Example:
      headrace models thresholds fraud --transactions recorded.parquet --cost review=5 --plot costs.png
    """
    if plot is not None:
        figure()  # what is not installed is to be said before minutes of work
    from models.fraud.costs import NEVER, ThresholdCosts
    from models.fraud.transactions import read_transactions
    from streams import settings

    loaded = settings.load()
    section = loaded.fraud
    model = loaded.models.repository().load(section.model, section.version)
    in_use = section.thresholds(model.reference, model.manifest.thresholds)
    transactions = read_transactions(files)
    start, end = _days(transactions, first, until)
    with counting() as progress:
        scores = _score(transactions, model, section.engine, progress)
    rows = (transactions.day >= start) & (transactions.day < end)
    judged = ThresholdCosts(scores[rows], transactions.fraud[rows], transactions.amount[rows], costs, end - start)
    chosen = judged.outcome(*judged.best())
    outcomes = {
        "chosen": chosen,
        "in_use": judged.outcome(*in_use),
        "approving_all": judged.outcome(NEVER, NEVER),
    }
    console = terminal(stderr=as_json, highlight=False, soft_wrap=True)
    title = (
        f"{model.reference} on {rows.sum():,} transactions from {_date(start)} to {_date(end - 1)}, "
        f"{transactions.fraud[rows].sum():,} of them fraud"
    )
    console.print(title, markup=False)
    console.print(_table(outcomes))
    console.print(_curve(judged, chosen))
    console.print(_settings(chosen), markup=False)
    if plot is not None:
        draw(plot, title, judged, outcomes)
        console.print(f"drawn to {plot}", markup=False)
    if as_json:
        sys.stdout.write(json.dumps(_answer(costs, start, end, outcomes)) + "\n")


def _days(transactions: Transactions, first: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The days to judge by, as days since the epoch: the first, and the one after the last."""
    from models.fraud.sample import FILLING_DAYS

    begins, ends = int(transactions.day[0]), int(transactions.day[-1]) + 1
    start = begins + FILLING_DAYS if first is None else (first.date() - EPOCH).days
    end = ends if until is None else (until.date() - EPOCH).days
    if not begins <= start < end <= ends:
        hint = "; give --from to judge by days whose windows are still filling" if first is None else ""
        raise TrainingFailed(
            f"choosing thresholds: expected days between {_date(begins)} and {_date(ends - 1)}, which the files hold, "
            f"got {_date(start)} to {_date(end - 1)}{hint}"
        )
    return start, end


def _date(day: int) -> date:
    return EPOCH + timedelta(days=day)


def _score(transactions: Transactions, model: Model, engine: str, progress: Progress) -> NDArray[np.float32]:
    """float32 [n], the model's scores of all transactions, each as of its own event."""
    from models import repository
    from models.fraud.inputs import INPUTS
    from models.fraud.recorded import recorded_inputs

    expected = TensorSpec("features", "float32", (None, len(INPUTS))), TensorSpec("score", "float32", (None,))
    opened = repository.open_engine(model, engine)
    try:
        got = *opened.inputs, *opened.outputs
        if got != expected:
            raise ModelIncompatible(
                f"choosing thresholds of {model.reference}: expected the tensors `{expected[0]}` and `{expected[1]}`, "
                f"got {' and '.join(f'`{spec}`' for spec in got)}; no transaction was scored"
            )
        count = len(transactions)
        replaying = progress.add_task("replaying transactions", total=count)
        inputs = recorded_inputs(transactions, lambda done: progress.update(replaying, completed=done))
        scoring = progress.add_task("scoring", total=count)
        scores = np.empty(count, np.float32)
        for begin in range(0, count, SCORED_ROWS):
            part = slice(begin, min(begin + SCORED_ROWS, count))
            scores[part] = opened.infer({"features": inputs[part].astype(np.float32)})["score"]
            progress.update(scoring, completed=part.stop)
    finally:
        opened.close()
    return scores


def _table(outcomes: dict[str, Outcome]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in outcomes:
        table.add_column(name.replace("_", " "), justify="right")
    rows: dict[str, Callable[[Outcome], str]] = {
        "review from": lambda outcome: _threshold(outcome.review),
        "block from": lambda outcome: _threshold(outcome.block),
        "cost a day": lambda outcome: f"{outcome.cost_per_day:,.2f}",
        "approved": lambda outcome: f"{outcome.approved:,}",
        "reviewed": lambda outcome: f"{outcome.reviewed:,}",
        "blocked": lambda outcome: f"{outcome.blocked:,}",
        "frauds stopped": lambda outcome: f"{outcome.recall:.1%}",
        "genuine affected": lambda outcome: f"{outcome.genuine_affected:.2%}",
    }
    for name, show in rows.items():
        table.add_row(name, *map(show, outcomes.values()))
    return table


def _threshold(threshold: float) -> str:
    return "none" if threshold == math.inf else f"{threshold:.6g}"


def _curve(judged: ThresholdCosts, chosen: Outcome) -> Table:
    """Cost a day over either threshold with the other as chosen."""
    table = Table(title="\ncost a day with one threshold elsewhere", title_justify="left", box=None, pad_edge=False)
    for heading in ("threshold", "if review is there", "if block is there"):
        table.add_column(heading, justify="right")
    for threshold in sorted({*SHOWN, chosen.review, chosen.block}):
        per_day = judged.per_day(threshold, chosen.block), judged.per_day(chosen.review, threshold)
        style = "bold" if threshold in (chosen.review, chosen.block) else None
        shown = ("" if np.isnan(cost) else f"{cost:,.2f}" for cost in per_day)  # review above block is no pair
        table.add_row(_threshold(threshold), *shown, style=style)
    return table


def _settings(chosen: Outcome) -> str:
    return (
        f"\nfor headrace.toml:\n\n[fraud]\nreview_threshold = {chosen.review!r}\nblock_threshold = {chosen.block!r}\n"
    )


def _answer(costs: Costs, start: int, end: int, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """What --json writes; a threshold that no score reaches is null, since JSON has no infinity."""
    answer: dict[str, Any] = {"costs": asdict(costs), "from": str(_date(start)), "until": str(_date(end))}
    for name, outcome in outcomes.items():
        figures = asdict(outcome)
        answer[name] = {key: None if value == math.inf else value for key, value in figures.items()}
    return answer
