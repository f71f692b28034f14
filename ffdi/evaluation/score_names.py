"""What the numbers are called, on every screen, page and message: one score has one name and one value."""

from __future__ import annotations

POOLED = "OOF, pooled"
"""Of the out-of-fold predictions of all folds together; offsets between the folds' networks lower it."""
MEAN_OF_FOLDS = "OOF, mean of folds"
"""The mean of the scores within the folds."""
RANKED = "OOF, ranks within folds"
"""Of the ranks of the predictions within their folds, all folds together."""
OOF_SCORES = "out-of-fold (OOF) scores"
"""The heading of their table begins so."""
ENSEMBLE = "ensemble"
MEAN_OF_NETWORKS = "mean of the networks"
"""The mean of the scores of single networks on the same images."""


def describe_tta(tta: str) -> str:
    """How images are scored, from `predict.tta`."""
    return "without TTA" if tta == "none" else f"TTA {tta}"
