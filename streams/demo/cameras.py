"""What the demo knows of its cameras: the frames that it has sent, what came back for them, and what was told."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.vision.drawing import Outline, Shown
from streams.demo.alerts import Alert, alert
from streams.demo.figures import Figures
from streams.schemas import VideoDetections, VideoEvent

MOST_WAITING = 256  # some 50 s of one camera, 12 MB
RECENT_ALERTS = 100


@dataclass(frozen=True, slots=True)
class Answered:
    """A frame and what is in it."""

    jpeg: bytes
    detections: VideoDetections


@dataclass(slots=True)
class CameraView:
    """One camera, as a subscriber sees it.

    Args:
        style: what it looks at, in a word.
        zones: their corners are shares of the picture.
        latest: the newest frame that has an answer.
        dropped: frames that have none and get none: the worker left them out to keep up.
    """

    camera_id: str
    style: str
    zones: tuple[Outline, ...] = ()
    latest: Answered | None = None
    dropped: int = 0
    _waiting: dict[int, tuple[float, bytes]] = field(default_factory=dict)

    def send(self, number: int, jpeg: bytes, now: float) -> None:
        """A frame leaves; numbers rise."""
        self._waiting[number] = now, jpeg
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    def answer(self, detections: VideoDetections, now: float) -> float | None:
        """What the worker found in a frame; they come in order.

        Returns:
            The time since the frame left, in seconds; None where it is not known, or was answered before.
        """
        number = detections.frame
        if number is None or number not in self._waiting:
            return None
        for overtaken in [each for each in self._waiting if each < number]:
            del self._waiting[overtaken]
            self.dropped += 1
        sent, jpeg = self._waiting.pop(number)
        self.latest = Answered(jpeg, detections)
        return now - sent

    @property
    def waiting(self) -> int:
        """How many frames have no answer yet."""
        return len(self._waiting)

    @property
    def objects(self) -> Counter[str]:
        """How many of each label there are now: those that are followed."""
        if self.latest is None:
            return Counter()
        return Counter(each.label for each in self.latest.detections.objects if each.track_id is not None)

    def outlines(self, width: int, height: int) -> list[Outline]:
        """The zones in pixels of a picture."""
        return [Outline(zone.name, [(x * width, y * height) for x, y in zone.corners]) for zone in self.zones]


class SiteView:
    """All cameras of the demo.

    Attributes:
        alerts: the latest, newest last.
        told: how many events of each kind have come.
    """

    def __init__(self, cameras: Sequence[CameraView]) -> None:
        self.cameras = {camera.camera_id: camera for camera in cameras}
        self.figures = Figures()
        self.alerts: deque[Alert] = deque(maxlen=RECENT_ALERTS)
        self.told: Counter[str] = Counter()

    @property
    def dropped(self) -> int:
        """Frames that the worker left out to keep up."""
        return sum(camera.dropped for camera in self.cameras.values())

    @property
    def waiting(self) -> int:
        """Frames that have no answer yet."""
        return sum(camera.waiting for camera in self.cameras.values())

    def answer(self, found: Sequence[VideoDetections], now: float) -> None:
        """What the worker found in frames."""
        times = [self.cameras[each.camera_id].answer(each, now) for each in found]
        self.figures.add(now, [each for each in times if each is not None])

    def tell(self, events: Sequence[VideoEvent]) -> None:
        """What happened before the cameras."""
        self.told.update(event.kind for event in events)
        self.alerts.extend(said for event in events if (said := alert(event)) is not None)


def shown(detections: VideoDetections) -> list[Shown]:
    """Objects, ready to be drawn."""
    return [Shown(each.label, each.score, each.box, each.track_id, each.zones) for each in detections.objects]
