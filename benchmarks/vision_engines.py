"""The vision network by itself: `python -m benchmarks.vision_engines ROOT MODEL SECONDS THREADS`.

Prints one JSON line: engine -> batch -> fps, cpu_ms (a frame), fps_per_core; or engine -> why it does not run here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.contenders.contract import Measurement, Meter
from models.engine import Engine, ModelError
from models.repository import ZOO, Model, Repository
from models.selection import EngineOptions, open_by_name
from models.vision.preprocess import row_shape

CPU = "onnx-cpu"
GPU = ("tensorrt", "onnx-cuda", "torch-cuda")
BATCHES = (1, 4, 16)
GPU_BATCHES = (1, 4, 16, 64)

Found = dict[str, dict[str, dict[str, float]] | str]


def measured(model: Model, seconds: float, threads: int) -> Found:
    """Each engine at each batch for about so long; what does not run here says why."""
    options = EngineOptions(threads=threads, max_batch_size=max(GPU_BATCHES), build=True)
    found: Found = {}
    for name in (CPU, *GPU):
        try:
            engine = open_by_name(model, name, options)
        except ModelError as error:
            found[name] = str(error)
            continue
        batches = BATCHES if name == CPU else GPU_BATCHES
        found[name] = {str(batch): _fields(_alone(engine, model, seconds, batch)) for batch in batches}
        engine.close()
    return found


def _alone(engine: Engine, model: Model, seconds: float, batch: int) -> Measurement:
    picture, entry = model.manifest.picture, model.manifest.inputs[0]
    if picture is None:
        raise ValueError(f"measuring {model.reference}: expected a network of pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (batch, *row_shape(picture)))
    tensors = {entry.name: (pixels * picture.scale).astype(entry.dtype)}
    engine.infer(tensors)
    runs, meter, limit_s = 0, Meter(), time.monotonic() + seconds
    meter.begin()
    while not runs or time.monotonic() < limit_s:
        engine.infer(tensors)
        runs += 1
    return meter.end(runs * batch)


def _fields(measured: Measurement) -> dict[str, float]:
    return {
        "fps": round(measured.events_per_s, 1),
        "cpu_ms": round(measured.cpu_us / 1000, 3),
        "fps_per_core": round(1e6 / measured.cpu_us, 1),
    }


def main() -> None:
    root, name, seconds, threads = sys.argv[1:]
    model = Repository([Path(root), ZOO]).load(name)
    sys.stdout.write(json.dumps(measured(model, float(seconds), int(threads))) + "\n")


if __name__ == "__main__":
    main()
