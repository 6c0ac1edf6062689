"""Sources that have no end: they are connected again when they fail, and a slow reader gets the newest frames."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from connectors.video_frames import Counters, Footage, Shot, Thinning, VideoError, VideoFrame

logger = logging.getLogger(__name__)

HELD = 4  # frames that wait for their reader; more than that, and they are no longer the present


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: twice as long each time up to a limit, less a random part of up to half,
    so that many cameras behind one switch do not come back in step.

    References: Brooker, Exponential Backoff and Jitter (AWS Architecture Blog, 2015), "equal jitter".
    """

    first_s: float = 0.5
    longest_s: float = 30.0

    def delay_s(self, failures: int, chance: float) -> float:
        """After so many failures in a row; `chance` is uniform in [0, 1)."""
        whole = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return whole * (0.5 + chance / 2)


class LiveFrames:
    """Frames of a live source, read in a thread of its own so that they carry the moment they came.

    Iterating waits for the next one, and ends once it is closed. Up to HELD frames wait; then the oldest is shed and
    counted.

    Raises (iterating):
        VideoError: before the source was connected for the first time, it failed in a way that will not mend. Any
            other failure is logged, and the source is connected again.
    """

    def __init__(
        self,
        connect: Callable[[], Footage],
        fps: float,
        now_ms: Callable[[], int],
        counters: Counters,
        backoff: Backoff,
    ) -> None:
        self._connect, self._fps, self._now_ms = connect, fps, now_ms
        self._counters, self._backoff = counters, backoff
        self._waiting: deque[VideoFrame] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._frame = 0
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            if self._waiting and self._failure is None:
                return self._waiting.popleft()
        if self._failure is not None:
            raise self._failure
        raise StopIteration

    def close(self) -> None:
        """End it; returns at once, while a connection that hangs may take its time-out to go."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        try:
            while not self._closing.is_set():
                before = self._counters.frames + self._counters.shed
                problem = self._session()
                if self._closing.is_set():
                    return
                failures = 1 if self._counters.frames + self._counters.shed > before else failures + 1
                self._counters.failures += 1
                delay_s = self._backoff.delay_s(failures, random.random())
                logger.warning("%s; trying again in %.1f s", problem, delay_s)
                self._closing.wait(delay_s)
        except BaseException as error:
            self._failure = error  # the reader raises it
            self.close()

    def _session(self) -> str:
        """From connecting to the end of the connection; what ended it."""
        try:
            with closing(self._connect()) as footage:
                self._counters.connects += 1
                if self._counters.failures:
                    logger.warning("connected again")
                started, thinning = time.monotonic(), Thinning(self._fps, self._counters)
                for shot in footage.shots(lambda _: thinning(time.monotonic() - started)):
                    if self._closing.is_set():
                        return "closed"
                    self._put(shot)
        except VideoError as error:
            if error.final and not self._counters.connects:
                raise
            return str(error)
        return "the stream has ended"

    def _put(self, shot: Shot) -> None:
        frame = VideoFrame(shot.value, shot.content_type, self._frame, self._now_ms())
        self._frame += 1
        with self._changed:
            self._waiting.append(frame)
            self._counters.frames += 1
            self._counters.frames_bytes += len(frame.value)
            if len(self._waiting) > HELD:
                self._waiting.popleft()
                self._counters.frames -= 1
                self._counters.shed += 1
            self._changed.notify_all()
