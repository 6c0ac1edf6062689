"""headrace models: list, show, train and evaluate what serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from connectors.simulators.transactions import DAY_MS, TransactionBlock, TransactionSettings, blocks
from models import repository
from models.engine import ModelNotFound, TrainingFailed
from models.manifest import Manifest, TensorEntry, Trained
from models.repository import ZOO, Model
from streams.cli.evaluate import evaluate
from streams.clock import SystemClock

if TYPE_CHECKING:
    from models.fraud.train import TrainedFraudModel

SCENARIOS = {1: "large_amount", 2: "compromised_terminal", 3: "stolen_card"}
DESCRIPTION = "Probability that a card transaction is fraud, from its amount, its time and its card's last 30 days."


@click.group(name="models", help="List, show, train and evaluate the models that pipelines serve.")
def models() -> None:
    pass


@models.command(name="list", help="The models of a repository and their newest versions.")
@click.option(
    "--root", type=click.Path(path_type=Path), default=ZOO, help="Model repository  [default: the bundled one]"
)
def list_models(root: Path) -> None:
    table = Table("model", "versions", "what it does", "licence", box=None)
    for name in repository.names(root):
        manifest = repository.load(root, name).manifest
        table.add_row(
            name, ", ".join(map(str, repository.versions(root, name))), manifest.description, manifest.licence
        )
    if not table.row_count:
        raise ModelNotFound(f"listing models in {root}: there are none; train one with `headrace models train fraud`")
    Console().print(table)


@models.command(help="One model's manifest: tensors, thresholds, measured quality. NAME is e.g. fraud or fraud/1.")
@click.argument("name")
@click.option(
    "--root", type=click.Path(path_type=Path), default=ZOO, help="Model repository  [default: the bundled one]"
)
def show(name: str, root: Path) -> None:
    bare, _, version = name.partition("/")
    if version and not version.isdecimal():
        raise click.BadParameter(f"expected NAME or NAME/VERSION, got {name!r}", param_hint="NAME")
    Console().print(_manifest_table(repository.load(root, bare, int(version) if version else None)))


def _manifest_table(model: Model) -> Table:
    manifest = model.manifest
    table = Table(title=model.reference, box=None, show_header=False, title_justify="left", title_style="bold")
    rows = {
        "description": manifest.description,
        "inputs": ", ".join(str(entry.spec()) for entry in manifest.inputs),
        "outputs": ", ".join(str(entry.spec()) for entry in manifest.outputs),
        "labels": ", ".join(manifest.labels),
        "thresholds": _figures(manifest.thresholds),
        "baseline": _figures(manifest.baseline),
        "quality": _figures(manifest.quality),
        "trained with": manifest.trained.how,
        "trained on": manifest.trained.on,
        "trained at": str(manifest.trained.date or ""),
        "licence": manifest.licence,
        "size": f"{model.onnx_path.stat().st_size / 1024:.0f} KiB",
        "sha256": manifest.sha256,
    }
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    return table


def _figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


models.add_command(evaluate)


@models.group(help="Train a model anew on simulated events, and save it as the next version.")
def train() -> None:
    pass


@train.command(help="Train the fraud model on simulated card transactions. Needs the extra `train`.")
@click.option("--days", type=click.IntRange(min=2), default=120, show_default=True, help="Days to simulate")
@click.option("--customers", type=click.IntRange(min=10), default=5000, show_default=True, help="Cards to simulate")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the events and the weights")
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True, help="Passes over the events")
@click.option(
    "--output", type=click.Path(path_type=Path), default=ZOO, help="Model repository  [default: the bundled one]"
)
def fraud(days: int, customers: int, seed: int, epochs: int, output: Path) -> None:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    ) as progress:
        simulating = progress.add_task("simulating days", total=days, note="")
        events = simulate(days, customers, seed, lambda day: progress.update(simulating, completed=day))
        trained = _train(events, seed, epochs, progress)
    how = f"headrace models train fraud --days {days} --customers {customers} --seed {seed} --epochs {epochs}"
    model = repository.save(output, trained.onnx, _manifest(output, how, seed, events, trained), trained.golden)
    repository.open_engine(model).close()
    Console().print(_manifest_table(model))


@dataclass(frozen=True, eq=False)
class SimulatedTransactions:
    """Columns of one length, in the order of event time: what training needs of the simulator's blocks."""

    customer: NDArray[np.int64]
    amount: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    scenario: NDArray[np.int8]

    def keys(self) -> list[bytes]:
        """The card ids, as the topic's keys carry them."""
        return [b"c%07d" % customer for customer in self.customer.tolist()]


