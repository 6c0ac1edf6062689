"""The vision pipeline with its state, changelog and commits; `--vision` is what its settings say, as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.contenders.contract import Options, report
from benchmarks.contenders.product import measure
from streams import settings
from streams.pipelines import PIPELINES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "input", "output", "root", "vision"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, required=True)
    given = parser.parse_args()
    options = Options(given.bootstrap, given.input, given.output, Path(given.root), given.count)
    configured = settings.load(
        overrides={
            "kafka": {"bootstrap_servers": options.bootstrap},
            "worker": {"group": options.group, "http_port": 0},
            "models": {"root": given.root, "control": f"{options.output}.models"},
            "vision": {
                "input": options.input,
                "output": options.output,
                "events": f"{options.output}.events",
                "freshness": "every",
                **json.loads(given.vision),
            },
        }
    )
    report(measure(options, configured, PIPELINES["vision"].build(configured)))


if __name__ == "__main__":
    main()
