"""What `headrace demo` shows in the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.clock import local_time

if TYPE_CHECKING:
    from streams.demo.alerts import Alert
    from streams.demo.demo import Demo
    from streams.demo.fraud import FraudDemo
    from streams.demo.vision import VisionDemo
    from streams.schemas import FraudFlag

REFRESH_S = 0.25
PLAIN_INTERVAL_S = 2.0
PLAIN_ALERTS = 5  # each time
MOST_LINES = 60  # of flags or of alerts
LEAST_SHOWN = 0.05  # of a contribution
STYLES = {"quiet": "dim", "notice": "cyan", "warning": "yellow", "critical": "bold red"}

Pairs = Sequence[tuple[str, str]]


class Screen:
    """A live picture on a terminal, some lines every other second elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=1 / REFRESH_S, transient=True)
        self._step = "starting"
        self._next_line = 0.0
        self._url: str | None = None
        self._told: set[Alert] = set()

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def tell(self, step: str) -> None:
        """Show what is being started or ended."""
        if not self._console.is_terminal and step != self._step:
            self._console.print(step)
        self._step = step

    def show(self, demo: Demo) -> None:
        """Bring the picture up to date."""
        if self._console.is_terminal:
            self._live.update(picture(demo, self._step))
            return
        url = demo.vision.page.url if demo.vision is not None else None
        if url is not None and url != self._url:
            self._url = url
            self._console.print(f"the cameras in a browser: {url}")
        if time.perf_counter() >= self._next_line and any(half.figures.received for half in demo.halves):
            self._next_line = time.perf_counter() + PLAIN_INTERVAL_S
            for line in self._lines(demo):
                self._console.print(line)

    def _lines(self, demo: Demo) -> Iterator[str]:
        if demo.fraud is not None and demo.fraud.figures.received:
            yield _joined(_fraud_pairs(demo.fraud))
        if demo.vision is not None and (view := demo.vision.view).figures.received:
            yield _joined(_vision_pairs(demo.vision))
            seen = (f"{camera.camera_id} {_counted(camera.objects)}" for camera in view.cameras.values())
            yield "  " + " · ".join(seen)
            new = [each for each in view.alerts if each.weight != "quiet" and each not in self._told]
            for each in new[-PLAIN_ALERTS:]:
                yield f"  {local_time(each.time)} {each.camera}: {each.text}"
            self._told = set(view.alerts)


def picture(demo: Demo, step: str) -> RenderableType:
    """Everything, as high as the terminal."""
    if not any(half.figures.received for half in demo.halves):
        return Text(f"headrace demo · {step} …", style="dim")
    rows: list[Layout] = []
    if demo.fraud is not None:
        rows += [Layout(_fraud_figures(demo.fraud), size=4), Layout(_flags(demo.fraud), minimum_size=3)]
    if demo.vision is not None:
        high = 4 + len(demo.vision.view.cameras)
        rows += [Layout(_vision_figures(demo.vision), size=high), Layout(_alerts(demo.vision), minimum_size=3)]
    whole = Layout()
    whole.split_column(*rows, Layout(_foot(demo), size=1))
    return whole


def summary(demo: Demo) -> Iterator[str]:
    """The last lines."""
    if demo.fraud is not None:
        yield from _fraud_summary(demo.fraud)
    if demo.vision is not None:
        yield from _vision_summary(demo.vision)


def _joined(pairs: Pairs) -> str:
    return " · ".join(f"{name} {value}" for name, value in pairs)


def _fraud_pairs(fraud: FraudDemo) -> Pairs:
    seen = fraud.figures
    p50, p99 = seen.recent_ms()
    return [
        ("events/s", f"{seen.rate(time.perf_counter()):,.0f}"),
        ("p50", f"{p50:.1f} ms"),
        ("p99", f"{p99:.1f} ms"),
        ("lag", f"{max(0, seen.sent - seen.received):,}"),
        ("predictions", f"{seen.received:,}"),
        ("flagged", f"{fraud.flagged:,}"),
    ]


def _vision_pairs(vision: VisionDemo) -> Pairs:
    view = vision.view
    p50, p99 = view.figures.recent_ms()
    return [
        ("frames/s", f"{view.figures.rate(time.perf_counter()):,.1f}"),
        ("p50", f"{p50:.0f} ms"),
        ("p99", f"{p99:.0f} ms"),
        ("dropped", f"{view.dropped:,}"),
        ("zone alerts", f"{view.told['zone']:,}"),
        ("distance alerts", f"{view.told['unsafe_distance']:,}"),
    ]


