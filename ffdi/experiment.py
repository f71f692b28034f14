"""Where an experiment lives: every path is a property, and what stands there is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ffdi import config as configs
from ffdi import publish
from ffdi.config import Config, differences
from ffdi.errors import ConfigError, ExperimentError, nearest


@dataclass(frozen=True)
class Workspace:
    """The folder whose `experiments/`, `exports/` and `data/` are read and written.

    Attributes:
        root: that folder: $FFDI_ROOT where it is set, else the project's.
        project: the folder the code's own experiments came with; it may be read-only.
    """

    root: Path
    project: Path

    @classmethod
    def of(cls, project: Path) -> Workspace:
        """The workspace that $FFDI_ROOT names, else the project itself."""
        root = os.environ.get("FFDI_ROOT")
        return cls(Path(root).expanduser().resolve() if root else project, project)

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name under experiments/, or in the folder that `name` is a path to.

        An experiment that only the project has is given to the workspace: its config.toml is copied.

        Raises:
            ConfigError: there is no such experiment.
        """
        here = self.root / "experiments" / name
        if (here / "config.toml").is_file():
            return Experiment(here.resolve())
        if (Path(name) / "config.toml").is_file():
            return Experiment(Path(name).resolve())
        shipped = self.project / "experiments" / name / "config.toml"
        if shipped.is_file():
            publish.text(here / "config.toml", shipped.read_text(encoding="utf-8"))
            return Experiment(here)
        raise ConfigError(
            f"no experiment '{name}': neither {here / 'config.toml'} nor {Path(name) / 'config.toml'} exists",
            hint=f"pass --experiment NAME or --experiment FOLDER; {nearest(name, self._experiments())}",
        )

    def export(self, name: str) -> Export:
        """The folder exports/<name>."""
        return Export(self.root / "exports" / name)

    def _experiments(self) -> list[str]:
        places = {self.root / "experiments", self.project / "experiments"}
        return sorted({path.parent.name for place in places for path in place.glob("*/config.toml")})


@dataclass(frozen=True)
class Experiment:
    """One directory under experiments/: a person writes config.toml, ffdi the rest."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config_path(self) -> Path:
        return self.folder / "config.toml"

    @property
    def resolved_path(self) -> Path:
        return self.folder / "resolved.json"

    @property
    def provenance_path(self) -> Path:
        return self.folder / "provenance.json"

    @property
    def folds_path(self) -> Path:
        return self.folder / "folds.csv"

    @property
    def oof_path(self) -> Path:
        return self.folder / "oof.csv"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.json"

    def fold(self, fold: int) -> FoldFolder:
        """The directory of one fold."""
        return FoldFolder(self.folder / f"fold_{fold}", fold)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the experiment against a second process; the lock is free the moment its holder dies.

        Raises:
            ExperimentError: another process holds it; its number is named.
        """
        lock, holder = FileLock(self.folder / ".lock"), self.folder / ".lock.pid"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pid = holder.read_text(encoding="ascii") if holder.is_file() else "unknown"
            raise ExperimentError(
                f"another process (pid {pid}) is training {self.name}",
                hint="wait for it, or copy config.toml to a new folder under experiments/",
            ) from None
        try:
            holder.write_text(str(os.getpid()), encoding="ascii")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def discard(self) -> None:
        """Removes everything that ffdi wrote here; config.toml stays."""
        for path in self.folder.glob("fold_*"):
            shutil.rmtree(path)
        for path in (self.resolved_path, self.provenance_path, self.folds_path, self.oof_path, self.metrics_path):
            path.unlink(missing_ok=True)

    def begin(self, identity: Identity, provenance: dict[str, Any]) -> None:
        """Records what is about to be trained; what was begun before has passed `check`."""
        if not self.resolved_path.is_file():
            publish.document(self.resolved_path, asdict(identity))
        publish.document(self.provenance_path, provenance)

    def check(self, identity: Identity) -> None:
        """Refuses an experiment that was begun with another config or other images.

        Raises:
            ExperimentError: names every changed key with its old and new value.
        """
        begun = self._begun()
        changed = differences(begun.config, identity.config)
        if begun.data != identity.data:
            changed.append(f"training images or labels: digest {begun.data[:12]} -> {identity.data[:12]}")
        if changed:
            raise ExperimentError(
                f"experiment {self.name} was begun differently; its folds would not belong together",
                problems=changed,
                hint=f"undo the change, copy config.toml to a new folder under experiments/, or throw away "
                f"what was trained: invoke train-folds --experiment {self.name} --fresh",
            )

    def trained(self) -> tuple[Config, Identity]:
        """The config and identity of the folds that stand here.

        Raises:
            ExperimentError: nothing has been trained, or config.toml was changed since.
        """
        if not self.resolved_path.is_file():
            raise ExperimentError(f"experiment {self.name} has not been trained", hint=self._train())
        config, begun = configs.load(self.config_path), self._begun()
        self.check(Identity.of(config, begun.config["model"]["weights_sha256"], begun.data))
        return config, begun

    def finished_folds(self, k: int, identity: Identity) -> list[FoldFolder]:
        """All k folds.

        Raises:
            ExperimentError: some are not trained yet, or are not this experiment's.
        """
        if missing := self.unfinished(range(k), identity):
            numbers = ", ".join(str(folder.fold) for folder in missing)
            raise ExperimentError(
                f"experiment {self.name} is not complete: fold {numbers} of {k} is not trained",
                hint=self._train(),
            )
        return [self.fold(fold) for fold in range(k)]

    def check_scored(self) -> None:
        """Refuses an experiment whose folds have not been scored together.

        Raises:
            ExperimentError: there is no oof.csv.
        """
        if not self.oof_path.is_file():
            raise ExperimentError(f"experiment {self.name} has no out-of-fold scores yet", hint=self._train())

    def unfinished(self, folds: Iterable[int], identity: Identity) -> list[FoldFolder]:
        """Those of the folds that are not complete.

        Raises:
            ExperimentError: one is complete but foreign, newer than this code, or damaged.
        """
        digest = publish.sha256(self.folds_path)
        return [folder for folder in map(self.fold, folds) if not folder.finished(identity, digest)]

    def data_root(self) -> Path:
        """The data folder that the experiment was trained on."""
        return Path(publish.read(self.provenance_path)["data_root"])

    def _begun(self) -> Identity:
        content = publish.read(self.resolved_path)
        return Identity(content["config"], content["data"])

    def _train(self) -> str:
        return f"invoke train-folds --experiment {self.name}"


