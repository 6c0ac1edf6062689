"""Which family a detector is of, and which of its user's labels are classes; asked where it cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from models.adding import Arrays
from models.engine import ModelRefused
from models.inspection import NOTHING_ADDED
from models.vision.foreign import PICTURES
from models.vision.heads.families import FAMILIES
from models.vision.heads.outputs import Outputs
from models.vision.heads.recognise import recognise
from models.vision.heads.unread import explain, look
from models.vision.specs import Head, Picture

BACKGROUND = ("background", "bg", "no-object", "n/a")
WITH_BACKGROUND_LAST = ("detr", "rtdetr", "dense")
MOST_NAMED = 4  # ways to choose outputs, in an error

Choose = Callable[[Sequence[Head]], Head]


@dataclass(frozen=True)
class Question:
    """What is known of a network before its family is.

    Args:
        name: what to call it in errors.
        outputs: those to be read, for the test pictures.
        choose: decides where outputs fit several families; without it that is an error.
        numbered_from: what lists of objects call the first label, where something else than they says it.
        family, ordered, tensorflow, y_first, said: fields of `Outputs`, of `said` those that the user gave.
    """

    name: str
    outputs: Arrays
    picture: Picture
    choose: Choose | None
    numbered_from: int | None
    family: str
    ordered: bool
    tensorflow: bool
    y_first: bool
    said: Mapping[str, Any]

    def of(self, labels: Sequence[str]) -> Outputs:
        return Outputs.of(
            self.outputs, self.picture, labels,
            family=self.family, ordered=self.ordered, tensorflow=self.tensorflow, y_first=self.y_first, **self.said,
        )  # fmt: skip


def named(question: Question, labels: Sequence[str]) -> tuple[Sequence[str], Head]:
    """The labels and the family; a first or last label that names the background is none where the outputs fit so.

    Raises: ModelRefused.
    """
    if _is_background(labels[0]) and recognise(question.of(labels[1:])):
        head = _family(question.of(labels[1:]), replace(question, numbered_from=1))
        # Where nothing else is said, the user's line is the number: RT-DETR's column more is the first, lists skip 0.
        counted = head.family == "rtdetr" and head.ids == tuple(range(len(labels) - 1))
        if counted or (head.family in ("end2end", "nms") and not head.ids):
            head = msgspec.structs.replace(head, ids=tuple(range(1, len(labels))))
        return labels[1:], head
    if len(labels) > 1 and _is_background(labels[-1]):
        found = recognise(question.of(labels[:-1]))
        if found and all(head.family in WITH_BACKGROUND_LAST for head in found):
            head = _family(question.of(labels[:-1]), question)
            first_is_none = head.family == "dense" and head.ids == tuple(range(1, len(labels)))
            ids = tuple(range(len(labels) - 1))
            return labels[:-1], msgspec.structs.replace(head, ids=ids) if first_is_none else head
    return labels, _family(question.of(labels), question)


def _is_background(label: str) -> bool:
    return re.sub("[ _]+", "-", label.strip("_ ").lower()) in BACKGROUND


def _family(outputs: Outputs, question: Question) -> Head:
    """The one family that the outputs fit, of the one that was asked for; and the outputs of it."""
    found, name, choose = recognise(outputs), question.name, question.choose
    for number, other in ((0, "ssd"), (1, "nms")):  # the family that counts from another number
        if (
            question.numbered_from == number
            and not outputs.family
            and {"ssd", "nms"} <= {each.family for each in found}
        ):
            found = [head for head in found if head.family != other]
    if not found:
        raise ModelRefused(f"reading the outputs of {name}: {_unfit(outputs)}; {NOTHING_ADDED}")
    first = {head.family: head for head in reversed(found)}
    families = [first[family] for family in FAMILIES if family in first]
    if len(families) > 1 and choose is not None:
        family = choose(families).family
        found = [head for head in found if head.family == family]
    elif len(families) > 1:
        fitting = "; ".join(f"--family {head.family} ({FAMILIES[head.family].outputs})" for head in families)
        raise ModelRefused(
            f"reading the outputs of {name}: {_shapes(outputs)} fit several families: say which: {fitting}; "
            f"{NOTHING_ADDED}"
        )
    if len(found) == 1:
        return found[0]
    if choose is not None:
        return choose(found)
    family = found[0].family
    ways = [f"--outputs {','.join(head.tensors)}" for head in found[:MOST_NAMED]] + ["…"] * (len(found) > MOST_NAMED)
    export = "" if len(found[0].tensors) > 1 else ", or export the network with all boxes in one output"
    raise ModelRefused(
        f"reading the outputs of {name}: {_shapes(outputs)}: several fit {family}, {FAMILIES[family].outputs}: say "
        f"which: {' or '.join(ways)}{export}; {NOTHING_ADDED}"
    )


def _shapes(outputs: Outputs) -> str:
    shapes = ", ".join(f"{list(each.array.shape)}" for each in outputs.tensors)
    return f"{shapes} for {PICTURES} pictures"


def _unfit(outputs: Outputs) -> str:
    """What was expected of outputs that fit no family, or not the one that was asked for."""
    if not outputs.family:
        return (
            f"expected those of {', '.join(FAMILIES)} with {outputs.labels} labels, got {_shapes(outputs)}: "
            f"{explain(outputs)}"
        )
    others = dict.fromkeys(head.family for head in recognise(replace(outputs, family="")))
    alike = f"they look like {' or '.join(others)}" if others else look(outputs)
    return (
        f"expected those of {outputs.family}, {FAMILIES[outputs.family].outputs}, with {outputs.labels} labels, got "
        f"{_shapes(outputs)}{alike and f'; {alike}'}"
    )
