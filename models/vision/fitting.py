"""A detector's weights, learned from scenes. Needs torch (extra `train`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from models.vision.augment import augmented
from models.vision.loss import detection_loss, padded
from models.vision.network import DetectorNetwork, Shape
from models.vision.scenes import SceneSet

MAX_GRADIENT = 10.0
AVERAGING_STEPS = 1_000.0  # the weights' moving average forgets over so many steps, fewer at the beginning


@dataclass(frozen=True)
class FitSettings:
    """How a detector is fitted.

    Args:
        shape: of the network.
        seed: of its first weights, the order of scenes and their changes.
        epochs: passes over the scenes.
        batch: scenes a step.
        rate: the highest learning rate; it rises over the first `warm_up` of the steps and falls as a cosine.
        decay: of the weights of convolutions.
        plain: the share of the epochs, the last ones, in which scenes stay as they are.
        threads: of torch; the sums' order depends on them.
    """

    shape: Shape = field(default_factory=Shape)
    seed: int = 0
    epochs: int = 16
    batch: int = 16
    rate: float = 2e-3
    warm_up: float = 0.04
    decay: float = 0.03
    plain: float = 0.12
    threads: int = 2


@dataclass(frozen=True)
class Progress:
    """How far a fit is: steps done and to do, and the loss's moving average."""

    done: int
    total: int
    loss: float


def fit(
    scenes: SceneSet, settings: FitSettings, on_step: Callable[[Progress], None] = lambda _: None
) -> DetectorNetwork:
    """Fit a network to scenes; what comes back is the moving average of its weights, ready to predict.

    Sums are kept in float32, products of convolutions in bfloat16: a third of the time where the processor has them.
    The same scenes and settings give the same weights on one machine and torch version.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        return _fit(scenes, settings, on_step)
    finally:
        torch.set_num_threads(threads)


def _fit(scenes: SceneSet, settings: FitSettings, on_step: Callable[[Progress], None]) -> DetectorNetwork:
    torch.manual_seed(settings.seed)
    network = DetectorNetwork(settings.shape).to(memory_format=torch.channels_last)
    average = _Average(network)
    total = settings.epochs * math.ceil(len(scenes) / settings.batch)
    optimiser = torch.optim.AdamW(_groups(network, settings.decay), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / total, settings.warm_up))
    loss = math.nan
    for done, (pictures, objects) in enumerate(_batches(scenes, settings), 1):
        found = _step(network, optimiser, pictures, objects)
        schedule.step()
        average.take(network)
        loss = found if math.isnan(loss) else 0.98 * loss + 0.02 * found
        on_step(Progress(done, total, loss))
    average.network.eval()
    return average.network


def _step(
    network: DetectorNetwork, optimiser: torch.optim.Optimizer, pictures: Tensor, objects: tuple[Tensor, Tensor, Tensor]
) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        boxes, logits = network.raw(pictures.to(memory_format=torch.channels_last))
    loss = detection_loss(boxes, logits, (network.points, network.strides), objects)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
    optimiser.step()
    return float(loss.detach())


def _batches(scenes: SceneSet, settings: FitSettings) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]:
    """Pictures float32 [n, 3, h, w] and their objects, all epochs, each in an order of its own."""
    rng = np.random.default_rng([settings.seed, 1])
    plain_from = settings.epochs - round(settings.plain * settings.epochs)
    for epoch in range(settings.epochs):
        order = rng.permutation(len(scenes))
        for first in range(0, len(order), settings.batch):
            chosen = [
                _scene(scenes, row, None if epoch >= plain_from else rng)
                for row in order[first : first + settings.batch]
            ]
            pictures = torch.from_numpy(np.stack([picture for picture, _, _ in chosen])).permute(0, 3, 1, 2).float()
            yield pictures, padded([box for _, box, _ in chosen], [label for _, _, label in chosen])


def _scene(scenes: SceneSet, row: int, rng: np.random.Generator | None) -> tuple[np.ndarray, Tensor, Tensor]:
    picture, boxes, labels = scenes.pictures[row], scenes.boxes[row], scenes.labels[row]
    if rng is not None:
        picture, (boxes, labels) = augmented(picture, (boxes, labels), rng)
    return picture, torch.from_numpy(boxes), torch.from_numpy(labels)


def _rate(share: float, warm_up: float) -> float:
    """The learning rate's factor after this share of the steps."""
    if share < warm_up:
        return (share + 1e-3) / (warm_up + 1e-3)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warm_up) / (1 - warm_up))))


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Convolutions shrink, biases and normalisations do not."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


class _Average:
    """The moving average of a network's weights and statistics."""

    def __init__(self, network: DetectorNetwork) -> None:
        self.network = DetectorNetwork(network.shape)
        self.network.load_state_dict(network.state_dict())
        self._steps = 0

    @torch.no_grad()
    def take(self, network: DetectorNetwork) -> None:
        self._steps += 1
        new = 1 - min(1 - 1 / AVERAGING_STEPS, (1 + self._steps) / (10 + self._steps))
        for kept, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(current.float(), new)
