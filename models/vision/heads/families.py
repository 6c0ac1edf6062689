"""The families of detectors, by name: how each is read, and what a person must see to choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.engine import ModelIncompatible
from models.vision.heads.anchored import Anchorless, FastestDet, Objectness
from models.vision.heads.candidates import Decoder, Spec
from models.vision.heads.distances import Distances
from models.vision.heads.listed import EndToEnd, Lists
from models.vision.heads.queries import Dense, Detr, RtDetr
from models.vision.specs import Activation


@dataclass(frozen=True, slots=True)
class Family:
    """What decodes a family's outputs, which those are, C being the number of labels, and what may make probabilities
    of its scores."""

    decoder: Callable[[Spec], Decoder]
    outputs: str
    activations: tuple[Activation, ...] = ("none",)


ANY: tuple[Activation, ...] = ("none", "sigmoid", "softmax")
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "yolox": Family(
            Objectness, "[n, boxes, 5 + C], one box in each cell of the grids, decoded or not", ("none", "sigmoid")
        ),
        "yolov6": Family(Objectness, "[n, boxes, 5 + C] whose objectness is 1"),
        "yolov5": Family(
            Objectness, "[n, boxes, 5 + C] or [n, 5 + C, boxes], decoded; YOLOv7 too", ("none", "sigmoid")
        ),
        "yolov8": Family(
            Anchorless, "[n, 4 + C, boxes] or [n, boxes, 4 + C]; YOLOv9 and YOLO11 too", ("none", "sigmoid")
        ),
        "end2end": Family(EndToEnd, "[n, objects, 6] or [n, objects, 7], suppression inside; YOLOv10 too"),
        "detr": Family(Detr, "[n, queries, C + 1] and [n, queries, 4]; a softmax with a column for no object", ANY),
        "rtdetr": Family(
            RtDetr,
            "[n, queries, C] or [n, queries, C + 1], and [n, queries, 4], or [n, queries, 4 + C]; a sigmoid",
            ("none", "sigmoid"),
        ),
        "ssd": Family(Lists, "boxes, classes, scores, in lists; classes are counted from 1, as torchvision does"),
        "nms": Family(Lists, "boxes, classes, scores, in lists; classes are counted from 0"),
        "dense": Family(Dense, "[n, places, C] or [n, places, C + 1], and [n, places, 4]; boxes decoded", ANY),
        "fastestdet": Family(FastestDet, "[n, 5 + C, rows, columns]"),
        "gfl": Family(Distances, "for each stride C scores and 4 * bins distances in each cell; NanoDet too", ANY),
    }
)


def decoder(spec: Spec) -> Decoder:
    """The decoder of a head's family. Raises: ModelIncompatible."""
    family = FAMILIES.get(spec.head.family)
    if family is None:
        raise ModelIncompatible(
            f"reading a detector's outputs: expected a `head.family` of {', '.join(FAMILIES)}, got {spec.head.family!r}"
        )
    if spec.head.activation not in family.activations:
        raise ModelIncompatible(
            f"reading the outputs of a {spec.head.family} detector: expected an activation of "
            f"{' or '.join(family.activations)}, got {spec.head.activation!r}"
        )
    return family.decoder(spec)
