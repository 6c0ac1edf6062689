"""What tracks and events cost a frame: `python -m tests.streams.vision.cost`."""

from __future__ import annotations

import sys
import time

from streams.pipelines.vision.cameras import Cameras, Sites, warm_up
from streams.pipelines.vision.messages import detections
from tests.streams.vision.site import LABELS, SITE, film


def main() -> None:
    warm_up()
    for objects in (5, 8, 10, 30):
        frames = film("gate", objects, 1500, 1)
        batches = [frames[at : at + 8] for at in range(0, len(frames), 8)]
        cameras = Cameras(Sites(SITE))
        cameras.apply(film("warm", 3, 20, 2), LABELS, 0)
        spent = dict.fromkeys(("apply", "messages", "changes"), 0.0)
        events = size = 0
        for batch in batches:
            started = time.process_time()
            seen = cameras.apply(batch, LABELS, 0)
            applied = time.process_time()
            for frame, each in zip(batch, seen, strict=True):
                detections(frame, each, LABELS, "detector/1", 0.4, 0.0)
            told = time.process_time()
            _, (value, *_) = cameras.changes()
            spent["apply"] += applied - started
            spent["messages"] += told - applied
            spent["changes"] += time.process_time() - told
            events += sum(len(each.events) for each in seen)
            size += len(value or b"")
        costs = ", ".join(f"{what} {1e6 * seconds / len(frames):.0f} us" for what, seconds in spent.items())
        sys.stdout.write(
            f"{objects} objects: {costs} a frame in batches of 8; {events / len(frames):.2f} events a frame, "
            f"{size / len(batches):.0f} bytes of state\n"
        )


if __name__ == "__main__":
    main()
