"""Manifests of detectors and classifiers for tests, and where the shared data is."""

from __future__ import annotations

from pathlib import Path

from models.manifest import Manifest, TensorEntry
from models.vision.specs import Head, Picture

SHARED = Path(__file__).parents[4] / "shared" / "data"
ABSENT = "needs the pictures and detectors in ../shared/data"


def detector(
    head: Head,
    labels: int | tuple[str, ...] = 3,
    size: tuple[int, int] = (64, 64),
    outputs: tuple[tuple[str, tuple[int, ...]], ...] = (("out", (-1, -1, -1)),),
    **picture: object,
) -> Manifest:
    """A detector whose input is float32 [n, 3, height, width]."""
    names = tuple(f"class {each}" for each in range(labels)) if isinstance(labels, int) else labels
    return Manifest(
        name="detector",
        version=1,
        description="",
        licence="",
        sha256="0" * 64,
        inputs=(TensorEntry("images", "float32", (-1, 3, size[1], size[0])),),
        outputs=tuple(TensorEntry(name, "float32", shape) for name, shape in outputs),
        labels=names,
        task="detect",
        picture=Picture(size[0], size[1], **picture),  # type: ignore[arg-type]
        head=head,
    )
