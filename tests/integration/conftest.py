from __future__ import annotations

from tests.processes import workers as workers
