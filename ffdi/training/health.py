"""Symptoms of a failing training, each with advice."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.special import stdtrit

from ffdi.config.schema import TrainConfig
from ffdi.core.errors import TrainingError, format_count
from ffdi.evaluation import intervals
from ffdi.evaluation.intervals import Units

CONSTANT = 1e-3
"""The standard deviation of probabilities below which a network has collapsed."""
PATIENCE = 0.5
"""The fraction of the epochs after which a network must score better than chance."""
MIN_AUC = 0.55
"""The held-out AUC that the lower end of its interval must reach."""
PROBED = 16
"""Images that are augmented twice before a training; the two results must differ."""


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
    config: TrainConfig,
    epoch: int,
    train_loss: float,
    prior_loss: float,
    heldout: tuple[np.ndarray, np.ndarray] | None,
    *,
    unseen_kinds: bool = False,
) -> HealthWarning | None:
    """Checks the losses and scores of an epoch; returns None without symptoms, and in the first epochs.

    Args:
        config: for the advice.
        epoch: from 0.
        train_loss: the mean of the epoch.
        prior_loss: of a network that gives each image the same score, see `optim.compute_prior_loss`.
        heldout: labels int64 [N] and scores float64 [N] of the held-out fold; None if there is none.
        unseen_kinds: whether the held-out fakes are of kinds that are not trained on: chance is no symptom then.
    """
    if epoch < max(1, ceil(config.warmup_epochs)) and epoch + 1 < config.epochs:
        return None
    advice = f"lower train.lr (try {config.lr / 10:g}), raise train.warmup_epochs"
    if heldout is not None and heldout[1].std() < CONSTANT:
        symptom = f"all held-out images have nearly the same score, {heldout[1].mean():.3f}: the network has collapsed"
        return HealthWarning({"constant": symptom}, advice)
    if epoch + 1 < PATIENCE * config.epochs:
        return None
    symptoms = {} if unseen_kinds or heldout is None else _check_heldout(*heldout)
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
            f"augmentation repeats itself: {format_count(len(first), 'image')} are the same in two epochs",
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
