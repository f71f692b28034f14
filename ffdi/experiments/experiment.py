"""Where an experiment lives: every path is a property, and what stands there is whole."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ffdi.config import schema
from ffdi.config.schema import Config, differences
from ffdi.core import files, hashes, links, manifests
from ffdi.core.errors import ExperimentError
from ffdi.experiments import lock
from ffdi.experiments.fold import FoldFolder, Identity

TRACE = "trace.json"
"""Written by torch's profiler, in a format of its own: no manifest."""


@dataclass(frozen=True)
class Experiment:
    """One directory under experiments/: a person writes config.toml, ffdi the rest."""

    folder: Path

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def config_path(self) -> Path:
        """What a person has chosen."""
        return links.below(self.folder, "config.toml")

    @property
    def resolved_path(self) -> Path:
        """The identity that the experiment was begun with, and the hash of folds.csv."""
        return links.below(self.folder, "resolved.json")

    @property
    def provenance_path(self) -> Path:
        """Where, when and with what it was trained the last time."""
        return links.below(self.folder, "provenance.json")

    @property
    def folds_path(self) -> Path:
        """Which fold holds each training image out."""
        return links.below(self.folder, "folds.csv")

    @property
    def roster_path(self) -> Path:
        """The images that the experiment was begun with."""
        return links.below(self.folder, "images.csv")

    @property
    def oof_path(self) -> Path:
        """The folds' out-of-fold predictions, joined."""
        return links.below(self.folder, "oof.csv")

    @property
    def trace_path(self) -> Path:
        """What a profiler saw of a training."""
        return links.below(self.folder, TRACE)

    @property
    def doctor_path(self) -> Path:
        """What `doctor` found in the images."""
        return links.below(self.folder, "doctor.json")

    @property
    def stress_path(self) -> Path:
        """How the AUC holds on damaged images."""
        return links.below(self.folder, "stress.json")

    @property
    def shift_path(self) -> Path:
        """Whether the splits can be told apart, and the AUC by kind of image."""
        return links.below(self.folder, "shift.json")

    @property
    def sweep_path(self) -> Path:
        """The trials of the last sweep."""
        return links.below(self.folder, "sweep.csv")

    @property
    def rates_path(self) -> Path:
        """The losses at growing learning rates; a picture stands beside it."""
        return links.below(self.folder, "find_lr.csv")

    @property
    def metrics_path(self) -> Path:
        """The scores, drawn up from oof.csv."""
        return links.below(self.folder, "metrics.json")

    def fold(self, fold: int) -> FoldFolder:
        """The directory of one fold."""
        return FoldFolder(links.below(self.folder, f"fold_{fold}"), fold)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the experiment against a second process; the lock is free the moment its holder dies.

        Raises:
            ExperimentError: another process holds it; its number is named.
        """
        hint = "wait for it, or copy config.toml to a new folder under experiments/"
        with lock.hold(self.folder, f"is training {self.name}", hint):
            files.remove_leftovers(self.folder)
            yield

    def discard(self) -> None:
        """Removes what was trained, with its scores; config.toml stays, and what other verbs have found out."""
        for path in links.matching(self.folder, "fold_*"):
            files.remove(path)
        begun = (self.resolved_path, self.provenance_path, self.folds_path, self.roster_path)
        for path in (*begun, self.oof_path, self.metrics_path, self.stress_path, self.shift_path):
            path.unlink(missing_ok=True)

    def begin(self, identity: Identity, images: str, provenance: dict[str, Any]) -> None:
        """Records what is about to be trained, once folds.csv stands; what was begun before has passed `check`.

        Args:
            identity: on what the folds depend.
            images: the roster, of which `identity.data` is the digest.
            provenance: where it is trained.
        """
        if not self.resolved_path.is_file():
            files.write_text(self.roster_path, images)
            manifests.write_manifest(self.resolved_path, {**asdict(identity), "folds": hashes.sha256(self.folds_path)})
        manifests.write_manifest(self.provenance_path, provenance)

    def folds_digest(self) -> str:
        """The hash of folds.csv, which is the file that the experiment was begun with.

        Raises:
            ExperimentError: it is missing or was changed.
        """
        expected: str = manifests.read_manifest(self.resolved_path, {"folds": str})["folds"]
        hashes.check_hash(
            self.folds_path,
            expected,
            self.resolved_path,
            hint=f"restore the file, or throw away what was trained: {self._train()} --restart",
        )
        return expected

    def check(self, identity: Identity, differing: Callable[[str], list[str]] = lambda _: []) -> None:
        """Refuses an experiment that was begun with another config or other images.

        Args:
            identity: what it would be trained with now.
            differing: says how the images of a roster differ from those now, a line each.

        Raises:
            ExperimentError: names every changed key with its old and new value, and every changed image.
        """
        begun = self._begun()
        changed = differences(begun.config, identity.config)
        if begun.data != identity.data:
            changed += self._changed_images(begun.data, differing)
        if changed:
            raise ExperimentError(
                f"experiment {self.name} was begun differently; its folds would not belong together",
                problems=changed,
                hint=f"undo the change, copy config.toml to a new folder under experiments/, or throw away "
                f"what was trained: invoke train-folds --experiment {shlex.quote(self.name)} --restart",
            )

    def trained(self) -> tuple[Config, Identity]:
        """The config and identity of the folds that stand here.

        Raises:
            ExperimentError: nothing has been trained, or config.toml was changed since.
        """
        if not self.resolved_path.is_file():
            raise ExperimentError(f"experiment {self.name} has not been trained", hint=self._train())
        config, begun = schema.load(self.config_path), self._begun()
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
            ExperimentError: there is no oof.csv, or it is not the one that metrics.json was drawn up from.
        """
        if not self.oof_path.is_file():
            raise ExperimentError(f"experiment {self.name} has no out-of-fold scores yet", hint=self._train())
        if self.metrics_path.is_file():
            hashes.check_hash(
                self.oof_path,
                manifests.read_manifest(self.metrics_path, {"oof_sha256": str})["oof_sha256"],
                self.metrics_path,
                hint=f"join it anew from its finished folds: {self._train()}",
            )

    def unfinished(self, folds: Iterable[int], identity: Identity) -> list[FoldFolder]:
        """Those of the folds that are not complete.

        Raises:
            ExperimentError: one is complete but foreign, newer than this code, or damaged.
        """
        digest = self.folds_digest()
        return [folder for folder in map(self.fold, folds) if not folder.finished(identity, digest)]

    def data(self) -> str:
        """The digest of the images that the experiment was trained on."""
        return self._begun().data

    def data_root(self) -> Path:
        """The data folder that the experiment was trained on."""
        return Path(manifests.read_manifest(self.provenance_path)["data_root"])

    def _changed_images(self, begun: str, differing: Callable[[str], list[str]]) -> list[str]:
        """A line for each; as far as what was written down of them still stands."""
        if not self.roster_path.is_file() or hashes.sha256(self.roster_path) != begun:
            return [f"training images or labels, which ones cannot be told: {self.roster_path} is missing or damaged"]
        return differing(self.roster_path.read_text(encoding="utf-8"))

    def _begun(self) -> Identity:
        content = manifests.read_manifest(self.resolved_path, {"config": dict, "data": str, "folds": str})
        return Identity(content["config"], content["data"])

    def _train(self) -> str:
        return f"invoke train-folds --experiment {shlex.quote(self.name)}"
