"""What every served version that holds an engine has in common."""

from __future__ import annotations

from models.falling import Fall, open_falling
from models.repository import Model
from models.selection import EngineOptions
from streams.engine_reason import EngineReason


class Engined:
    """The part of `streams.pipeline.Opened` that is about the engine.

    Args:
        engine: by name, or `auto`.

    Attributes:
        model: its reference, e.g. `fraud/2`.
        passed: better engines that do not serve here, and why.

    Raises:
        ModelError: no engine serves it.
    """

    def __init__(self, loaded: Model, engine: str, options: EngineOptions) -> None:
        self._loaded = loaded
        self.model = loaded.reference
        self._engine, self.passed = open_falling(loaded, engine, options)
        self._reason = EngineReason(self.passed)

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def engine_reason(self) -> str:
        return self._reason.after(self._engine.falls)

    @property
    def falls(self) -> tuple[Fall, ...]:
        """Engines that served before, and why they do not any more."""
        return self._engine.falls

    def check_model(self) -> None:
        self._loaded.golden().replay(self._engine, self._loaded.manifest.golden, self._loaded.reference)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()
