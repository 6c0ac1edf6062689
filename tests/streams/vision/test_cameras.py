"""The state of a partition's cameras: killed anywhere it goes on as if nothing had been, and a repeat does no harm."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from streams.pipelines.vision import told
from streams.pipelines.vision.camera import CameraCorrupt, CameraState, Frame, Seen
from streams.pipelines.vision.cameras import MOST_TOLD, Cameras, Sites
from streams.pipelines.vision.objects import Site
from streams.schemas import VideoEvent
from streams.sites import SceneSettings
from tests.streams.vision.site import LABELS, SITE, film, shown

NOW_MS = 1_767_225_600_000
SITES = Sites(SITE)


def mixed(seed: int, frames: int = 200, objects: int = 7) -> list[Frame]:
    """Three cameras in one partition, in the order of offsets; one begins again, some frames come late or twice."""
    rng = random.Random(seed)
    films = [film(camera_id, objects, frames, seed + at) for at, camera_id in enumerate(("gate", "yard", "other"))]
    again = films[1][: frames // 3]
    films[1] = films[1][: frames // 2] + [
        frame._replace(event_time_ms=frame.event_time_ms + frames * 40) for frame in again
    ]
    films[2] = [frame._replace(number=None) for frame in films[2]]
    for each in films:
        for at in rng.sample(range(5, len(each) - 5), 10):
            each[at], each[at + 1] = each[at + 1], each[at]
            each.insert(at, each[at - 3])
    turns = [camera for camera, each in enumerate(films) for _ in each]
    rng.shuffle(turns)
    queues = [iter(each) for each in films]
    return [next(queues[camera])._replace(offset=offset) for offset, camera in enumerate(turns)]


def batches(frames: Sequence[Frame], size: int = 8) -> Iterator[list[Frame]]:
    return (list(frames[at : at + size]) for at in range(0, len(frames), size))


def plain(seen: Sequence[Seen]) -> list[tuple[list[int], list[list[str]], list[VideoEvent]]]:
    return [(each.ids.tolist(), each.zones, each.events) for each in seen]


def stored(cameras: Cameras, log: dict[bytes, bytes | None]) -> Cameras:
    """What another worker reads back from the changelog, after these changes."""
    log |= zip(*cameras.changes(), strict=True)
    again = Cameras(SITES)
    again.merge(list(log), list(log.values()))
    return again


def kinds(seen: Sequence[Seen]) -> set[str]:
    return {event.kind for each in seen for event in each.events}


# Killed anywhere


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_after_any_frame_it_goes_on_as_if_nothing_had_been(seed: int) -> None:
    frames, log = mixed(seed), dict[bytes, bytes | None]()
    whole, killed = Cameras(SITES), Cameras(SITES)
    everything: list[Seen] = []
    for frame in frames:
        expected = whole.apply([frame], LABELS, NOW_MS)
        everything += expected
        assert plain(killed.apply([frame], LABELS, NOW_MS)) == plain(expected)
        killed = stored(killed, log)
    assert sorted(zip(*whole.changes(), strict=True)) == sorted(log.items())
    assert kinds(everything) == {"new", "update", "end", "zone", "unsafe_distance"}
    assert {event.reason for each in everything for event in each.events if event.kind == "end"} == {
        "gone", "restarted",
    }  # fmt: skip
    assert {each.order for each in everything} == {"next", "late", "restart"}


@pytest.mark.parametrize("size", [1, 5, 64])
def test_what_is_told_does_not_depend_on_the_batches(size: int) -> None:
    frames = mixed(4)
    one, other = Cameras(SITES), Cameras(SITES)
    expected = plain(one.apply(frames, LABELS, NOW_MS))
    found = [each for batch in batches(frames, size) for each in plain(other.apply(batch, LABELS, NOW_MS))]
    assert found == expected
    assert sorted(zip(*one.changes(), strict=True)) == sorted(zip(*other.changes(), strict=True))


# Repeated


@pytest.mark.parametrize("seed", [5, 6])
def test_a_redelivered_batch_changes_nothing_and_yields_the_same_events(seed: int) -> None:
    frames, cameras, log = mixed(seed), Cameras(SITES), dict[bytes, bytes | None]()
    agreed = total = events = 0
    for batch in batches(frames, 24):
        first = cameras.apply(batch, LABELS, NOW_MS)
        _, before = cameras.changes()
        again = cameras.apply(batch, LABELS, NOW_MS)
        keys, values = cameras.changes()
        assert values == before
        log |= zip(keys, values, strict=True)
        assert all(each.repeated for each in again)
        assert [each.events for each in again] == [each.events for each in first]
        events += sum(len(each.events) for each in again)
        for one, other in zip(first, again, strict=True):
            known = one.ids > 0
            agreed += int((one.ids == other.ids)[known].sum())
            total += int(known.sum())
    assert events > 50
    assert agreed / total > 0.97  # by place, not by memory


def test_a_worker_that_dies_between_changelog_and_outputs_loses_no_event() -> None:
    frames, log = mixed(7), dict[bytes, bytes | None]()
    expected = [each.events for each in Cameras(SITES).apply(frames, LABELS, NOW_MS)]
    cameras, published = Cameras(SITES), list[list[VideoEvent]]()
    at = 0
    for turn in itertools.count():
        batch = frames[at : at + 16]
        if not batch:
            break
        seen = cameras.apply(batch, LABELS, NOW_MS)
        cameras = stored(cameras, log)
        if turn % 3 != 1:  # else its outputs are lost, and the batch comes again with more behind it
            published += [each.events for each in seen]
            at += len(batch)
    assert published == expected


def test_what_is_kept_to_be_told_again_is_bounded() -> None:
    event = next(e for each in Cameras(SITES).apply(mixed(8), LABELS, NOW_MS) for e in each.events)
    kept: tuple[told.Told, ...] = ()
    for frame in range(500):
        kept = told.remember(kept, frame, frame, [event] * (frame % 7))
        older = [each for each in kept if each.frame < frame]
        assert sum(len(each.event) for each in older) <= told.BYTES
        assert all(each.frame > frame - told.FRAMES for each in kept)
    assert list(told.of(kept, 499)) == [event] * (499 % 7)
    for frame in range(500, 700):
        kept = told.remember(kept, frame, frame, [])
    assert kept == ()


def test_of_a_frame_all_events_are_told_again_or_none() -> None:
    event = next(e for each in Cameras(SITES).apply(mixed(8), LABELS, NOW_MS) for e in each.events)
    crowd = [event] * (1 + 2 * told.BYTES // len(told.remember((), 0, 0, [event])[0].event))
    kept: tuple[told.Told, ...] = ()
    for frame, events in enumerate(([event] * 3, crowd, crowd, [event] * 5)):
        kept = told.remember(kept, frame, 100 + frame, events)
        assert list(told.of(kept, 100 + frame)) == events
    assert {each.offset for each in kept} == {103}


# As it was


def test_a_frame_that_cannot_be_one_leaves_everything_as_it_was() -> None:
    frames, cameras = film("gate", 12, 100, 9), Cameras(SITES)
    for at in range(5, 90, 5):
        cameras.apply(frames[at - 5 : at], LABELS, NOW_MS)
        _, before = cameras.changes()
        wrong = frames[at + 5]._replace(scores=np.zeros(99))
        for bad in (wrong, wrong._replace(event_time_ms=-5), wrong._replace(camera_id="")):
            with pytest.raises(ValueError, match="expected"):
                cameras.apply([*frames[at : at + 5], bad, *frames[at + 6 : at + 9]], LABELS, NOW_MS)
            assert cameras.changes() == ([], [])
            cameras.apply([frames[at - 1]], LABELS, NOW_MS)  # a repeated one shows the state
            assert cameras.changes() == ([b"gate"], before)


def test_ten_thousand_boxes_and_no_numbers_cost_a_bounded_state() -> None:
    rng, cameras = np.random.default_rng(10), Cameras(SITES)
    for number in range(6):
        corner = rng.uniform(0, 700, (10_000, 2))
        boxes = np.hstack((corner, corner + rng.uniform(20, 200, (10_000, 2)))).astype(np.float32)
        scores = rng.uniform(0, 1, 10_000).astype(np.float32)
        boxes[::7], scores[::11] = np.nan, np.nan
        frame = Frame(
            "gate", number, number, NOW_MS + 40 * number, 1280, 720, boxes, scores, rng.integers(0, 2, 10_000)
        )
        (seen,) = cameras.apply([frame], LABELS, NOW_MS)
        assert np.count_nonzero(seen.ids > 0) <= 300
        assert (seen.ids[::7] == -1).all()
        ((value,),) = cameras.changes()[1:]
        assert len(value or b"") < 200_000


# The store


def test_of_two_states_the_later_wins_in_any_order() -> None:
    frames, cameras = film("gate", 5, 60, 11), Cameras(SITES)
    values = []
    for batch in batches(frames, 20):
        cameras.apply(batch, LABELS, NOW_MS)
        values += cameras.changes()[1]
    for order in itertools.permutations(values):
        again = Cameras(SITES)
        again.merge([b"gate"] * 3, list(order))
        again.merge([b"gate", b"gate"], [values[0], None])
        (seen,) = again.apply([frames[-1]], LABELS, NOW_MS)
        assert seen.repeated
        assert again.changes() == ([b"gate"], [values[-1]])


def test_a_camera_that_is_silent_for_long_is_forgotten_with_a_tombstone() -> None:
    sites = Sites(SceneSettings(forget_s=3600.0))
    cameras = Cameras(sites)
    cameras.apply(film("old", 3, 10, 12), LABELS, NOW_MS)
    cameras.apply(film("young", 3, 10, 13), LABELS, NOW_MS + 3_000_000)
    assert sorted(cameras.changes()[0]) == [b"old", b"young"]
    cameras.apply(film("young", 3, 12, 13)[10:], LABELS, NOW_MS + 3_700_000)
    keys, values = cameras.changes()
    assert dict(zip(keys, [value is None for value in values], strict=True)) == {b"young": False, b"old": True}
    assert len(cameras) == 1


def test_there_are_so_many_cameras_and_no_more() -> None:
    cameras = Cameras(Sites(SceneSettings(most_cameras=50)))
    log: dict[bytes, bytes | None] = {}
    for at in range(200):
        cameras.apply([shown(at, NOW_MS)._replace(camera_id=f"camera {at}")], LABELS, NOW_MS + at)
        log |= zip(*cameras.changes(), strict=True)
        assert len(cameras) <= 50
    alive = {key for key, value in log.items() if value is not None}
    assert alive == {f"camera {at}".encode() for at in range(150, 200)}
    assert len(log) == 200


def test_records_of_somebody_else_are_refused_and_nothing_is_applied() -> None:
    cameras = Cameras(SITES)
    cameras.apply(film("gate", 5, 60, 14), LABELS, NOW_MS)
    _, (good,) = cameras.changes()
    assert good is not None
    for key, bad in [(b"gate", good[:at]) for at in range(0, len(good), 7)] + [
        (b"gate", b"\x01" + good[1:]), (b"gate", good + b"x"), (b"gate", b"\x02\x90"), (b"", good), (b"\xff\xfe", good),
    ]:  # fmt: skip
        again = Cameras(SITES)
        with pytest.raises(CameraCorrupt):
            again.merge([b"other", key], [good, bad])
        assert len(again) == 0
    with pytest.raises(ValueError, match="2 keys do not match 1 values"):
        cameras.merge([b"a", b"b"], [good])


def test_bytes_that_were_changed_are_refused_or_make_a_camera_that_works() -> None:
    frames = film("gate", 5, 70, 15)
    state = CameraState("gate", SITES.of("gate"))
    for frame in frames[:60]:
        state.apply(frame, LABELS, NOW_MS)
    good, rng, refused = state.encode(), np.random.default_rng(16), 0
    for at in rng.integers(0, len(good), 600).tolist():
        changed = bytearray(good)
        changed[at] ^= 1 << int(rng.integers(0, 8))
        try:
            odd = CameraState.decode("gate", SITES.of("gate"), bytes(changed))
        except CameraCorrupt:
            refused += 1
            continue
        for frame in frames[60:]:
            odd.apply(frame._replace(offset=frame.offset + (1 << 40)), LABELS, NOW_MS)
        odd.encode()
    assert refused > 50


def test_state_goes_on_under_other_settings() -> None:
    frames = film("gate", 6, 120, 17)
    state = CameraState("gate", SITES.of("gate"))
    for frame in frames[:100]:
        state.apply(frame, LABELS, NOW_MS)
    other = CameraState.decode("gate", Site(SceneSettings(), None), state.encode())
    events = [event for frame in frames[100:] for event in other.apply(frame, LABELS, NOW_MS).events]
    assert {event.kind for event in events} <= {"new", "update", "end"}
    assert all(event.zones == [] for event in events)


def test_ids_begin_at_one_for_each_camera_and_are_never_used_again() -> None:
    seen: dict[str, list[int]] = {"gate": [], "yard": [], "other": []}
    ended: dict[str, set[int]] = {camera_id: set() for camera_id in seen}
    frames = mixed(18)
    for frame, each in zip(frames, Cameras(SITES).apply(frames, LABELS, NOW_MS), strict=True):
        ids = [track_id for track_id in each.ids.tolist() if track_id > 0]
        if each.order != "late":
            assert ended[frame.camera_id].isdisjoint(ids)
        ended[frame.camera_id] |= {event.track_id for event in each.events if event.kind == "end"}
        seen[frame.camera_id] += ids
    assert all(min(ids) == 1 and max(ids) > 7 for ids in seen.values())


def test_cameras_that_are_not_listed_are_logged_once_where_others_are(caplog: pytest.LogCaptureFixture) -> None:
    sites = Sites(SITE)
    for camera_id in ("gate", "Gate", "Gate", "pier"):
        sites.of(camera_id)
    assert [record.getMessage() for record in caplog.records] == [
        "camera 'Gate' is not in vision.cameras, so it has no zones, and its distances are estimated; did you mean "
        "'gate'?",
        "camera 'pier' is not in vision.cameras, so it has no zones, and its distances are estimated",
    ]
    for number in range(1000):
        sites.of(f"camera-{number}")
    assert len(caplog.records) == MOST_TOLD
    caplog.clear()
    Sites(SceneSettings()).of("gate")
    assert not caplog.records
