"""Headrace for the latency benchmark: the same worker, until SIGTERM."""

from __future__ import annotations

from benchmarks.contenders.contract import parse_options
from benchmarks.contenders.headrace import SmallPipeline
from benchmarks.contenders.product import echo, product_settings

if __name__ == "__main__":
    _options = parse_options(__doc__)
    echo(product_settings(_options), SmallPipeline(_options))
