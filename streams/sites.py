"""What settings say about the places that cameras look at, and what may be wrong with it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, pairwise

import msgspec

from models.vision.thresholds import Tracking

MOST_CAMERAS, MOST_ZONES, MOST_CORNERS, MOST_DISTANCES = 10_000, 64, 64, 32
LARGEST_PX = 100_000.0
MOST_SHARE = 2.0  # corners of which none is beyond it are meant as shares
LONGEST_NAME = 256
FLAT = 1e-9  # of a homography: its determinant, with the rows brought to length 1

HEIGHTS_M = {"person": 1.7, "forklift": 2.2, "car": 1.5, "bus": 3.2, "truck": 3.2}

Point = tuple[float, float]
Row = tuple[float, float, float]


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A polygon in the picture; an object is in it where the middle of the lower edge of its box is.

    Corners are in px, or shares of width and height where all lie between 0 and 1.
    """

    name: str
    polygon: tuple[Point, ...]
    labels: tuple[str, ...] = ()  # only these; none: all
    inertia_frames: int = 3  # so many frames in a row decide that an object has entered or left
    loiter_s: float | None = None  # an object that stays for so long loiters

    @property
    def normalised(self) -> bool:
        """Whether the corners are shares of the picture's width and height."""
        return all(0 <= each <= 1 for corner in self.polygon for each in corner)


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one camera; one that is not listed has no zones, and the field of view of the others."""

    id: str  # the record key of its frames
    zones: tuple[Zone, ...] = ()
    homography: tuple[Row, Row, Row] | None = None  # from px to metres on the ground
    field_of_view_deg: float | None = None  # from left to right; default: vision.field_of_view_deg


class UnsafeDistance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two kinds of object that must not come closer than a limit."""

    labels: tuple[str, str]
    limit_m: float
    critical_m: float | None = None  # closer than this is critical, else it is a warning; default: half the limit
    clear_factor: float = 1.25  # farther apart than this times the limit is safe again
    raise_s: float = 0.3  # so long too close before it is told
    clear_s: float = 1.0  # so long safe before it is over

    @property
    def severe_m(self) -> float:
        """Below this it is critical."""
        return self.limit_m / 2 if self.critical_m is None else self.critical_m


class SceneSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of detections: tracks, lives, zones and distances."""

    cameras: tuple[Camera, ...] = ()
    unsafe_distances: tuple[UnsafeDistance, ...] = ()
    heights_m: dict[str, float] = msgspec.field(default_factory=lambda: dict(HEIGHTS_M))  # of the real things
    field_of_view_deg: float = 70.0  # for distances before cameras without a homography, by the heights of boxes
    score_threshold: float | None = None  # the least score of an object; default: the model's own, but for tracks
    low_score: float = 0.1  # boxes from here on may go on with a track
    high_score: float = 0.3  # these come first
    new_score: float = 0.4  # from here on they may begin one
    lost_s: float = 2.0  # a track that has not been seen for longer ends
    confirm_frames: int = 3  # an object is new when the median score of so many frames
    confirm_score: float = 0.5  # reaches this
    update_interval_s: float = 5.0  # an object has at most one update in this time, but for its zones
    moved_share: float = 0.5  # an object has moved when it is so far, in sizes of its box, from where it was reported
    stationary_s: float = 10.0  # it is stationary when for so long it has not been farther
    stationary_share: float = 0.2  # than this from one place, in sizes of its box
    forget_s: float = 7 * 86400.0  # a camera that sends nothing for so long is forgotten, and its track ids begin anew
    most_cameras: int = 2000  # a partition; the one that has been silent for longest is forgotten

    def tracking(self) -> Tracking:
        """What the tracker takes of it."""
        return Tracking(self.low_score, self.high_score, max(self.new_score, self.weakest), self.lost_s)

    @property
    def weakest(self) -> float:
        """No object is told of below this score, followed or not."""
        return self.score_threshold or 0.0

    @property
    def confirmed_from(self) -> float:
        """The median score that makes an object new."""
        return max(self.confirm_score, self.weakest)


def check_scenes(vision: SceneSettings, labels: Collection[str] | None = None) -> None:
    """Find what no camera could be judged by.

    Args:
        labels: those of the model, where it is known.

    Raises:
        ValueError: the sentence begins with the place, such as `cameras[0] 'gate' zones[1] 'dock': `.
    """
    for complaint in (*_numbers(vision), *_cameras(vision), *_distances(vision)):
        raise ValueError(complaint)
    if labels is not None:
        for place, label in _named_labels(vision):
            if label not in labels:
                raise ValueError(
                    f"{place}: expected a label of the model, one of {_some(labels)}, got {label!r}"
                    f"{meant(label, labels)}"
                )


def meant(name: str, known: Collection[str]) -> str:
    """The end of a sentence about a name that is none of those that are known: which of them it is nearly."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _numbers(vision: SceneSettings) -> Iterator[str]:
    try:
        vision.tracking()
    except ValueError as error:
        yield f"low_score, high_score, new_score, lost_s: {error}"
    bounds = {
        "confirm_frames": (1, 100),
        "confirm_score": (0, 1),
        "update_interval_s": (0, 86400),
        "moved_share": (0.01, 100),
        "stationary_s": (0.1, 86400),
        "stationary_share": (0.01, 100),
        "forget_s": (60, 3.2e9),
        "most_cameras": (1, 1_000_000),
    }
    for name, (least, most) in bounds.items():
        if not least <= getattr(vision, name) <= most:
            yield f"{name}: expected a number from {least:g} to {most:g}, got {getattr(vision, name)!r}"
    yield from _angle("field_of_view_deg", vision.field_of_view_deg)
    for label, height in vision.heights_m.items():
        if not 0.01 <= height <= 1000:
            yield f"heights_m {label!r}: expected metres from 0.01 to 1000, got {height!r}"


