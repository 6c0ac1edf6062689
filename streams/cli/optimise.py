"""headrace models optimise: a version of a model in a lower precision, kept only where it is as good and faster."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table

from models.engine import DerivationFailed, VariantRefused
from streams.cli.console import Finite, counting, existing_file, file_name, file_options, terminal
from streams.cli.roots import parse_reference, root_option

if TYPE_CHECKING:
    from models.precision.compare import Comparison
    from models.precision.variant import Precision, Variant
    from models.repository import Model, Repository
    from streams.cli.samples import Sample

ROWS = 2000


@click.command()
@click.argument("name")
@click.option("--precision", type=click.Choice(["fp16", "int8"]), required=True, help="Of weights and products.")
@click.option(
    "--for",
    "target",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="int8: for ONNX Runtime on a CPU, or symmetric as TensorRT needs it.",
)
@click.option("--from", "source", metavar="FILE", help="Transactions: .csv, .jsonl or .parquet; or rows: .npz.")
@file_options
@click.option("--from-topic", "topic", metavar="TOPIC", help="Transactions, or flags that carry features.")
@click.option("--rows", type=click.IntRange(16, 100_000), default=ROWS, show_default=True, help="To calibrate on.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Of simulated transactions."
)
@click.option(
    "--max-loss",
    type=Finite(0, 1),
    default=0.005,
    show_default=True,
    help="Of average precision, and of the area under the ROC curve.",
)
@click.option("--keep-slower", is_flag=True, help="Save it even if it is not faster here; a GPU may be.")
@root_option()
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the figures as one JSON object.")
def optimise(
    name: str,
    precision: Precision,
    target: Literal["cpu", "gpu"],
    source: str | None,
    columns: dict[str, str],
    bad_rows: str,
    topic: str | None,
    rows: int,
    seed: int,
    max_loss: float,
    keep_slower: bool,
    models: Repository,
    as_json: bool,
) -> None:
    """Derive a version of NAME (fraud or fraud/2) that computes in fp16 or int8, and save it as the next version.

    It is compared with the float32 original on the golden batch and on rows that it was not calibrated on: how far
    outputs are off, how many decisions at the thresholds differ, and what happens to the model's own quality. Where it
    loses more than is allowed, nothing is written and the exit code is 1. So it is where it is not faster on this
    machine, unless you give --keep-slower: fp16, and int8 for a GPU, are slow on a CPU.

    fp16: nodes whose values float16 would spoil stay in float32, and so do inputs and outputs. int8: products with
    constant weights, with scales from the rows. Needs the extra `optimise`.

    Rows are split by time: the first half calibrates, the second half judges. They come from simulated transactions,
    or from --from or --from-topic; without labels there, average precision is judged on simulated ones. A .npz holds an
    array for each input of the network, and `labels` if you know them; it serves models of any kind.

    \b
    Examples:
      headrace models optimise fraud --precision int8
      headrace models optimise fraud --precision int8 --from payments.parquet --max-loss 0.002
      headrace models optimise fraud/2 --precision fp16 --from-topic transactions --keep-slower
    """
    from models.precision import variant as variants

    if source is not None and topic is not None:
        raise click.UsageError("--from and --from-topic exclude each other.")
    parent = _parent(name, models)
    models.check_writable(parent.manifest.name)
    with counting() as progress:
        samples = _samples(parent, source, columns, bad_rows, topic, rows, seed, progress)
        held_out = [sample.held_out for sample in samples]
        work = progress.add_task("", total=variants.steps(held_out))

        def on_step(doing: str) -> None:
            progress.update(work, description=doing)
            progress.advance(work)

        calibration = samples[0].calibration
        found = variants.derive(parent, precision, calibration, held_out, _judge, target, on_step)
    refusals = found.refusals(max_loss)
    if not refusals and not found.faster and not keep_slower:
        refusals = [f"it is not faster here ({_speed_ups(found)}); --keep-slower saves it for a machine where it is"]
    saved = None
    if not refusals:
        how = _how(parent, precision, target, source, topic, rows, seed)
        saved = found.save(models, how, f"{len(calibration)} rows of {calibration.what}")
    console = terminal(stderr=as_json, highlight=False, soft_wrap=True)
    console.print(_table(found, len(parent.onnx_bytes())))
    console.print(f"{found.made}; calibrated on {len(calibration):,} rows of {calibration.what}", markup=False)
    for rows_held_out in held_out:
        console.print(f"held out: {len(rows_held_out):,} rows of {rows_held_out.what}", markup=False)
    if saved is not None:
        console.print(
            f"saved {saved.reference}: `headrace models promote {saved.reference}` lets workers serve it", markup=False
        )
    if as_json:
        sys.stdout.write(json.dumps(_answer(found, saved, refusals)) + "\n")
    if refusals:
        raise VariantRefused(f"deriving {parent.reference} in {precision}: {'; '.join(refusals)}; nothing was written")


def _parent(name: str, models: Repository) -> Model:
    from models.precision import variant as variants

    return variants.original(models, *parse_reference(name))


def _samples(
    parent: Model,
    source: str | None,
    columns: dict[str, str],
    bad_rows: str,
    topic: str | None,
    count: int,
    seed: int,
    progress: Progress,
) -> list[Sample]:
    """What to calibrate on first; behind it what else to judge on."""
    from streams.cli import samples

    path = None if source is None else existing_file(source)
    if path is not None and path.suffix == ".npz":
        return [samples.from_npz(path, [entry.name for entry in parent.manifest.inputs], count)]
    _check_fraud(parent)
    if path is not None:
        given = samples.from_file(path, columns, bad_rows, count, progress)
    elif topic is not None:
        from streams import settings

        given = samples.from_topic(settings.load(), topic, count, progress)
    else:
        return [samples.simulated(seed, count, progress)]
    labelled = given.held_out.labels is not None
    return [given] if labelled else [given, samples.simulated(seed, count, progress)]


def _check_fraud(parent: Model) -> None:
    from streams.pipelines.fraud.served import SPECS

    manifest = parent.manifest
    got = tuple(str(entry.spec()) for entry in (*manifest.inputs, *manifest.outputs))
    if got != SPECS:
        raise DerivationFailed(
            f"deriving a variant of {parent.reference}: transactions become the tensors {list(SPECS)}, the model has "
            f"{list(got)}; give rows of its inputs with --from FILE.npz"
        )


def _judge(outputs: Mapping[str, NDArray[Any]], labels: NDArray[np.bool_]) -> dict[str, float]:
    from models.fraud.evaluate import average_precision, roc_auc

    scores = next(iter(outputs.values())).ravel()
    if len(outputs) != 1 or len(scores) != len(labels):
        return {}  # labels are of fraud or its like: they judge one score a row
    return {"average_precision": average_precision(scores, labels), "roc_auc": roc_auc(scores, labels)}


def _how(
    parent: Model, precision: str, target: str, source: str | None, topic: str | None, rows: int, seed: int
) -> str:
    parts = ["headrace models optimise", parent.reference, f"--precision {precision}"]
    parts += [f"--for {target}"] if precision == "int8" else []
    parts += [f"--from {file_name(Path(source))}"] if source else []
    parts += [f"--from-topic {topic}"] if topic else []
    return " ".join([*parts, f"--rows {rows} --seed {seed}"])


def _speed_ups(found: Variant) -> str:
    return ", ".join(f"{speed.speed_up:.2f} times the speed in batches of {speed.rows:,}" for speed in found.speeds)


def _table(found: Variant, original_bytes: int) -> Table:
    table = Table(
        title=f"{found.parent.reference} in {found.precision}", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("")
    for heading in ("float32", found.precision, "difference"):
        table.add_column(heading, justify="right")
    for place, each in enumerate(found.comparisons):
        _add(table, f"held out, {each.rows:,} rows" if place else f"golden batch, {each.rows:,} rows", each)
    table.add_section()
    for speed in found.speeds:
        table.add_row(
            f"batch of {speed.rows:,}",
            f"{speed.original_s * 1e6:,.0f} µs",
            f"{speed.variant_s * 1e6:,.0f} µs",
            f"{speed.speed_up:.2f} times the speed",
        )
    size = len(found.network)
    table.add_row(
        "size", f"{original_bytes / 1024:,.0f} KiB", f"{size / 1024:,.0f} KiB", f"{size / original_bytes:.0%}"
    )
    return table


def _add(table: Table, heading: str, found: Comparison) -> None:
    table.add_row(heading, style="bold")
    for name, value in found.original.items():
        table.add_row(
            f"  {name.replace('_', ' ')}", f"{value:.4f}", f"{found.variant[name]:.4f}", f"{-found.losses[name]:+.4f}"
        )
    table.add_row("  outputs, largest", "", "", f"{found.largest:.3g}")
    table.add_row("  outputs, mean", "", "", f"{found.mean:.3g}")
    if found.agreement is not None:
        table.add_row("  same decision", "", "", f"{found.agreement:.3%}")


def _answer(found: Variant, saved: Model | None, refusals: list[str]) -> dict[str, Any]:
    return {
        "parent": found.parent.reference,
        "precision": found.precision,
        "saved": None if saved is None else saved.reference,
        "refused": refusals,
        "bytes": len(found.network),
        "comparisons": [
            {
                "rows": each.rows,
                "what": each.what,
                "largest_difference": _number(each.largest),
                "mean_difference": _number(each.mean),
                "agreement": _number(each.agreement),
                "float32": each.original,
                found.precision: each.variant,
            }
            for each in found.comparisons
        ],
        "speed_up": {str(speed.rows): round(speed.speed_up, 3) for speed in found.speeds},
    }


def _number(value: float | None) -> float | None:
    """What JSON can hold: no nan."""
    return None if value is None or np.isnan(value) else value
