"""The real fraud pipeline with its state, changelog and commits; `--guarantee` chooses how it commits."""

from __future__ import annotations

from benchmarks.contenders.contract import report
from benchmarks.contenders.product import measure, parse_product_options
from streams.pipelines.fraud.pipeline import FraudPipeline

if __name__ == "__main__":
    _options, _settings = parse_product_options(__doc__)
    report(measure(_options, _settings, FraudPipeline(_settings.fraud)))
