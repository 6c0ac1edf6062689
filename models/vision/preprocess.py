"""A decoded picture becomes a row of a network's input: resized, its channels ordered, set apart and scaled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.engine import ModelIncompatible
from models.vision.specs import Picture

if TYPE_CHECKING:
    from models.manifest import Manifest

Placement = NDArray[np.float32]
"""(scale_x, scale_y, offset_x, offset_y): source = (input - offset) / scale, in pixels."""


class Preprocess:
    """Fills rows of a network's input with pictures.

    Thread rule: any number of threads, each with its own row; each keeps one picture of the input's size as scratch.
    OpenCV and what is compiled here release the GIL for nearly all of it.

    Args:
        manifest: that of a model with a task of vision.

    Raises: ModelIncompatible where the manifest says nothing of pictures, or its input takes none of that kind.
    """

    def __init__(self, manifest: Manifest) -> None:
        picture = manifest.picture
        if picture is None:
            raise ModelIncompatible(
                f"preparing pictures for {manifest.name}/{manifest.version}: expected a table `picture` in its "
                "manifest, got none; add it with --task detect or --task classify"
            )
        self.picture = picture
        self.least = picture.width, picture.height  # pixels that a picture may be decoded at, and lose nothing
        self.shape = row_shape(picture)
        self.name, self.dtype = _input_of(manifest, self.shape)
        self._gain, self._shift = _affine(picture)
        self._as_they_are = bool((self._gain == 1).all() and (self._shift == 0).all())
        self._scratch = threading.local()

    def batch(self, rows: int) -> NDArray[Any]:
        """Room for so many pictures; its values are whatever memory holds."""
        return np.empty((rows, *self.shape), self.dtype)

    def one(self, picture: NDArray[np.uint8], out: NDArray[Any]) -> Placement:
        """Write a picture, uint8 [h, w, 3] in BGR, into one row of the input, and say where in it it stands.

        Resizing is bilinear as OpenCV does it, without smoothing before a large reduction.
        """
        import cv2

        canvas, planes = self._room()
        placement = self._resize(picture, canvas)
        if self.picture.colour == "grey":
            cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY, dst=planes[0])
        else:
            cv2.split(canvas, list(planes if self.picture.colour == "bgr" else planes[::-1]))
        if self.picture.layout == "nhwc":
            out = out.transpose(2, 0, 1)
        if self._as_they_are:
            np.copyto(out, planes, casting="unsafe")
        elif out.dtype == np.float32 and out.flags.c_contiguous:
            _scale(planes, self._gain, self._shift, out)
        else:
            np.multiply(planes, self._gain[:, None, None], out=out, dtype=np.float32, casting="unsafe")
            np.add(out, self._shift[:, None, None], out=out, dtype=np.float32, casting="unsafe")
        return placement

    def _room(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        scratch = self._scratch
        if not hasattr(scratch, "canvas"):
            height, width = self.picture.height, self.picture.width
            scratch.canvas = np.empty((height, width, 3), np.uint8)
            scratch.planes = np.empty((self.picture.channels, height, width), np.uint8)
        return scratch.canvas, scratch.planes

    def _resize(self, picture: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> Placement:
        import cv2

        source_h, source_w = picture.shape[:2]
        height, width = canvas.shape[:2]
        if self.picture.resize == "stretch":
            cv2.resize(picture, (width, height), dst=canvas, interpolation=cv2.INTER_LINEAR)
            return np.array([width / source_w, height / source_h, 0, 0], np.float32)
        if self.picture.resize == "crop":
            ratio = max(width / source_w, height / source_h)
            cut_w, cut_h = min(source_w, max(1, round(width / ratio))), min(source_h, max(1, round(height / ratio)))
            x, y = (source_w - cut_w) // 2, (source_h - cut_h) // 2
            cv2.resize(picture[y : y + cut_h, x : x + cut_w], (width, height), dst=canvas)
            scale_x, scale_y = width / cut_w, height / cut_h
            return np.array([scale_x, scale_y, -x * scale_x, -y * scale_y], np.float32)
        ratio = min(width / source_w, height / source_h)
        inner_w, inner_h = min(width, max(1, round(source_w * ratio))), min(height, max(1, round(source_h * ratio)))
        centre = self.picture.align == "centre"
        left, top = ((width - inner_w) // 2, (height - inner_h) // 2) if centre else (0, 0)
        inner = canvas[top : top + inner_h, left : left + inner_w]
        cv2.resize(picture, (inner_w, inner_h), dst=inner, interpolation=cv2.INTER_LINEAR)
        _fill_around(canvas, left, top, inner_w, inner_h, self.picture.fill)
        return np.array([inner_w / source_w, inner_h / source_h, left, top], np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def _scale(
    planes: NDArray[np.uint8], gain: NDArray[np.float32], shift: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """planes * gain + shift in one pass, channel by channel."""
    for channel in range(len(planes)):
        by, more, plane, values = gain[channel], shift[channel], planes[channel], out[channel]
        for y in range(plane.shape[0]):
            for x in range(plane.shape[1]):
                values[y, x] = np.float32(plane[y, x]) * by + more


def row_shape(picture: Picture) -> tuple[int, int, int]:
    """The shape of one row of the input."""
    if picture.layout == "nchw":
        return picture.channels, picture.height, picture.width
    return picture.height, picture.width, picture.channels


def _affine(picture: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(pixel * scale - mean) / std as pixel * gain + shift, for each channel."""
    mean = np.array(picture.mean or (0.0,) * picture.channels)
    std = np.array(picture.std or (1.0,) * picture.channels)
    return (picture.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def _input_of(manifest: Manifest, shape: tuple[int, int, int]) -> tuple[str, str]:
    """Name and dtype of the input that takes pictures of this shape."""
    spec = manifest.inputs[0].spec()
    fits = len(spec.shape) == 4 and all(axis in (None, want) for axis, want in zip(spec.shape[1:], shape, strict=True))
    if len(manifest.inputs) != 1 or not fits or spec.dtype not in ("float32", "float16", "uint8"):
        inputs = ", ".join(str(entry.spec()) for entry in manifest.inputs)
        raise ModelIncompatible(
            f"preparing pictures for {manifest.name}/{manifest.version}: expected one input of float32, float16 or "
            f"uint8 [n, {', '.join(map(str, shape))}], got {inputs}"
        )
    return spec.name, spec.dtype


def _fill_around(canvas: NDArray[np.uint8], left: int, top: int, width: int, height: int, value: int) -> None:
    canvas[:top] = canvas[top + height :] = value
    canvas[top : top + height, :left] = canvas[top : top + height, left + width :] = value
