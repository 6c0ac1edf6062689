"""The vision pipeline as a worker starts it."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest

from models.engine import InferenceFailed
from streams.pipelines.vision.pipeline import VisionPipeline
from streams.settings import Vision


@pytest.fixture
def _threads_of_opencv() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("_threads_of_opencv")
def test_opencv_takes_no_threads_of_its_own() -> None:
    pipeline = VisionPipeline(Vision(threads=2))
    assert cv2.getNumThreads() == 2
    pipeline.warm_up()
    pipeline.close()
    assert cv2.getNumThreads() == 1


def test_a_network_that_refuses_a_blank_picture_can_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = VisionPipeline(Vision(threads=1))

    def refuse(_: object) -> None:
        raise InferenceFailed("blank")

    monkeypatch.setattr(pipeline.served, "infer", refuse)
    pipeline.warm_up()
    pipeline.close()
