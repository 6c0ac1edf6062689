"""The real fraud pipeline for latency: the same worker, until SIGTERM."""

from __future__ import annotations

from benchmarks.contenders.product import echo, parse_product_options
from streams.pipelines.fraud.pipeline import FraudPipeline

if __name__ == "__main__":
    _, _settings = parse_product_options(__doc__)
    echo(_settings, FraudPipeline(_settings.fraud))
