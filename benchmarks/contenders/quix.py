"""Quix Streams as its documentation writes it: a StreamingDataFrame, a function an event, its own JSON and commits."""

from __future__ import annotations

import tempfile
from typing import Any

from quixstreams import Application

from benchmarks.contenders.contract import Meter, Options, parse_options, report
from benchmarks.work import Scorer


def _run(options: Options, state_dir: str) -> None:
    scorer, meter = Scorer(options.model), Meter()
    application = Application(
        broker_address=options.bootstrap,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        loglevel="ERROR",
        state_dir=state_dir,
        auto_create_topics=False,
    )
    source = application.topic(options.input, value_deserializer="json")
    sink = application.topic(options.output, value_serializer="json")

    def score(event: dict[str, Any]) -> dict[str, Any]:
        meter.begin()
        return scorer.predictions([event])[0]

    application.dataframe(source).apply(score).to_topic(sink)
    application.run(count=options.count, collect=False)  # its last act is a checkpoint: flush, then commit
    report(meter.end(options.count))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        _run(parse_options(__doc__), folder)
