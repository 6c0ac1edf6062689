"""What a detector gave for some pictures, and what its numbers may be: probabilities, boxes, lists of objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import as_rows, grid, without_ones
from models.vision.heads.listed import parted
from models.vision.specs import Columns, Head, Picture

STRIDES = (
    (8, 16, 32),
    (8, 16, 32, 64),
    (16, 32),
    (8, 16),
    (8, 16, 32, 64, 128),
    (4, 8, 16, 32),
    (8,),
    (16,),
    (32,),
    (4,),
)
ANCHORS = 3  # boxes in each cell of YOLOv5's grids
ANCHORS_NAME = re.compile("anchor|prior")
FEWEST_BINS = 4  # of a distance to a side of a box
FEW = 0.05  # of the scores of all cells, those that say yes

Layout = Literal["rows", "columns", "maps"]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One output for a batch of pictures, or those of each stride behind one another.

    Args:
        names: of the outputs.
        array: of several outputs, [n, boxes, columns] whatever their layout.
        layout: of several outputs, how each stands: [n, boxes, k], [n, k, boxes] or [n, k, rows, columns].
    """

    names: tuple[str, ...]
    array: NDArray[Any]
    layout: Layout = "rows"

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one picture."""
        return tuple(self.array.shape[1:])

    def within(self, low: float, high: float) -> bool:
        """Whether all numbers are."""
        return bool(self.array.size and self.array.min() >= low and self.array.max() <= high)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a detector gave for some pictures, and what its user says of it.

    Args:
        labels: how many there are.
        coco: whether they are COCO's 80.
        family: the only one to look for; empty: any.
        activation: what makes probabilities of scores; empty: it is found out.
        ordered: whether the tensors are all to be read, in the order in which the family reads them.
        normalised: whether boxes are in shares of the input; None: it is found out.
        tensorflow: whether the network is one of TensorFlow's, which have y before x in lists.
        y_first: whether another input of the network has shown that its boxes have y before x.
        columns: what a row of a list of objects holds; empty: it is found out.
    """

    tensors: tuple[Tensor, ...]
    picture: Picture
    labels: int
    coco: bool
    family: str = ""
    activation: str = ""
    ordered: bool = False
    normalised: bool | None = None
    tensorflow: bool = False
    y_first: bool = False
    columns: Columns = ""

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], picture: Picture, labels: Sequence[str], **said: Any) -> Outputs:
        """Those of a network, of which the user says what the other fields are."""
        tensors = tuple(Tensor((name,), without_ones(array)) for name, array in arrays.items())
        coco = len(labels) == 80 and (labels[0].lower(), labels[16].lower()) == ("person", "dog")
        return cls(tensors, picture, len(labels), coco, **said)

    @property
    def order(self) -> tuple[str, ...]:
        """The outputs that the user names, if any."""
        return tuple(each.name for each in self.tensors) if self.ordered else ()

    def in_shares(self, boxes: NDArray[Any]) -> bool:
        """Whether boxes are in shares of the input: as the user says, or as they look."""
        return in_shares(boxes) if self.normalised is None else self.normalised

    def rank(self, rank: int) -> list[Tensor]:
        """Floats of so many axes, that of the batch not counted."""
        return [each for each in self.tensors if len(each.shape) == rank and each.array.dtype.kind == "f"]

    def rows(self) -> list[Tensor]:
        """Floats [boxes, columns] or [columns, boxes]; those that only together make the grids, together."""
        joined = [each for boxes in (1, ANCHORS) for each in self._joined(boxes)]
        used = {name for each in joined for name in each.names}
        return [*(each for each in self.rank(2) if each.name not in used), *joined]

    def _joined(self, boxes: int) -> Iterator[Tensor]:
        """One tensor of each stride, all of one width and layout, with so many boxes in each cell."""
        alike: dict[tuple[int, Layout], dict[int, list[Tensor]]] = {}
        for tensor in (*self.rank(2), *(self.rank(3) if boxes == 1 else ())):
            stride, width, layout = self.level(tensor, boxes)
            if stride:
                alike.setdefault((width, layout), {}).setdefault(stride, []).append(tensor)
        for (_, layout), levels in alike.items():
            strides = tuple(sorted(levels))
            if len(strides) > 1 and strides in STRIDES and all(len(each) == 1 for each in levels.values()):
                parts = [levels[stride][0] for stride in strides]
                cells = [part.array.shape[2] if layout == "columns" else 0 for part in parts]
                rows = [as_rows(part.array, count) for part, count in zip(parts, cells, strict=True)]
                yield Tensor(tuple(part.name for part in parts), np.concatenate(rows, axis=1), layout)

    def strides(self, cells: int, boxes: int = 1) -> tuple[int, ...]:
        """Of the grids that together have so many cells, with so many boxes in each; none where no usual ones do."""
        for strides in STRIDES:
            if len(grid(self.picture, strides, 0)[0]) * boxes == cells:
                return strides
        return ()

    def level(self, tensor: Tensor, boxes: int = 1) -> tuple[int, int, Layout]:
        """The stride whose grid a tensor [cells, k], [k, cells] or [k, rows, columns] is of, and k; 0 where none is."""
        for stride in sorted({stride for strides in STRIDES for stride in strides}):
            rows, columns = -(-self.picture.height // stride), -(-self.picture.width // stride)
            if len(tensor.shape) == 3 and tensor.shape[1:] == (rows, columns):
                return stride, tensor.shape[0], "maps"
            if len(tensor.shape) == 2 and rows * columns * boxes == tensor.shape[0]:
                return stride, tensor.shape[1], "rows"
            if len(tensor.shape) == 2 and rows * columns * boxes == tensor.shape[1]:
                return stride, tensor.shape[0], "columns"
        return 0, 0, "rows"


def are_shares(array: NDArray[Any]) -> bool:
    """Whether all numbers are probabilities."""
    return bool(not array.size or (array.min() >= -1e-3 and array.max() <= 1 + 1e-3))


def are_whole(array: NDArray[Any]) -> bool:
    return bool(array.dtype.kind in "iu" or (array == np.floor(array)).all())


def in_shares(boxes: NDArray[Any]) -> bool:
    """Whether boxes are in shares of the input: of those in pixels most numbers are larger than 2."""
    numbers = boxes[boxes > 0]  # rows that are no object are filled with 0 or -1
    return bool(numbers.size and np.quantile(numbers, 0.9) <= 2)


def are_anchors(boxes: Tensor, others: Sequence[Tensor]) -> bool:
    """Whether boxes are the same for every picture, and others beside them, as many, are not or these are named so."""
    if not _is_constant(boxes):
        return False
    alike = [each for each in others if each is not boxes and each.shape == boxes.shape]
    named = bool(ANCHORS_NAME.search(boxes.name.lower()))
    return any(named or not _is_constant(each) for each in alike)


def _is_constant(tensor: Tensor) -> bool:
    return bool((tensor.array == tensor.array[:1]).all())


def are_of_each_stride(outputs: Outputs, boxes: Sequence[Tensor]) -> bool:
    """Whether boxes come in several tensors, one for each stride's grid or a few for each of its cells: as offsets."""
    if outputs.ordered:
        return False
    counts = {each.shape[0] for each in boxes}
    strides = {outputs.level(each, many)[0] for each in boxes for many in (1, 2, ANCHORS)} - {0}
    return len(counts) > 1 and len(strides) >= len(counts)


def saw_nothing(head: Head, arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a network that lists objects gave none, so that nothing tells what its boxes are."""
    if head.family in ("ssd", "nms"):
        boxes = arrays[head.tensors[0]][..., :4]
    elif head.family == "end2end":
        boxes = parted(without_ones(arrays[head.tensors[0]]), head.columns)[0]
    else:
        return False  # each cell or query has a box, whatever its score
    return not (boxes > 0).any()


def are_corners(boxes: NDArray[Any]) -> bool:
    """Whether boxes are two corners: the second is further right and down."""
    right, down = boxes[:, :, 2] >= boxes[:, :, 0], boxes[:, :, 3] >= boxes[:, :, 1]
    return bool(boxes.size and (right & down).mean() > 0.99)
