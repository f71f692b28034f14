"""The folder of a set of pseudo-labels: its paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ffdi.core import links


@dataclass(frozen=True)
class PseudoLabelFolder:
    """A folder under data/pseudo_labels/."""

    folder: Path

    labels_path = links.PathInFolder("labels.csv")
    """A row for each image, with its logit in the set of each fold."""
    record_path = links.PathInFolder("pseudo_labels.json")
    """Where the images and the logits come from, and the hash of labels.csv; written last."""

    @property
    def name(self) -> str:
        return self.folder.name
