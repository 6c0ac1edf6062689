"""A network of vision from elsewhere, made to take any number of pictures a call."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine, InferenceFailed, ModelError, ModelRefused, TensorSpec
from models.engines.alone import OneByOne, free
from models.engines.onnx import OnnxEngine
from models.inspection import NOTHING_ADDED, Network, inspect
from models.vision.batching import add_batch, fix_inputs, free_batch
from models.vision.specs import Layout
from models.vision.testcard import draw

Arrays = dict[str, NDArray[Any]]

RTOL, ATOL = 1e-3, 1e-3
"""How far a row alone may be from the same row in a batch, or the rewritten network from the one it was made of."""

PICTURES = 2
MASKS = ("bool", "int64", "int32")
SCALE_NAME = re.compile("scale|ratio")
SHAPE_NAME = re.compile("(im|img|image)_?shape")  # height and width, as arrays have them
PADDLE_NAME = re.compile("scale_factor")
TENSORFLOW_NAME = re.compile(r"detection_(boxes|classes|scores)|num_detections|TFLite|StatefulPartitionedCall")


@dataclass(frozen=True)
class PictureInput:
    """The input that takes pictures; a side is None where the network takes any."""

    spec: TensorSpec
    layout: Layout
    width: int | None
    height: int | None
    channels: int


@dataclass(frozen=True)
class Served:
    """A network as it will be served.

    Args:
        network: its bytes, and inputs and outputs with a free first axis.
        batch: 1 where it runs picture by picture, 0 where it takes any number.
        outputs: what it gives for the testcards.
        how: how it came to take a batch, for a person; empty where it did already.
    """

    network: Network
    batch: int
    outputs: Arrays
    how: str

    def engine(self, name: str) -> Engine:
        """An engine with it loaded."""
        return _load(self.network.onnx, name, self.network.outputs if self.batch else None)


def sizes_inputs(network: Network) -> list[TensorSpec]:
    """The inputs beside the pictures that take two numbers of each: its width and height, or how it was scaled.

    References: RT-DETR's export, `orig_target_sizes`; PaddleDetection's, `im_shape` and `scale_factor`.
    """
    found = [spec for spec in network.inputs if spec.shape[-1:] == (2,) and len(spec.shape) < 3]
    return found if len(network.inputs) > len(found) else []


def mask_input(network: Network) -> TensorSpec | None:
    """The input beside the pictures that says which of their pixels are real, if there is one: [n, height, width].

    References: Hugging Face's export of DETR, `pixel_mask`.
    """
    found = [spec for spec in network.inputs if len(spec.shape) == 3 and spec.dtype in MASKS]
    return found[0] if len(found) == 1 and len(network.inputs) > 1 else None


@dataclass(frozen=True)
class Fixed:
    """What the inputs beside the pictures always get, and whether that has shown that boxes have y before x."""

    arrays: Arrays
    y_first: bool


def fixed_inputs(network: Network, name: str, cards: NDArray[Any], width: int, height: int) -> Fixed:
    """What the inputs beside the pictures always get: the size of the network's own, that nothing was scaled, and that
    all pixels are real.

    So boxes are in pixels of the network's input, as all others' are. Whether two numbers are width and height, height
    and width, or shares by which boxes are divided shows in what becomes of boxes when one of them is doubled. A shape
    is height and width, and which of a box's numbers become larger with it shows which come first.

    Args:
        cards: pictures as the network's input takes them.
        width, height: of these.
    """
    found: Arrays = {}
    mask = mask_input(network)
    if mask is not None:
        sides = zip(mask.shape[1:], (height, width), strict=True)
        found[mask.name] = np.ones((1, *(side if own is None else own for own, side in sides)))
    sizes = sizes_inputs(network)
    for spec in sizes:
        known = (1, 1) if SCALE_NAME.search(spec.name.lower()) else (height, width) if _is_shape(spec) else None
        found[spec.name] = _two(spec, known or (width, height))
    y_first = False
    for spec in sizes:
        found[spec.name], tall_first = _meant(network, name, cards, found, spec)
        y_first |= tall_first
    return Fixed(found, y_first)


def _is_shape(spec: TensorSpec) -> bool:
    return bool(SHAPE_NAME.search(spec.name.lower()))


def _two(spec: TensorSpec, numbers: tuple[float, float]) -> NDArray[Any]:
    return np.array(numbers if len(spec.shape) == 1 else [numbers])


def _meant(
    network: Network, name: str, cards: NDArray[Any], fixed: Mapping[str, NDArray[Any]], spec: TensorSpec
) -> tuple[NDArray[Any], bool]:
    """What an input of two numbers is to get, and whether it shows y before x; what it has where no box tells."""
    own = fixed[spec.name]
    try:
        before, *after = (
            _boxes_with(network, name, cards, {**fixed, spec.name: own * np.array(by)})
            for by in ((1, 1), (2, 1), (1, 2))
        )
    except ModelError:
        return own, False
    for key, boxes in before.items():
        if any(each[key].shape != boxes.shape for each in after):
            continue
        changed = [(each[key] != boxes) & (boxes != 0) for each in after]
        if all(each.any() for each in changed):
            ratio = max(np.median(each[key][where] / boxes[where]) for each, where in zip(after, changed, strict=True))
            first, second = (int(np.nonzero(each)[-1].min()) for each in changed)
            if ratio < 1:
                return _two(spec, (1, 1)), False
            if _is_shape(spec):
                return own, first < second
            return own if first < second else own[..., ::-1], False
    return own, False


def _boxes_with(network: Network, name: str, cards: NDArray[Any], fixed: Mapping[str, NDArray[Any]]) -> Arrays:
    """Outputs that may hold boxes, for one picture."""
    engine = _load(fix_inputs(network.onnx, fixed), name)
    try:
        outputs = engine.infer({engine.inputs[0].name: cards[:1]})
    finally:
        engine.close()
    return {key: each for key, each in outputs.items() if each.dtype.kind == "f" and each.ndim and each.shape[-1] > 3}


def batched_input(network: Network, name: str) -> Network:
    """The network with an axis for the batch in front of its picture's, where it has none: torchvision's export."""
    beside = (*sizes_inputs(network), mask_input(network))
    inputs = [spec for spec in network.inputs if spec not in beside]
    if len(inputs) != 1 or len(inputs[0].shape) != 3 or not {1, 3} & {inputs[0].shape[0], inputs[0].shape[2]}:
        return network
    return inspect(add_batch(network.onnx, inputs[0].name), name, any_batch=True)


def is_tensorflow(taken: PictureInput, outputs: Iterable[str]) -> bool:
    """Whether a network comes from TensorFlow, by its layout or the names of its outputs."""
    return taken.layout == "nhwc" or any(TENSORFLOW_NAME.search(name) for name in outputs)


def picture_input(network: Network, name: str) -> PictureInput:
    """The one input of the network, if it takes pictures of 1 or 3 channels; those of `fixed_inputs` do not count.

    Raises: ModelRefused.
    """
    inputs = [spec for spec in network.inputs if spec not in (*sizes_inputs(network), mask_input(network))]
    spec = inputs[0] if len(inputs) == 1 else None
    if spec is not None and len(spec.shape) == 4 and spec.dtype in ("float32", "float16", "uint8"):
        _, *axes = spec.shape
        if axes[0] in (1, 3):
            return PictureInput(spec, "nchw", axes[2], axes[1], axes[0])
        if axes[2] in (1, 3):
            return PictureInput(spec, "nhwc", axes[1], axes[0], axes[2])
        if axes[0] is None:
            return PictureInput(spec, "nchw", axes[2], axes[1], 3)
    raise ModelRefused(
        f"inspecting {name}: expected one input of pictures, float32, float16 or uint8 [n, 3, height, width] or "
        f"[n, height, width, 3], got {', '.join(map(str, network.inputs))}; {NOTHING_ADDED}"
    )


def testcards(taken: PictureInput, width: int, height: int) -> NDArray[Any]:
    """Two pictures as the network's input takes them: bytes as they are, others as shares of 255."""
    cards = np.stack([draw(width, height, seed) for seed in range(PICTURES)])
    if taken.channels == 1:
        cards = cards[..., :1]
    if taken.layout == "nchw":
        cards = cards.transpose(0, 3, 1, 2)
    values = cards if taken.spec.dtype == "uint8" else cards / 255
    return np.ascontiguousarray(values, taken.spec.dtype)


