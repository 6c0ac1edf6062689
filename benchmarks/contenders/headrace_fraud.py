"""The real fraud pipeline with its state, changelog and commits."""

from __future__ import annotations

from benchmarks.contenders.contract import parse_options, report
from benchmarks.contenders.product import measure, product_settings
from streams.pipelines.fraud import FraudPipeline

if __name__ == "__main__":
    _options = parse_options(__doc__)
    _settings = product_settings(_options)
    report(measure(_options, _settings, FraudPipeline(_settings.fraud)))
