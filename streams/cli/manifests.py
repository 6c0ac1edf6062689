"""A model as a person reads it: its manifest, what its network is made of, how fast it is."""

from __future__ import annotations

from datetime import UTC, date, datetime

from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from models import onnx_file
from models.manifest import Manifest
from models.onnx_file import Structure
from models.repository import Model, is_bundled
from models.timings import Timing
from streams.clock import SystemClock

LISTED_OPERATORS = 12


def manifest_table(model: Model) -> Table:
    """One row for each part of the manifest that is not empty, and the network's size."""
    return _table(model.reference, _manifest_rows(model))


def model_table(model: Model, timings: list[Timing]) -> Table:
    """The same, what the network is made of, where it is, and its engines' times."""
    rows = _manifest_rows(model) | _structure(onnx_file.structure(model.onnx_bytes()))
    rows |= {timing.engine: _times(timing) for timing in timings}
    bundled = is_bundled(model.path.parent.parent)
    return _table(model.reference, rows | {"folder": f"{model.path}{' (bundled)' if bundled else ''}"})


def today() -> date:
    """When a model was made, as its manifest says."""
    return datetime.fromtimestamp(SystemClock().time(), UTC).date()


def size(model: Model) -> str:
    """That of the network's file."""
    return f"{model.onnx_path.stat().st_size / 1024:,.0f} KiB"


def _table(title: str, rows: dict[str, Columns | str]) -> Table:
    table = Table(title=title, box=None, show_header=False, title_justify="left", title_style="bold")
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value) if isinstance(value, str) else value)
    return table


def _manifest_rows(model: Model) -> dict[str, Columns | str]:
    manifest = model.manifest
    return {
        "description": manifest.description,
        "inputs": ", ".join(str(entry.spec()) for entry in manifest.inputs),
        "outputs": ", ".join(str(entry.spec()) for entry in manifest.outputs),
        "task": _task(manifest),
        "labels": ", ".join(manifest.labels),
        "thresholds": _figures(manifest.thresholds),
        "baseline": _figures(manifest.baseline),
        "quality": _figures(manifest.quality),
        **_origin(manifest),
        "licence": manifest.licence,
        "size": size(model),
        "sha256": manifest.sha256,
        "sample": manifest.sample,
    }


def _structure(structure: Structure) -> dict[str, Columns | str]:
    often = structure.operators.most_common()
    shown = [f"{count} {operator}" for operator, count in often[:LISTED_OPERATORS]]
    rest = sum(count for _, count in often[LISTED_OPERATORS:])
    more = [f"{rest} of {len(often) - LISTED_OPERATORS} other kinds"] if rest else []
    return {
        "parameters": f"{structure.parameters:,}",
        "operators": ", ".join(shown + more),
        "opset": ", ".join(f"{domain} {version}" for domain, version in structure.opsets.items()),
        "producer": structure.producer,
    }


def _times(timing: Timing) -> str:
    return ", ".join(f"{seconds * 1000:.3g} ms for {rows:,}" for rows, seconds in timing.seconds.items())


def _origin(manifest: Manifest) -> dict[str, str]:
    trained, derived = manifest.trained, manifest.derived
    rows = {"source": manifest.source, "state": manifest.state}
    if derived is not None:
        rows |= {"derived from": derived.parent, "derived with": derived.how, "precision": derived.precision}
        rows |= {"calibrated on": derived.calibrated_on}
    if trained is not None:
        rows |= {"trained with": trained.how, "trained on": trained.on, "trained at": str(trained.date or "")}
    return rows


def _task(manifest: Manifest) -> str:
    """What a network of vision sees, and how it is fed and read."""
    picture, head = manifest.picture, manifest.head
    if picture is None or head is None:
        return manifest.task
    one = ", one picture a run" if picture.batch else ""
    size = f"{picture.resize} to {picture.width}x{picture.height}"
    return f"{manifest.task}: {size} {picture.pixels}; {head.family}{one}"


def _figures(figures: dict[str, float]) -> Columns | str:
    # Text: a name in brackets is no markup.
    shown = [Text(f"{name} {value:.5g}") for name, value in figures.items()]
    return Columns(shown, padding=(0, 3)) if figures else ""
