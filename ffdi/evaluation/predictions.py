"""Out-of-fold predictions, keyed by image name: the file every score is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ffdi.core.errors import ExperimentError
from ffdi.evaluation.score_table import FLOAT

HASH_DIGITS = 12
COLUMNS = ("fold", "target", "logit", "weights")
"""What a ledger says of an image."""
ANEW = "run invoke train-folds for this experiment again: it joins oof.csv anew from its finished folds"


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities, float64; does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


@dataclass(frozen=True)
class OofPredictions:
    """Predictions for images with labels.

    Attributes:
        img_name: str [N].
        fold: int64 [N], the fold whose network was asked.
        target: int64 [N].
        logit: float32 [N].
        weights: str [N], the first `HASH_DIGITS` hex digits of the sha256 of that network's weights.
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
        """Each logit's rank within its fold, scaled into (0, 1): float64 [N]; ties share the mean of their ranks."""
        by_fold = pd.Series(self.logit).groupby(self.fold)
        return ((by_fold.rank() - 0.5) / by_fold.transform("size")).to_numpy()

    def to_csv(self) -> str:
        """img_name,fold,target,logit,y_pred,weights: one row an image."""
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
    """Reads a ledger.

    Raises:
        ExperimentError: missing, or not a ledger.
    """
    try:
        types: dict[str, str | type[str]]
        types = {"img_name": str, "fold": "int64", "target": "int64", "logit": "float32", "weights": str}
        frame = pd.read_csv(path, dtype=types, keep_default_na=False)  # an image may be called NA
        return OofPredictions(*(frame[name].to_numpy() for name in types))
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise ExperimentError(
            f"{path} is no ledger of out-of-fold predictions: {str(error).strip()}", hint=ANEW
        ) from None


def merge_predictions(
    parts: list[OofPredictions], img_name: np.ndarray, fold: np.ndarray, target: np.ndarray
) -> OofPredictions:
    """One ledger of all folds, in the order of `img_name`.

    Args:
        parts: one a fold.
        img_name: str [N], every training image once.
        fold: int64 [N], where each is held out.
        target: int64 [N], its label.

    Raises:
        ExperimentError: an image is missing, foreign, there twice, has another label, or was scored by a fold that
            trained on it.
    """
    names = np.concatenate([part.img_name for part in parts])
    place = pd.Index(names).get_indexer(img_name) if len(set(names.tolist())) == len(names) else None
    if place is None or len(names) != len(img_name) or (place < 0).any():
        raise ExperimentError(
            f"the folds' predictions do not cover the {len(img_name)} training images once each", hint=ANEW
        )
    merged = OofPredictions(
        img_name,
        *(np.concatenate([getattr(part, column) for part in parts])[place] for column in COLUMNS),
    )
    if not np.array_equal(merged.fold, fold):
        raise ExperimentError("an image's prediction comes from a fold that trained on it", hint=ANEW)
    if not np.array_equal(merged.target, target):
        raise ExperimentError("an image's label in the predictions is not its label in folds.csv", hint=ANEW)
    return merged
