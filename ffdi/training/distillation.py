"""Soft targets from teachers and pseudo-labels, for one logit; and a teacher's features.

Hinton et al., Distilling the Knowledge in a Neural Network (2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import torch
from torch.nn import functional

from ffdi.config.schema import Config
from ffdi.data.loading.loader import Batch, TrainBatches
from ffdi.training.optim import Loss


class TeacherFeatures(NamedTuple):
    """A file with features of a teacher, for the training images.

    Attributes:
        path: of safetensors: 'fold_0' and so on, the features of all images by each fold's network, float16 [N, D].
    """

    path: Path

    def take(self, fold: int, fold_of: np.ndarray) -> np.ndarray:
        """The features that a fold's network learns: float16 [M, D].

        They are those of the same fold's teacher, which has not seen the held-out images either. The network on all
        images learns those of the teacher that has not seen the image.

        Args:
            fold: k for the network on all images.
            fold_of: int64 [N], the fold that holds each training image out.
        """
        with safetensors.safe_open(self.path, "np") as file:
            folds = len(file.keys())
            if fold < folds:
                return np.asarray(file.get_tensor(f"fold_{fold}")[fold_of != fold])
            parts = [file.get_tensor(f"fold_{number}") for number in range(folds)]
        return np.stack([parts[number][row] for row, number in enumerate(fold_of.tolist())])


class FeatureBatches:
    """Batches of images with a teacher's features.

    Args:
        batches: of images.
        features: float16 [N, D], by row of the table of the batches; more rows, of images without labels, have none.
    """

    def __init__(self, batches: TrainBatches, features: np.ndarray) -> None:
        self._batches, self._features = batches, features

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def fake_fraction(self) -> float:
        return self._batches.fake_fraction

    def iterate_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self._batches.iterate_epoch(epoch, start):
            found = self._features.take(batch.index.numpy(), axis=0, mode="clip")
            yield batch._replace(soft_features=torch.from_numpy(found))

    def list_names(self, index: Sequence[int]) -> list[str]:
        return self._batches.list_names(index)


def make_soft_targets(logits: torch.Tensor, target: torch.Tensor, config: Config) -> torch.Tensor:
    """The probabilities of other networks, those of teachers at the temperature.

    Args:
        logits: of these networks, float32 [B]; NaN where there are none.
        target: labels float32 [B], NaN for images without labels, whose logits are pseudo-labels.
        config: has the temperature.

    Returns:
        float32 [B], NaN where there are none.
    """
    return torch.sigmoid(logits / _choose_temperature(target, config))


def compute_loss(
    criterion: Loss, logits: torch.Tensor, target: torch.Tensor, soft: torch.Tensor, config: Config
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss on labels, and the loss to be minimized.

    Of an image with both targets, the second has the two losses in the shares of `distill.weight`; without a soft
    target, that on the label; without a label, that on the pseudo-label times `pseudo_labels.weight`. The loss on a
    teacher's score is the cross entropy at the temperature T, times T ** 2, so that its gradients keep their size.

    Args:
        criterion: the loss on labels.
        logits: float32 [B].
        target: float32 [B] in [0, 1]; NaN without a label.
        soft: float32 [B], of `make_soft_targets`.
        config: has the weights and the temperature.

    Returns:
        Two float32 []: the mean over images with labels, and over all images.
    """
    known, labelled, temperature = ~soft.isnan(), ~target.isnan(), _choose_temperature(target, config)
    label = torch.where(labelled, target, soft)
    entropy = functional.binary_cross_entropy_with_logits(
        logits / temperature, torch.where(known, soft, label), reduction="none"
    )
    weight = torch.where(labelled, config.distill.weight, config.pseudo_labels.weight)
    on_soft = torch.where(known, weight * temperature**2 * entropy, torch.zeros_like(entropy)).mean()
    share = torch.where(known, 1 - config.distill.weight, 1.0) * labelled
    on_labels = criterion(logits, label, labelled.float()) / labelled.float().mean().clamp(min=1 / len(logits))
    return on_labels, criterion(logits, label, share) + on_soft


def compute_feature_loss(
    features: torch.Tensor, taught: torch.Tensor, target: torch.Tensor, soft: torch.Tensor
) -> torch.Tensor:
    """1 - cosine of the features of both networks.

    Args:
        features: of the student, float [B, D].
        taught: of the teacher, float [B, D].
        target: labels float32 [B]; NaN without a label.
        soft: float32 [B], of `make_soft_targets`; NaN for images that the teacher has not seen, such as pseudo-fakes.

    Returns:
        float32 [], the sum over images that the teacher has scored, divided by the number of all images.
    """
    known = ~(target.isnan() | soft.isnan())
    distance = 1 - functional.cosine_similarity(features.float(), taught.float(), dim=1)
    return torch.where(known, distance, torch.zeros_like(distance)).mean()


def _choose_temperature(target: torch.Tensor, config: Config) -> torch.Tensor:
    """That of the teachers for images with labels, else 1: float32 [B]."""
    return torch.where(target.isnan(), 1.0, config.distill.temperature)
