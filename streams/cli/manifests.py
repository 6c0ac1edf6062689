"""A model's manifest as a person reads it."""

from __future__ import annotations

from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from models.manifest import Manifest
from models.repository import Model


def manifest_table(model: Model) -> Table:
    """One row for each part of the manifest that is not empty, and the network's size."""
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
        **_origin(manifest),
        "licence": manifest.licence,
        "size": f"{model.onnx_path.stat().st_size / 1024:.0f} KiB",
        "sha256": manifest.sha256,
        "sample": manifest.sample,
    }
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value) if isinstance(value, str) else value)
    return table


def _origin(manifest: Manifest) -> dict[str, str]:
    trained, derived = manifest.trained, manifest.derived
    rows = {"source": manifest.source, "state": manifest.state}
    if derived is not None:
        rows |= {"derived from": derived.parent, "derived with": derived.how, "precision": derived.precision}
        rows |= {"calibrated on": derived.calibrated_on}
    if trained is not None:
        rows |= {"trained with": trained.how, "trained on": trained.on, "trained at": str(trained.date or "")}
    return rows


def _figures(figures: dict[str, float]) -> Columns | str:
    return Columns([f"{name} {value:.5g}" for name, value in figures.items()], padding=(0, 3)) if figures else ""
