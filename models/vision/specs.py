"""What a manifest says of a network of vision: how a picture becomes its input, and how its outputs are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

MAX_SIDE = 8192
MAX_PIXELS = 2**24  # of the network's input: beyond it, pictures are tiled
MAX_LABELS = 65_536
MAX_STRIDE = 1024
MAX_ID = 2**20

Task = Literal["", "detect", "classify"]
Resize = Literal["letterbox", "stretch", "crop"]
Colour = Literal["rgb", "bgr", "grey"]
Layout = Literal["nchw", "nhwc"]
Activation = Literal["none", "sigmoid", "softmax"]
Boxes = Literal["cxcywh", "xyxy", "yxyx"]
Columns = Literal["", "box-score-class", "box-class-score", "class-score-box"]


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a picture becomes a row of the input tensor: resized, then (pixel * scale - mean) / std in each channel.

    Args:
        width, height: of the network's input, in pixels.
        resize: `letterbox` keeps the picture's proportions and fills the rest, `stretch` does not keep them, `crop`
            keeps them and cuts off what is over.
        align: where a letterboxed picture stands.
        fill: the value of what a letterboxed picture does not cover.
        colour: order of the channels.
        mean, std: one number for each channel, in the order of `colour`; none means 0 and 1.
        batch: 1 where the network takes one picture a run, 0 where it takes any number.
        tile: whether a picture larger than the input is cut into overlapping tiles.
        overlap: which share of a tile its neighbour covers too.
    """

    width: int
    height: int
    resize: Resize = "letterbox"
    align: Literal["centre", "top-left"] = "centre"
    fill: int = 114
    colour: Colour = "rgb"
    layout: Layout = "nchw"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    batch: int = 0
    tile: bool = False
    overlap: float = 0.25

    @property
    def channels(self) -> int:
        return 1 if self.colour == "grey" else 3

    @property
    def pixels(self) -> str:
        """What the network gets of a picture's bytes, in words."""
        less = f", less {' '.join(f'{each:g}' for each in self.mean)}" if self.mean else ""
        by = f", divided by {' '.join(f'{each:g}' for each in self.std)}" if self.std else ""
        return f"{self.colour} from 0 to {255 * self.scale:g}{less}{by}"


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the outputs are read.

    Args:
        family: the name of the decoder, of `models.vision.heads.families`.
        tensors: names of the outputs, in the order in which the family reads them.
        ids: what the network calls each label, a column of its scores or a number; none means 0, 1, 2, …
        activation: what turns the network's class scores into probabilities.
        boxes: what the four numbers of a box are.
        normalised: whether a box is in shares of the input's sides instead of pixels.
        decoded: whether the network itself adds the grid to its boxes.
        transposed: whether the boxes, or the scores beside them, are in the other axis than the family has them.
        strides: in pixels, of the grids that boxes stand on.
        offset: where in its cell a point of a grid is, 0 its corner, 0.5 its centre.
        combine: what the scores of a picture's tiles become.
        columns: what a row of a list of objects holds, after the picture's number if it has 7; none means
            box-score-class of 6 columns, box-class-score of 7.
    """

    family: str
    tensors: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    activation: Activation = "none"
    boxes: Boxes = "cxcywh"
    normalised: bool = False
    decoded: bool = True
    transposed: bool = False
    strides: tuple[int, ...] = ()
    offset: float = 0.5
    combine: Literal["max", "mean"] = "max"
    columns: Columns = ""


def complaints(picture: Picture | None, head: Head | None, labels: int) -> Iterator[str]:
    """What is wrong with the tables, in words for a manifest's errors."""
    if picture is not None:
        yield from _of_picture(picture)
    if head is not None:
        yield from _of_head(head, labels)


def _of_picture(picture: Picture) -> Iterator[str]:
    if min(picture.width, picture.height) < 1 or max(picture.width, picture.height) > MAX_SIDE:
        yield f"expected `picture` of 1 to {MAX_SIDE} pixels a side, got {picture.width}x{picture.height}"
    elif picture.width * picture.height > MAX_PIXELS:
        yield f"expected `picture` of at most {MAX_PIXELS} pixels, got {picture.width}x{picture.height}"
    if not 0 <= picture.fill <= 255:
        yield f"expected `picture.fill` of 0 to 255, got {picture.fill}"
    if not (math.isfinite(picture.scale) and picture.scale > 0):
        yield f"expected a finite `picture.scale` above 0, got {picture.scale}"
    for name, values in (("mean", picture.mean), ("std", picture.std)):
        if len(values) not in (0, picture.channels) or not all(math.isfinite(value) for value in values):
            yield f"expected `picture.{name}` of {picture.channels} finite numbers, or none, got {list(values)}"
    if not all(value > 0 for value in picture.std):
        yield f"expected `picture.std` above 0, got {list(picture.std)}"
    if picture.batch not in (0, 1):
        yield f"expected `picture.batch` of 0 (any number of pictures) or 1, got {picture.batch}"
    if not 0 <= picture.overlap <= 0.9:
        yield f"expected `picture.overlap` of 0 to 0.9, got {picture.overlap}"


def _of_head(head: Head, labels: int) -> Iterator[str]:
    if labels > MAX_LABELS:
        yield f"expected at most {MAX_LABELS} labels, got {labels}"
    if head.ids and (len(head.ids) != labels or len(set(head.ids)) != labels):
        yield f"expected `head.ids` of {labels} different numbers, one for each label, got {len(head.ids)}"
    if not all(0 <= each <= MAX_ID for each in head.ids):
        yield f"expected `head.ids` of 0 to {MAX_ID}, got {min(head.ids)} to {max(head.ids)}"
    if len(head.strides) > 8 or not all(1 <= stride <= MAX_STRIDE for stride in head.strides):
        yield f"expected at most 8 `head.strides` of 1 to {MAX_STRIDE} pixels, got {list(head.strides)}"
    if not 0 <= head.offset <= 1:
        yield f"expected `head.offset` of 0 to 1, got {head.offset}"
    if len(head.tensors) > 64:
        yield f"expected at most 64 `head.tensors`, got {len(head.tensors)}"
