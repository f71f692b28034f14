"""Writes the metrics of each epoch for TensorBoard."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ffdi.core.errors import ConfigError
from ffdi.training.state import EpochRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NAMES = {
    "train_loss": "loss/train",
    "heldout_loss": "loss/heldout",
    "heldout_auc": "AUC/heldout",
    "heldout_accuracy": "accuracy/heldout",
    "lr": "rate/learning rate",
    "images_per_second": "rate/images per second",
}
"""The name of a curve, by the attribute of an EpochRecord."""


def check_installed() -> None:
    """Raises ConfigError without TensorBoard."""
    if find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard: TensorBoard is not installed", hint="pip install -e '.[tensorboard]'")


class Writers:
    """Event files, in a folder for each fold."""

    def __init__(self) -> None:
        self._writers: dict[Path, SummaryWriter] = {}

    def add_epoch(self, folder: Path, record: EpochRecord) -> None:
        """Adds an epoch to the curves in a folder, and flushes the file."""
        if folder not in self._writers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter

                self._writers[folder] = SummaryWriter(str(folder))
        values = asdict(record)
        for attribute, name in NAMES.items():
            if values[attribute] is not None:
                self._writers[folder].add_scalar(name, values[attribute], record.epoch + 1)
        self._writers[folder].flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
