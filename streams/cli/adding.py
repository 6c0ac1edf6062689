"""headrace models add: a network of one's own, from a file or an https address, as a version of a model."""

from __future__ import annotations

import hashlib
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from models.manifest import SHA256
from streams.cli.console import file_name, pairs, summary, terminal
from streams.cli.manifests import manifest_table
from streams.cli.roots import parse_reference, root_option
from streams.cli.vision_options import Vision, name_of, vision_options

if TYPE_CHECKING:
    from models.adding import About
    from models.manifest import Manifest
    from models.repository import Repository

NO_LICENCE = "not stated"


def _thresholds(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for name, text in pairs(context, parameter, values).items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise click.BadParameter(f"expected a number for {name}, got {text!r}", context, parameter)
    return found


def _sha256(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not SHA256.fullmatch(text.lower()):
        raise click.BadParameter(f"expected 64 hexadecimal digits, got {text!r}", context, parameter)
    return text and text.lower()


@click.command()
@click.argument("source", metavar="FILE|URL")
@click.argument("name", required=False)
@click.option("--sha256", callback=_sha256, help="What the file must have; required for a URL.")
@click.option("--description", help="What the model does, in a sentence.")
@click.option("--licence", help="Under which licence it may be used, e.g. Apache-2.0.")
@click.option("--label", "labels", multiple=True, help="Name of a class, in the network's order; repeat it.")
@click.option("--threshold", "thresholds", multiple=True, callback=_thresholds, metavar="NAME=NUMBER",
              help="A threshold that its pipeline uses, e.g. review=0.1; repeat it.")  # fmt: skip
@click.option("--state", help="What the network expects of its pipeline's state.")
@click.option("--like", metavar="NAME/VERSION",
              help="Take labels, thresholds, baseline and state, if not given, from this version.")  # fmt: skip
@click.option("--golden", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.npz",
              help="A batch of inputs, and the outputs that must come of it.  [default: made up]")  # fmt: skip
@vision_options
@root_option()
def add(
    source: str,
    name: str | None,
    sha256: str | None,
    description: str | None,
    licence: str | None,
    labels: tuple[str, ...],
    thresholds: dict[str, float],
    state: str | None,
    like: str | None,
    golden: Path | None,
    vision: Vision | None,
    models: Repository,
) -> None:
    """Add an ONNX network as the next version of the model NAME, or as the first of a new one.

    It is checked before it is kept: ONNX Runtime must load it, the first axis of every tensor must be free (the
    batch), weights in other files must lie below its own folder, and on a golden batch it must give finite numbers,
    the same for a row alone as in its batch. It does not replace what serves. A network that is there already becomes
    a version again where it is to be read in another way: with other labels, thresholds or options of --task.

    On a terminal you are asked for a description and a licence that you did not give; the manifest says that you gave
    none where there is nobody to ask. Arrays in the .npz are named as the network's tensors are.

    With --task, the network looks at pictures: a detector's objects or a classifier's classes. How a picture becomes
    its input and which family its outputs are of is found out from their shapes and values, or asked: --family and
    --outputs say it. NAME may be left out. A batch axis that the export froze is freed where its graph allows it.

    \b
    Examples:
      headrace models add yolox_nano.onnx --task detect --labels coco.names
      headrace models add yolov8n.onnx yard --task detect --labels yard.txt --score 0.4
      headrace models add cells.onnx --task classify --labels cells.txt --activation sigmoid --tile
      headrace models add churn.onnx churn --licence Apache-2.0 --description "Will a customer leave?"
      headrace models add mine.onnx fraud --like fraud/2 --licence Proprietary --description "Ours, of May"
      headrace models add https://models.example.com/churn.onnx churn --sha256 9f86d0...
    """
    from models import adding, inspection

    name = name_of(name, source, vision)
    remote = "://" in source
    if remote and sha256 is None:
        raise click.UsageError("a URL needs --sha256: what is fetched must be what you chose")
    example = _example(models, like)
    labels = labels or (vision.labels if vision else ()) or example.labels
    with _local(models, source, sha256) as (path, origin):
        onnx = adding.read_network(path, sha256)
    network = inspection.inspect(onnx, origin, any_batch=vision is not None)
    given = None if golden is None else adding.read_golden(golden, network)
    prepared = None if vision is None else vision.prepare(network, origin, labels, thresholds, given)
    if prepared is not None:
        network = prepared.served.network
    about = adding.About(
        description=description or "",
        licence=licence or "",
        source=origin,
        state=example.state if state is None else state,
        labels=labels,
        thresholds=thresholds or example.thresholds,
        baseline=example.baseline,
    )
    about = about if vision is None else vision.about(about, prepared)
    for same in models.alike(name, hashlib.sha256(network.onnx).hexdigest()):
        if _read_alike(same, about):
            summary(f"{name}/{same.version} is this network already; nothing was changed")
            return
    batch = adding.golden_batch(network, origin, given) if prepared is None else prepared.golden
    asks = sys.stdin.isatty()
    if asks and not (description and licence):
        summary(f"{origin}: {', '.join(map(str, network.inputs))} to {', '.join(map(str, network.outputs))}")
    about = replace(
        about,
        description=description or _said("what it does", f"Added from {origin}.", asks),
        licence=licence or _said("licence", NO_LICENCE, asks),
    )
    model = adding.add(models, name, network, batch, about)
    terminal().print(manifest_table(model))
    if prepared is not None and prepared.served.how:
        summary(f"{origin}: {prepared.served.how}")
    if prepared is not None and prepared.assumed:
        summary(f"{origin}: {prepared.assumed}")
    serving = models.default(name)
    if serving != model.version:
        summary(f"{name}/{serving} serves as before; {model.reference} does when it is asked for by its number")


def _read_alike(same: Manifest, about: About) -> bool:
    """Whether a version of the same network would be fed and read as the one to be added, by the same thresholds."""
    return all(
        getattr(same, key) == getattr(about, key)
        for key in ("task", "picture", "head", "labels", "thresholds", "baseline", "state")
    )


def _said(question: str, default: str, asks: bool) -> str:
    """What somebody answers, or the default where nobody is there to be asked."""
    return str(click.prompt(question, default, err=True)) if asks else default


def _example(models: Repository, like: str | None) -> About:
    """What --like says."""
    from models.adding import About

    if like is None:
        return About("", "")
    name, version = parse_reference(like)
    manifest = models.manifest(name, models.default(name) if version is None else version)
    return About(
        "", "", state=manifest.state, labels=manifest.labels, thresholds=manifest.thresholds, baseline=manifest.baseline
    )


@contextmanager
def _local(models: Repository, source: str, sha256: str | None) -> Iterator[tuple[Path, str]]:
    """The file, fetched where it is a URL, and where it comes from as the manifest may say it."""
    if "://" not in source:
        path = Path(source).expanduser()
        yield path, file_name(path)
        return
    from connectors.https import check_address, fetch
    from models.repository import MAX_ONNX_BYTES

    address = check_address(source)
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder, _downloading() as progress:
        path = Path(folder) / "model.onnx"
        task = progress.add_task("fetching", total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        fetch(source, path, sha256 or "", MAX_ONNX_BYTES, show)
        progress.stop()
        yield path, address


def _downloading() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=terminal(stderr=True),
    )
