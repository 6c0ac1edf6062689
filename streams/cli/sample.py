"""headrace models sample: store with a model what its training rows looked like, to notice data drift."""

from __future__ import annotations

import click
from rich.progress import TextColumn

from models import repository
from models.engine import ModelExists
from models.repository import Repository
from streams.cli.console import counting, terminal
from streams.cli.labelled import Asked, source_options
from streams.cli.roots import root_option


@click.group(help="Store a sample of its training rows with a model, which data drift is measured against.")
def sample() -> None:
    pass


@sample.command()
@source_options(seed_of="the events")
@click.option("--version", type=click.IntRange(min=1), help="Which version.  [default: the one that serves]")
@root_option()
def fraud(asked: Asked, version: int | None, models: Repository) -> None:
    """Sample the transactions that a fraud model was trained on, where `models train fraud` has not done so.

    Give the options of its training, as `headrace models show fraud` prints them. The transactions are replayed and
    scored; of at most 5 000 the model's folder gets sample.npz: each input's values and the scores, each by itself, no
    ids. The network stays as it is; a sample that is there is not replaced. The same command stores the same bytes.

    \b
    Example:
      headrace models sample fraud --version 2 --days 120 --customers 5000 --seed 0
    """
    from models.fraud.known import known_by
    from models.fraud.recorded import recorded_inputs
    from models.fraud.sample import training_sample

    model = models.load("fraud", version)
    if model.manifest.sample:
        raise ModelExists(f"sampling the training of {model.reference}: it has a sample already; nothing was done")
    with counting(TextColumn("{task.fields[note]}")) as progress:
        source = asked.read(progress)
        known = known_by(source.transactions, asked.until)
        replaying = progress.add_task("replaying transactions", total=len(known.transactions), note="")
        inputs = recorded_inputs(known.transactions, lambda done: progress.update(replaying, completed=done))
        engine = repository.open_engine(model)
        found = training_sample(
            known.transactions, inputs.astype("float32"), lambda rows: engine.infer({"features": rows})["score"]
        )
        engine.close()
    model = models.add_sample(model, found)
    size = (model.path / "sample.npz").stat().st_size
    terminal().print(
        f"{model.reference}: {found.columns.shape[1]} of {len(known.transactions)} transactions sampled, "
        f"{size / 1024:.0f} KiB, sha256 {model.manifest.sample}"
    )
