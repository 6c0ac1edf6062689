"""The domains, listed explicitly: pipeline name -> what builds it from the settings.

A new domain is one file beside this one, one folder in `models/`, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streams.pipelines.fraud import FraudPipeline
from streams.settings import Settings

PIPELINES: Mapping[str, Callable[[Settings], Any]] = {
    "fraud": lambda settings: FraudPipeline(settings.fraud),
}
