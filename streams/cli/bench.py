"""`headrace bench`: hand over to the benchmarks of the checkout, which are no part of the installed package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

CHECKOUT = Path(__file__).parents[2]
NEEDED = ("confluent_kafka", "quixstreams", "bytewax", "orjson", "psutil", "onnx")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [OPTIONS]...")
def bench(arguments: tuple[str, ...]) -> None:
    """Measure Headrace beside what you would use instead: same work, same broker, same run.

    Everything behind `bench` goes to the benchmarks in the checkout; `headrace bench throughput --help` explains one.

    \b
    Examples:
      headrace bench throughput --quick
      headrace bench latency --json
    """
    from streams.errors import HeadraceError

    if not (CHECKOUT / "benchmarks" / "__main__.py").is_file():
        raise HeadraceError(
            f"starting the benchmarks: {str(CHECKOUT)!r} has no folder `benchmarks`; they come with the source: "
            "run `./headrace bench` in a checkout of it"
        )
    if missing := list(_missing()):
        raise HeadraceError(
            f"starting the benchmarks: {', '.join(missing)} is not installed; run `./headrace bench`, which "
            "installs the extra, or `pip install 'headrace[bench]'`"
        )
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    sys.stdout.flush()
    # In place of this process: signals and the exit code are the benchmarks' own.
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *arguments], os.environ | {"PYTHONPATH": path})


def _missing() -> Iterator[str]:
    return (name for name in NEEDED if find_spec(name) is None)
