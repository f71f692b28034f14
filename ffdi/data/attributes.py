"""What a label file says of its images beside their labels: families of fakes, sources, anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffdi.config import DataConfig
from ffdi.data import columns
from ffdi.data.table import Table

FILES = ("families.csv", "attributes.csv")
"""Beside the label files, with a column of image names."""
MOST_VALUES = 50
"""Distinct values of a column that sorts images; a column with more tells them apart."""


def read(root: Path, table: Table, config: DataConfig) -> dict[str, np.ndarray]:
    """Every further column of a split's label file and of `FILES`, str [N] in the table's order; '' is not known.

    A column that is the same everywhere, or that has more than `MOST_VALUES` values, is left out.

    Raises:
        DataError: a file cannot be read.
    """
    files = [path for path in (table.source, *(root / name for name in FILES)) if path.is_file()]
    found: dict[str, np.ndarray] = {}
    for path in files:
        header = columns.header(path, config)
        if config.image_column not in header:
            continue
        known = {config.image_column, config.target_column, config.group_column}
        for column in [name for name in header if name and name not in known and header.count(name) == 1]:
            rows = columns.read(path, config, (config.image_column, column), problems=[])
            value = {image: value for _, (image, value) in rows}
            found[column] = np.array([value.get(name, "") for name in table.img_name.tolist()], dtype=str)
    return {name: values for name, values in found.items() if 1 < len(np.unique(values)) <= MOST_VALUES}
