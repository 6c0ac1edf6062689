"""The vision pipeline with its state, changelog and commits; `--vision` is what its settings say, as JSON.

With `--untracked` it says what is in each frame and nothing else: no tracks, no events, no state.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.contract import Options, report
from benchmarks.contenders.product import measure
from streams import settings
from streams.pipeline import Rows
from streams.pipelines.vision.camera import Frame, Seen
from streams.pipelines.vision.frames import Frames
from streams.pipelines.vision.pipeline import VisionPipeline
from streams.pipelines.vision.served import Seeing


class Untracked(VisionPipeline):
    """The pipeline without what follows the detector."""

    def new_store(self) -> Any:
        return None

    def conclude(
        self, columns: Frames, rows: Rows, predictions: NDArray[np.float32], store: Any, served: Seeing
    ) -> None:
        super().conclude(columns, rows, predictions, _Nobody(), served)


class _Nobody:
    """In the place of the cameras' state."""

    def apply(self, frames: Sequence[Frame], *_: object) -> list[Seen]:
        counts = [len(frame.boxes) for frame in frames]
        return [Seen(np.full(count, -1), [[] for _ in range(count)], [], "next", False) for count in counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "input", "output", "root", "vision"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--untracked", action="store_true")
    given = parser.parse_args()
    options = Options(given.bootstrap, given.input, given.output, Path(given.root), given.count)
    own = {"input": options.input, "output": options.output, "events": f"{options.output}.events"}
    configured = settings.load(
        overrides={
            "kafka": {"bootstrap_servers": options.bootstrap},
            "worker": {"group": options.group, "http_port": 0},
            "models": {"root": given.root, "control": f"{options.output}.models"},
            "vision": own | {"freshness": "every"} | json.loads(given.vision),
        }
    )
    pipeline = (Untracked if given.untracked else VisionPipeline)(configured.vision, configured.models)
    report(measure(options, configured, pipeline))


if __name__ == "__main__":
    main()
