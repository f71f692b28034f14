"""A fold's checkpoints, from which a training that was broken off goes on."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.core import files, hashes, links, manifests
from ffdi.core.errors import ExperimentError

KEPT = 2
"""How many stay: the last, and the one before it, should the last be damaged."""


class Checkpoint(NamedTuple):
    """What was written down: a file of tensors, and all else."""

    tensors: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a fold's folder; each is two files, and the record, with the other's hash, is written last.

    Attributes:
        folder: the fold's.
        owner: the run that they belong to; those of another one are refused.
    """

    folder: Path
    owner: dict[str, Any]

    def write(self, done: int, save: Callable[[Path], None], record: dict[str, Any]) -> None:
        """Publishes a checkpoint, and removes those that are too old.

        Args:
            done: how many steps are done.
            save: writes the tensors to a path.
            record: all else, as plain JSON.

        Raises:
            ExperimentError: it cannot be written; those before it stand as they were.
        """
        path = links.below(self.folder, f"checkpoint-{done:09d}.safetensors")
        with files.open_atomic(path) as beside:
            save(beside)
        record_path = links.below(self.folder, f"{path.stem}.json")
        manifests.write_manifest(record_path, {**self.owner, "sha256": hashes.sha256(path), "state": record})
        kept = {path for one in self._records()[:KEPT] for path in (one, one.with_suffix(".safetensors"))}
        self._remove_but(kept)

    def newest(self, damaged: Callable[[str], None]) -> Checkpoint | None:
        """The last checkpoint that is whole; None where there is none.

        Args:
            damaged: is told of each that is not.

        Raises:
            ExperimentError: it belongs to another run.
        """
        for path in self._records():
            tensors = links.below(self.folder, f"{path.stem}.safetensors")
            try:
                record = manifests.read_manifest(path, {"sha256": str, "state": dict})
                hashes.check_hash(tensors, record["sha256"], path, hint="")
            except ExperimentError as error:
                damaged(error.what)
                continue
            if any(record.get(key) != value for key, value in self.owner.items()):
                raise ExperimentError(
                    f"{path} belongs to another run: its config, images or folds are not this experiment's",
                    hint=f"remove the fold and train it again: rm -r {shlex.quote(str(self.folder))}",
                )
            return Checkpoint(tensors, record["state"])
        return None

    def clear(self) -> None:
        """Removes all."""
        self._remove_but(set())

    def _records(self) -> list[Path]:
        """The last one first."""
        return links.matching(self.folder, "checkpoint-*.json")[::-1]

    def _remove_but(self, kept: set[Path]) -> None:
        for path in sorted(set(links.matching(self.folder, "checkpoint-*")) - kept):  # records before their tensors
            path.unlink(missing_ok=True)