def _angle(place: str, angle: float | None) -> Iterator[str]:
    if angle is not None and not 1 <= angle <= 170:
        yield f"{place}: expected degrees from 1 to 170, got {angle!r}"


def _cameras(vision: SceneSettings) -> Iterator[str]:
    if len(vision.cameras) > MOST_CAMERAS:
        yield f"cameras: expected at most {MOST_CAMERAS}, got {len(vision.cameras)}"
    for place, camera in _placed("cameras", [camera.id for camera in vision.cameras]):
        if isinstance(camera, str):
            yield f"{place}: {camera}"
            continue
        each = vision.cameras[camera]
        yield from _angle(f"{place} field_of_view_deg", each.field_of_view_deg)
        if each.homography is not None and (complaint := _homography(each.homography)):
            yield f"{place} homography: {complaint}"
        if len(each.zones) > MOST_ZONES:
            yield f"{place} zones: expected at most {MOST_ZONES}, got {len(each.zones)}"
        for zone_place, zone in _placed("zones", [zone.name for zone in each.zones]):
            complaint = zone if isinstance(zone, str) else next(_zone(each.zones[zone]), None)
            if complaint:
                yield f"{place} {zone_place}: {complaint}"


def _placed(what: str, names: Sequence[str]) -> Iterator[tuple[str, int | str]]:
    """Each one's place with its number, or with what is wrong with its name."""
    known: dict[str, int] = {}
    for number, name in enumerate(names):
        place = f"{what}[{number}] {name!r}"
        yield place, number
        if not name.strip() or len(name) > LONGEST_NAME:
            yield place, f"expected a name of 1 to {LONGEST_NAME} characters, got {len(name)}"
        elif known.setdefault(name, number) != number:
            yield place, f"expected a name of its own, got that of {what}[{known[name]}]"


def _homography(rows: Sequence[Row]) -> str | None:
    lengths = [math.hypot(*row) for row in rows]
    if not all(map(math.isfinite, lengths)):
        return f"expected finite numbers, got {rows!r}"
    (a, b, c), (d, e, f), (g, h, i) = rows
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    # Translations are in px and metres, the rest is not: what is compared must not depend on their units.
    columns = [math.hypot(*column) for column in zip(*rows, strict=True)]
    if 0 in columns or 0 in lengths or abs(determinant) <= FLAT * min(math.prod(columns), math.prod(lengths)):
        return "expected a matrix that maps px to different places on the ground, got a singular one"
    return None


