"""Trained experiments taken together: whose folds they are, how much each counts, how they are combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffdi import publish
from ffdi.config import Config
from ffdi.errors import ConfigError, ExperimentError
from ffdi.scoring import ensemble, metrics, scorecard
from ffdi.store.experiment import Experiment
from ffdi.store.fold import FoldFolder


@dataclass(frozen=True)
class Member:
    """One fold's network in a blend."""

    experiment: Experiment
    config: Config
    folder: FoldFolder

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.experiment.name} fold {self.folder.fold}"


@dataclass(frozen=True)
class Blend:
    """Members, their weights float64 [M] and the name of the method."""

    members: list[Member]
    weights: np.ndarray
    method: str

    @classmethod
    def of(cls, experiments: Sequence[Experiment]) -> Blend:
        """All folds of the experiments; each experiment counts the same.

        Raises:
            ExperimentError: one is not trained, incomplete or damaged, or is named twice.
            ConfigError: they do not agree on ensemble.method.
        """
        names = [experiment.name for experiment in experiments]
        if len(set(names)) < len(names):
            raise ExperimentError(f"an experiment is named twice: {', '.join(names)}", hint="name each one once")
        members: list[list[Member]] = []
        for experiment in experiments:
            config, identity = experiment.trained()
            folders = experiment.finished_folds(config.folds.k, identity)
            members.append([Member(experiment, config, folder) for folder in folders])
        methods = {folds[0].config.ensemble.method for folds in members}
        if len(methods) > 1:
            raise ConfigError(
                f"the experiments name different ensemble methods: {', '.join(sorted(methods))}",
                hint="set the same ensemble.method in each config.toml; nothing has to be trained again for that",
            )
        ensemble.method(method := methods.pop())
        weights = ensemble.equal_weights([len(folds) for folds in members])
        return cls([member for folds in members for member in folds], weights, method)

    @property
    def experiments(self) -> list[Experiment]:
        """The experiments, in order."""
        return list(dict.fromkeys(member.experiment for member in self.members))

    @property
    def data_root(self) -> Path:
        """The folder that the first experiment was trained on."""
        return self.members[0].experiment.data_root()

    def combine(self, logits: np.ndarray) -> np.ndarray:
        """Logits float [M, N] -> y_pred float64 [N]."""
        return ensemble.combine(logits, self.weights, self.method)

    @property
    def sizes(self) -> list[int]:
        """The edge length of each member's input."""
        return [member.config.model.size for member in self.members]

    def one_size(self) -> int:
        """The edge length of every member's input.

        Raises:
            ConfigError: they differ; one graph takes images of one size.
        """
        if len(set(self.sizes)) > 1:
            pairs = {member.experiment.name: member.config.model.size for member in self.members}
            raise ConfigError(
                "one graph takes images of one size; these experiments differ: "
                + ", ".join(f"{name} {size} px" for name, size in pairs.items()),
                hint="export them apart, or train them at one model.size",
            )
        return self.sizes[0]

    def evaluate(self, target: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
        """Scores on images with labels: of each member, their mean, and of all together.

        Args:
            target: int64 [N].
            logits: float [M, N].
        """
        members = {
            member.label: scorecard.score(target, ensemble.sigmoid(row))
            for member, row in zip(self.members, logits, strict=True)
        }
        together = scorecard.score(target, self.combine(logits))
        return {"members": members, "mean": metrics.mean(list(members.values())), "ensemble": together}

    def oof(self) -> dict[str, Any]:
        """Each experiment's pooled out-of-fold scores."""
        return {one.name: publish.read(one.metrics_path)["pooled"] for one in self.experiments}

    def describe(self) -> list[dict[str, object]]:
        """Each member as a record for a bundle or a submission's file."""
        return [
            {
                "experiment": member.experiment.name,
                "fold": member.folder.fold,
                "backbone": member.config.model.backbone,
                "size": member.config.model.size,
                "tta": member.config.predict.tta,
                "weights_sha256": member.folder.weights_sha256(),
                "weight": float(weight),
            }
            for member, weight in zip(self.members, self.weights, strict=True)
        ]


def export_name(experiments: Sequence[str], name: str | None) -> str:
    """The folder under exports/: `name`, else the experiments' names joined by '+'.

    Raises:
        ConfigError: the name is no plain folder name.
    """
    joined = name or "+".join(Path(experiment).resolve().name for experiment in experiments)
    if joined in (".", "..") or "/" in joined or "\\" in joined:
        raise ConfigError(f"--name '{joined}' is no folder name", hint="pass a name without slashes")
    return joined
