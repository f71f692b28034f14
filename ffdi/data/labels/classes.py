"""The words for the two classes: labels in a file and names of class folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ffdi.core import names

LABELS = {"0": 0, "1": 1, "real": 0, "fake": 1, "false": 0, "true": 1}
FOLDERS = {"real": 0, "fake": 1, "0_real": 0, "1_fake": 1}
WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
"""A key that TOML reads without quotes."""
SOFT_LABEL = re.compile(r"0?\.[0-9]*[1-9][0-9]*")


class Classes:
    """The target of each label and of each class folder, 1 = fake.

    Case does not matter, and 1.0 is 1. `data.labels` replaces LABELS and FOLDERS.
    """

    def __init__(self, labels: Mapping[str, int]) -> None:
        """Args:
        labels: `data.labels`; empty for the default.
        """
        self.labels = {_normalize(label): target for label, target in (labels or LABELS).items()}
        self.folders = {_normalize(label): target for label, target in (labels or FOLDERS).items()}

    def read_label(self, label: str) -> int | None:
        """The target of a label in a file; None for an unknown label."""
        return self.labels.get(label, self.labels.get(_normalize(label)))

    def read_folder(self, name: str) -> int | None:
        """The target of a folder's images; None for a folder that is no class."""
        return self.folders.get(_normalize(name))

    def describe_fault(self, label: str) -> str:
        """Why a label is refused, as the end of a sentence."""
        if SOFT_LABEL.fullmatch(label):
            return "is between the classes: out-of-fold scores need 0 or 1"
        return f"is none of {', '.join(self.labels)}: map it with data.labels"


def format_labels(folders: Mapping[str, int | None]) -> str:
    """`data.labels` for class folders, as in config.toml; '?' for an unknown target."""
    keys = (name if BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in folders)
    pairs = (f"{key} = {'?' if target is None else target}" for key, target in zip(keys, folders.values(), strict=True))
    return f"data.labels = {{ {', '.join(pairs)} }}"


def _normalize(label: str) -> str:
    label = label.strip(names.BLANKS).casefold()
    return found[1] if (found := WHOLE_NUMBER.fullmatch(label)) else label
