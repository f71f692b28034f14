"""Old names of keys, flags, columns and files, each with its new name.

An old name is an error that gives the new name. It is never ignored, and never accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ffdi.core.errors import ExperimentError

KEYS = {
    "train.accumulate": "train.micro_batches",
    "train.ema": "train.ema_decay",
    "train.sam": "train.sam_rho",
    "train.hard_share": "train.hard_example_fraction",
    "train.checkpoint_every": "train.checkpoint_seconds",
    "augment.window": "augment.crop_size",
    "forge.share": "pseudo_fakes.fraction",
    "forge.kinds": "pseudo_fakes.methods",
    "model.residual": "model.noise_residual",
    "cache.pixels": "cache.decoded",
    "blend.experiments": "group.members",
    "blend.grid": "group.grid",
}
"""Keys of config.toml."""
SECTIONS = {"forge": "pseudo_fakes", "blend": "group"}
"""Sections of config.toml."""
FLAGS = {"--ranks": "--gpus-per-fold", "--fresh": "--restart", "--again": "--allow-duplicate"}
COLUMNS = {"val_loss": "heldout_loss", "val_accuracy": "heldout_accuracy", "val_auc": "heldout_auc"}
"""Columns of a fold's history.csv. `val` is the validation split alone."""
FILES = {"sent.json": "submissions.json"}
"""Files in the folder of a submission."""


def refuse_columns(path: Path, columns: Iterable[str]) -> None:
    """Refuses a history.csv with old columns.

    Raises:
        ExperimentError: names the new columns.
    """
    if old := [name for name in columns if name in COLUMNS]:
        raise ExperimentError(
            f"{path} has columns of an earlier version of ffdi",
            problems=[f"{name} is now {COLUMNS[name]}" for name in old],
            hint="train the experiment again: invoke train-folds --restart",
        )


def refuse_files(folder: Path) -> None:
    """Refuses a folder that has a file with an old name, which would be ignored.

    Raises:
        ExperimentError: names the new file.
    """
    for old, new in FILES.items():
        if (folder / old).exists():
            raise ExperimentError(
                f"{folder / old} was written by an earlier version of ffdi; this file is now {new}",
                hint=f"note the submissions in it, then move {old} to another folder",
            )