def serve(network: Network, name: str, batch: NDArray[Any], *, lists: bool = True) -> Served:
    """Find how the network takes a batch: as it is, rewritten, or picture by picture.

    Whichever it is, a picture alone gives what it gives in the batch.

    Args:
        lists: whether outputs may be objects in rows, without an axis for the batch: those of a detector may.

    Raises: ModelRefused where the network runs in none of these ways, or gives no finite numbers.
    """
    spec = network.inputs[0]
    if spec.shape[0] not in (None, 1):
        raise ModelRefused(
            f"inspecting {name}: expected an input that takes one picture, or any number, got `{spec}`: export the "
            f"network with a batch of 1 or a dynamic one; {NOTHING_ADDED}"
        )
    alone, outputs, singles = _alone(network, name, batch, lists)
    pairs = zip(alone.outputs, network.outputs, strict=True)
    apart = all(len(each.shape) == len(own.shape) for each, own in pairs)  # else objects of several pictures mix
    if apart and all(each.shape and each.shape[0] is None for each in (spec, *network.outputs)):
        if _batches(network.onnx, name, batch, singles):
            return Served(_all_free(network), 0, _run(network.onnx, name, batch), "")
    elif apart:
        for rewritten in filter(None, (_rewritten(network, name, inner) for inner in (False, True))):
            if _batches(rewritten.onnx, name, batch, singles):
                how = "it was exported for one picture, and rewritten to take any number"
                return Served(_all_free(rewritten), 0, _run(rewritten.onnx, name, batch), how)
    return Served(alone, 1, outputs, "it takes one picture a run: a batch of pictures goes through it one by one")


