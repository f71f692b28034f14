"""One fold's folder in an experiment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.config import renamed
from ffdi.config.schema import Config
from ffdi.core import files as publish
from ffdi.core import hashes, links, manifests
from ffdi.core.errors import ExperimentError
from ffdi.experiments.checkpoint import Checkpoints

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FoldFolder:
    """One fold's artefacts; manifest.json with their hashes is written last."""

    folder: Path
    fold: int

    @property
    def history_path(self) -> Path:
        """The training's epochs, a row each."""
        return links.below(self.folder, "history.csv")

    @property
    def board_folder(self) -> Path:
        """Curves for TensorBoard, where they were asked for."""
        return links.below(self.folder, "tensorboard")

    @property
    def weights_path(self) -> Path:
        """The network's weights."""
        return links.below(self.folder, "weights.safetensors")

    @property
    def oof_path(self) -> Path:
        """The network's predictions for the images that the fold holds out."""
        return links.below(self.folder, "oof.csv")

    @property
    def val_path(self) -> Path:
        """The fold's predictions for the labelled validation split, where there is one."""
        return links.below(self.folder, "val.csv")

    @property
    def manifest_path(self) -> Path:
        """Whose the artefacts are, and their hashes."""
        return links.below(self.folder, "manifest.json")

    def seal(self, identity: Identity, folds_digest: str, parameters: int, symptoms: list[str]) -> None:
        """Writes the manifest over the artefacts: from now on the fold counts as finished.

        Args:
            identity: of the experiment.
            folds_digest: the hash of folds.csv.
            parameters: how many the network has.
            symptoms: kinds of what was wrong after the last epoch.
        """
        files = (self.history_path, self.weights_path, self.oof_path, self.val_path)
        content = {
            **self._owner(identity, folds_digest),
            "parameters": parameters,
            "symptoms": symptoms,
            "files": {path.name: hashes.sha256(path) for path in files if path.is_file()},
        }
        manifests.write_manifest(self.manifest_path, content)

    def finished(self, identity: Identity, folds_digest: str) -> bool:
        """Whether the fold is complete.

        Raises:
            ExperimentError: it is complete but foreign, of another version, or damaged.
        """
        if not self.manifest_path.is_file():
            return False
        manifest = manifests.read_manifest(self.manifest_path, {"files": dict})
        if any(manifest.get(key) != value for key, value in self._owner(identity, folds_digest).items()):
            raise ExperimentError(
                f"{self.folder} belongs to another run: its config, images or folds are not this experiment's",
                hint=f"remove it and train it again: rm -r {shlex.quote(str(self.folder))}",
            )
        for name, expected in manifest["files"].items():
            hint = f"remove the fold and train it again: rm -r {shlex.quote(str(self.folder))}"
            hashes.check_hash(links.below(self.folder, name), expected, self.manifest_path, hint)
        return True

    def checkpoints(self, identity: Identity, folds_digest: str) -> Checkpoints:
        """Where this fold's training goes on if it is broken off."""
        return Checkpoints(self.folder, self._owner(identity, folds_digest))

    def begun(self) -> list[dict[str, Any]]:
        """The epochs of a training that was broken off, as its last checkpoint has them; whosever it is."""
        found = Checkpoints(self.folder, {}).newest(lambda _: None)
        return [] if found is None else list(found.record["history"])

    def going(self) -> dict[str, bytes]:
        """The files of the last checkpoint, to be put into a folder elsewhere; empty where there is none."""
        found = Checkpoints(self.folder, {}).newest(lambda _: None)
        return {} if found is None else self._content(found.tensors, found.tensors.with_suffix(".json"))

    def last_checkpoint(self) -> str | None:
        """The name of the last one's record."""
        return max((path.name for path in links.matching(self.folder, "checkpoint-*.json")), default=None)

    def done(self) -> dict[str, bytes]:
        """The files of a finished fold, to be put into a folder elsewhere."""
        names = manifests.read_manifest(self.manifest_path, {"files": dict})["files"]
        return self._content(*(links.below(self.folder, name) for name in names), self.manifest_path)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Publishes what `going` or `done` gave elsewhere, in its order: what names the others is the last."""
        for name, content in files.items():
            with publish.open_atomic(links.below(self.folder, name)) as beside:
                beside.write_bytes(content)

    def _content(self, *paths: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in paths}

    def parameters(self) -> int:
        """How many parameters the network has."""
        return int(manifests.read_manifest(self.manifest_path)["parameters"])

    def history(self) -> pd.DataFrame:
        """A row for each epoch: the fields of `EpochRecord`, and `seconds`.

        Raises:
            ExperimentError: it has columns of an earlier version.
        """
        import pandas as pd

        frame = pd.read_csv(self.history_path)
        renamed.refuse_columns(self.history_path, frame.columns)
        return frame

    def symptoms(self) -> list[str]:
        """Kinds of what was wrong after the last epoch."""
        return list(manifests.read_manifest(self.manifest_path)["symptoms"])

    def weights_sha256(self) -> str:
        """The hash of the weights, as the manifest has it."""
        return str(manifests.read_manifest(self.manifest_path)["files"][self.weights_path.name])

    def _owner(self, identity: Identity, folds_digest: str) -> dict[str, object]:
        """What everything in this folder belongs to."""
        return {"fold": self.fold, "identity": identity.digest, "folds": folds_digest}


@dataclass(frozen=True)
class Identity:
    """What a fold's result depends on.

    Attributes:
        config: `Config.identity`.
        data: the digest of the roster of training images: names, labels, groups and bytes.
    """

    config: dict[str, Any]
    data: str

    @classmethod
    def of(cls, config: Config, weights_sha256: str | None, data: str) -> Identity:
        """From a config, the hash of its weights file and the digest of the training images."""
        return cls(config.identity(weights_sha256), data)

    @property
    def digest(self) -> str:
        """A hash of both."""
        return hashes.hash_json(asdict(self))
