"""How the authors of each family prepare pictures, where a user does not say otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.vision.specs import Head, Layout

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CENTRED: dict[str, Any] = {"resize": "letterbox", "align": "centre", "fill": 114, "colour": "rgb", "scale": 1 / 255}
STRETCHED: dict[str, Any] = {"resize": "stretch", "colour": "rgb", "scale": 1 / 255}
IMAGENET_BYTES = {"colour": "bgr", "scale": 1.0, "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)}
NANODET: dict[str, Any] = {"resize": "stretch"} | IMAGENET_BYTES
MMDETECTION: dict[str, Any] = {"resize": "letterbox", "align": "top-left", "fill": 114} | IMAGENET_BYTES
CAFFE: dict[str, Any] = STRETCHED | {"colour": "bgr", "scale": 1.0, "mean": (127.5,) * 3, "std": (127.5,) * 3}
KERAS: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # of most of Keras' own, from -1 to 1
PICTURES: dict[str, dict[str, Any]] = {
    "yolox": {"resize": "letterbox", "align": "top-left", "fill": 114, "colour": "bgr", "scale": 1.0},
    "yolov6": CENTRED,
    "yolov5": CENTRED,
    "yolov8": CENTRED,
    "end2end": CENTRED,
    "nms": CENTRED,
    "detr": STRETCHED | IMAGENET,
    "rtdetr": STRETCHED,
    "ssd": STRETCHED,
    "dense": {"resize": "stretch", "colour": "rgb", "scale": 1.0, "mean": (127.0,) * 3, "std": (128.0,) * 3},
    "fastestdet": {"resize": "stretch", "colour": "bgr", "scale": 1 / 255},
    "gfl": NANODET,
    "classify": {"resize": "crop", "colour": "rgb", "scale": 1 / 255} | IMAGENET,
}
SCORES = {"fastestdet": 0.5, "gfl": 0.35, "dense": 0.5, "detr": 0.5, "rtdetr": 0.5, "ssd": 0.5}
"""The least score of an object where 0.25 lets too much pass."""


@dataclass(frozen=True)
class Signs:
    """What tells whose a network is, beside its outputs.

    Args:
        dtype, channels, layout: of its input of pictures.
        sized: whether it takes pictures' sizes as well.
        scaled: whether it takes how pictures were scaled: PaddleDetection's `scale_factor`.
        masked: whether it takes which pixels are real.
        told: whether the file or the user says how it gets pixels.
    """

    dtype: str = "float32"
    channels: int = 3
    layout: Layout = "nchw"
    sized: bool = False
    scaled: bool = False
    masked: bool = False
    told: bool = False


def family_of(head: Head, sized: bool) -> str:
    """Whose defaults a head has: lists of a network that takes pictures' sizes as well are RT-DETR's or D-FINE's."""
    return "rtdetr" if sized and head.family in ("nms", "ssd") else head.family


def is_mmdetection(head: Head) -> bool:
    """Whether outputs are lists of boxes [k, 5] and classes [k], as MMDeploy writes them."""
    return head.family == "nms" and len(head.tensors) == 2


def is_caffe(head: Head) -> bool:
    """Whether rows are those of Caffe's DetectionOutput, whose boxes are shares; PaddleDetection's are pixels."""
    return head.family == "end2end" and head.columns == "class-score-box" and head.normalised


def are_of_several(head: Head, signs: Signs) -> bool:
    """Whether projects that prepare pictures in different ways have such outputs, and nothing tells which it is.

    Of those that take sizes, DEIMv2 has torchvision's numbers for some of its networks, as PaddleDetection has. Of
    those with a sigmoid for each label of a query, Deformable and Conditional DETR have them, and may be exported
    without the mask that tells them from RT-DETR.
    """
    rows = head.family == "end2end" and head.columns == "class-score-box"
    dense = head.family == "dense" and not head.ids
    queries = head.family == "rtdetr" and len(head.tensors) > 1 and not (head.ids or signs.masked)
    alike = is_mmdetection(head) or rows or dense or queries or head.family == "classify" or signs.sized
    return not signs.told and signs.dtype != "uint8" and (alike or signs.layout == "nhwc")


def of_picture(head: Head, signs: Signs) -> dict[str, Any]:
    """The defaults of a family for `Picture`; a network that takes bytes scales them itself.

    Dense scores with a column for the background are those of face detectors, without one those of YOLO-NAS; a sigmoid
    for each of COCO's 91 numbers, or for one column more than labels, is that of RF-DETR and Deformable DETR, which
    takes a mask besides, as RT-DETR does not. Lists of boxes that hold their scores are MMDetection's: those of RTMDet.
    PaddleDetection stretches pictures, and Ultralytics for its RT-DETR, the one whose rows have centres and sides.
    """
    found = dict(CENTRED if head.family == "dense" and not head.ids else PICTURES[family_of(head, signs.sized)])
    if is_mmdetection(head):
        found = dict(MMDETECTION)
    if is_caffe(head):
        found = dict(CAFFE)
    if signs.scaled or (head.family == "end2end" and head.boxes == "cxcywh"):
        found = dict(STRETCHED)
    if head.family == "rtdetr" and (head.ids or signs.masked):
        found |= IMAGENET
    if head.family == "classify" and signs.layout == "nhwc":
        found |= KERAS
    if signs.masked:
        found |= {"resize": "stretch"}
    if signs.channels == 1:
        found |= {"colour": "grey", "mean": (), "std": ()}
    if signs.dtype == "uint8":
        found |= {"scale": 1.0, "mean": (), "std": ()}
    return found