def _alone(network: Network, name: str, batch: NDArray[Any], lists: bool) -> tuple[Network, Arrays, list[Arrays]]:
    """The network picture by picture: as it is served then, its outputs, and each picture's own."""
    spec = network.inputs[0]
    engine = _load(network.onnx, name)
    try:
        singles = [engine.infer({spec.name: batch[row : row + 1]}) for row in range(len(batch))]
    except InferenceFailed as error:
        raise ModelRefused(f"running a picture through {name}: {error}; {NOTHING_ADDED}") from error
    finally:
        engine.close()
    for output, array in ((key, each) for single in singles for key, each in single.items()):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelRefused(
                f"running a picture through {name}: expected finite numbers in `{output}`, got NaN or infinity; "
                f"{NOTHING_ADDED}"
            )
    first = singles[0]
    rows = any(array.ndim == 2 and array.shape[1] in (4, 5) for array in first.values())  # boxes without a batch
    batched = not lists or (not rows and any(array.ndim >= 3 and len(array) == 1 for array in first.values()))
    specs = []
    for each in network.outputs:
        leading = each.shape[0] if each.shape else None
        has_batch = leading == 1 or (leading is None and batched and first[each.name].shape[:1] == (1,))
        specs.append(free(each) if has_batch else TensorSpec(each.name, each.dtype, (None, *each.shape)))
    served = dataclasses.replace(network, inputs=(free(spec),), outputs=tuple(specs))
    engine = _load(network.onnx, name, served.outputs)
    try:
        return served, engine.infer({spec.name: batch}), singles
    finally:
        engine.close()


def _rewritten(network: Network, name: str, inner: bool) -> Network | None:
    freed = free_batch(network.onnx, inner=inner)
    if freed is None:
        return None
    try:
        return inspect(freed, name)
    except ModelError:  # the rewriting broke it: the original serves picture by picture
        return None


def _batches(onnx: bytes, name: str, batch: NDArray[Any], singles: list[Arrays]) -> bool:
    """Whether the network gives for each picture in a batch what the original gives for it alone."""
    try:
        outputs = _run(onnx, name, batch)
        lone = _run(onnx, name, batch[:1])
    except InferenceFailed:
        return False
    rows = [{key: each[row : row + 1] for key, each in outputs.items()} for row in range(len(batch))]
    return all(map(_same, singles, rows)) and _same(singles[0], lone)


def _same(expected: Arrays, got: Arrays) -> bool:
    return all(
        got[name].shape == array.shape and np.allclose(got[name], array, rtol=RTOL, atol=ATOL)
        for name, array in expected.items()
    )


def _run(onnx: bytes, name: str, batch: NDArray[Any]) -> Arrays:
    engine = _load(onnx, name)
    try:
        return engine.infer({engine.inputs[0].name: batch})
    finally:
        engine.close()


def _load(onnx: bytes, name: str, served: tuple[TensorSpec, ...] | None = None) -> Engine:
    engine = OnnxEngine()
    engine.load_bytes(onnx, name)
    return engine if served is None else OneByOne(engine, served)


def _all_free(network: Network) -> Network:
    inputs, outputs = (tuple(map(free, specs)) for specs in (network.inputs, network.outputs))
    return dataclasses.replace(network, inputs=inputs, outputs=outputs)
