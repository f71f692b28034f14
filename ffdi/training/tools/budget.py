"""The epochs that fit into a time: measures a few steps, and estimates the time of a training from them."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ffdi.config.schema import MAX_EPOCHS, Config
from ffdi.core import signals
from ffdi.data.loading import loader
from ffdi.data.loading.loader import Batch, Batches
from ffdi.models import tuning
from ffdi.models.detector import Detector, Scorer
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
        step: of training.
        evaluation: for an image of the held-out fold, after an epoch.
        scoring: for an image at the end of a fold, with test-time augmentation.
    """

    step: float
    evaluation: float
    scoring: float


@dataclass(frozen=True)
class Forecast:
    """How long the folds of an experiment take.

    Attributes:
        costs: on the device of a fold.
        steps: of an epoch.
        heldout: images of a held-out fold.
        val: images of the validation split, which each fold scores at its end.
        rounds: networks that are trained one after the other.
        more_steps: of an epoch on all images, beyond those of a fold; 0 if there is no such network.
    """

    costs: Costs
    steps: int
    heldout: int
    val: int
    rounds: int
    more_steps: int = 0

    @classmethod
    def count_work(
        cls, costs: Costs, training: Batches, *, k: int, val: int, rounds: int, refit: bool = False
    ) -> Forecast:
        """The forecast for `k` folds of the images of `training`, and with `refit` for a network on all of them."""
        steps = -(-len(training) * (k - 1) // k)
        more = len(training) - steps if refit else 0
        return cls(costs, steps, -(-training.rows // k), val, rounds, more)

    def estimate_seconds(self, epochs: int) -> float:
        """The time for a number of epochs."""
        epoch = self.steps * self.costs.step + self.heldout * self.costs.evaluation
        end = (self.heldout + self.val) * self.costs.scoring
        return self.rounds * (START_SECONDS + epochs * epoch + end) + epochs * self.more_steps * self.costs.step

    def choose_epochs(self, seconds: float) -> int:
        """The most epochs that fit into a time; 0 if not even one does."""
        start, epoch = self.estimate_seconds(0), self.estimate_seconds(1) - self.estimate_seconds(0)
        return min(MAX_EPOCHS, max(0, math.floor((seconds - start) / epoch + 1e-9)))


def measure_costs(state: TrainingState, training: Batches, heldout: Batches, config: Config, device: Device) -> Costs:
    """Trains some steps and scores some images.

    Args:
        state: before its first step; unusable afterwards.
        training: shuffled, augmented batches, of `config`.
        heldout: some images without augmentation.
        config: the experiment's.
        device: of the model.

    Raises:
        Interrupted: this process received a signal.
        DataError: an image is unreadable.
    """
    tuning.set_trainable(state.detector)
    criterion = optim.create_loss(config.train, training.fake_fraction)

    def run_step(batch: Batch) -> None:
        signals.raise_if_interrupted()
        train_step(state.detector, state, batch, criterion, config, device)
        update_ema(state)

    step = _measure_steps(device.send_batches(training.repeat_epochs()), run_step, device)
    network = state.eval_model.eval()
    evaluation = _measure_scoring(Scorer(network, "none"), heldout, device)
    return Costs(step, evaluation, _measure_scoring(Scorer(network, config.predict.tta), heldout, device))


@contextmanager
def keep_cores_busy(others: int, detector: Detector, config: Config, device: Device) -> Iterator[None]:
    """Inside, so many other networks compute on a CPU, as other folds do that are trained at the same time.

    They share memory and caches, so that each of them is slower than one alone. GPUs have their own.
    """
    edge = config.training_size
    images = torch.zeros((config.train.batch_size, edge, edge, 3), dtype=torch.uint8)
    stop = threading.Event()

    def compute(network: Detector) -> None:
        torch.set_num_threads(device.threads)  # each thread of Python has a number of its own
        while not stop.is_set():
            with device.autocast():
                loss = network(images).sum()
            loss.backward()

    networks = [copy.deepcopy(detector).train() for _ in range(others if device.kind == "cpu" else 0)]
    threads = [threading.Thread(target=compute, args=(network,), daemon=True) for network in networks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


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
