"""What `headrace demo` shows in the terminal."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from streams.cli.demo_screen import Screen, picture, summary
from streams.demo.demo import Demo
from streams.schemas import FraudFlag, Reason
from tests.streams.demo.answers import event, found, thing

WIDTH = 110
FLAG = FraudFlag(
    "t7", "c3", "2026-01-02T03:04:05.000Z", 0.83, True, "block", "fraud/2",
    [Reason("amount", "amount 900, 6 times this card's habit", 0.8), Reason("time", "on a weekday", 0.01)],
)  # fmt: skip


def _demo(*halves: str) -> Demo:
    demo = Demo(halves, 2000, lambda _: None)
    if demo.fraud is not None:
        demo.fraud.figures.sent, demo.fraud.figures.first_s, demo.fraud.flagged = 30, 4.2, 1
        demo.fraud.figures.add(1.0, [0.01] * 28)
        demo.fraud.flags.append(FLAG)
    if demo.vision is not None:
        view = demo.vision.view
        view.figures.sent, view.figures.first_s = 3, 5.1
        for number in range(3):
            view.cameras["camera-2"].send(number, b"", now=1.0)
        view.answer([found("camera-2", 2, thing("person", 1), thing("forklift", 2), thing("person", 3))], 1.5)
        view.tell([event("new"), event("zone", zone="dock", action="enter")])
        demo.vision.page.url = "http://127.0.0.1:4711/"
    return demo


def _screen(demo: Demo, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(picture(demo, "a step"))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_both_halves_are_there_with_their_figures() -> None:
    text = "\n".join(_screen(_demo("fraud", "vision")))
    for part in (
        "transactions → fraud.flags", "10.0 ms", "amount 900, 6 times this card's habit (+0.80)",
        "video.frames → video.detections, video.events", "500 ms", "forklift 1, person 2",
        "person #3 enters dock", "http://127.0.0.1:4711/", "Ctrl-C ends the demo",
    ):  # fmt: skip
        assert part in text, part
    assert "on a weekday" not in text
    assert text.index("person #3 enters dock") < text.index("person #3 appears")


@pytest.mark.parametrize("height", [24, 60])
def test_it_is_as_high_as_the_terminal(height: int) -> None:
    lines = _screen(_demo("fraud", "vision"), height)
    assert len(lines) == height
    assert "Ctrl-C" in lines[-1]


def test_one_half_alone_leaves_the_other_out() -> None:
    fraud, vision = ("\n".join(_screen(_demo(half))) for half in ("fraud", "vision"))
    assert "fraud.flags" in fraud
    assert "fraud.flags" not in vision
    assert "video.frames" in vision
    assert "video.frames" not in fraud
    assert "browser" not in fraud


def test_before_the_first_prediction_the_step_is_shown() -> None:
    assert _screen(Demo(("fraud",), 2000, lambda _: None)) == ["headrace demo · a step …"]


def test_without_a_terminal_each_alert_is_told_once_and_quiet_ones_are_not() -> None:
    console = Console(file=io.StringIO(), width=WIDTH)
    screen, demo = Screen(console), _demo("fraud", "vision")
    assert demo.vision is not None
    with console.capture() as captured:
        screen.show(demo)
        screen._next_line = 0.0
        demo.vision.view.tell([event("zone", zone="dock", action="leave")])
        screen.show(demo)
    text = captured.get()
    assert text.count("events/s") == text.count("frames/s") == 2
    assert text.count("http://127.0.0.1:4711/") == 1
    assert text.count("person #3 enters dock") == text.count("person #3 leaves dock") == 1
    assert "appears" not in text


def test_the_summary_says_what_became_of_everything() -> None:
    assert list(summary(_demo("fraud", "vision"))) == [
        "fraud: 30 transactions sent, 28 predictions received, 2 not seen before the end, 1 flagged",
        "  latency p50 10.0 ms, p99 10.0 ms, producer to subscriber",
        "  first prediction 4.2 s after the start",
        "vision: 3 frames of 4 cameras sent, 1 looked at, 2 left out to keep up",
        "  1 objects appeared, 0 went, 1 zone alerts, 0 distance alerts",
        "  latency p50 500 ms, p99 500 ms, producer to subscriber",
        "  first prediction 5.1 s after the start",
    ]
    assert list(summary(Demo(("vision",), 1, lambda _: None))) == ["vision: ended before the first prediction"]


def test_it_loads_nothing_that_only_extras_bring() -> None:
    code = "import sys, streams.demo.demo; print(*{'torch', 'onnx', 'av', 'sklearn', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
