"""Pictures of simulated sites with what is in them, for training and judging a detector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from connectors.jpeg import encode_jpeg
from connectors.simulators.camera import Frame, Site
from models.vision.scenes import Scene

CAMERAS, FRAMES_PER_CAMERA = 3, 4
PAUSE_S = 5.0  # so long that the next frame of a camera shows something else
QUALITIES = (45, 96)

SITES_PER_SEED = 1_000_000
"""Training with seed s learns from the sites (s + 1) * this and on: those of the demo, below it, stay unseen."""

FIRST_UNSEEN = 2**31
"""From this seed on, sites are for judging alone."""


def simulated_scenes(frames: int, first_site: int) -> Iterator[Scene]:
    """So many frames of sites with consecutive seeds from `first_site` on, a dozen of each, as JPEG leaves them."""
    made = 0
    for seed in range(first_site, first_site + -(-frames // (CAMERAS * FRAMES_PER_CAMERA))):
        rng = np.random.default_rng([seed, 9])
        site = Site(seed, cameras=CAMERAS, fps=1 / PAUSE_S)
        for number in range(CAMERAS):
            for frame in site.camera(number):
                if frame.frame == FRAMES_PER_CAMERA or made == frames:
                    break
                yield _scene(frame, int(rng.integers(*QUALITIES)))
                made += 1


def _scene(frame: Frame, quality: int) -> Scene:
    import cv2

    picture = cv2.imdecode(np.frombuffer(encode_jpeg(frame.picture, quality), np.uint8), cv2.IMREAD_COLOR)
    boxes = np.array([truth.box for truth in frame.truth], np.float32).reshape(-1, 4)
    return Scene(np.asarray(picture, np.uint8), boxes, np.array([truth.index for truth in frame.truth], np.int64))