def simulate(
    days: int, customers: int, seed: int, on_day: Callable[[int], None] = lambda _: None
) -> SimulatedTransactions:
    """The first `days` days of the simulator's default world with this many customers."""
    settings = TransactionSettings(seed=seed, customers=customers)
    start_ms = int(settings.start.timestamp() * 1000)
    kept: list[TransactionBlock] = []
    for block in blocks(settings):
        if not len(block):
            continue
        day = int(block.event_time_ms[0] - start_ms) // DAY_MS
        on_day(min(day, days))
        if day >= days:
            break
        kept.append(block)
    return SimulatedTransactions(
        np.concatenate([block.customer for block in kept]),
        np.concatenate([block.amount for block in kept]),
        np.concatenate([block.event_time_ms for block in kept]),
        np.concatenate([block.fraud for block in kept]),
        np.concatenate([block.scenario for block in kept]),
    )


def _train(events: SimulatedTransactions, seed: int, epochs: int, progress: Progress) -> TrainedFraudModel:
    try:
        from models.fraud.train import Epoch, TrainingSettings
        from models.fraud.train import train as train_fraud
    except ImportError as error:
        raise TrainingFailed(
            f"training fraud: importing {error.name} failed; install what training needs: pip install 'headrace[train]'"
        ) from error
    from models.fraud.offline import offline_features

    features = offline_features(events.keys(), events.event_time_ms, events.amount)
    training = progress.add_task("training epochs", total=epochs, note="")

    def on_epoch(epoch: Epoch) -> None:
        note = f"loss {epoch.loss:.4f}  average precision {epoch.average_precision:.4f}"
        progress.update(training, completed=epoch.number, note=note)

    return train_fraud(features, events.fraud, TrainingSettings(seed=seed, epochs=epochs), on_epoch)


def _manifest(output: Path, how: str, seed: int, events: SimulatedTransactions, trained: TrainedFraudModel) -> Manifest:
    first, last = (datetime.fromtimestamp(int(ms) / 1000, UTC).date() for ms in events.event_time_ms[[0, -1]])
    held_out = len(trained.test_scores)
    on = (
        f"the transaction simulator's default world from {first} to {last}: {len(events.fraud)} transactions, "
        f"{events.fraud.mean():.2%} fraud; quality is that of the last {held_out}, on which nothing was chosen"
    )
    golden = trained.golden
    return Manifest(
        name="fraud",
        version=max(repository.versions(output, "fraud"), default=0) + 1,
        description=DESCRIPTION,
        licence="Apache-2.0",
        sha256="",
        inputs=tuple(TensorEntry.batch(name, tensor) for name, tensor in golden.inputs.items()),
        outputs=tuple(TensorEntry.batch(name, tensor) for name, tensor in golden.outputs.items()),
        trained=Trained(how, on, seed, datetime.fromtimestamp(SystemClock().time(), UTC).date()),
        thresholds=trained.thresholds,
        baseline=trained.baseline,
        quality=trained.quality | _recall_by_scenario(events, trained),
    )


def _recall_by_scenario(events: SimulatedTransactions, trained: TrainedFraudModel) -> dict[str, float]:
    """Which kinds of fraud are caught: no feature of a card can see a compromised terminal."""
    flagged = trained.test_scores >= trained.thresholds["flag"]
    scenario = events.scenario[-len(flagged) :]
    kinds = {name: flagged[scenario == number] for number, name in SCENARIOS.items()}
    return {f"recall_{name}": round(float(caught.mean()), 6) for name, caught in kinds.items() if len(caught)}
