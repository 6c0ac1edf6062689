"""The versions of a pipeline's model: the one that its settings choose, and those that rollouts ask for."""

from __future__ import annotations

from models.engine import ModelCorrupt
from models.repository import Model, Repository
from streams.errors import SettingsError


class Versions:
    """Loads from one repository; any thread may.

    Args:
        section: of the settings, for errors.
        model: its name.
        version: the one that the settings fix, or None.
    """

    def __init__(self, repository: Repository, section: str, model: str, version: int | None) -> None:
        self._repository, self._section, self.model, self._version = repository, section, model, version

    def first(self) -> Model:
        """What serves before any rollout. Raises: ModelError."""
        return self._repository.load(self.model, self._version)

    def asked(self, version: int, sha256: str) -> Model:
        """What a rollout asks for.

        Raises:
            ModelError: it is not there, or not the one that was promoted.
            SettingsError: the settings fix another.
        """
        if self._version is not None:
            raise SettingsError(
                f"this worker's settings fix {self._section}.version = {self._version}: take it out to follow rollouts"
            )
        loaded = self._repository.load(self.model, version)
        if loaded.manifest.sha256 != sha256:
            raise ModelCorrupt(
                f"loading {loaded.reference} from {self._repository}: expected sha256 {sha256} as the rollout says, "
                f"got {loaded.manifest.sha256}; copy the folder that was promoted to this worker's repository"
            )
        return loaded
