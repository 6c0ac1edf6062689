"""headrace models train: a new version of a model, from recorded or simulated events."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, TextColumn

from models import repository
from models.engine import TrainingFailed
from models.manifest import Manifest, TensorEntry, Trained
from models.repository import Repository
from streams.cli.console import counting, terminal
from streams.cli.labelled import Asked, source_options
from streams.cli.manifests import manifest_table, today
from streams.cli.roots import root_option
from streams.cli.train_vision import vision

if TYPE_CHECKING:
    from models.fraud.known import Known
    from models.fraud.train import TrainedFraudModel
    from models.fraud.transactions import Transactions
    from models.reference import Reference

EPOCHS = 15
SCENARIOS = {1: "large_amount", 2: "compromised_terminal", 3: "stolen_card"}
DESCRIPTION = (
    "Probability that a card transaction is fraud, from its amount and time, its card's last 30 days, and its "
    "terminal's last 30 days as they were known a week before."
)


@click.group(help="Train a model anew, and save it as the next version.")
def train() -> None:
    pass


train.add_command(vision)


@train.command()
@source_options(seed_of="events and weights")
@click.option(
    "--epochs", type=click.IntRange(min=1), default=EPOCHS, show_default=True, help="Passes over the transactions."
)
@root_option("--output")
def fraud(asked: Asked, epochs: int, models: Repository) -> None:
    """Train the fraud model on labelled card transactions, or on simulated ones where no file is given.

    A label is known a week after its transaction: what is trained on is more than a week old by --until, and each
    transaction sees its terminal's labels as they were known at its time. The last days are kept for the figures that
    the manifest states; the days before those calibrate the scores and choose the thresholds. A sample of the rows is
    stored with the model, which data drift is measured against. The same command gives the same network, byte for
    byte. Needs the extra `train`.

    \b
    Columns of the files: transaction_id, event_time, card_id, terminal_id, amount, fraud;
    or TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD.

    \b
    Examples:
      headrace models train fraud
      headrace models train fraud --transactions recorded.parquet --until 2025-06-01
    """
    _import_training()
    models.check_writable("fraud")
    with counting(TextColumn("{task.fields[note]}")) as progress:
        source = asked.read(progress)
        known, trained, sample = _train(source.transactions, asked.until, asked.seed, epochs, progress)
    day = [f"--until {asked.until}"] if asked.until else []
    how = " ".join(["headrace models train fraud", *source.options, *day, f"--seed {asked.seed} --epochs {epochs}"])
    on = f"{source.what} {_span(known, trained)}"
    quality = trained.quality | _recall_by_scenario(source.scenario[: len(known.transactions)], trained)
    version = models.next_version("fraud")
    manifest = _manifest(version, Trained(how, on, asked.seed, today()), trained, quality)
    model = models.save(trained.onnx, manifest, trained.golden, sample)
    repository.open_engine(model).close()
    terminal().print(manifest_table(model))


def _train(
    transactions: Transactions, until: date | None, seed: int, epochs: int, progress: Progress
) -> tuple[Known, TrainedFraudModel, Reference]:
    from models.engines.onnx import OnnxEngine
    from models.fraud.fitting import FitSettings
    from models.fraud.fitting import Progress as Epochs
    from models.fraud.known import known_by
    from models.fraud.recorded import recorded_inputs
    from models.fraud.sample import training_sample
    from models.fraud.train import TrainingSettings
    from models.fraud.train import train as train_fraud

    known = known_by(transactions, until)
    replaying = progress.add_task("replaying transactions", total=len(known.transactions), note="")
    training = progress.add_task("training epochs", total=2 * epochs, note="")
    replay = recorded_inputs(known.transactions, lambda done: progress.update(replaying, completed=done))
    inputs = replay.astype(np.float32)

    def on_epoch(epoch: Epochs) -> None:
        progress.update(training, completed=epoch.done, note=f"loss {epoch.loss:.4f}")

    settings = TrainingSettings(fit=FitSettings(seed=seed, epochs=epochs))
    trained = train_fraud(inputs, known.transactions.fraud, settings, on_epoch)
    engine = OnnxEngine()
    engine.load_bytes(trained.onnx, "the trained fraud model")
    sample = training_sample(known.transactions, inputs, lambda rows: engine.infer({"features": rows})["score"])
    engine.close()
    return known, trained, sample


def _span(known: Known, trained: TrainedFraudModel) -> str:
    """Which rows were trained on, for the manifest."""
    days = known.transactions.day.astype("datetime64[D]")
    fraud = known.transactions.fraud
    return (
        f"from {days[0]} to {days[-1]}, whose labels are known by {known.day}: "
        f"{len(fraud)} transactions, {fraud.mean():.2%} fraud; "
        f"quality is that of the last {len(trained.test_scores)}, on which nothing was chosen"
    )


def _manifest(version: int, how: Trained, trained: TrainedFraudModel, quality: dict[str, float]) -> Manifest:
    from models.fraud.inputs import STATE

    return Manifest(
        name="fraud",
        version=version,
        description=DESCRIPTION,
        licence="Apache-2.0",
        sha256="",
        inputs=tuple(TensorEntry.batch(*tensor) for tensor in trained.golden.inputs.items()),
        outputs=tuple(TensorEntry.batch(*tensor) for tensor in trained.golden.outputs.items()),
        trained=how,
        state=STATE,
        thresholds=trained.thresholds,
        baseline=trained.baseline,
        quality=quality,
    )


def _recall_by_scenario(scenario: NDArray[np.int8], trained: TrainedFraudModel) -> dict[str, float]:
    """Which kinds of fraud are caught."""
    reviewed = trained.test_scores >= trained.thresholds["review"]
    tested = scenario[-len(reviewed) :]
    kinds = {name: reviewed[tested == number] for number, name in SCENARIOS.items() if number in tested}
    return {f"recall_{name}": round(float(caught.mean()), 6) for name, caught in kinds.items()}


def _import_training() -> None:
    try:
        import models.fraud.train  # noqa: F401 - what is missing is said before a long simulation, not after it
    except ImportError as error:
        raise TrainingFailed(
            f"training fraud: importing {error.name} failed; install what training needs: pip install 'headrace[train]'"
        ) from error
