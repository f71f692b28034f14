"""Out-of-fold predictions (oof.csv), from which all scores are computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.core.errors import ExperimentError, format_count
from ffdi.evaluation.score_table import FLOAT

HASH_DIGITS = 12
TARGETS = 1e-6, 1 - 1e-6
"""The smallest and the largest probability of a soft target: logits of -13.8 and 13.8."""
COLUMNS = ("fold", "target", "logit", "weights")
"""The columns of an image, besides its name."""
RETRAIN_HINT = "invoke train-folds writes oof.csv again from the finished folds"


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities float64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


def compute_logits(y_pred: np.ndarray) -> np.ndarray:
    """Probabilities to logits float64, the inverse of `sigmoid`; infinite for 0 and 1."""
    with np.errstate(divide="ignore"):
        logits: np.ndarray = np.log(y_pred) - np.log1p(-y_pred)
    return logits


def compute_target_logits(y_pred: np.ndarray) -> np.ndarray:
    """The same for soft targets: finite, because probabilities are cut to `TARGETS`."""
    return compute_logits(np.clip(y_pred, *TARGETS))


@dataclass(frozen=True)
class OofPredictions:
    """Predictions of labelled images.

    Attributes:
        img_name: str [N].
        fold: int64 [N], the fold of the network.
        target: int64 [N].
        logit: float32 [N].
        weights: str [N], the first `HASH_DIGITS` hex digits of the sha256 of the network's weights.
    """

    img_name: np.ndarray
    fold: np.ndarray
    target: np.ndarray
    logit: np.ndarray
    weights: np.ndarray

    @property
    def y_pred(self) -> np.ndarray:
        """The probability of a fake, float64 [N]."""
        return sigmoid(self.logit)

    @property
    def ranks(self) -> np.ndarray:
        """The rank of each logit within its fold, scaled into (0, 1): float64 [N]; ties have their mean rank."""
        by_fold = pd.Series(self.logit).groupby(self.fold)
        return ((by_fold.rank() - 0.5) / by_fold.transform("size")).to_numpy()

    def to_csv(self) -> str:
        """The columns img_name,fold,target,logit,y_pred,weights; one row for each image."""
        columns = {
            "img_name": self.img_name,
            "fold": self.fold,
            "target": self.target,
            "logit": self.logit,
            "y_pred": self.y_pred,
            "weights": self.weights,
        }
        return pd.DataFrame(columns).to_csv(index=False, float_format=FLOAT, lineterminator="\n")


def read_predictions(path: Path) -> OofPredictions:
    """Reads oof.csv or val.csv; raises ExperimentError if the file is missing or damaged."""
    try:
        types: dict[str, str | type[str]]
        types = {"img_name": str, "fold": "int64", "target": "int64", "logit": "float32", "weights": str}
        frame = pd.read_csv(path, dtype=types, keep_default_na=False)  # an image may be called NA
        return OofPredictions(*(frame[name].to_numpy() for name in types))
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise ExperimentError(
            f"{path} has no valid out-of-fold predictions: {str(error).strip()}", hint=RETRAIN_HINT
        ) from None


def merge_predictions(
    parts: list[OofPredictions], img_name: np.ndarray, fold: np.ndarray, target: np.ndarray
) -> OofPredictions:
    """Merges the predictions of all folds, in the order of `img_name`.

    Args:
        parts: one for each fold.
        img_name: str [N], all training images.
        fold: int64 [N], the fold that holds each image out.
        target: int64 [N], the labels.

    Raises:
        ExperimentError: an image is missing, unknown or duplicate, has another label, or was scored by a network that
            was trained on it.
    """
    names = np.concatenate([part.img_name for part in parts])
    position = pd.Index(names).get_indexer(img_name) if len(set(names.tolist())) == len(names) else None
    if position is None or len(names) != len(img_name) or (position < 0).any():
        raise ExperimentError(
            f"the folds' predictions do not have each of the {format_count(len(img_name), 'training image')} once",
            hint=RETRAIN_HINT,
        )
    merged = OofPredictions(
        img_name,
        *(np.concatenate([getattr(part, column) for part in parts])[position] for column in COLUMNS),
    )
    if not np.array_equal(merged.fold, fold):
        raise ExperimentError("an image was scored by a network that was trained on it", hint=RETRAIN_HINT)
    if not np.array_equal(merged.target, target):
        raise ExperimentError("an image has another label in the predictions than in folds.csv", hint=RETRAIN_HINT)
    return merged
