from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from models.engine import EngineUnavailable, ModelCorrupt
from models.engines.aside import Aside, Progress, Report
from models.engines.build_progress import BuildProgress


def writes(report: Report, path: Path) -> None:
    report(Progress(0.5, "half of it"))
    path.write_text(str(os.getpid()))


def refuses(report: Report) -> None:
    raise ModelCorrupt("decoding manifest x: no")


def breaks(report: Report) -> None:
    raise ZeroDivisionError("by nothing")


def crashes(report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def goes_on(report: Report) -> None:
    report(Progress(0.25, "going on"))
    signal.pause()


def test_work_is_done_in_another_process_and_its_progress_seen(tmp_path: Path) -> None:
    aside = Aside("writing", writes, tmp_path / "done")
    aside.wait()
    aside.wait()
    assert aside.poll()
    assert aside.progress == Progress(1.0, "done")
    assert int((tmp_path / "done").read_text()) != os.getpid()
    aside.cancel()
    aside.wait()  # done is done


def test_an_error_of_the_models_tree_keeps_its_type_and_its_sentence() -> None:
    aside = Aside("refusing", refuses)
    with pytest.raises(ModelCorrupt, match=r"^decoding manifest x: no$"):
        aside.wait()


def test_any_other_error_says_that_nothing_was_built() -> None:
    with pytest.raises(EngineUnavailable, match="ZeroDivisionError: by nothing; nothing was built"):
        Aside("breaking", breaks).wait()


def test_a_crash_ends_that_process_alone() -> None:
    aside = Aside("crashing", crashes)
    with pytest.raises(EngineUnavailable, match="crashing: its process ended with code -9 before it was done"):
        aside.wait()


def test_work_that_is_cancelled_ends_whatever_it_does() -> None:
    aside = Aside("going on", goes_on)
    while aside.progress.doing != "going on":
        assert not aside.poll(1.0)
    assert aside.progress.share == 0.25
    aside.cancel()
    aside.cancel()
    assert aside.poll()
    with pytest.raises(EngineUnavailable, match="going on: its process ended with code -15"):
        aside.wait()


@pytest.fixture
def told() -> list[Progress]:
    return []


def test_phases_inside_phases_are_parts_of_their_parents_step(told: list[Progress]) -> None:
    progress = BuildProgress(told.append)
    progress.start("build", None, 4)
    progress.step("build", 0)
    progress.start("kernels", "build", 2)
    progress.step("kernels", 0)
    assert told[-1] == Progress(0.375, "kernels")
    progress.finish("kernels")
    progress.step("build", 1)
    assert told[-1] == Progress(0.5, "build")
    progress.finish("build")
    assert told[-1] == Progress(1.0, "build")


def test_a_share_never_goes_back_and_what_is_not_known_does_no_harm(told: list[Progress]) -> None:
    progress = BuildProgress(told.append)
    progress.start("first", None, 2)
    progress.step("first", 0)
    progress.finish("first")
    progress.start("second", "who?", 0)
    progress.step("second", 7)
    progress.step("never begun", 3)
    progress.finish("never begun")
    shares = [each.share for each in told]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_threads_may_tell_at_once(told: list[Progress]) -> None:
    progress = BuildProgress(told.append)
    progress.start("build", None, 4)

    def work(name: str) -> None:
        progress.start(name, "build", 50)
        for step in range(50):
            progress.step(name, step)
        progress.finish(name)

    threads = [threading.Thread(target=work, args=(f"phase {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shares = [each.share for each in told]
    assert shares == sorted(shares)
    assert len(shares) == 1 + 4 * 52
