"""headrace models evaluate vision: a detector beside what people marked in pictures."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.selection import AUTO, ENGINES
from streams.cli.console import counting, summary
from streams.cli.roots import parse_reference, root_option

if TYPE_CHECKING:
    from models.repository import Repository

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--model", "reference", required=True, metavar="NAME[/VERSION]", help="A model with the task detect.")
@click.option("--images", type=_FOLDER, required=True, help="Folder of pictures.")
@click.option("--labels", type=_FOLDER, required=True, help="Folder of YOLO label files; may be the same.")
@click.option("--engine", type=click.Choice([AUTO, *ENGINES]), default=AUTO, show_default=True, help="What runs it.")
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object.")
@root_option()
def vision(reference: str, images: Path, labels: Path, engine: str, as_json: bool, models: Repository) -> None:
    """Run a detector over pictures and compare what it finds with what people marked in them.

    A label file is named like its picture and has a line `class cx cy w h` for each object: the number of its label,
    from 0, then centre and size in shares of the picture. A picture without one has nothing in it. Folders in the
    folders are not looked into. All that scores 0.001 or more is judged, whatever the model's own threshold. Needs the
    extra `vision`.

    \b
    ap     mean of the average precisions at overlaps of 0.50, 0.55, ... 0.95, as COCO computes it
    ap50   average precision at an overlap of 0.50

    \b
    Example:
      headrace models evaluate vision --model yolox_nano --images val/images --labels val/labels --json
    """
    from models.selection import EngineOptions, open_engine
    from models.vision.detector import Detector
    from models.vision.evaluate import evaluate, read_marked, unmatched

    model = models.load(*parse_reference(reference))
    Detector(model.manifest)  # says so where it is none
    marked = read_marked(images, labels, model.manifest.labels)
    if left_out := unmatched(marked, labels):
        summary(
            f"{labels}: label files without a picture in {images}: {len(left_out):,}, such as {left_out[0].name}; what "
            "is marked in them is not judged"
        )
    serving = open_engine(model, engine, EngineOptions(threads=os.cpu_count() or 1)).engine
    try:
        with counting() as progress:
            bar = progress.add_task("pictures", total=len(marked))
            judged = evaluate(model.manifest, serving, marked, lambda done: progress.update(bar, completed=done))
    finally:
        serving.close()
    summary(
        f"{model.reference} on {serving.name}: AP {judged.ap:.3f}, AP50 {judged.ap50:.3f}, over {judged.objects:,} "
        f"objects in {judged.pictures:,} pictures"
    )
    if as_json:
        answer = {"ap": round(judged.ap, 4), "ap50": round(judged.ap50, 4)}
        answer |= {"images": judged.pictures, "objects": judged.objects}
        sys.stdout.write(json.dumps(answer) + "\n")
