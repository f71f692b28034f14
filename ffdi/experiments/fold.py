"""The folder of one fold in an experiment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.config import renames
from ffdi.config.schema import NO_INPUTS, Config, InputHashes
from ffdi.core import files as publish
from ffdi.core import links, manifests
from ffdi.core.errors import ExperimentError
from ffdi.experiments.checkpoint import Checkpoints

if TYPE_CHECKING:
    import pandas as pd


FROZEN = "frozen.safetensors"
"""The weights that no fold of an experiment changes, in the experiment's folder."""


@dataclass(frozen=True)
class FoldFolder:
    """The files of one fold, or of the network on all training images; manifest.json, with hashes, is written last.

    Attributes:
        fold: the number of the held-out fold; that of the folds, k, for the network on all images, which holds none
            out.
    """

    folder: Path
    fold: int

    history_path = links.PathInFolder("history.csv")
    """A row for each epoch."""
    progress_path = links.PathInFolder("progress.json")
    """How far the training is, and its health, while it trains and after that."""
    board_folder = links.PathInFolder("tensorboard")
    """Curves for TensorBoard, if requested."""
    weights_path = links.PathInFolder("weights.safetensors")
    oof_path = links.PathInFolder("oof.csv")
    """Predictions for the held-out images of the fold."""
    val_path = links.PathInFolder("val.csv")
    """Predictions for the labelled validation split, if there is one."""
    manifest_path = links.PathInFolder("manifest.json")
    """The identity of the fold, and the hashes of its files."""

    @property
    def label(self) -> str:
        """'fold 0', or 'refit' for the network on all training images."""
        return self.folder.name.replace("_", " ")

    def write_manifest(self, identity: Identity, folds_digest: str, parameters: int, symptoms: list[str]) -> None:
        """Writes the manifest, which marks the fold as finished.

        Args:
            identity: of the experiment.
            folds_digest: the hash of folds.csv.
            parameters: number of the network's parameters.
            symptoms: kinds of faults after the last epoch.
        """
        files = (self.history_path, self.weights_path, self.oof_path, self.val_path)
        content = {
            **self.describe_owner(identity, folds_digest),
            "parameters": parameters,
            "symptoms": symptoms,
            "files": {path.name: manifests.hash_file(path) for path in files if path.is_file()},
        }
        manifests.write_manifest(self.manifest_path, content)

    def is_finished(self, identity: Identity, folds_digest: str, *, weights: bool = True) -> bool:
        """Returns True for a finished fold, after a check of its files.

        Args:
            identity: of the experiment.
            folds_digest: the hash of folds.csv.
            weights: whether the file of weights, the largest one, is checked too.

        Raises:
            ExperimentError: it is finished, but belongs to another experiment or another version, or is damaged.
        """
        if not self.manifest_path.is_file():
            return False
        manifest = manifests.read_manifest(self.manifest_path, {"files": dict})
        if any(manifest.get(key) != value for key, value in self.describe_owner(identity, folds_digest).items()):
            raise ExperimentError(
                f"{self.folder} belongs to another training: it has another config, other images or other folds",
                hint=f"remove it and train it again: rm -r {shlex.quote(str(self.folder))}",
            )
        for name, expected in manifest["files"].items():
            if name == self.weights_path.name and not weights:
                continue
            hint = f"remove the fold and train it again: rm -r {shlex.quote(str(self.folder))}"
            manifests.check_hash(links.join(self.folder, name), expected, self.manifest_path, hint)
        return True

    def open_checkpoints(self, identity: Identity, folds_digest: str) -> Checkpoints:
        """Returns the checkpoints, from which an interrupted training resumes."""
        return Checkpoints(self.folder, self.describe_owner(identity, folds_digest))

    def read_checkpoint_history(self) -> list[dict[str, Any]]:
        """Returns the epochs of an interrupted training from its last checkpoint, whatever its identity."""
        found = Checkpoints(self.folder, {}).load_newest(lambda _: None)
        return [] if found is None else list(found.record["history"])

    def export_checkpoint(self) -> dict[str, bytes]:
        """Returns the files of the last checkpoint, for `import_files` on another machine; empty if there is none."""
        found = Checkpoints(self.folder, {}).load_newest(lambda _: None)
        return {} if found is None else self._read_files(found.tensors, found.tensors.with_suffix(".json"))

    def find_last_checkpoint(self) -> str | None:
        """Returns the file name of the last checkpoint's record."""
        return max((path.name for path in links.glob(self.folder, "checkpoint-*.json")), default=None)

    def export_files(self) -> dict[str, bytes]:
        """Returns the files of a finished fold, for `import_files` on another machine."""
        names = manifests.read_manifest(self.manifest_path, {"files": dict})["files"]
        return self._read_files(*(links.join(self.folder, name) for name in names), self.manifest_path)

    def import_files(self, files: Mapping[str, bytes]) -> None:
        """Publishes files in their order: the manifest or the record comes last."""
        for name, content in files.items():
            with publish.open_atomic(links.join(self.folder, name)) as temporary:
                temporary.write_bytes(content)

    def _read_files(self, *paths: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in paths}

    def count_parameters(self) -> int:
        return int(manifests.read_manifest(self.manifest_path)["parameters"])

    def read_history(self) -> pd.DataFrame:
        """Returns a row for each epoch: the fields of `EpochRecord`, and `seconds`.

        Raises:
            ExperimentError: it has columns of an earlier version.
        """
        import pandas as pd

        frame = pd.read_csv(self.history_path)
        renames.refuse_columns(self.history_path, frame.columns)
        return frame

    def read_symptoms(self) -> list[str]:
        """Returns the kinds of faults after the last epoch."""
        return list(manifests.read_manifest(self.manifest_path)["symptoms"])

    def read_weights_sha256(self) -> str:
        return str(manifests.read_manifest(self.manifest_path)["files"][self.weights_path.name])

    def describe_owner(self, identity: Identity, folds_digest: str) -> dict[str, object]:
        """The keys of a manifest that identify the training of this fold."""
        return {"fold": self.fold, "identity": identity.digest, "folds": folds_digest}


@dataclass(frozen=True)
class Identity:
    """Everything that the result of a fold depends on.

    Attributes:
        config: `Config.build_identity`.
        data: the digest of the image list: names, labels, groups and hashes of the training images.
    """

    config: dict[str, Any]
    data: str

    @classmethod
    def from_config(cls, config: Config, data: str, inputs: InputHashes = NO_INPUTS) -> Identity:
        return cls(config.build_identity(inputs), data)

    @property
    def digest(self) -> str:
        return manifests.hash_json(asdict(self))
