"""Which output of a classifier is read, and what is said where none or several are."""

from __future__ import annotations

import numpy as np
import pytest

from models.engine import ModelRefused
from models.vision.classes import classes
from tests.models.vision import plain

LOGITS = np.random.default_rng(4).normal(0, 3, (2, 5)).astype(np.float32)
SOFT = np.array([plain.softmax(row) for row in LOGITS.tolist()], np.float32)
EACH = np.array([[plain.sigmoid(number) for number in row] for row in LOGITS.tolist()], np.float32)


@pytest.mark.parametrize("probabilities", [SOFT, EACH])
def test_probabilities_come_before_the_logits_that_they_are_made_of(probabilities: np.ndarray) -> None:
    for outputs in (
        {"logits": LOGITS, "probabilities": probabilities},
        {"probabilities": probabilities, "logits": LOGITS},
    ):
        head = classes(outputs, "mine.onnx", 5)
        assert (head.tensors, head.activation) == (("probabilities",), "none")
    assert classes({"one": LOGITS, "other": LOGITS}, "mine.onnx", 5).tensors == ("one",)
    said = classes({"logits": LOGITS, "probabilities": probabilities}, "mine.onnx", 5, ordered=True)
    assert (said.tensors, said.activation) == (("logits",), "softmax")


def test_outputs_that_say_different_things_are_a_question() -> None:
    both = {"aux": LOGITS[:, ::-1], "main": LOGITS}
    with pytest.raises(ModelRefused, match="say different things: say which: --outputs aux or --outputs main; nothing"):
        classes(both, "mine.onnx", 5)
    assert classes({"main": both["main"]}, "mine.onnx", 5, ordered=True).tensors == ("main",)


@pytest.mark.parametrize(
    ("shape", "labels", "sentence"),
    [
        ((2, 1), 2, r"got \[2, 1\] for 2 pictures: a lone score is that of one label: --labels must name only what"),
        (
            (2, 84, 8400),
            80,
            r"got \[2, 84, 8400\] for 2 pictures: scores of many places .* with --task detect; n",
        ),
        ((2, 7), 5, r"expected \[n, 5\], a score for each label, got \[2, 7\] for 2 pictures; nothing"),
    ],
)
def test_what_does_not_fit_is_told_why(shape: tuple[int, ...], labels: int, sentence: str) -> None:
    with pytest.raises(ModelRefused, match=sentence):
        classes({"out": np.zeros(shape, np.float32)}, "mine.onnx", labels)
