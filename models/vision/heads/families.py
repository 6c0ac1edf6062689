"""The families of detectors, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from models.engine import ModelIncompatible
from models.vision.heads.anchored import Anchorless, FastestDet, Objectness
from models.vision.heads.candidates import Decoder, Spec

FAMILIES: Mapping[str, Callable[[Spec], Decoder]] = MappingProxyType(
    {
        "yolox": Objectness,
        "yolov5": Objectness,
        "yolov8": Anchorless,
        "fastestdet": FastestDet,
    }
)


def decoder(spec: Spec) -> Decoder:
    """The decoder of a head's family. Raises: ModelIncompatible."""
    make = FAMILIES.get(spec.head.family)
    if make is None:
        raise ModelIncompatible(
            f"reading a detector's outputs: expected a `head.family` of {', '.join(FAMILIES)}, got {spec.head.family!r}"
        )
    return make(spec)
