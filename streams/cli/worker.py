"""`headrace worker`: one worker process of a pipeline."""

from __future__ import annotations

from typing import Any

import click

from streams import settings
from streams.cli.interrupts import end_at_once
from streams.cli.logs import configure_logging
from streams.pipelines import PIPELINES


@click.command()
@click.argument("pipeline", type=click.Choice(list(PIPELINES)))
@click.option("--group", help="Consumer group; workers of one group share the partitions.  [headrace-<pipeline>]")
@click.option(
    "--slot", help="A name that is stable over restarts, one per worker: a restart then keeps its partitions."
)
@click.option(
    "--guarantee",
    type=click.Choice(["at_least_once", "exactly_once"]),
    help="What a kill may repeat: what was in flight, or nothing, for 0.1 s of latency.  [at_least_once]",
)
@click.option("--http-port", type=int, help="Where /metrics and /health are served; 0 picks a free port.  [8080]")
@click.option("--max-batch-size", type=int, help="Most records computed at once.  [16384; vision 16]")
@click.option("--max-queue-delay", type=float, help="Seconds a batch that is not full may wait.  [0]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def worker(
    pipeline: str,
    group: str | None,
    slot: str | None,
    guarantee: str | None,
    http_port: int | None,
    max_batch_size: int | None,
    max_queue_delay: float | None,
    log_level: str,
) -> None:
    """Run a worker of PIPELINE until Ctrl-C or SIGTERM.

    fraud scores transactions; labels joins what they turn out to be with these scores, so run fraud first. vision
    finds and follows objects in video frames, or classifies them, as its model does.

    Start more of them, here or on other machines, to share the input topic's partitions. A worker ends with exit
    code 0 after a signal, and non-zero when going on would be wrong; what is uncommitted then is read again.

    \b
    Examples:
      headrace worker fraud
      headrace worker fraud --slot 1 --http-port 8081
      headrace worker fraud --guarantee exactly_once
      headrace worker labels --http-port 8082
      headrace worker vision --http-port 8083
    """
    end_at_once()  # until its event loop runs, which takes SIGINT and SIGTERM in order
    from streams.process import run_worker  # numba and ONNX Runtime load here, not for `--help`

    configure_logging(log_level)
    overrides: dict[str, dict[str, Any]] = {
        "worker": {
            "group": group,
            "slot": slot,
            "processing_guarantee": guarantee,
            "http_port": http_port,
        },
        PIPELINES[pipeline].batches: {"max_batch_size": max_batch_size, "max_queue_delay_s": max_queue_delay},
    }
    run_worker(settings.load(overrides=overrides), pipeline)
