"""Vision without Kafka: `python -m benchmarks.vision_bare FRAMES ROOT MODEL THREADS`, a ceiling for the worker.

Decode, fit into the network's input, `session.run`, read the head, suppress: a plain loop over JPEGs in memory, with
the same parts of `models.vision`, as many threads and as large a batch as the worker has. It reads one JSON request a
line from stdin, answers with one JSON line, and ends when stdin does.

Threads of the session do not spin while they wait, as in the product: on few cores that is the faster of the two.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.contenders.contract import Meter
from benchmarks.frames import Frames
from benchmarks.speeds import Run
from models.repository import ZOO, Model, Repository
from models.vision.detector import Detector
from models.vision.pictures import decode
from models.vision.preprocess import Preprocess

WARM_UP = 3  # batches


class Eye:
    """A network with what is before and behind it; any number of threads.

    Args:
        threads: of the session.
    """

    def __init__(self, model: Model, threads: int) -> None:
        self.preprocess, self._detector = Preprocess(model.manifest), Detector(model.manifest)
        self.labels = self._detector.labels
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model.onnx_bytes(), options, providers=["CPUExecutionProvider"])
        self._outputs = [entry.name for entry in model.manifest.outputs]

    def fit(self, jpeg: bytes, row: NDArray[Any], placement: NDArray[np.float32], size: NDArray[np.int32]) -> None:
        """Put a picture into a row of the network's input; where it lies in it; its width and height."""
        preprocess = self.preprocess
        picture = decode(jpeg, at_least=(preprocess.picture.width, preprocess.picture.height))
        placement[:] = preprocess.one(picture.pixels, row)
        placement[:2] /= picture.factor
        size[:] = picture.width, picture.height

    def see(
        self, tensor: NDArray[Any], placements: NDArray[np.float32], sizes: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """The objects of each picture, as `Detector.decode` returns them."""
        found = self._session.run(self._outputs, {self.preprocess.name: tensor})
        return self._detector.decode(dict(zip(self._outputs, found, strict=True)), placements, sizes)


class BareLoop:
    """The loop: what it is fed, and the network that it runs."""

    def __init__(self, frames: Frames, model: Model, threads: int) -> None:
        self._frames, self._threads, self._eye = frames, ThreadPoolExecutor(threads), Eye(model, threads)

    def run(self, count: int, batch: int) -> Run:
        """Detect what `count` frames show, so many in a batch."""
        for _ in range(WARM_UP):
            self._detect(range(batch))
        meter, taken_s = Meter(), []
        meter.begin()
        for start in range(0, count, batch):
            began_s = time.perf_counter()
            self._detect(range(start, min(start + batch, count)))
            taken_s.append(time.perf_counter() - began_s)
        return Run.of(meter.end(count), taken_s)

    def _detect(self, indices: range) -> NDArray[np.float32]:
        eye, count = self._eye, len(indices)
        tensor = eye.preprocess.batch(count)
        placements, sizes = np.empty((count, 4), np.float32), np.empty((count, 2), np.int32)

        def fit(place: int) -> None:
            eye.fit(self._frames.jpeg(indices[place]), tensor[place], placements[place], sizes[place])

        list(self._threads.map(fit, range(count)))
        return eye.see(tensor, placements, sizes)


def main() -> None:
    frames, root, name, threads = sys.argv[1:]
    loop = BareLoop(Frames.load(Path(frames)), Repository([Path(root), ZOO]).load(name), int(threads))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asdict(loop.run(**json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