def _fraud_figures(fraud: FraudDemo) -> Panel:
    return Panel(_figures(_fraud_pairs(fraud)), title="headrace demo · transactions → fraud.flags", border_style="cyan")


def _vision_figures(vision: VisionDemo) -> Panel:
    cameras = Table.grid(padding=(0, 2))
    for camera in vision.view.cameras.values():
        cameras.add_row(camera.camera_id, Text(camera.style, style="dim"), _counted(camera.objects))
    content = Table.grid(expand=True)
    content.add_row(_figures(_vision_pairs(vision)))
    content.add_row(cameras)
    return Panel(content, title="video.frames → video.detections, video.events", border_style="cyan")


def _figures(pairs: Pairs) -> Table:
    figures = Table.grid(expand=True)
    for _ in pairs:
        figures.add_column(justify="center", ratio=1)
    figures.add_row(*(Text.assemble((value, "bold cyan"), "\n", (name, "dim")) for name, value in pairs))
    return figures


def _flags(fraud: FraudDemo) -> Panel:
    flags = Table(expand=True, box=None, header_style="dim")
    for name in ("event time", "card", "transaction", "score", "decision", "because"):
        flags.add_column(name, overflow="fold" if name == "because" else "ellipsis", no_wrap=name != "because")
    for flag in list(fraud.flags)[: -MOST_LINES - 1 : -1]:
        style = "red" if flag.decision == "block" else "yellow"
        flags.add_row(
            flag.event_time[:19].replace("T", " "),
            flag.card_id,
            flag.transaction_id,
            f"{flag.score:.2f}",
            Text(flag.decision, style=style),
            _because(flag),
        )
    return Panel(flags, title="flags, newest first", border_style="red")


def _alerts(vision: VisionDemo) -> Panel:
    alerts = Table.grid(padding=(0, 2))
    for each in list(vision.view.alerts)[: -MOST_LINES - 1 : -1]:
        alerts.add_row(Text(local_time(each.time), style="dim"), each.camera, _worded(each))
    return Panel(alerts, title="cameras, newest first", border_style="red")


def _worded(alert: Alert) -> Text:
    return Text(alert.text, style=STYLES[alert.weight])


def _counted(objects: dict[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in sorted(objects.items())) or "nothing"


def _foot(demo: Demo) -> Text:
    foot = Text(" ")
    if demo.vision is not None and demo.vision.page.url is not None:
        foot.append("the cameras in a browser: ", style="dim").append(demo.vision.page.url, style="bold cyan")
        foot.append(" · ", style="dim")
    return foot.append("Ctrl-C ends the demo, broker included", style="dim")


def _because(flag: FraudFlag) -> str:
    """The reasons that make up most of the score."""
    return "; ".join(
        f"{each.text} (+{each.contribution:.2f})" for each in flag.reasons if each.contribution >= LEAST_SHOWN
    )


def _fraud_summary(fraud: FraudDemo) -> Iterator[str]:
    seen = fraud.figures
    if seen.first_s is None:
        yield "fraud: ended before the first prediction"
        return
    p50, p99 = seen.overall_ms()
    missing = seen.sent - seen.received
    yield (
        f"fraud: {seen.sent:,} transactions sent, {seen.received:,} predictions received"
        + ("" if not missing else f", {missing:,} not seen before the end")
        + f", {fraud.flagged:,} flagged"
    )
    yield f"  latency p50 {p50:.1f} ms, p99 {p99:.1f} ms, producer to subscriber"
    yield f"  first prediction {seen.first_s:.1f} s after the start"


def _vision_summary(vision: VisionDemo) -> Iterator[str]:
    view = vision.view
    if view.figures.first_s is None:
        yield "vision: ended before the first prediction"
        return
    p50, p99 = view.figures.overall_ms()
    yield (
        f"vision: {view.figures.sent:,} frames of {len(view.cameras)} cameras sent, {view.figures.received:,} looked at"
        f", {view.dropped:,} left out to keep up"
        + ("" if not view.waiting else f", {view.waiting:,} not seen before the end")
    )
    told = view.told
    yield (
        f"  {told['new']:,} objects appeared, {told['end']:,} went, {told['zone']:,} zone alerts, "
        f"{told['unsafe_distance']:,} distance alerts"
    )
    yield f"  latency p50 {p50:.0f} ms, p99 {p99:.0f} ms, producer to subscriber"
    yield f"  first prediction {view.figures.first_s:.1f} s after the start"
