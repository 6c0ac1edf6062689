"""What `headrace models add` is told of a network of vision."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.table import Table

from models.manifest import NAME
from streams.cli.console import Finite, summary, terminal

if TYPE_CHECKING:
    from models.adding import About, Arrays
    from models.inspection import Network
    from models.vision.adding import Prepared, Wishes
    from models.vision.specs import Head

FAMILIES = (
    "yolox", "yolov6", "yolov5", "yolov8", "end2end", "detr", "rtdetr", "ssd", "nms", "dense", "fastestdet", "gfl",
)  # fmt: skip
PICTURE = ("resize", "align", "fill", "colour", "scale", "mean", "std", "tile")
HEAD = ("activation", "boxes", "columns", "normalised", "combine", "ids")
DETECTORS = ("iou", "boxes", "columns", "normalised")
CLASSIFIERS = ("tile", "combine")
MOST_NAMES = 3  # in a sentence


@dataclass(frozen=True)
class Vision:
    """The options of a network of vision, checked one by one; those that were not given are not there."""

    task: Literal["detect", "classify"]
    labels: tuple[str, ...]
    family: str | None
    outputs: tuple[str, ...]
    size: tuple[int, int] | None
    options: Mapping[str, Any]

    def prepare(
        self,
        network: Network,
        origin: str,
        labels: tuple[str, ...],
        thresholds: Mapping[str, float],
        given: tuple[Arrays, Arrays] | None,
    ) -> Prepared:
        """Try the network on pictures. Raises: ModelError, UsageError."""
        from models.vision.adding import prepare

        labels = self._named(network, origin, labels)
        choose = _choose if sys.stdin.isatty() else None
        return prepare(network, origin, self.task, labels, self._wishes(len(labels), thresholds), choose, given)

    def _named(self, network: Network, origin: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The names given, or those in the file itself; where the two differ, somebody should know."""
        from models.vision.labels import of_metadata

        own = of_metadata(network.structure.metadata)
        if not labels and not own:
            raise click.UsageError(
                f"--task {self.task} needs the names of the classes, which the file does not hold: --labels FILE, or "
                "--label NAME"
            )
        if not labels:
            summary(f"{origin}: its {len(own)} classes are called as the file itself says: {_some(own)}")
            return own
        differing = [(one, other) for one, other in zip(own, labels, strict=False) if one.lower() != other.lower()]
        if differing:
            summary(
                f"{origin}: the file itself calls classes otherwise, such as {_some([one for one, _ in differing])}; "
                f"they are called as you say, {_some([other for _, other in differing])}"
            )
        return labels

    def about(self, about: About, prepared: Prepared | None) -> About:
        """What the manifest says of the network, with what was found out."""
        from models.vision.adding import TOLERANCE

        if prepared is None:
            return about
        return replace(
            about,
            labels=prepared.labels,
            task=self.task,
            picture=prepared.picture,
            head=prepared.head,
            thresholds=about.thresholds | prepared.thresholds,
            golden=TOLERANCE,
        )

    def _wishes(self, labels: int, thresholds: Mapping[str, float]) -> Wishes:
        from models.vision.adding import Wishes

        said = {key: value for key, value in self.options.items() if value is not None}
        if "ids" in said:
            said["ids"] = _ids(said["ids"], labels)
        least: dict[str, float] = {key: said[key] for key in ("score", "iou") if key in said}
        return Wishes(
            family=self.family,
            outputs=self.outputs,
            size=self.size,
            picture={key: said[key] for key in PICTURE if key in said},
            head={key: said[key] for key in HEAD if key in said},
            thresholds=dict(thresholds) | least,
        )


