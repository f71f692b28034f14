"""Symptoms of a failing training, and of a device that waits for images, each with advice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from ffdi.config.schema import Config, TrainConfig
from ffdi.core.errors import TrainingError
from ffdi.data.loading.loader import Batch
from ffdi.evaluation import intervals
from ffdi.evaluation.intervals import Units
from ffdi.training.runtime.device import Device, Moment, compute_seconds

CONSTANT = 1e-3
"""The standard deviation of probabilities below which a network has collapsed."""
PATIENCE = 0.5
"""The fraction of the epochs after which a network must score better than chance."""
MIN_AUC = 0.55
"""The held-out AUC that the lower end of its interval must reach."""
PROBED = 16
"""Images that are augmented twice before a training; the two results must differ."""
IDLE = 0.1
"""The share of its time that a device may wait for images without a warning."""
ROUNDS = 4
"""Batches of each loader worker that a pace covers at least: workers that start together deliver together."""
PACES = 10
"""Paces of a training that are looked at: the first ones still have the batches that were made during the start."""


@dataclass(frozen=True)
class HealthWarning:
    """The symptoms after an epoch.

    Attributes:
        symptoms: a sentence by kind: 'constant', 'underfit', 'below_chance', 'at_chance', 'majority_class' or
            'worse_than_prior'.
        advice: changes to config.toml to try.
    """

    symptoms: dict[str, str]
    advice: str


def check_epoch(
    config: TrainConfig, epoch: int, train_loss: float, prior_loss: float, target: np.ndarray, y_pred: np.ndarray
) -> HealthWarning | None:
    """Checks the losses and scores of an epoch; returns None without symptoms, and in the first epochs.

    Args:
        config: for the advice.
        epoch: from 0.
        train_loss: the mean of the epoch.
        prior_loss: of a network that gives each image the same score, see `optim.compute_prior_loss`.
        target, y_pred: int64 and float64 [N], of the held-out fold.
    """
    if epoch < max(1, ceil(config.warmup_epochs)) and epoch + 1 < config.epochs:
        return None
    advice = f"lower train.lr (try {config.lr / 10:g}), raise train.warmup_epochs"
    if y_pred.std() < CONSTANT:
        symptom = f"all held-out images have nearly the same score, {y_pred.mean():.3f}: the network has collapsed"
        return HealthWarning({"constant": symptom}, advice)
    if epoch + 1 < PATIENCE * config.epochs:
        return None
    symptoms = _check_heldout(target, y_pred)
    if config.hard_example_fraction == 1 and train_loss >= prior_loss:  # the prior has no hard examples
        symptoms["underfit"] = (
            f"the training loss {train_loss:.4f} is not below {prior_loss:.4f}, the loss of the prior"
        )
    return HealthWarning(symptoms, f"{advice}, or train longer") if symptoms else None


def _check_heldout(target: np.ndarray, y_pred: np.ndarray) -> dict[str, str]:
    """Symptoms of the held-out scores; none if there are too few images for intervals."""
    units = Units(target, None)
    if units.lacking:
        return {}
    low, high = intervals.estimate_auc_interval(units, intervals.compute_misranked(target, y_pred))
    if low >= MIN_AUC:
        return {}
    symptoms = {}
    if high < 0.5:
        inverted = (
            f"the held-out AUC is below chance ({low:.3f} to {high:.3f}): check that target 1 means fake everywhere"
        )
        return {"below_chance": inverted}
    if low <= 0.5:
        symptoms["at_chance"] = f"the held-out AUC does not differ from chance ({low:.3f} to {high:.3f})"
    most = max(target.mean(), 1 - target.mean())
    right = (y_pred > 0.5) == target
    least, greatest = intervals.estimate_share_interval(units, right)
    if least <= most:
        symptoms["majority_class"] = (
            f"the held-out accuracy {right.mean():.3f} ({least:.3f} to {greatest:.3f}) does not differ from "
            f"{most:.3f}, the fraction of the larger class"
        )
    loss, surplus = _compare_heldout_loss(units, y_pred)
    if surplus > 0:
        symptoms["worse_than_prior"] = (
            f"the held-out loss {loss:.4f} is above the loss of the prior, and the AUC is hardly better than chance "
            f"({low:.3f} to {high:.3f})"
        )
    return symptoms


def check_draws(first: np.ndarray, second: np.ndarray) -> None:
    """Checks that augmentation uses other random numbers in each epoch.

    Args:
        first, second: uint8 [B, S, S, 3], the same images in two epochs.

    Raises:
        TrainingError: no image differs.
    """
    if np.array_equal(first, second):
        raise TrainingError(
            f"augmentation repeats itself: {len(first)} images are the same in two epochs",
            hint="report this with the versions of albumentations and numpy; augment.recipe = 'none' trains without "
            "augmentation",
        )


def _compare_heldout_loss(units: Units, y_pred: np.ndarray) -> tuple[float, float]:
    """The mean loss in nats, and the lower end of the 95 % interval of its excess over the loss of the prior."""
    step = np.finfo(np.float64).eps
    loss, prior = (
        -np.log(np.where(units.fake, one, 1 - one))
        for one in (np.clip(y_pred, step, 1 - step), np.full(len(y_pred), units.fake.mean()))
    )
    surplus = loss - prior
    spread = units.estimate_spread(units.center(surplus) / len(surplus))
    reach = stdtrit(spread.freedom, (1 + intervals.LEVEL) / 2)
    return float(loss.mean()), float(surplus.mean() - reach * np.sqrt(spread.variance))


@dataclass(frozen=True)
class WaitingForData:
    """The device of a training has waited for images.

    Attributes:
        share: of its time, in some steps in a row.
        cure: what would feed it.
    """

    share: float
    cure: str


class Pace(NamedTuple):
    """How a network took images in some steps.

    Attributes:
        images, steps: that it took.
        waiting: seconds in which the device had nothing to do but wait for images.
        computing: the other seconds of these steps.
        asking: seconds in which the host waited for images, or made them itself. A GPU may have computed meanwhile.
    """

    images: int = 0
    steps: int = 0
    waiting: float = 0.0
    computing: float = 0.0
    asking: float = 0.0

    @property
    def share(self) -> float:
        """Of the time, that was waiting."""
        return self.waiting / (self.waiting + self.computing) if self.waiting else 0.0

    def add(self, other: Pace) -> Pace:
        return Pace(
            self.images + other.images,
            self.steps + other.steps,
            self.waiting + other.waiting,
            self.computing + other.computing,
            self.asking + other.asking,
        )

    def compute_core_rate(self, device: Device) -> float:
        """Images per second of one core that makes them, where the network has waited for them.

        Workers then make images all the time, on no more cores than there are; without workers, all threads of the
        training process make a batch when it is asked for.
        """
        if device.workers:
            return self.images / (self.waiting + self.computing) / min(device.workers, device.threads)
        return self.images / self.asking / device.threads

    def count_needed_workers(self, device: Device) -> int:
        """Loader workers, each on a core, that make images as fast as the network takes them."""
        return ceil(self.images / self.computing / self.compute_core_rate(device))


def list_savings(config: Config, device: Device) -> list[str]:
    """Changes to config.toml after which the CPU has less to do for each image."""
    decoded = not config.cache.decoded and config.model.fits_decoded_cache
    on_device = device.kind != "cpu" and config.augment.recipe != "none" and config.model.fits_device_augmentation
    return ["cache.decoded = true"] * decoded + ["augment.device = true"] * (on_device and not config.augment.device)


def describe_cure(pace: Pace, config: Config, device: Device) -> str:
    """What would feed the network, the cheapest first; `pace` is of a device that waits for its loader."""
    needed, savings = pace.count_needed_workers(device), list_savings(config, device)
    if needed <= device.most_workers:
        workers = f"--workers {needed} would feed it ({device.workers} now)"
        return ", or ".join([workers, *(f"{saving} would save work" for saving in savings)])
    lacking = f"loader workers on {needed} cores would feed it, and there are {device.most_workers} to spare"
    return f"{lacking}: {' or '.join(savings or ['a cheaper augment.recipe'])} would save work"


def describe_limit(pace: Pace, config: Config, device: Device) -> str:
    """What the speed of a training depends on, and the cheapest cure."""
    share = f"{100 * pace.share:.0f} %"
    if device.kind == "cpu":
        saving = "".join(f"; {one} would save work" for one in list_savings(config, device) if pace.share > IDLE)
        if device.workers:
            return f"the cores, which loader workers and the network share: it waits {share} of the time{saving}"
        return f"the cores, which make images {share} of the time, and train the network in the rest{saving}"
    rate = f"{pace.images / pace.computing:.0f}"
    if pace.share <= IDLE:
        return f"the network, which takes {rate} images/s, and waits {share} of the time"
    made = f"a core makes {pace.compute_core_rate(device):.0f} images/s, the network takes {rate}"
    return f"data: {made}, and waits {share} of the time; {describe_cure(pace, config, device)}"


class FeedMeter:
    """Measures how long the device of a training waits for images, without waiting for the device.

    The host waits for a batch long before a GPU, to which it has given steps in advance, has nothing to do. So a wait
    counts as far as the GPU was between two steps by its own clock, and the host in the loader by its own.
    """

    def __init__(self, config: Config, device: Device) -> None:
        self._config, self._device = config, device
        self._steps: list[_MeasuredStep] = []
        self._asking = 0.0
        self._start: Moment | None = None
        self._end: Moment | None = None
        self._has_start, self._pace, self._left = True, Pace(), PACES if device.has_clock else 0

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an epoch, in which the time of every step is measured."""
        self._end, self._has_start = None, True
        while True:
            started = time.perf_counter()
            if (batch := next(batches, None)) is None:
                return
            self._asking = time.perf_counter() - started
            self._start = self._device.mark_time()
            yield batch

    def end_step(self, images: int) -> None:
        """The device has got all work of the step for the last batch."""
        assert self._start is not None
        before, self._end = self._end, self._device.mark_time()
        self._steps.append(_MeasuredStep(images, self._asking, before, self._start, self._end))

    def close_window(self) -> Pace:
        """The pace since the last call; the device must have finished all steps."""
        pace = Pace()
        for step in self._steps:
            pace = pace.add(step.compute_pace())
        self._steps.clear()
        if not self._has_start:  # else the workers have just started, and have made nothing ahead
            self._pace = self._pace.add(pace)
        self._has_start = False
        return pace

    def take_warning(self) -> WaitingForData | None:
        """A warning if the device waits, once."""
        if not self._left or self._pace.steps < max(1, ROUNDS * self._device.workers):
            return None
        pace, self._pace, self._left = self._pace, Pace(), self._left - 1
        if pace.share <= IDLE:
            return None
        self._left = 0
        return WaitingForData(pace.share, describe_cure(pace, self._config, self._device))


class _MeasuredStep(NamedTuple):
    """A step on the device, from `start` to `end`.

    Attributes:
        images: of its batch.
        asking: seconds in which the host waited for the batch.
        before: the end of the step before; None for the first of an epoch.
    """

    images: int
    asking: float
    before: Moment | None
    start: Moment
    end: Moment

    def compute_pace(self) -> Pace:
        waiting = self.asking
        if self.before is not None:  # a checkpoint between two steps is no wait for images
            waiting = min(waiting, compute_seconds(self.before, self.start))
        return Pace(self.images, 1, waiting, compute_seconds(self.start, self.end), self.asking)
