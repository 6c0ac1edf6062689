"""Whether a version is what it says it is, on every engine that may serve it here."""

from __future__ import annotations

from dataclasses import dataclass

from models import repository
from models.engine import ModelError
from models.repository import Model, Repository
from models.selection import ORDER, available
from models.timings import Timing, measure


@dataclass(frozen=True, slots=True)
class Verdict:
    """One version on one engine; `engine` is empty where no engine was reached, `why` where all is well."""

    reference: str
    engine: str
    why: str = ""
    timing: Timing | None = None

    @property
    def ok(self) -> bool:
        return not self.why


def verify(models: Repository, name: str, version: int) -> list[Verdict]:
    """Check a version's files, and on each engine its tensors and its golden batch; measure the engine's times."""
    try:
        model = models.load(name, version)
        model.sample()
    except ModelError as error:
        return [Verdict(f"{name}/{version}", "", str(error))]
    here = [each.name for each in available() if each.reason is None]
    return [_on(model, engine) for engine in ORDER if engine in here]


def _on(model: Model, engine: str) -> Verdict:
    try:
        opened = repository.open_engine(model, engine)
        try:
            timing = measure(opened, model.manifest.sha256, model.golden())
        finally:
            opened.close()
    except ModelError as error:
        return Verdict(model.reference, engine, str(error))
    return Verdict(model.reference, engine, timing=timing)
