"""The picture of what thresholds cost."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.engine import TrainingFailed

if TYPE_CHECKING:
    from models.fraud.costs import Outcome, ThresholdCosts

POINTS = 600
EDGE = log(9999)  # log-odds, over which calibrated scores spread evenly: scores from 0.0001 to 0.9999
TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
HEADROOM = 1.2  # times the largest cost that must be seen
REVIEW_COLOUR, BLOCK_COLOUR, QUIET_COLOUR = "#1f6f8b", "#b5422c", "#777777"


def figure() -> Any:
    """An empty figure, without a window.

    Raises:
        TrainingFailed: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TrainingFailed(
            f"drawing costs: importing {error.name} failed; install what training needs: pip install 'headrace[train]'"
        ) from error
    return Figure(figsize=(9, 5), layout="constrained")


def draw(path: Path, title: str, judged: ThresholdCosts, outcomes: Mapping[str, Outcome]) -> None:
    """Draw cost a day over either threshold, the other one as chosen; the file's ending says its format.

    Args:
        path: A file that ends in .png or .svg; an older one is written over.
        title: Above the picture.
        judged: The costs.
        outcomes: `chosen`, `in_use` and `approving_all`.

    Raises:
        TrainingFailed: matplotlib is not installed, or the file cannot be written.
    """
    drawing = figure()
    axes = drawing.subplots()
    chosen, in_use, approving_all = (outcomes[name] for name in ("chosen", "in_use", "approving_all"))
    odds = 1 / (1 + np.exp(-np.linspace(-EDGE, EDGE, POINTS)))
    by_review, by_block = judged.per_day(odds, chosen.block), judged.per_day(chosen.review, odds)
    # Reviewing or approving nearly all costs so much that in its scale nothing else would be seen.
    seen = [in_use.cost_per_day, *by_review[odds >= chosen.review], *by_block]
    top = HEADROOM * float(np.nanmax(seen)) or 1.0
    axes.plot(odds, by_review, color=REVIEW_COLOUR, label="over the review threshold")
    axes.plot(odds, by_block, color=BLOCK_COLOUR, label="over the block threshold")
    for name, outcome, style in (("thresholds in use", in_use, ":"), ("approving all", approving_all, "--")):
        label = f"{name}: {outcome.cost_per_day:,.0f}{', above' if outcome.cost_per_day > top else ''}"
        axes.axhline(outcome.cost_per_day, color=QUIET_COLOUR, linestyle=style, linewidth=1, label=label)
    for name, threshold, colour, side, away in (
        ("review", chosen.review, REVIEW_COLOUR, "right", -8),
        ("block", chosen.block, BLOCK_COLOUR, "left", 8),
    ):
        if odds[0] <= threshold <= odds[-1]:
            place, text = (threshold, chosen.cost_per_day), f"{name} from {threshold:.4g}"
            axes.plot(*place, "o", color=colour)
            axes.annotate(text, place, (away, -16), textcoords="offset points", ha=side, color=colour)
    axes.set_xscale("logit")
    axes.set_xlim(odds[0], odds[-1])
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("threshold; the other one stays as chosen")
    axes.set_ylabel("cost a day")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.legend(frameon=False)
    try:
        drawing.savefig(path, dpi=150)
    except OSError as error:
        raise TrainingFailed(f"drawing costs: writing {path}: {error.strerror or error}") from error
