"""One engine out of several: when the device that serves is lost or exhausted, the next one takes over."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from models import selection
from models.engine import Engine, EngineUnavailable, ModelError, TensorSpec, first_line
from models.engines.device import DeviceFault, device_fault
from models.selection import AUTO, ORDER, EngineOptions

if TYPE_CHECKING:
    from models.repository import Model

log = logging.getLogger(__name__)

OPENING_LIMIT_S = 3.0  # what an engine that is not yet open may take of the 5 s in which the next one must serve
ON_THE_CPU = ORDER[-1]

Open = Callable[[], Engine]


@dataclass(frozen=True, slots=True)
class Fall:
    """One move from an engine to the next: `reason` is the device's error, `seconds` until the next was ready."""

    engine: str
    to: str
    reason: str
    seconds: float


class FallingEngine:
    """Serves on one engine, and on the next one from the batch on in which its device fails.

    The batch that failed is run again on the next engine, so that none is lost. A lost device is lost to every runtime
    of this process, so that all engines but the one on the CPU are passed over; with exhausted memory, the next one is
    opened after the failed one has given its memory back. An error that is the batch's own is raised as it is. There
    is no way back up: a process that starts again begins with the best engine.

    Thread rule as for every Engine. Of calls that fail at once, one makes the move, and the others follow it; `on_fall`
    is called on that one's thread.

    Args:
        current: what serves now, open.
        below: names of the engines to fall to, best first, and what opens each.
        ready: the last resort, open already; closed with this engine.
        on_fall: told of each move.
    """

    def __init__(
        self,
        current: Engine,
        below: Sequence[tuple[str, Open]] = (),
        ready: Engine | None = None,
        on_fall: Callable[[Fall], None] | None = None,
    ) -> None:
        self._current = current
        self._below = list(below)
        self._ready = ready
        self._on_fall = on_fall
        self._moving = threading.Lock()
        self.falls: tuple[Fall, ...] = ()

    @property
    def name(self) -> str:
        """The engine that serves now."""
        return self._current.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._current.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._current.outputs

    def load(self, model: Model) -> None:
        """Load another network into what serves now; the engines below would still open the old one.

        Raises: EngineUnavailable where there are engines below; open another FallingEngine instead.
        """
        if self._below or self._ready:
            raise EngineUnavailable(
                f"loading {model.reference} into {self.name}: the engines below it are open for another network; "
                "nothing was loaded: open an engine for it"
            )
        self._current.load(model)

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        while True:
            current = self._current
            try:
                return current.infer(tensors)
            except ModelError as error:
                with self._moving:
                    if current is not self._current:  # which may be why this call has failed
                        continue
                    fault = device_fault(error)
                    if fault is None or not (self._below or self._ready):
                        raise
                    self._fall(fault, error)

    def close(self) -> None:
        self._below = []
        for each in filter(None, (self._current, self._ready)):
            each.close()
        self._ready = None

    def _fall(self, fault: DeviceFault, error: ModelError) -> None:
        """Put the next engine in place of the current one. Raises `error` where there is none."""
        began = time.monotonic()
        failed = self._current
        with contextlib.suppress(Exception):  # a lost device may refuse to be let go
            failed.close()
        following = self._next(fault, began)
        if following is None:
            raise error
        self._current = following
        fall = Fall(failed.name, following.name, f"{fault.value}: {first_line(error)}", time.monotonic() - began)
        self.falls += (fall,)
        log.error("engine %s gave way to %s in %.2f s: %s", fall.engine, fall.to, fall.seconds, fall.reason)
        if self._on_fall:
            self._on_fall(fall)

    def _next(self, fault: DeviceFault, began: float) -> Engine | None:
        while self._below:
            name, open_engine = self._below.pop(0)
            if fault is DeviceFault.LOST and name != ON_THE_CPU:
                log.warning("passing over engine %s: it would run on the device that is lost", name)
                continue
            left = OPENING_LIMIT_S - (time.monotonic() - began) if self._ready or self._below else None
            try:
                return _open_within(open_engine, left)
            except Exception as error:  # whatever keeps it from opening, the next one is asked
                log.warning("passing over engine %s: %s", name, first_line(error))
        ready, self._ready = self._ready, None
        return ready


def open_falling(
    model: Model,
    engine: str = AUTO,
    options: EngineOptions | None = None,
    on_fall: Callable[[Fall], None] | None = None,
) -> tuple[FallingEngine, tuple[selection.Passed, ...]]:
    """`selection.open_engine` whose engine falls to the next at run time; and why better ones were not taken.

    With `auto` the engine on the CPU is kept open below. An engine asked for by name has nothing below it.

    Raises: as selection.open_engine.
    """
    options = options or EngineOptions()
    selected = selection.open_engine(model, engine, options)
    taken = ORDER[len(selected.passed)] if engine == AUTO else ON_THE_CPU
    if taken == ON_THE_CPU:
        return FallingEngine(selected.engine, on_fall=on_fall), selected.passed
    below = [
        (name, lambda name=name: selection.open_by_name(model, name, options))
        for name in ORDER[ORDER.index(taken) + 1 : -1]
    ]
    try:
        ready = selection.open_by_name(model, ON_THE_CPU, options)
    except BaseException:
        selected.engine.close()
        raise
    return FallingEngine(selected.engine, below, ready, on_fall), selected.passed


def _open_within(open_engine: Open, limit_s: float | None) -> Engine:
    """Open an engine; one that takes longer than `limit_s` is closed when it is open at last, and EngineUnavailable."""
    if limit_s is None:
        return open_engine()
    found: list[Engine] = []
    failed: list[Exception] = []
    lock, late = threading.Lock(), False

    def work() -> None:
        try:
            engine = open_engine()
        except Exception as error:
            failed.append(error)
            return
        with lock:
            if not late:
                found.append(engine)
                return
        engine.close()

    thread = threading.Thread(target=work, name="opening-engine", daemon=True)
    thread.start()
    thread.join(max(limit_s, 0.0))
    with lock:
        late = True
    if failed:
        raise failed[0]
    if not found:
        raise EngineUnavailable(
            f"opening the next engine: it took longer than {limit_s:.1f} s; the one after it serves"
        )
    return found[0]
