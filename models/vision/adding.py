"""A detector or classifier from elsewhere: how it takes pictures, what its outputs are, and a golden batch of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from models import adding
from models.adding import Arrays
from models.engine import ModelRefused
from models.golden import MAX_GOLDEN_BYTES, GoldenBatch
from models.inspection import NOTHING_ADDED, Network, inspect
from models.manifest import Manifest, TensorEntry, Tolerance
from models.vision import assumed, defaults, exported, scaling, specs
from models.vision.batching import fix_inputs
from models.vision.classes import classes
from models.vision.detector import IOU, SCORE, Detector
from models.vision.foreign import (
    ATOL,
    PADDLE_NAME,
    PICTURES,
    RTOL,
    PictureInput,
    Served,
    batched_input,
    fixed_inputs,
    is_tensorflow,
    mask_input,
    picture_input,
    serve,
    sizes_inputs,
    testcards,
)
from models.vision.naming import Choose, Question, named
from models.vision.preprocess import Preprocess
from models.vision.specs import Head, Picture
from models.vision.testcard import draw
from models.vision.trial import most_objects

TOLERANCE = Tolerance(RTOL, ATOL)

PIXELS = {"colour", "scale", "mean", "std"}  # fields of `Picture`
HUGGING_FACE = ("logits", "pred_boxes")


@dataclass(frozen=True)
class Wishes:
    """What a user says of the network.

    Args:
        family: of the outputs; None: it is found out.
        outputs: which the family reads, in its order; empty: it is found out.
        size: width and height of the input; None: the network says.
        picture: fields of `Picture` that are not the family's defaults.
        head: likewise of `Head`.
        thresholds: likewise.
    """

    family: str | None = None
    size: tuple[int, int] | None = None
    picture: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """All that becomes a version of a model; `assumed` says, for a person, what nothing in the outputs told."""

    served: Served
    labels: tuple[str, ...]
    picture: Picture
    head: Head
    thresholds: dict[str, float]
    golden: GoldenBatch
    assumed: str = ""


def prepare(
    network: Network,
    name: str,
    task: Literal["detect", "classify"],
    labels: Sequence[str],
    wishes: Wishes,
    choose: Choose | None = None,
    given: tuple[Arrays, Arrays] | None = None,
) -> Prepared:
    """Find out what a network needs, and try it on pictures.

    Args:
        network: inspected with `any_batch`.
        name: what to call it in errors.
        labels: the network's classes, in its order.
        choose: decides where outputs fit several families; without it that is an error.
        given: a golden batch of the user's.

    Raises: ModelRefused.
    """
    if not labels:
        raise ModelRefused(f"inspecting {name}: expected the names of its classes, got none; {NOTHING_ADDED}")
    metadata = network.structure.metadata
    if other := exported.other_task(metadata, task):
        raise ModelRefused(
            f"inspecting {name}: expected the task {task}, the file itself says {other}; {NOTHING_ADDED}"
        )
    network = batched_input(network, name)
    taken = picture_input(network, name)
    width, height = _size(taken, wishes, exported.size(metadata), name)
    room = Picture(width, height)
    _check(room, None, 0, name)  # before a picture of that size is made
    fed, mask = sizes_inputs(network), mask_input(network)
    sized, scaled = bool(fed), any(PADDLE_NAME.search(spec.name) for spec in fed)
    if mask is not None and wishes.picture.get("resize") == "letterbox":
        raise ModelRefused(
            f"inspecting {name}: `{mask}` says which pixels are of the picture, and all are said to be: expected a "
            f"--resize of stretch or crop, got letterbox; {NOTHING_ADDED}"
        )
    cards = testcards(taken, width, height)
    told = {} if taken.spec.dtype == "uint8" else scaling.pixels(network.onnx, taken.spec.name)
    told |= exported.pixels(metadata)
    fixed = fixed_inputs(network, name, cards, width, height)
    if fixed.arrays:
        network = inspect(fix_inputs(network.onnx, fixed.arrays), name, any_batch=True)
    served = serve(network, name, cards, lists=task == "detect")
    outputs = _chosen(served.outputs, wishes.outputs, name)
    if task == "detect":
        said = {key: wishes.head[key] for key in ("activation", "normalised", "columns") if key in wishes.head}
        if scaled:
            said = {"columns": "class-score-box"} | said
        question = Question(
            name, outputs, room, choose, numbered_from=0 if sized else None, family=wishes.family or "",
            ordered=bool(wishes.outputs), tensorflow=is_tensorflow(taken, served.outputs), y_first=fixed.y_first,
            said=said,
        )  # fmt: skip
        labels, head = named(question, labels)
    else:
        head = classes(outputs, name, len(labels), bool(wishes.outputs))
    head = msgspec.structs.replace(head, **wishes.head)
    signs = defaults.Signs(
        taken.spec.dtype, taken.channels, taken.layout, sized, scaled, mask is not None,
        bool(told or wishes.picture.keys() & PIXELS),
    )  # fmt: skip
    chosen = defaults.of_picture(head, signs) | told | dict(wishes.picture)
    picture = Picture(width, height, layout=taken.layout, batch=served.batch, **chosen)
    _check(picture, head, len(labels), name)
    thresholds = dict(wishes.thresholds)
    if task == "detect":
        score = defaults.SCORES.get(defaults.family_of(head, sized), SCORE)
        thresholds = {"score": score, "iou": IOU} | thresholds
    golden = _golden(served, name, picture, given)
    manifest = _manifest(served, picture, head, task, labels)
    if task == "detect":
        found = most_objects(Detector(manifest, thresholds["score"], thresholds["iou"]), golden, picture)
        family = {} if wishes.family is None else {"family": wishes.family}
        numbers = {} if head.ids or not exported.numbers_from_0(metadata) else {"ids": head.ids}
        odd = assumed.of_outputs(head, outputs, family | numbers | dict(wishes.head), found)
    else:
        odd = assumed.of_activation(head, outputs, wishes.head)
    why = "; ".join([*odd, *assumed.of_pixels(head, picture, signs)])
    return Prepared(served, tuple(labels), picture, head, thresholds, golden, why)


def _check(picture: Picture, head: Head | None, labels: int, name: str) -> None:
    for complaint in specs.complaints(picture, head, labels):
        raise ModelRefused(f"inspecting {name}: {complaint}; {NOTHING_ADDED}")


def _size(taken: PictureInput, wishes: Wishes, exported_for: tuple[int, int] | None, name: str) -> tuple[int, int]:
    said = wishes.size
    if said is None:
        if taken.width is None or taken.height is None:
            if exported_for is not None:
                return taken.width or exported_for[0], taken.height or exported_for[1]
            raise ModelRefused(
                f"inspecting {name}: `{taken.spec}` takes pictures of any size: say which with --size WxH, e.g. "
                f"--size 640x640; {NOTHING_ADDED}"
            )
        return taken.width, taken.height
    if any(own not in (None, want) for own, want in zip((taken.width, taken.height), said, strict=True)):
        raise ModelRefused(
            f"inspecting {name}: expected a size of {taken.width}x{taken.height}, that of `{taken.spec}`, got "
            f"{said[0]}x{said[1]}; {NOTHING_ADDED}"
        )
    return said


def _chosen(outputs: Arrays, names: Sequence[str], name: str) -> Arrays:
    """The outputs that are to be read, in their order; of Hugging Face's exports, which may hold all that training
    needs, the two that say what was detected."""
    if not names and outputs.keys() >= set(HUGGING_FACE):
        return {each: outputs[each] for each in HUGGING_FACE}
    if len(set(names)) < len(names) or not outputs.keys() >= set(names):
        raise ModelRefused(
            f"reading the outputs of {name}: expected different ones of {', '.join(outputs)}, got {', '.join(names)}; "
            f"{NOTHING_ADDED}"
        )
    return {each: outputs[each] for each in names or outputs}


def _golden(served: Served, name: str, picture: Picture, given: tuple[Arrays, Arrays] | None) -> GoldenBatch:
    """The batch that engines must reproduce: one picture where the number of rows depends on what is in it, or where
    more would be too large."""
    ragged = any(None in spec.shape[1:] for spec in served.network.outputs) and served.batch == 1
    if given is None:
        preprocess = Preprocess(_manifest(served, picture, None, "", ()))
        batch = preprocess.batch(PICTURES)
        size = sum(each.nbytes for each in (batch, *served.outputs.values()))
        rows = 1 if ragged or size > MAX_GOLDEN_BYTES else PICTURES
        batch = batch[:rows]
        for row in range(rows):
            preprocess.one(draw(picture.width, picture.height, row), batch[row])
        given = ({preprocess.name: batch}, {})
    return adding.golden_batch(served.network, name, given, served.engine(name), TOLERANCE)


def _manifest(
    served: Served, picture: Picture, head: Head | None, task: Literal["", "detect", "classify"], labels: Sequence[str]
) -> Manifest:
    network = served.network
    return Manifest(
        "unnamed", 1, "", "", "0" * 64, tuple(map(TensorEntry.of, network.inputs)),
        tuple(map(TensorEntry.of, network.outputs)), labels=tuple(labels), task=task, picture=picture, head=head,
    )  # fmt: skip