def _zone(zone: Zone) -> Iterator[str]:
    corners = zone.polygon
    if not 3 <= len(corners) <= MOST_CORNERS:
        yield f"expected a polygon of 3 to {MOST_CORNERS} corners, got {len(corners)}"
        return
    for number, corner in enumerate(corners):
        if not all(abs(each) <= LARGEST_PX for each in corner):
            yield f"polygon[{number}]: expected px, or shares from 0 to 1, got {list(corner)}"
            return
    if not zone.normalised and max(abs(each) for corner in corners for each in corner) <= MOST_SHARE:
        yield f"polygon: expected shares from 0 to 1, or px, got {list(map(list, corners))}, which is some px at most"
        return
    if corners[0] == corners[-1]:
        yield "polygon: expected each corner once, got the first one again at the end; leave it out there"
        return
    sides = list(pairwise((*corners, corners[0])))
    for (i, one), (j, other) in combinations(enumerate(sides), 2):
        neighbours = j - i == 1 or (i == 0 and j == len(sides) - 1)
        if _touch(one, other) if not neighbours else _fold(one, other):
            yield f"expected sides that do not cross, got side {i} {one} across side {j} {other}"
            return
    if not 1 <= zone.inertia_frames <= 1000:
        yield f"inertia_frames: expected a number from 1 to 1000, got {zone.inertia_frames}"
    if zone.loiter_s is not None and not 0 < zone.loiter_s <= 86400:
        yield f"loiter_s: expected seconds up to 86400, got {zone.loiter_s!r}"


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _between(a: Point, b: Point, c: Point) -> bool:
    """Whether c, on the line through a and b, lies between them."""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])


def _touch(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    (a, b), (c, d) = one, other
    turns = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _between(*end) for turn, end in zip(turns, ends, strict=True))


def _fold(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two sides that share a corner lie on each other, or one of them has no length."""
    if one[0] == one[1] or other[0] == other[1]:
        return True
    shared = one[1] if one[1] in other else one[0]
    far, away = (next(end for end in side if end != shared) for side in (one, other))
    return _turn(shared, far, away) == 0 and (
        (far[0] - shared[0]) * (away[0] - shared[0]) + (far[1] - shared[1]) * (away[1] - shared[1]) > 0
    )


def _distances(vision: SceneSettings) -> Iterator[str]:
    if len(vision.unsafe_distances) > MOST_DISTANCES:
        yield f"unsafe_distances: expected at most {MOST_DISTANCES}, got {len(vision.unsafe_distances)}"
    measured = bool(vision.cameras) and all(camera.homography is not None for camera in vision.cameras)
    for number, rule in enumerate(vision.unsafe_distances):
        place = f"unsafe_distances[{number}] {' and '.join(rule.labels)!r}"
        bounds = {
            "limit_m": (rule.limit_m, 0.01, 1000),
            "critical_m": (rule.severe_m, 0, rule.limit_m),
            "clear_factor": (rule.clear_factor, 1, 100),
            "raise_s": (rule.raise_s, 0, 3600),
            "clear_s": (rule.clear_s, 0, 3600),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                yield f"{place} {name}: expected a number from {least:g} to {most:g}, got {value!r}"
        for label in rule.labels:
            if label not in vision.heights_m and not measured:
                yield (
                    f"{place}: expected the height of {label!r} in vision.heights_m, by which distances are estimated "
                    f"before a camera without a homography, got only {_some(vision.heights_m)}"
                )


def _named_labels(vision: SceneSettings) -> Iterator[tuple[str, str]]:
    for camera_number, camera in enumerate(vision.cameras):
        for zone_number, zone in enumerate(camera.zones):
            for label in zone.labels:
                yield f"cameras[{camera_number}] {camera.id!r} zones[{zone_number}] {zone.name!r} labels", label
    for number, rule in enumerate(vision.unsafe_distances):
        for label in rule.labels:
            yield f"unsafe_distances[{number}] labels", label


def _some(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
