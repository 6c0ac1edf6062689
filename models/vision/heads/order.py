"""Which of two outputs of one shape holds the class scores, and which the boxes or the distances to their sides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.outputs import Tensor, are_corners, are_shares

Places = Literal["boxes", "distances"]
Pair = tuple[Tensor, Tensor]

SCORES_NAME = re.compile("score|logit|cls|class|conf|prob")
PLACES_NAME = re.compile("box|reg|loc|dist|dfl|coord|delta")
FEW_NEGATIVE = 0.2  # boxes leave the picture here and there
MOST_NEGATIVE = {"boxes": 0.5, "distances": 0.9}  # of logits of classes, which nearly all say no


def settled(pairs: Sequence[Pair], places: Places, said: Sequence[str] = ()) -> list[Pair]:
    """The pairs of scores and places, without those that are the wrong way round.

    Of a pair that is there both ways round, what the numbers speak for stays; where they do not tell, what the names
    speak for; where neither does, both stay.

    Args:
        said: names in an order that decides alone.
    """
    return [pair for pair in pairs if _turned(pair) not in pairs or not _wrong(pair, places, said)]


def _turned(pair: Pair) -> Pair:
    return pair[1], pair[0]


def _wrong(pair: Pair, places: Places, said: Sequence[str]) -> bool:
    if said:
        return said.index(pair[0].name) > said.index(pair[1].name)
    fits, turned_fits = (_by_values(*each, places) for each in (pair, _turned(pair)))
    if fits == turned_fits:
        fits, turned_fits = (_by_names(*each) for each in (pair, _turned(pair)))
    return turned_fits and not fits


def _by_values(scores: Tensor, others: Tensor, places: Places) -> bool:
    """Whether the numbers may be what the order says."""
    array = scores.array
    may_be_scores = are_shares(array) or _negative(array) > MOST_NEGATIVE[places]
    if places == "distances":
        return may_be_scores and not are_shares(others.array)
    sums_of_one = bool(others.array.size and np.abs(others.array.sum(axis=-1) - 1).max() < 0.01)
    corners = are_corners(array) and not are_corners(others.array)
    return may_be_scores and not corners and not sums_of_one and _negative(others.array) < FEW_NEGATIVE


def _by_names(scores: Tensor, others: Tensor) -> bool:
    first, second = scores.name.lower(), others.name.lower()
    told = SCORES_NAME.search(first) or PLACES_NAME.search(second)
    return bool(told and not PLACES_NAME.search(first) and not SCORES_NAME.search(second))


def _negative(array: NDArray[Any]) -> float:
    """The share of numbers below 0."""
    return float((array < 0).mean()) if array.size else 0.0
