"""Signs that a training leads nowhere, each with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.special import stdtrit

from ffdi.config.schema import TrainConfig
from ffdi.core.errors import TrainingError
from ffdi.evaluation import intervals
from ffdi.evaluation.intervals import Units

CONSTANT = 1e-3
"""Standard deviation of probabilities below which a network tells nothing apart."""
PATIENCE = 0.5
"""The share of the epochs after which a network is expected to have learned something."""
HARDLY = 0.55
"""A held-out AUC that may lie below it is hardly better than chance."""
PROBED = 16
"""Images whose augmentation is looked at before training; that none of them changes between epochs is no chance."""


@dataclass(frozen=True)
class Unhealthy:
    """What is wrong after an epoch, and what to do about it.

    Attributes:
        symptoms: a sentence for each kind: one of VERDICTS.
        advice: the next thing to try.
    """

    symptoms: dict[str, str]
    advice: str


def check_epoch(
    config: TrainConfig, epoch: int, train_loss: float, blind_loss: float, target: np.ndarray, y_pred: np.ndarray
) -> Unhealthy | None:
    """What is wrong after an epoch; None where all is well, or where it is too early to judge.

    Args:
        config: the recipe, whose learning rate the advice is about.
        epoch: from 0.
        train_loss: the epoch's mean.
        blind_loss: of a network that knows only how many training images are fake.
        target, y_pred: int64 and float64 [N], of the held-out fold.
    """
    if epoch < max(1, ceil(config.warmup_epochs)) and epoch + 1 < config.epochs:
        return None
    advice = f"lower train.lr (try {config.lr / 10:g}), raise train.warmup_epochs"
    if y_pred.std() < CONSTANT:
        what = f"every held-out image has nearly the same score, {y_pred.mean():.3f}: the network has collapsed"
        return Unhealthy({"constant": what}, advice)
    if epoch + 1 < PATIENCE * config.epochs:
        return None
    symptoms = _of_held_out(target, y_pred)
    if config.hard_example_fraction == 1 and train_loss >= blind_loss:  # a blind network has no images that are harder
        what = (
            f"the training loss {train_loss:.4f} is no better than {blind_loss:.4f}, that of the share of fakes alone"
        )
        symptoms["underfit"] = what
    return Unhealthy(symptoms, f"{advice}, or train longer") if symptoms else None


def _of_held_out(target: np.ndarray, y_pred: np.ndarray) -> dict[str, str]:
    """What the scores of images that were not trained on suffer from; nothing where they are too few to tell."""
    units = Units(target, None)
    if units.lacking:
        return {}
    low, high = intervals.of_area(units, intervals.misranked(target, y_pred))
    if low >= HARDLY:
        return {}
    symptoms = {}
    if low <= 0.5:
        symptoms["at_chance"] = f"the held-out AUC cannot be told from chance ({low:.3f} to {high:.3f})"
    most = max(target.mean(), 1 - target.mean())
    right = (y_pred > 0.5) == target
    least, greatest = intervals.share(units, right)
    if least <= most:
        symptoms["majority_class"] = (
            f"the held-out accuracy {right.mean():.3f} ({least:.3f} to {greatest:.3f}) cannot be told from "
            f"{most:.3f}, the share of the larger class"
        )
    loss, surplus = _held_out_loss(units, y_pred)
    if surplus > 0:
        symptoms["worse_than_prior"] = (
            f"the held-out loss {loss:.4f} is worse than that of the share of fakes alone, and the AUC hardly better "
            f"than chance ({low:.3f} to {high:.3f})"
        )
    return symptoms


def check_draws(first: np.ndarray, second: np.ndarray) -> None:
    """Refuses augmentation that draws the same again.

    Args:
        first, second: uint8 [B, S, S, 3], the same images as two epochs would see them.

    Raises:
        TrainingError: no image differs.
    """
    if np.array_equal(first, second):
        raise TrainingError(
            f"augmentation repeats itself: {len(first)} images are the same in two epochs",
            hint="report this with the versions of albumentations and numpy; augment.recipe = 'none' goes on without",
        )


def _held_out_loss(units: Units, y_pred: np.ndarray) -> tuple[float, float]:
    """The mean loss in nats, and the low end of the 95 % interval of how much it exceeds that of the share of fakes."""
    step = np.finfo(np.float64).eps
    loss, blind = (
        -np.log(np.where(units.fake, one, 1 - one))
        for one in (np.clip(y_pred, step, 1 - step), np.full(len(y_pred), units.fake.mean()))
    )
    surplus = loss - blind
    spread = units.spread(units.centred(surplus) / len(surplus))
    reach = stdtrit(spread.freedom, (1 + intervals.LEVEL) / 2)
    return float(loss.mean()), float(surplus.mean() - reach * np.sqrt(spread.variance))
