"""How far the training of a fold is: the content of progress.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ffdi.core import manifests
from ffdi.core.errors import ExperimentError
from ffdi.experiments.fold import FoldFolder, Identity

CURVES = ("epoch", "train_loss", "heldout_loss", "heldout_auc", "seconds")
"""The columns of history.csv that are known while a fold trains."""


@dataclass(frozen=True)
class Finding:
    """The symptoms of a failing training after an epoch.

    Attributes:
        epoch: from 1.
        symptoms: sentences.
        advice: changes to config.toml to try.
    """

    epoch: int
    symptoms: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Progress:
    """How far the training of a fold is.

    Attributes:
        epochs: of the whole training.
        epoch: the number of completed epochs.
        step, steps: the completed steps of the current epoch, and all of them; 0 before its first step.
        history: `CURVES` of each completed epoch, as in history.csv; empty once that file is written. None where a
            score is unknown.
        findings: of all epochs.
        ended: why the training has ended before its last epoch; '' while it trains, and at its end.
    """

    epochs: int
    epoch: int = 0
    step: int = 0
    steps: int = 0
    history: tuple[Mapping[str, float | None], ...] = ()
    findings: tuple[Finding, ...] = ()
    ended: str = ""

    @property
    def done(self) -> float:
        """Completed epochs, with the completed part of the current one."""
        return self.epoch + (self.step / self.steps if self.steps else 0.0)


def write_progress(folder: FoldFolder, progress: Progress, identity: Identity, folds_digest: str) -> None:
    """Publishes progress.json; errors as in `files.open_atomic`."""
    owner = folder.describe_owner(identity, folds_digest)
    manifests.write_manifest(folder.progress_path, {**owner, "progress": asdict(progress)})


def read_progress(folder: FoldFolder, identity: Identity, folds_digest: str) -> Progress | None:
    """Reads progress.json; None if there is none, or if it is that of another training.

    Raises:
        ExperimentError: it is damaged, or was written by another version of ffdi.
    """
    if not folder.progress_path.is_file():
        return None
    content = manifests.read_manifest(folder.progress_path, {"progress": dict})
    if any(content.get(key) != value for key, value in folder.describe_owner(identity, folds_digest).items()):
        return None
    return _parse(content["progress"], folder)


def _parse(content: dict[str, Any], folder: FoldFolder) -> Progress:
    try:
        findings = tuple(Finding(one["epoch"], tuple(one["symptoms"]), one["advice"]) for one in content["findings"])
        return Progress(**{**content, "history": tuple(content["history"]), "findings": findings})
    except (KeyError, TypeError):
        raise ExperimentError(f"{folder.progress_path} was not written by this version of ffdi") from None
