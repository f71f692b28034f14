"""The checkpoints of a fold, from which an interrupted training resumes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.core import files, links, manifests
from ffdi.core.errors import ExperimentError

KEEP = 2
"""Number of checkpoints that stay: the last one, and the one before in case the last is damaged."""


class Checkpoint(NamedTuple):
    """A file of tensors, and the rest of the state as JSON."""

    tensors: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder. Each has two files: the tensors, and then the record with the hash of the tensors.

    Attributes:
        folder: of the fold.
        owner: identifies the training; checkpoints of other trainings are refused.
    """

    folder: Path
    owner: dict[str, Any]

    def write(self, done: int, save: Callable[[Path], None], record: dict[str, Any]) -> None:
        """Publishes a checkpoint, and removes old ones.

        Args:
            done: number of finished steps.
            save: writes the tensors to a path.
            record: the rest of the state, as plain JSON.

        Raises:
            ExperimentError: it cannot be written; earlier checkpoints stay.
        """
        path = links.join(self.folder, f"checkpoint-{done:09d}.safetensors")
        with files.open_atomic(path) as temporary:
            save(temporary)
        record_path = links.join(self.folder, f"{path.stem}.json")
        manifests.write_manifest(record_path, {**self.owner, "sha256": manifests.hash_file(path), "state": record})
        keep = {path for one in self._list_records()[:KEEP] for path in (one, one.with_suffix(".safetensors"))}
        self._remove_others(keep)

    def load_newest(self, damaged: Callable[[str], None]) -> Checkpoint | None:
        """Returns the last undamaged checkpoint; None if there is none.

        Args:
            damaged: called with a message for each damaged checkpoint.

        Raises:
            ExperimentError: it belongs to another training.
        """
        for path in self._list_records():
            tensors = links.join(self.folder, f"{path.stem}.safetensors")
            try:
                record = manifests.read_manifest(path, {"sha256": str, "state": dict})
                manifests.check_hash(tensors, record["sha256"], path, hint="")
            except ExperimentError as error:
                damaged(error.what)
                continue
            if any(record.get(key) != value for key, value in self.owner.items()):
                raise ExperimentError(
                    f"{path} belongs to another training: it has another config, other images or other folds",
                    hint=f"remove the fold and train it again: rm -r {shlex.quote(str(self.folder))}",
                )
            return Checkpoint(tensors, record["state"])
        return None

    def clear(self) -> None:
        self._remove_others(set())

    def _list_records(self) -> list[Path]:
        """Lists the records, the last one first."""
        return links.glob(self.folder, "checkpoint-*.json")[::-1]

    def _remove_others(self, keep: set[Path]) -> None:
        for path in sorted(set(links.glob(self.folder, "checkpoint-*")) - keep):  # records before their tensors
            path.unlink(missing_ok=True)