def vision_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--task` and all that goes with it: the argument `vision`, None without a task."""

    @functools.wraps(command)
    def gathered(**arguments: Any) -> Any:
        task = arguments.pop("task")
        family, outputs, size, labels_file = (
            arguments.pop(key) for key in ("family", "outputs", "size", "labels_file")
        )
        options = {key: arguments.pop(key) for key in (*PICTURE, *HEAD, "score", "iou")}
        first_ones = (("family", family), ("outputs", outputs or None), ("size", size))
        given = [key for key, value in (*first_ones, *options.items()) if value is not None]
        if task is None and (given or labels_file is not None):
            first = given[0] if given else "labels"
            first = "pixels" if first == "normalised" and not options["normalised"] else first
            raise click.UsageError(f"--{first} needs --task detect or --task classify")
        if task == "classify" and (family or any(options[key] is not None for key in DETECTORS)):
            raise click.UsageError(
                "--family, --iou, --boxes, --columns, --normalised and --pixels are a detector's: give --task detect"
            )
        if task == "detect" and any(options[key] is not None for key in CLASSIFIERS):
            raise click.UsageError("--tile and --combine are a classifier's: give --task classify")
        if labels_file is not None and arguments["labels"]:
            raise click.UsageError("--labels and --label exclude each other: either names all classes.")
        labels = () if labels_file is None else read_labels(labels_file)
        vision = None if task is None else Vision(task, labels, family, outputs, size, options)
        return command(vision=vision, **arguments)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in a file, as `models.vision.labels.parse` knows them. Raises: BadParameter."""
    from models.vision import labels

    try:
        with path.open("rb") as file:
            return labels.parse(file.read(labels.MAX_BYTES + 1).decode("utf-8-sig"))
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "expected text in UTF-8, one name a line"
    except ValueError as error:
        why = str(error)
    raise click.BadParameter(f"reading {path}: {why}", param_hint="--labels")


def name_of(name: str | None, source: str, vision: Vision | None) -> str:
    """The model's name: the one given, or that of the file, made valid. Raises: UsageError, BadParameter."""
    if name is None:
        if vision is None:
            raise click.UsageError("Missing argument 'NAME'.")
        stem = source.rpartition("/")[2].rpartition(".")[0] or source
        name = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:64]
    if not NAME.fullmatch(name):
        raise click.BadParameter(
            f"expected lower-case letters, digits, _ and -, at most 64, got {name!r}", param_hint="'NAME'"
        )
    return name


def _some(names: Sequence[str]) -> str:
    """A few of them, quoted."""
    return ", ".join(f"`{name}`" for name in names[:MOST_NAMES]) + ", …" * (len(names) > MOST_NAMES)


def _size(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    if found is None:
        raise click.BadParameter(f"expected WIDTHxHEIGHT, e.g. 640x640, got {text!r}", context, parameter)
    return int(found[1]), int(found[2] or found[1])


def _outputs(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def _fraction(text: str) -> float:
    """`0.5` or `1/255`. Raises: ValueError."""
    above, slash, below = text.partition("/")
    value = float(above) / (float(below) if slash else 1.0)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _number(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else _fraction(text)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"expected a number, e.g. 1/255, got {text!r}", context, parameter) from None


def _numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(map(_fraction, filter(None, re.split(r"[,\s]+", text))))
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(
            f"expected numbers, one for each channel, e.g. 0.485,0.456,0.406, got {text!r}", context, parameter
        ) from None


def _ids(text: str, labels: int) -> tuple[int, ...]:
    """`0`, `1`, or `coco91` for the numbers that COCO's annotations use."""
    from models.vision.heads.lists import COCO91

    if text != "coco91":
        return tuple(range(int(text), int(text) + labels))
    if labels != len(COCO91):
        raise click.BadParameter(f"expected COCO's 80 labels with coco91, got {labels}", param_hint="--ids")
    return COCO91


def _choose(heads: Sequence[Head]) -> Head:
    """Ask on the terminal for the family, or for the outputs where there is one family."""
    from models.vision.heads.families import FAMILIES as KNOWN

    families = {head.family for head in heads}
    table = Table(box=None, show_header=False)
    if len(families) > 1:
        summary("the outputs fit several families:")
        names = [head.family for head in heads]
        for head in heads:
            table.add_row(head.family, KNOWN[head.family].outputs)
    else:
        summary(f"several outputs fit {heads[0].family}, {KNOWN[heads[0].family].outputs}:")
        names = [str(place) for place in range(1, len(heads) + 1)]
        for name, head in zip(names, heads, strict=True):
            table.add_row(name, ", ".join(head.tensors))
    terminal(stderr=True).print(table)
    answer = click.prompt("family" if len(families) > 1 else "outputs", type=click.Choice(names), err=True)
    return heads[names.index(answer)]


_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--task", type=click.Choice(["detect", "classify"]), help="What the network sees in pictures."),
    click.option("--labels", "labels_file", type=_PATH, metavar="FILE",
                 help="Names of the classes: one a line, a data.yaml, or JSON.  [default: the network's own, if any]"),
    click.option("--family", type=click.Choice(FAMILIES), help="Of a detector's outputs.  [default: found out]"),
    click.option("--outputs", callback=_outputs, metavar="A,B",
                 help="Which are read, scores before boxes or distances.  [default: found out]"),
    click.option("--size", callback=_size, metavar="WxH", help="Of the input, in pixels.  [default: the network's]"),
    click.option("--resize", type=click.Choice(["letterbox", "stretch", "crop"]),
                 help="Keep a picture's proportions and fill the rest, do not keep them, or cut off what is over.  "
                 "[default: the family's, as for all that follows]"),
    click.option("--align", type=click.Choice(["centre", "top-left"]), help="Where a letterboxed picture stands."),
    click.option("--fill", type=click.IntRange(0, 255), help="What is beside a letterboxed picture."),
    click.option("--colour", type=click.Choice(["rgb", "bgr", "grey"]), help="Order of the channels."),
    click.option("--scale", callback=_number, metavar="NUMBER", help="What pixels are multiplied by, e.g. 1/255."),
    click.option("--mean", callback=_numbers, metavar="R,G,B", help="What is then subtracted, in the colours' order."),
    click.option("--std", callback=_numbers, metavar="R,G,B", help="What it is then divided by."),
    click.option("--score", type=Finite(0, 1), help="The least score of an object."),
    click.option("--iou", type=Finite(0, 1), help="How much two objects of a class may overlap."),
    click.option("--ids", type=click.Choice(["0", "1", "coco91"]),
                 help="What the network's classes begin with, or COCO's 91 numbers with their gaps."),
    click.option("--activation", type=click.Choice(["none", "sigmoid", "softmax"]),
                 help="What makes probabilities of the network's scores."),
    click.option("--boxes", type=click.Choice(["cxcywh", "xyxy", "yxyx"]), help="What a box's four numbers are."),
    click.option("--columns", type=click.Choice(["box-score-class", "box-class-score", "class-score-box"]),
                 help="What a row of a list of objects holds, after the picture's number if it has 7.  "
                 "[default: found out]"),
    click.option("--normalised/--pixels", default=None,
                 help="Whether a box's numbers are shares of the input's sides, or pixels.  [default: found out]"),
    click.option("--tile", is_flag=True, default=None, help="Cut pictures larger than the input into tiles."),
    click.option("--combine", type=click.Choice(["max", "mean"]), help="What the scores of tiles become."),
)  # fmt: skip
