"""What a person should know of how a network is fed and read, where nothing in the file or its outputs told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from models.adding import Arrays
from models.vision import defaults
from models.vision.heads.listed import usual
from models.vision.heads.lists import COCO91, numbers_seen
from models.vision.heads.outputs import saw_nothing
from models.vision.specs import Head, Picture

SAW_NOTHING = (
    "the network saw nothing in the test pictures, which told nothing about its boxes: they are taken for {boxes} in "
    "pixels of its input; --normalised says that they are shares of its sides, --boxes that their order is another"
)
ROWS = "its rows are taken for {columns}; --columns says that their order is another"
HEIGHT_FIRST = "boxes are taken for y1, x1, y2, x2; --boxes xyxy says that x is before y"
NUMBERED = "class numbers are taken for {numbers}, which the test pictures did not show; --ids says otherwise"
PIXELS = (
    "networks of several projects have such outputs: pixels are given to this one as {pixels}; --resize, --colour, "
    "--scale, --mean and --std say otherwise"
)
SOFTMAX = (
    "its scores are no probabilities, and taken for logits of labels of which one is true; --activation sigmoid says "
    "that each may be"
)
SHARES = (
    "its scores are all from 0 to 1, and taken for probabilities of labels of which each may be true; --activation "
    "softmax says that they are logits of labels of which one is"
)
OFF = 0.05  # how far from 1 the sum of a softmax's probabilities may be, of a quantised network as well
MANY = 100  # objects, in a picture of 12 shapes
SAW_MANY = (
    "the network sees {count} objects in a test picture that shows 12 shapes: if it should not, its outputs are read "
    "in another way than they are meant; look at `headrace predict vision --draw`, and see --family and --labels"
)


def of_outputs(head: Head, outputs: Arrays, said: Mapping[str, Any], found: int) -> Iterator[str]:
    """What a person should know of how the outputs are read, since nothing in them told, or what they show is odd.

    Args:
        said: what the user or the file says of the head, its family as well.
        found: objects in the test picture that shows most.
    """
    if "normalised" not in said and saw_nothing(head, outputs):
        yield SAW_NOTHING.format(boxes=head.boxes)
        if head.family == "end2end" and "columns" not in said:
            yield ROWS.format(columns=head.columns or usual(outputs[head.tensors[0]].shape[-1]))
    elif head.boxes == "yxyx" and "boxes" not in said:
        yield HEIGHT_FIRST
    if "ids" not in said and (numbers := _unseen_numbers(head, outputs, "family" in said)):
        yield NUMBERED.format(numbers=numbers)
    if found >= MANY:
        yield SAW_MANY.format(count=found)


def _unseen_numbers(head: Head, outputs: Arrays, chosen: bool) -> str:
    """Which numbers a list's classes are taken for, where those that it showed would fit others as well.

    Args:
        chosen: whether the user says the family.
    """
    if head.family not in ("end2end", "nms", "ssd"):
        return ""
    seen = numbers_seen(head, outputs)
    if head.ids == COCO91 and seen.max(initial=0) <= len(COCO91):
        return "those of COCO's annotations, 1 to 90 with gaps"
    from_one = head.family == "ssd" and len(head.tensors) > 3 and not chosen
    if (from_one or defaults.is_caffe(head)) and head.ids and seen.max(initial=0) < len(head.ids):
        return "those from 1 on"
    return "" if head.ids or (seen == 0).any() else "those from 0 on"


def of_pixels(head: Head, picture: Picture, signs: defaults.Signs) -> Iterator[str]:
    """How pixels are given, and scores read, of a network that does not tell whose it is."""
    if defaults.are_of_several(head, signs):
        yield PIXELS.format(pixels=picture.pixels)


def of_activation(head: Head, outputs: Arrays, said: Mapping[str, Any]) -> Iterator[str]:
    """What a classifier's scores are taken for: logits, or shares that no softmax made, which may be small logits."""
    scores = outputs[head.tensors[0]]
    scores = scores.reshape(len(scores), -1)
    if "activation" in said:
        return
    if head.activation == "softmax":
        yield SOFTMAX
    elif head.activation == "none" and scores.shape[1] > 1 and (np.abs(scores.sum(axis=1) - 1) > OFF).any():
        yield SHARES
