"""What a label file says of its images beside their labels: families of fakes, sources, anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffdi.config.schema import DataConfig
from ffdi.core import names
from ffdi.core.errors import DataError
from ffdi.data.labels import columns
from ffdi.data.labels.table import MEND, Table

FILES = ("families.csv", "attributes.csv")
"""Beside the label files, with a column of image names."""
MOST_VALUES = 50
"""Distinct values of a column that sorts images; a column with more tells them apart."""


def read(root: Path, table: Table, config: DataConfig) -> dict[str, np.ndarray]:
    """Every further column of a split's label file and of `FILES`, str [N] in the table's order; '' is not known.

    A column that is the same everywhere, or that has more than `MOST_VALUES` values, is left out.

    Raises:
        DataError: a file cannot be read; or rows are refused, all at once.
    """
    problems: list[str] = []
    files = [path for path in (table.source, *(root / name for name in FILES)) if path.is_file()]
    found: dict[str, np.ndarray] = {}
    for path in files:
        header = columns.header(path, config)
        if config.image_column not in header:
            continue
        known = {config.image_column, config.target_column, config.group_column}
        for column in [name for name in header if name and name not in known and header.count(name) == 1]:
            values = _values(path, column, config, table.img_name.tolist(), problems)
            if 1 < len(set(values)) <= MOST_VALUES:
                found[column] = np.array(values, dtype=str)
    if problems:
        raise DataError(f"bad rows in {root}: {len(problems)}", problems=list(dict.fromkeys(problems)), hint=MEND)
    return found


def _values(path: Path, column: str, config: DataConfig, images: list[str], problems: list[str]) -> list[str]:
    """One column's value of each image; what is wrong with a column that sorts them goes to `problems`."""
    known, value, faults = set(images), dict[str, str](), list[str]()
    for line, (field, said) in columns.read(path, config, (config.image_column, column), problems):
        image = columns.image(field, known)
        if fault := names.find_fault(said):
            faults.append(f"{path.name} line {line}: the {column} {names.quote(said)} {fault}")
        if value.setdefault(image, said) != said:
            faults.append(f"{path.name} line {line}: {names.quote(image)} has another {column} already")
    if len(set(value.values())) <= MOST_VALUES:
        problems += faults
    return [value.get(image, "") for image in images]
