"""How long an engine takes for a batch, measured, and kept beside the repository for who asks again."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from models import files
from models.engine import Engine, ModelCorrupt
from models.golden import GoldenBatch

ROWS = (1, 64, 1024)
BUDGET_S = 0.02  # for each number of rows; at least MIN_RUNS of them
MIN_RUNS, MAX_RUNS = 3, 200
MAX_BATCH_BYTES, MAX_RUN_S = 64 * 1024 * 1024, 1.0
MAX_FILE_BYTES = 65536
FOLDER = Path(".cache") / "timings"


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The median of a batch in seconds, by its rows; of one network on one engine and machine.

    `engine` is what the engine called itself while it served: `tensorrt-fp16`, not `tensorrt`.
    """

    sha256: str
    engine: str
    machine: str
    seconds: dict[int, float]


def measure(engine: Engine, sha256: str, golden: GoldenBatch) -> Timing:
    """Run rows of the golden batch, over and over, in batches of `ROWS`; takes some tens of milliseconds.

    Batches that would be too large or too slow to try are left out.

    Raises: InferenceFailed.
    """
    seconds: dict[int, float] = {}
    row_bytes = sum(array[:1].nbytes for array in golden.inputs.values())
    for rows in ROWS:
        guess_s = max((rows / fewer * taken for fewer, taken in seconds.items()), default=0.0)
        if rows * row_bytes > MAX_BATCH_BYTES or guess_s > MAX_RUN_S:
            break
        batch = {name: array[np.arange(rows) % len(array)] for name, array in golden.inputs.items()}
        engine.infer(batch)
        runs: list[float] = []
        while len(runs) < MIN_RUNS or (sum(runs) < BUDGET_S and len(runs) < MAX_RUNS):
            start = time.perf_counter()
            engine.infer(batch)
            runs.append(time.perf_counter() - start)
        seconds[rows] = median(runs)
    return Timing(sha256, engine.name, machine(), seconds)


def machine() -> str:
    """What times are comparable on: this computer, its processor, and how many of its cores are ours."""
    return f"{platform.node()}, {_processor()}, {len(os.sched_getaffinity(0))} cores"


class Timings:
    """Times that were measured before, as small files below a repository's root.

    A file that is not as expected counts as none: it is measured again. Two processes may write at once.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    def get(self, sha256: str, engine: str) -> Timing | None:
        """What was measured of this network on this engine and machine; `engine` as in a `Timing`."""
        here = machine()
        try:
            text = files.read(self._path(sha256, engine, here), MAX_FILE_BYTES)
            timing = msgspec.json.decode(text, type=Timing)
        except (ModelCorrupt, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return timing if (timing.sha256, timing.engine, timing.machine) == (sha256, engine, here) else None

    def put(self, timing: Timing) -> None:
        """Keep it, in place of an older one. Raises: OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(timing.sha256, timing.engine, timing.machine)
        files.write_atomically(path, msgspec.json.encode(timing), private=True)

    def _path(self, sha256: str, engine: str, where: str) -> Path:
        key = hashlib.sha256(f"{sha256} {engine} {where}".encode()).hexdigest()
        return self._folder / f"{key}.json"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
