"""What Ultralytics' exporter writes into a file's metadata: the task, the size of pictures, and numbers of classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from models.vision.heads.unread import DETECTING
from models.vision.labels import NAMES
from models.vision.specs import MAX_SIDE

TASK, SIZE = "task", "imgsz"
UNREAD = {
    "segment": f"masks beside the boxes: {DETECTING}",
    "pose": f"key points beside the boxes: {DETECTING}",
    "obb": f"rotated boxes: {DETECTING} boxes that stand upright",
}
_FROM_0 = re.compile(r"\s*\{\s*0\s*:")
_SIDES = re.compile(r"\[(\d{1,5}), (\d{1,5})\]")


def other_task(metadata: Mapping[str, str], task: str) -> str:
    """What the file says that it does, and what to do, where that is not the task; empty where it is or is not said."""
    said = metadata.get(TASK, "")
    if said in UNREAD:
        return f"{said}, which is not read, {UNREAD[said]}"
    if said in ("detect", "classify") and said != task:
        return f"{said}: add it with --task {said}"
    return ""


def size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Width and height of the pictures that the network was exported for, if the file says it: it has height first."""
    found = _SIDES.fullmatch(metadata.get(SIZE, ""))
    sides = (int(found[2]), int(found[1])) if found else (0, 0)
    return sides if all(1 <= side <= MAX_SIDE for side in sides) else None


def pixels(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Fields of `Picture` that its classifiers have otherwise than torchvision's: shares of 255 as they are."""
    return {"mean": (), "std": ()} if metadata.get(TASK) == "classify" else {}


def numbers_from_0(metadata: Mapping[str, str]) -> bool:
    """Whether the file's own names of classes are numbered, and from 0 on."""
    return _FROM_0.match(metadata.get(NAMES, "")) is not None
