"""Trained experiments taken together: whose folds they are, how much each counts, how they are combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ffdi.config.schema import Config
from ffdi.core import manifests
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.data.images.decode import ResizePolicy
from ffdi.data.splits import folds
from ffdi.data.splits.folds import FoldAssignment
from ffdi.ensemble import calibration, selection
from ffdi.ensemble import combine as methods
from ffdi.ensemble.calibration import Calibration
from ffdi.ensemble.selection import Choice
from ffdi.evaluation import metrics, predictions, scorecard
from ffdi.experiments.experiment import Experiment
from ffdi.experiments.fold import FoldFolder

SPARED = "; nothing has to be trained again for that"


@dataclass(frozen=True)
class Member:
    """One fold's network in a ensemble."""

    experiment: Experiment
    config: Config
    folder: FoldFolder

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.experiment.name} fold {self.folder.fold}"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members, and how they are combined.

    Attributes:
        members: experiment by experiment.
        choice: the method with its weights, and the nested score of every method.
        calibration: what the combined score goes through.
        deal: the training images, and which fold held each of them out.
        held_out: float32 [E, N], each experiment's out-of-fold logits in the deal's order.
    """

    members: list[Member]
    choice: Choice
    calibration: Calibration
    deal: FoldAssignment
    held_out: np.ndarray

    @classmethod
    def of(cls, experiments: Sequence[Experiment]) -> Ensemble:
        """All folds of the experiments, combined as nested cross-validation of their ledgers or the config says.

        Raises:
            ExperimentError: one is not trained, incomplete or damaged, or was trained on other images or folds than the
                first.
            ConfigError: they do not agree on how to be combined.
        """
        members: list[Member] = []
        for experiment in experiments:
            config, identity = experiment.trained()
            folders = experiment.finished_folds(config.folds.k, identity)
            members += [Member(experiment, config, folder) for folder in folders]
        method, kind = check_agreement([member.config for member in members])
        methods.check_method(method)
        calibration.check_calibration(kind)
        deal = _shared_deal(experiments)
        held_out = _out_of_fold(experiments, deal)
        choice = selection.choose(
            held_out,
            deal.target,
            deal.fold,
            deal.group,
            forced=None if method == methods.AUTO else method,
        )
        return cls(members, choice, calibration.fit_calibration(kind, choice.y_pred, deal.target), deal, held_out)

    @property
    def experiments(self) -> list[Experiment]:
        """The experiments, in order."""
        return list(dict.fromkeys(member.experiment for member in self.members))

    @property
    def method(self) -> str:
        """How the members are combined: a key of `methods.METHODS`."""
        return self.choice.combination.method

    @property
    def weights(self) -> np.ndarray:
        """How much each member counts, float64 [M]."""
        return self.choice.combination.spread(self._folds)

    @cached_property
    def _folds(self) -> list[int]:
        """How many members each experiment has."""
        return [sum(member.experiment == one for member in self.members) for one in self.experiments]

    def combine(self, logits: np.ndarray) -> np.ndarray:
        """Logits float [M, N] -> y_pred float64 [N]."""
        return self.calibration.apply(self.choice.combination.combine(logits, self._folds))

    def combine_held_out(self, logits: np.ndarray) -> np.ndarray:
        """Logits float [E, N], an image's by the network of each experiment that did not see it -> y_pred [N]."""
        return self.calibration.apply(self.choice.combination.combine(logits, [1] * len(logits)))

    @property
    def framing(self) -> ResizePolicy:
        """How images are framed that all members are asked through; smaller members take their part of them."""
        size = max(member.config.model.size for member in self.members)
        return ResizePolicy(size, self.members[0].config.model.resize)

    @property
    def resizes(self) -> bool:
        """Whether a member is asked through images that are larger than those it was trained on."""
        return any(member.config.model.size < self.framing.size for member in self.members)

    def check_exportable(self) -> None:
        """Refuses what one graph cannot hold, or must not.

        Raises:
            ConfigError: the members are combined by rank, or have too many parameters.
        """
        if not methods.METHODS[self.method].pointwise:
            raise ConfigError(
                f"ensemble.method = '{self.method}' scores an image by all others that are scored beside it; "
                "no graph can do that",
                hint="set ensemble.method = 'auto' in config.toml; nothing has to be trained again for that",
            )
        parameters = sum(member.folder.parameters() for member in self.members)
        budget = min(member.config.export.max_parameters for member in self.members)
        if parameters > budget:
            raise ConfigError(
                f"these {len(self.members)} networks have {parameters:,} parameters; "
                f"export.max_parameters is {budget:,}",
                hint="export fewer experiments, train fewer folds or a smaller model.backbone, or raise "
                "export.max_parameters in config.toml where no rule forbids it",
            )

    def evaluate(self, target: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
        """Scores on images with labels: of each member, their mean, and of all together.

        Args:
            target: int64 [N].
            logits: float [M, N].
        """
        members = {
            member.label: scorecard.score_without_intervals(target, predictions.sigmoid(row))
            for member, row in zip(self.members, logits, strict=True)
        }
        together = scorecard.score(target, self.combine(logits))
        return {"members": members, "mean": metrics.mean(list(members.values())), "ensemble": together}

    def oof(self) -> dict[str, Any]:
        """Each experiment's pooled out-of-fold scores."""
        return {one.name: manifests.read_manifest(one.metrics_path)["pooled"] for one in self.experiments}

    def oof_auc(self) -> dict[str, float]:
        """Each experiment's out-of-fold AUC: the mean of its folds', which offsets between them cannot lower."""
        return {one.name: float(np.mean([score["auc"] for score in _folds(one)])) for one in self.experiments}

    def oof_high(self) -> dict[str, float]:
        """The upper end of the 95 % interval of each `oof_auc`; an experiment with a fold that has none is left out."""
        found = {}
        for one in self.experiments:
            folds = _folds(one)
            ends = [score["intervals"].get("auc") for score in folds]
            if all(ends):
                auc = self.oof_auc()[one.name]
                above = [(end[1] - score["auc"]) / len(folds) for end, score in zip(ends, folds, strict=True)]
                found[one.name] = auc + float(np.hypot.reduce(above))
        return found

    def describe(self) -> dict[str, Any]:
        """How what is combined, as a record for a bundle or a submission's file."""
        return {
            "method": self.method,
            "bias": self.choice.combination.bias,
            "calibration": self.calibration.describe(),
            "members": [_record(*pair) for pair in zip(self.members, self.weights.tolist(), strict=True)],
            "nested": [asdict(row) for row in self.choice.rows],
        }


def _folds(experiment: Experiment) -> list[dict[str, Any]]:
    return list(manifests.read_manifest(experiment.metrics_path)["folds"].values())


def _record(member: Member, weight: float) -> dict[str, Any]:
    return {
        "experiment": member.experiment.name,
        "fold": member.folder.fold,
        "backbone": member.config.model.backbone,
        "size": member.config.model.size,
        "tta": member.config.predict.tta,
        "weights_sha256": member.folder.weights_sha256(),
        "weight": weight,
    }


def check_agreement(configs: Sequence[Config]) -> tuple[str, str]:
    """The method and the calibration of experiments that are combined.

    Raises:
        ConfigError: they differ in one of the two, in how images are dealt into folds, or in how they are framed.
    """
    for section, key in (("folds", "k"), ("folds", "scheme"), ("model", "resize")):
        _agreed(configs, section, key, "; then train again")
    return _agreed(configs, "ensemble", "method", SPARED), _agreed(configs, "ensemble", "calibration", SPARED)


def _agreed(configs: Sequence[Config], section: str, key: str, then: str) -> str:
    """The one value of a key."""
    values = {str(getattr(getattr(config, section), key)) for config in configs}
    if len(values) > 1:
        raise ConfigError(
            f"the experiments differ in {section}.{key}: {', '.join(sorted(values))}",
            hint=f"set the same {section}.{key} in each config.toml{then}",
        )
    return values.pop()


def _shared_deal(experiments: Sequence[Experiment]) -> FoldAssignment:
    """How the images of all these experiments were dealt.

    Raises:
        ExperimentError: they were dealt differently, or other images were.
    """
    for experiment in experiments:
        experiment.check_scored()
    first, *others = (folds.read_assignment(experiment.folds_path) for experiment in experiments)
    held_out = dict(zip(first.img_name.tolist(), zip(first.fold, first.target, strict=True), strict=True))
    for experiment, deal in zip(experiments[1:], others, strict=True):
        same = dict(zip(deal.img_name.tolist(), zip(deal.fold, deal.target, strict=True), strict=True))
        if same != held_out or experiment.data() != experiments[0].data():
            raise ExperimentError(
                f"{experiments[0].name} and {experiment.name} were not trained on the same images in the same folds; "
                "no score of both together could be believed",
                hint="train them on the same data with the same [folds] (folds.seed keeps folds where seed differs), "
                "or submit them apart",
            )
    return first


def _out_of_fold(experiments: Sequence[Experiment], deal: FoldAssignment) -> np.ndarray:
    """Logits float32 [E, N] in the deal's order."""
    parts = [predictions.read_predictions(experiment.oof_path) for experiment in experiments]
    return np.stack(
        [predictions.merge_predictions([part], deal.img_name, deal.fold, deal.target).logit for part in parts]
    )
