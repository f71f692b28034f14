"""Claim: a stranger sees faces, and cannot tell most fakes at a glance. Draws docs/quickstart.jpg to be looked at.

    python benchmarks/contact_sheet.py [OUTPUT]

Two rows of real portraits above two rows of fakes of the four families in turn, from data/quickstart, at twice
their size.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ffdi.experiment import Workspace
from ffdi.forge.manipulations import MANIPULATIONS

PROJECT = Path(__file__).resolve().parent.parent
COLUMNS = 8


def sheet(folder: Path) -> np.ndarray:
    """uint8 BGR: the first validation images of each kind."""
    families = pd.read_csv(folder / "families.csv").query("split == 'val'").groupby("family").img_name.apply(list)
    turns = [families[name][turn] for turn in range(COLUMNS // 2) for name in MANIPULATIONS]
    names = [*families["real"][: 2 * COLUMNS], *turns]
    pictures = [cv2.imread(str(folder / "valset" / name)) for name in names]
    rows = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
    return cv2.resize(np.vstack(rows), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    output = sys.argv[1] if len(sys.argv) > 1 else str(PROJECT / "docs" / "quickstart.jpg")
    picture = sheet(Workspace.of(PROJECT).root / "data" / "quickstart")
    cv2.imwrite(output, picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