@dataclass(frozen=True)
class Identity:
    """What a fold's result depends on.

    Attributes:
        config: `Config.identity`.
        data: the digest of the training images, their labels and groups.
    """

    config: dict[str, Any]
    data: str

    @classmethod
    def of(cls, config: Config, weights_sha256: str | None, data: str) -> Identity:
        """From a config, the hash of its weights file and the digest of the training images."""
        return cls(config.identity(weights_sha256), data)

    @property
    def digest(self) -> str:
        return publish.digest(asdict(self))


@dataclass(frozen=True)
class FoldFolder:
    """One fold's artefacts; manifest.json with their hashes is written last."""

    folder: Path
    fold: int

    @property
    def history_path(self) -> Path:
        return self.folder / "history.csv"

    @property
    def weights_path(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def oof_path(self) -> Path:
        return self.folder / "oof.csv"

    @property
    def manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def seal(self, identity: Identity, folds_digest: str) -> None:
        """Writes the manifest over the three artefacts: from now on the fold counts as finished."""
        files = (self.history_path, self.weights_path, self.oof_path)
        content = {
            "fold": self.fold,
            "identity": identity.digest,
            "folds": folds_digest,
            "files": {path.name: publish.sha256(path) for path in files},
        }
        publish.document(self.manifest_path, content)

    def finished(self, identity: Identity, folds_digest: str) -> bool:
        """Whether the fold is complete.

        Raises:
            ExperimentError: it is complete but foreign, newer than this code, or damaged.
        """
        if not self.manifest_path.is_file():
            return False
        manifest = publish.read(self.manifest_path)
        if (manifest["identity"], manifest["folds"], manifest["fold"]) != (identity.digest, folds_digest, self.fold):
            raise ExperimentError(
                f"{self.folder} belongs to another run: its config, images or folds are not this experiment's",
                hint=f"remove it and train it again: rm -r {self.folder}",
            )
        for name, expected in manifest["files"].items():
            path = self.folder / name
            if not path.is_file() or publish.sha256(path) != expected:
                raise ExperimentError(
                    f"{path} is {'damaged' if path.is_file() else 'missing'}: its hash is not the manifest's",
                    hint=f"remove the fold and train it again: rm -r {self.folder}",
                )
        return True

    def weights_sha256(self) -> str:
        """The hash of the weights, as the manifest has it."""
        return str(publish.read(self.manifest_path)["files"][self.weights_path.name])


@dataclass(frozen=True)
class Export:
    """One directory under exports/: what leaves the house."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model_path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def bundle_path(self) -> Path:
        return self.folder / "bundle.json"

    @property
    def submission_path(self) -> Path:
        return self.folder / "submission.csv"

    @property
    def submission_record_path(self) -> Path:
        return self.folder / "submission.json"

    @property
    def scores_path(self) -> Path:
        return self.folder / "onnx_scores.csv"
