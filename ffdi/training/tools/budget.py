"""The epochs that fit into a time: measures a few steps, and estimates the time of a training from them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ffdi.config.schema import MAX_EPOCHS, Config
from ffdi.core import signals
from ffdi.data.loading import dataset, loader
from ffdi.data.loading.loader import Batch, Batches
from ffdi.models.detector import Scorer
from ffdi.training import optim, predict
from ffdi.training.loop import train_step, update_ema
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState

WARMUP_STEPS = 3
"""The first steps are slower, and are not measured."""
LEAST_STEPS, ENOUGH_SECONDS = 5, 8.0
"""Steps are measured until there are so many, and so much time has passed."""
START_SECONDS = 5.0
"""Until the first step of a fold: its process, its network and its first batch."""
SHARE = 0.9
"""Part of a time that is planned for; measured steps are few, and other programs may need the machine later."""


@dataclass(frozen=True)
class Costs:
    """How long the parts of a training take on one device, in seconds.

    Attributes:
        step: by the edge of its images in pixels: model.size, and train.start_size if it is set.
        evaluation: for an image of the held-out fold, after an epoch.
        scoring: for an image at the end of a fold, with test-time augmentation.
    """

    step: dict[int, float]
    evaluation: float
    scoring: float

    def estimate_step(self, edge: int) -> float:
        """A step with images of an edge between the measured ones; its time grows with their pixels."""
        small, large = min(self.step), max(self.step)
        if edge >= large:
            return self.step[large]
        share = (edge**2 - small**2) / (large**2 - small**2)
        return self.step[small] + share * (self.step[large] - self.step[small])


@dataclass(frozen=True)
class Forecast:
    """How long the folds of an experiment take.

    Attributes:
        costs: on the device of a fold.
        steps: of an epoch.
        heldout: images of a held-out fold.
        val: images of the validation split, which each fold scores at its end.
        rounds: folds that are trained one after the other.
    """

    costs: Costs
    steps: int
    heldout: int
    val: int
    rounds: int

    @classmethod
    def count_work(cls, costs: Costs, training: Batches, *, k: int, val: int, rounds: int) -> Forecast:
        """The forecast for `k` folds of the images of `training`."""
        return cls(costs, -(-len(training) * (k - 1) // k), -(-training.rows // k), val, rounds)

    def estimate_seconds(self, config: Config) -> float:
        """The time for the epochs and image sizes of a config."""
        costs, epochs, size = self.costs, config.train.epochs, config.model.size
        steps = sum(costs.estimate_step(dataset.choose_size(config.train, size, epoch)) for epoch in range(epochs))
        evaluations = epochs * self.heldout * costs.evaluation
        end = (self.heldout + self.val) * costs.scoring
        return self.rounds * (START_SECONDS + self.steps * steps + evaluations + end)

    def choose_epochs(self, config: Config, seconds: float) -> int:
        """The most epochs that fit into a time; 0 if not even one does."""
        return bisect_right(
            range(1, MAX_EPOCHS + 1), seconds, key=lambda epochs: self.estimate_seconds(config.with_epochs(epochs))
        )


def measure_costs(state: TrainingState, training: Batches, heldout: Batches, config: Config, device: Device) -> Costs:
    """Trains some steps and scores some images.

    Args:
        state: before its first step; unusable afterwards.
        training: shuffled, augmented batches, of `config`.
        heldout: some images without augmentation.
        config: of MAX_EPOCHS epochs, so that images have train.start_size in the first ones.
        device: of the model.

    Raises:
        Interrupted: this process received a signal.
        DataError: an image is unreadable.
    """
    optim.set_frozen(state.detector.backbone, False)
    criterion = optim.create_loss(config.train, training.fake_fraction)

    def run_step(batch: Batch) -> None:
        signals.raise_if_interrupted()
        train_step(state.detector, state, batch, criterion, config, device)
        update_ema(state)

    step: dict[int, float] = {}
    for epoch in (0, MAX_EPOCHS):
        edge = dataset.choose_size(config.train, config.model.size, epoch)
        if edge not in step:
            step[edge] = _measure_steps(device.send_batches(training.repeat_epochs(epoch)), run_step, device)
    network = state.eval_model.eval()
    evaluation = _measure_scoring(Scorer(network, "none"), heldout, device)
    return Costs(step, evaluation, _measure_scoring(Scorer(network, config.predict.tta), heldout, device))


def _measure_steps(batches: Iterator[Batch], run_step: Callable[[Batch], None], device: Device) -> float:
    """Seconds of a step, the wait for its batch included."""
    for _ in range(WARMUP_STEPS + loader.PREFETCHED * device.workers):
        run_step(next(batches))
    device.synchronize()
    started, steps = time.perf_counter(), 0
    while steps < LEAST_STEPS or time.perf_counter() - started < ENOUGH_SECONDS:
        run_step(next(batches))
        steps += 1
    device.synchronize()
    return (time.perf_counter() - started) / steps


def _measure_scoring(scorer: Scorer, images: Batches, device: Device) -> float:
    """Seconds for an image; the first time, which does not count, starts the loader's workers."""
    for _ in range(2):
        started = time.perf_counter()
        predict.predict_logits([scorer], images, device)
    return (time.perf_counter() - started) / images.rows
