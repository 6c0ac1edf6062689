"""headrace models train vision: the bundled detector anew, from pictures of simulated sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.progress import Progress, TextColumn

from connectors.simulators.camera import Site
from models import repository
from models.engine import TrainingFailed
from models.manifest import Manifest, Trained
from models.repository import Repository
from streams.cli.console import counting, terminal
from streams.cli.manifests import manifest_table, today
from streams.cli.roots import root_option
from streams.cli.scenes import CAMERAS, FIRST_UNSEEN, FRAMES_PER_CAMERA, SITES_PER_SEED, simulated_scenes

if TYPE_CHECKING:
    from models.vision.fitting import Progress as Steps
    from models.vision.train import TrainedDetector

FRAMES, EPOCHS = 7_200, 12
UNSEEN_SHARE, MAX_UNSEEN = 15, 480  # one unseen picture for so many, and no more than this
DESCRIPTION = (
    "People, forklifts, cars, signs and machines in pictures of the simulated site camera: for the demo. For real "
    "cameras add a detector that was trained on real pictures."
)


@click.command()
@click.option(
    "--frames",
    type=click.IntRange(min=1, max=200_000),
    default=FRAMES,
    show_default=True,
    help="Pictures to learn from; each takes 0.3 MB of memory.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=EPOCHS, show_default=True, help="Passes over the pictures."
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=1_000), default=0, show_default=True, help="Of sites and weights."
)
@root_option("--output")
def vision(frames: int, epochs: int, seed: int, models: Repository) -> None:
    """Train the site camera's detector on pictures of simulated sites.

    Each dozen pictures shows another site, with three cameras. The figures that the manifest states are those of sites
    that no training sees. The same command gives the same network on one machine. Needs the extra `train`.

    \b
    Examples:
      headrace models train vision
      headrace models train vision --frames 600 --epochs 3 --output my-models
    """
    _import_training()
    models.check_writable("vision")
    with counting(TextColumn("{task.fields[note]}")) as progress:
        trained = _train(frames, epochs, seed, progress)
    how = f"headrace models train vision --frames {frames} --epochs {epochs} --seed {seed}"
    model = models.save(
        trained.onnx, _manifest(models.next_version("vision"), how, frames, seed, trained), trained.golden
    )
    repository.open_engine(model).close()
    terminal().print(manifest_table(model))


def _train(frames: int, epochs: int, seed: int, progress: Progress) -> TrainedDetector:
    from models.vision.fitting import FitSettings
    from models.vision.scenes import SceneSet, collect
    from models.vision.train import train

    settings, judged = FitSettings(seed=seed, epochs=epochs), _unseen(frames)
    shape = settings.shape

    def scenes(count: int, first_site: int, what: str) -> SceneSet:
        drawing = progress.add_task(f"drawing {what} pictures", total=count, note="")
        pictures = simulated_scenes(count, first_site)
        return collect(progress.track(pictures, task_id=drawing), count, shape.width, shape.height)

    unseen = scenes(judged, FIRST_UNSEEN, "unseen")
    learned = scenes(frames, SITES_PER_SEED * (seed + 1), "training")
    training = progress.add_task("training steps", note="")
    judging = progress.add_task("judging", total=judged, note="")

    def on_step(steps: Steps) -> None:
        progress.update(training, total=steps.total, completed=steps.done, note=f"loss {steps.loss:.3f}")

    return train(learned, unseen, Site.labels, settings, on_step, lambda done: progress.update(judging, completed=done))


def _unseen(frames: int) -> int:
    """How many pictures the network is judged by: at least those of one site."""
    return max(CAMERAS * FRAMES_PER_CAMERA, min(MAX_UNSEEN, frames // UNSEEN_SHARE))


def _manifest(version: int, how: str, frames: int, seed: int, trained: TrainedDetector) -> Manifest:
    import msgspec

    on = (
        f"{frames} pictures of the simulated site camera, sites {SITES_PER_SEED * (seed + 1)} and on; quality is that "
        f"of {_unseen(frames)} pictures of sites {FIRST_UNSEEN} and on, on which nothing was chosen"
    )
    return msgspec.structs.replace(
        trained.manifest,
        name="vision",
        version=version,
        description=DESCRIPTION,
        licence="Apache-2.0",
        trained=Trained(how, on, seed, today()),
    )


def _import_training() -> None:
    try:
        import models.vision.train  # noqa: F401 - what is missing is said before a long simulation, not after it
    except ImportError as error:
        raise TrainingFailed(
            f"training vision: importing {error.name} failed; install what training needs: pip install "
            "'headrace[train]'"
        ) from error
