"""The features of a teacher for the training images of a student: computed, stored, and given to its batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import torch
from safetensors.numpy import save_file

from ffdi.core import files
from ffdi.core.errors import ExperimentError
from ffdi.data.loading.loader import Batch, ScoredBatches, TrainBatches
from ffdi.models.detector import Detector
from ffdi.training import predict
from ffdi.training.predict import ProgressCallback
from ffdi.training.runtime.device import Device

NETWORKS, IMAGES = "networks", "images"
"""Metadata of the file."""


class TeacherFeatures(NamedTuple):
    """A file with features of a teacher, for the training images.

    Attributes:
        path: of safetensors: 'fold_0' and so on, the features of all images by each fold's network, float16 [N, D].
    """

    path: Path

    def write(self, features: Mapping[int, np.ndarray], networks: str) -> None:
        """Writes the file.

        Args:
            features: of each fold's network, float32 [N, D].
            networks: the hash of their weights.
        """
        tensors = {f"fold_{fold}": one.astype(np.float16) for fold, one in features.items()}
        with files.open_atomic(self.path) as beside:
            save_file(tensors, beside, {NETWORKS: networks, IMAGES: str(len(features[0]))})

    def read_origin(self, hint: str) -> tuple[str, int]:
        """The hash of the networks' weights, and the number of images.

        Args:
            hint: the next step in the error.

        Raises:
            ExperimentError: the file is damaged.
        """
        try:
            with safetensors.safe_open(self.path, "np") as file:
                metadata = file.metadata() or {}
            return metadata[NETWORKS], int(metadata[IMAGES])
        except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ExperimentError(f"{self.path} is damaged: {error}", hint=hint) from None

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


def compute_features(
    network: Detector, batches: ScoredBatches, device: Device, advance: ProgressCallback
) -> np.ndarray:
    """What a training compares, for each image: float32 [N, D], the input of the last layer.

    With top-k pooling it is the mean of the best patches.

    Args:
        network: on the device, in evaluation mode.
        batches: in the table's order.
        device: where the network is.
        advance: called after each batch.

    Raises:
        DataError: an image is unreadable.
    """

    def embed(images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = network(images, features=True)[1]
        return features.float()

    return predict.extract_features(embed, batches, device, advance)
