"""Curves for TensorBoard, epoch by epoch, while folds are trained."""

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
"""What a curve is called, by the attribute of an EpochRecord."""


def check_installed() -> None:
    """Refuses where there is no TensorBoard.

    Raises:
        ConfigError: how to get it.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard: TensorBoard is not installed", hint="pip install -e '.[tensorboard]'")


class Writers:
    """Writes event files, a folder of them for each fold."""

    def __init__(self) -> None:
        self._writers: dict[Path, SummaryWriter] = {}

    def tell(self, folder: Path, record: EpochRecord) -> None:
        """Adds an epoch, counted from 1, to the curves in a folder; it can be seen at once."""
        if folder not in self._writers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter

                self._writers[folder] = SummaryWriter(str(folder))
        values = asdict(record)
        for attribute, name in NAMES.items():
            self._writers[folder].add_scalar(name, values[attribute], record.epoch + 1)
        self._writers[folder].flush()

    def close(self) -> None:
        """Ends all files."""
        for writer in self._writers.values():
            writer.close()
