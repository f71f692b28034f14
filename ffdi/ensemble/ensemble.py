"""The ensemble of trained experiments: its networks, their weights, and how they are combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ffdi.config.schema import Config, SubmissionConfig
from ffdi.core import manifests
from ffdi.core.errors import ConfigError, ExperimentError, check_choice, format_count
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.ensemble import calibration, selection
from ffdi.ensemble import combine as methods
from ffdi.ensemble.calibration import Calibration
from ffdi.ensemble.selection import Choice
from ffdi.evaluation import metrics, predictions, score_names, scorecard
from ffdi.evaluation.predictions import OofPredictions
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.fold import FoldFolder

NO_RETRAINING = "; no training is necessary for that"


@dataclass(frozen=True)
class Member:
    """The network of one fold, or the one on all images, in an ensemble."""

    experiment: Experiment
    config: Config
    folder: FoldFolder

    @property
    def label(self) -> str:
        return f"{self.experiment.name} {self.folder.label}"

    @property
    def is_refit(self) -> bool:
        """Whether the network was trained on all training images, so that it has no out-of-fold scores."""
        return self.folder.fold == self.config.folds.k


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks, and how they are combined.

    Attributes:
        members: ordered by experiment.
        choice: the method with its weights, and the nested score of each method.
        calibration: of the combined score.
        assignment: the training images and their folds.
        oof_logits: float32 [E, N], the out-of-fold logits of each experiment, in the order of `assignment`.
    """

    members: list[Member]
    choice: Choice
    calibration: Calibration
    assignment: FoldAssignment
    oof_logits: np.ndarray

    @classmethod
    def from_experiments(cls, experiments: Sequence[Experiment]) -> Ensemble:
        """All networks of the experiments, combined by the method of the config, or by nested selection.

        Raises:
            ExperimentError: an experiment is incomplete or damaged, or has other images or folds than the first.
            ConfigError: the experiments differ in their method or calibration.
        """
        members: list[Member] = []
        for experiment in experiments:
            config, identity = experiment.load_training()
            networks = experiment.list_networks(config.folds, identity)
            members += [Member(experiment, config, folder) for folder in networks]
        method, kind = check_agreement([member.config for member in members])
        check_choice("ensemble.method", method, (methods.AUTO, *methods.METHODS))
        check_choice("ensemble.calibration", kind, calibration.KINDS)
        assignment = _load_assignment(experiments)
        oof_logits = _load_oof_logits(experiments, assignment)
        choice = selection.choose_method(
            oof_logits,
            assignment.target,
            assignment.fold,
            assignment.group,
            forced=None if method == methods.AUTO else method,
        )
        fitted = calibration.fit_calibration(kind, choice.y_pred, assignment.target)
        return cls(members, choice, fitted, assignment, oof_logits)

    @property
    def experiments(self) -> list[Experiment]:
        return list(dict.fromkeys(member.experiment for member in self.members))

    @property
    def method(self) -> str:
        """A key of `combine.METHODS`."""
        return self.choice.combination.method

    @property
    def weights(self) -> np.ndarray:
        """Of the members, float64 [M]."""
        return self.choice.combination.spread_weights(self._folds)

    @cached_property
    def _folds(self) -> list[int]:
        """The number of members of each experiment."""
        return [sum(member.experiment == one for member in self.members) for one in self.experiments]

    def combine(self, logits: np.ndarray) -> np.ndarray:
        """Logits float [M, N] -> y_pred float64 [N]."""
        return self.calibration.apply(self.choice.combination.combine(logits, self._folds))

    def combine_oof(self, logits: np.ndarray) -> np.ndarray:
        """Out-of-fold logits float [E, N] -> y_pred float64 [N]."""
        return self.calibration.apply(self.choice.combination.combine(logits, [1] * len(logits)))

    @property
    def resize_policy(self) -> ResizePolicy:
        """The size of the largest member; smaller members resize or crop their input themselves."""
        size = max(member.config.model.size for member in self.members)
        return ResizePolicy(size, self.members[0].config.model.resize)

    @property
    def enlarges_images(self) -> bool:
        """Whether a member gets larger images than in its training."""
        return any(member.config.model.size < self.resize_policy.size for member in self.members)

    def check_exportable(self) -> None:
        """Raises ConfigError if the members are combined by rank, or have too many parameters."""
        if not methods.METHODS[self.method].pointwise:
            raise ConfigError(
                f"ensemble.method = '{self.method}' makes the score of an image depend on the other images; "
                "a graph cannot do that",
                hint=f"set ensemble.method = 'auto' in config.toml{NO_RETRAINING}",
            )
        parameters = sum(member.folder.count_parameters() for member in self.members)
        budget = min(member.config.export.max_parameters for member in self.members)
        if parameters > budget:
            raise ConfigError(
                f"{format_count(len(self.members), 'network')} with {parameters:,} parameters; "
                f"export.max_parameters is {budget:,}",
                hint="export fewer experiments, train fewer folds or a smaller model.backbone, or raise "
                "export.max_parameters in config.toml if the rules of your competition allow it",
            )

    def evaluate(self, target: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
        """Scores on images with labels: of each member, the mean of these, and of the ensemble.

        Args:
            target: int64 [N].
            logits: float [M, N].
        """
        members = {
            member.label: scorecard.score_without_intervals(target, predictions.sigmoid(row))
            for member, row in zip(self.members, logits, strict=True)
        }
        ensemble = scorecard.score_predictions(target, self.combine(logits))
        return {"members": members, "mean": metrics.average_scores(list(members.values())), "ensemble": ensemble}

    def read_val_logits(self) -> tuple[OofPredictions, np.ndarray] | None:
        """The first member's predictions of the validation split, and the logits of all members, float32 [M, N].

        None if a member has not scored it, or other images than the first.
        """
        paths = [member.folder.val_path for member in self.members]
        if not all(path.is_file() for path in paths):
            return None
        parts = [predictions.read_predictions(path) for path in paths]
        if any(not np.array_equal(one.img_name, parts[0].img_name) for one in parts):
            return None
        return parts[0], np.stack([one.logit for one in parts])

    def read_oof_scores(self) -> dict[str, Any]:
        """The pooled out-of-fold scores of each experiment."""
        return {one.name: manifests.read_manifest(one.metrics_path)["pooled"] for one in self.experiments}

    def describe_oof_scores(self) -> str:
        """The out-of-fold AUC of each experiment, for a message."""
        aucs = ", ".join(f"{name} {score['auc']:.4f}" for name, score in self.read_oof_scores().items())
        return f"AUC {aucs} ({score_names.POOLED})"

    def compute_fold_aucs(self) -> dict[str, float]:
        """The mean AUC of the folds of each experiment; offsets between the folds' networks cannot lower it."""
        return {
            one.name: float(np.mean([score["auc"] for score in _read_fold_scores(one)])) for one in self.experiments
        }

    def compute_fold_auc_bounds(self) -> dict[str, float]:
        """The upper end of the 95 % interval of `compute_fold_aucs`; an experiment without intervals is left out."""
        bounds = {}
        for one in self.experiments:
            folds = _read_fold_scores(one)
            ends = [score["intervals"].get("auc") for score in folds]
            if all(ends):
                auc = self.compute_fold_aucs()[one.name]
                above = [(end[1] - score["auc"]) / len(folds) for end, score in zip(ends, folds, strict=True)]
                bounds[one.name] = auc + float(np.hypot.reduce(above))
        return bounds

    def describe(self) -> dict[str, Any]:
        """The members, weights and nested scores, for the JSON of a bundle or a submission."""
        return {
            "method": self.method,
            "bias": self.choice.combination.bias,
            "calibration": self.calibration.describe(),
            "members": [_describe_member(*pair) for pair in zip(self.members, self.weights.tolist(), strict=True)],
            "nested": [asdict(row) for row in self.choice.rows],
            "best_single": {"experiment": self.experiments[self.choice.single[0]].name, "auc": self.choice.single[1]},
        }


def _read_fold_scores(experiment: Experiment) -> list[dict[str, Any]]:
    return list(manifests.read_manifest(experiment.metrics_path)["folds"].values())


def _describe_member(member: Member, weight: float) -> dict[str, Any]:
    return {
        "experiment": member.experiment.name,
        "network": member.folder.label,
        "backbone": member.config.model.backbone,
        "size": member.config.model.size,
        "tta": member.config.predict.tta,
        "weights_sha256": member.folder.read_weights_sha256(),
        "weight": weight,
        **({"teachers": member.config.distill.teachers} if member.config.distill.teachers else {}),
        **({"pseudo_labels": member.config.pseudo_labels.name} if member.config.pseudo_labels.name else {}),
    }


def check_agreement(configs: Sequence[Config]) -> tuple[str, str]:
    """Returns the common ensemble method and calibration of experiments.

    Raises:
        ConfigError: they differ, or the folds, the resizing or the form of a submission differ.
    """
    for section, key in (("folds", "k"), ("folds", "scheme"), ("model", "resize")):
        _get_common_value(configs, section, key, "; then train again")
    for key in SubmissionConfig.model_fields:
        _get_common_value(configs, "submission", key, NO_RETRAINING)
    method, kind = (_get_common_value(configs, "ensemble", key, NO_RETRAINING) for key in ("method", "calibration"))
    return method, kind


def _get_common_value(configs: Sequence[Config], section: str, key: str, then: str) -> str:
    """Returns the value of a key; `then` ends the hint of the error."""
    values = {str(getattr(getattr(config, section), key)) for config in configs}
    if len(values) > 1:
        raise ConfigError(
            f"the experiments differ in {section}.{key}: {', '.join(sorted(values))}",
            hint=f"set the same {section}.{key} in each config.toml{then}",
        )
    return values.pop()


def _load_assignment(experiments: Sequence[Experiment]) -> FoldAssignment:
    """Returns the fold assignment that all experiments share.

    Raises:
        ExperimentError: their images or folds differ.
    """
    for experiment in experiments:
        experiment.check_scores()
    first, *others = (folds.read_assignment(experiment.folds_path) for experiment in experiments)
    expected = dict(zip(first.img_name.tolist(), zip(first.fold, first.target, strict=True), strict=True))
    for experiment, assignment in zip(experiments[1:], others, strict=True):
        actual = dict(
            zip(assignment.img_name.tolist(), zip(assignment.fold, assignment.target, strict=True), strict=True)
        )
        if actual != expected or experiment.read_data_digest() != experiments[0].read_data_digest():
            raise ExperimentError(
                f"{experiments[0].name} and {experiment.name} were not trained on the same images in the same folds; "
                "so they have no valid common score",
                hint="train them on the same data with the same [folds] (folds.seed keeps the folds when seed "
                "changes), or submit them separately",
            )
    return first


def _load_oof_logits(experiments: Sequence[Experiment], assignment: FoldAssignment) -> np.ndarray:
    """Logits float32 [E, N] in the order of the assignment."""
    parts = [predictions.read_predictions(experiment.oof_path) for experiment in experiments]
    return np.stack(
        [
            predictions.merge_predictions([part], assignment.img_name, assignment.fold, assignment.target).logit
            for part in parts
        ]
    )
