"""Which output of a classifier has its scores, and what makes probabilities of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.adding import Arrays
from models.engine import ModelRefused
from models.inspection import NOTHING_ADDED
from models.vision.foreign import PICTURES
from models.vision.heads.candidates import sigmoid, softmax
from models.vision.heads.outputs import are_shares
from models.vision.specs import Activation, Head

ALIKE = 1e-3  # how far scores may be from others that say the same


def classes(outputs: Arrays, name: str, labels: int, ordered: bool = False) -> Head:
    """The output with a column for each label, or one more, the first, for none of them.

    Numbers from 0 to 1 are probabilities already; of others, one alone is taken for a sigmoid's, several for a
    softmax's. Probabilities beside the logits that they were made of come before these.

    Args:
        name: what to call the network in errors.
        ordered: whether the user named the outputs, of which the first that fits then counts.

    Raises: ModelRefused where none fits, or several do that say different things.
    """
    flat = {key: each.reshape(len(each), -1) for key, each in outputs.items() if each.dtype.kind == "f" and each.size}
    for more in (0, 1):
        fitting = {
            key: scores for key, scores in flat.items()
            if scores.shape[1] == labels + more == max(outputs[key].shape[1:], default=1)
        }  # fmt: skip
        if not fitting:
            continue
        key = min(fitting, key=lambda each: not ordered and not are_shares(fitting[each]))
        scores = fitting[key]
        if not ordered and not all(_alike(scores, each) for each in fitting.values()):
            ways = " or ".join(f"--outputs {each}" for each in fitting)
            raise ModelRefused(
                f"reading the outputs of {name}: several have a score for each label, and say different things: say "
                f"which: {ways}; {NOTHING_ADDED}"
            )
        ids = tuple(range(1, labels + 1)) if more else ()
        logits: Activation = "sigmoid" if scores.shape[1] == 1 else "softmax"
        return Head("classify", (key,), ids, "none" if are_shares(scores) else logits)
    shapes = ", ".join(str(list(each.shape)) for each in outputs.values())
    raise ModelRefused(
        f"reading the outputs of {name}: expected [n, {labels}], a score for each label, got {shapes} for {PICTURES} "
        f"pictures{_hint(outputs, flat, labels)}; {NOTHING_ADDED}"
    )


def _alike(scores: NDArray[Any], others: NDArray[Any]) -> bool:
    """Whether scores are others, or what a softmax or a sigmoid makes of them."""
    made = (others, softmax(others), sigmoid(others))
    return any(np.allclose(scores, each, rtol=ALIKE, atol=ALIKE) for each in made)


def _hint(outputs: Arrays, flat: Arrays, labels: int) -> str:
    if labels == 2 and any(scores.shape[1] == 1 for scores in flat.values()):
        return ": a lone score is that of one label: --labels must name only what it is the score of"
    if any(sum(axis > 1 for axis in each.shape[1:]) > 1 for each in outputs.values()):
        return ": scores of many places are no classifier's; a detector is added with --task detect"
    return ""
