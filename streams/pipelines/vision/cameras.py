"""The keyed state of the vision pipeline: the cameras of one partition."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from models.vision import tracking
from streams.pipelines.vision import lives, zones
from streams.pipelines.vision.camera import LONGEST_ID, CameraCorrupt, CameraState, Frame, Seen
from streams.pipelines.vision.objects import Site
from streams.sites import SceneSettings, meant

logger = logging.getLogger(__name__)

SWEEP_MS = 60_000
MOST_TOLD = 20  # cameras that are not listed


def warm_up() -> None:
    """Compile the kernels, or load them: what the first frame would otherwise wait for."""
    tracking.warm_up()
    zones.warm_up()
    lives.warm_up()


class Sites:
    """What the settings say of each camera, made ready once for all partitions.

    Args:
        vision: that `streams.sites.check_scenes` has passed.
    """

    def __init__(self, vision: SceneSettings) -> None:
        self.vision = vision
        self._listed = {camera.id: Site(vision, camera) for camera in vision.cameras}
        self._other = Site(vision, None)
        self._told: set[str] = set()

    def of(self, camera_id: str) -> Site:
        """That of one camera; all that are not listed share one, and are logged where others are."""
        site = self._listed.get(camera_id)
        if site is not None:
            return site
        if self._listed and camera_id not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(camera_id)
            logger.warning(
                "camera %r is not in vision.cameras, so it has no zones, and its distances are estimated%s",
                camera_id, meant(camera_id, self._listed),
            )  # fmt: skip
        return self._other


class Cameras:
    """Implements `streams.state.Store`: key is the camera's id, value its whole state, which carries the last input
    offset applied; of two the later wins.

    A camera that has sent nothing for `forget_s` of processing time is forgotten, with a tombstone; so is the one that
    has been silent for longest where there are more than `most_cameras`. A tombstone says nothing to `merge`: what it
    stood for is too old, and the next sweep finds it, whereas a stale one must not wipe out a camera that is back.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._cameras: dict[str, CameraState] = {}
        self._touched: set[str] = set()
        self._sizes: dict[str, int] = {}  # camera's id -> bytes of its state when it was last written or read
        self._now_ms, self._swept_ms = 0, 0

    def __len__(self) -> int:
        return len(self._cameras)

    @property
    def nbytes(self) -> int:
        """Bytes of all states as they are written; may be asked from any thread."""
        return sum(list(self._sizes.values()))

    def apply(self, frames: Sequence[Frame], labels: Sequence[str], now_ms: int) -> list[Seen]:
        """Take frames in, in the order of their offsets; all of them, or none where one raises.

        Args:
            labels: names of the classes.
            now_ms: processing time.

        Raises:
            ValueError: one of them cannot be a frame.
        """
        working: dict[str, CameraState] = {}
        seen = []
        for frame in frames:
            camera_id = frame.camera_id
            state = working.get(camera_id)
            if state is None:
                held = self._cameras.get(camera_id)
                state = working[camera_id] = self._new(camera_id) if held is None else held.copy()
            seen.append(state.apply(frame, labels, now_ms))
        self._cameras |= working
        self._touched |= working.keys()
        self._now_ms = max(self._now_ms, now_ms)
        return seen

    def changes(self) -> tuple[list[bytes], list[bytes | None]]:
        """Changelog records for the cameras that had frames since the last call, and tombstones of forgotten ones."""
        gone = self._forget()
        touched = [camera_id for camera_id in self._touched if camera_id in self._cameras]
        self._touched = set()
        values = [self._cameras[camera_id].encode() for camera_id in touched]
        self._sizes |= dict(zip(touched, map(len, values), strict=True))
        return [camera_id.encode() for camera_id in (*touched, *gone)], [*values, *[None] * len(gone)]

    def merge(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Restore from records that `changes` wrote, in any order; stale and repeated ones do no harm.

        Raises:
            CameraCorrupt: a record is none of ours. Nothing of this call has been applied then.
        """
        if len(keys) != len(values):
            raise ValueError(f"restoring cameras: {len(keys)} keys do not match {len(values)} values")
        restored = [
            (self._restored(key, value), len(value))
            for key, value in zip(keys, values, strict=True)
            if value is not None
        ]
        for state, size in restored:
            held = self._cameras.get(state.camera_id)
            if held is None or held.offset < state.offset:
                self._cameras[state.camera_id] = state
                self._sizes[state.camera_id] = size

    def _restored(self, key: bytes, value: bytes) -> CameraState:
        try:
            camera_id = key.decode()
        except (UnicodeDecodeError, AttributeError):
            camera_id = ""
        if not 0 < len(camera_id) <= LONGEST_ID:
            raise CameraCorrupt(f"restoring cameras: expected a camera's id as a key, got {key!r}")
        return CameraState.decode(camera_id, self._sites.of(camera_id), value)

    def _new(self, camera_id: str) -> CameraState:
        if not 0 < len(camera_id.encode()) <= LONGEST_ID:
            raise ValueError(f"following a camera: expected an id of 1 to {LONGEST_ID} bytes, got {camera_id[:80]!r}")
        return CameraState(camera_id, self._sites.of(camera_id))

    def _forget(self) -> list[str]:
        """Drop what has been silent too long, and what is too much; not at every call, since it looks at all."""
        vision, cameras = self._sites.vision, self._cameras
        excess = len(cameras) - vision.most_cameras
        if excess <= 0 and self._now_ms < self._swept_ms + SWEEP_MS:
            return []
        self._swept_ms = self._now_ms
        horizon = self._now_ms - vision.forget_s * 1000
        longest = sorted(cameras, key=lambda camera_id: cameras[camera_id].seen_ms)
        gone = [each for at, each in enumerate(longest) if at < excess or cameras[each].seen_ms < horizon]
        for camera_id in gone:
            del cameras[camera_id]
            self._sizes.pop(camera_id, None)
        return gone
