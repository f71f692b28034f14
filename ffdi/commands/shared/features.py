"""Computes the features that linear probes are trained on, or says why a training runs on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ffdi.commands.shared.options import EngineOptions
from ffdi.commands.shared.planning import PreparedData
from ffdi.config.schema import Config
from ffdi.core import console, files, manifests
from ffdi.core.console import Bar
from ffdi.core.errors import format_count
from ffdi.experiments.experiment import lock_folder
from ffdi.experiments.workspace import Workspace

if TYPE_CHECKING:
    from ffdi.data.loading.feature_store import FeatureStore
    from ffdi.models.detector import Detector
    from ffdi.models.head import HeadDetector
    from ffdi.training.features import CachedFeatures
    from ffdi.training.runtime.device import Device


def are_wanted(settings: Config) -> bool:
    """Whether features may take the place of images: the backbone is frozen, and an image has few views."""
    return settings.model.tune == "head" and settings.augment.views > 0


class FeatureCache:
    """The features of the trainings of one command; what several of them share is made and checked once."""

    def __init__(self, workspace: Workspace, options: EngineOptions) -> None:
        self._workspace, self._options = workspace, options
        self._heads: dict[tuple[str, Path], HeadDetector | None] = {}
        self._stores: dict[Path, FeatureStore] = {}
        self._described = set[str]()

    def prepare(
        self, settings: Config, weights: Path | None, data: PreparedData, device: Device, bar: Bar | None = None
    ) -> CachedFeatures | None:
        """The features for a training, of which the missing ones are computed; None if it runs on images.

        Args:
            settings: of the experiment.
            weights: the backbone's starting weights.
            data: the images.
            device: that computes.
            bar: the progress bar that is shown now; None shows one.

        Raises:
            FFDIError: an image is unreadable, or the features cannot be written.
            Interrupted: this process received a signal; what was computed is kept.
        """
        if not are_wanted(settings) or weights is None:
            return None
        if reason := _explain_images(settings, self._options):
            self._say(f"features: not cached: {reason}; each epoch runs the whole network", bar)
            return None
        head = self._find_head(settings, weights, device)
        if head is None:
            self._say(
                f"features: not cached: {settings.model.backbone} does more than to apply its classifier to one vector "
                "for each image; each epoch runs the whole network",
                bar,
            )
            return None
        return self._fill_store(settings, weights, head, data, device, bar)

    def _fill_store(
        self,
        settings: Config,
        weights: Path,
        head: HeadDetector,
        data: PreparedData,
        device: Device,
        bar: Bar | None,
    ) -> CachedFeatures:
        from ffdi.data.loading.feature_store import FeatureStore
        from ffdi.training import features

        described = features.describe_features(settings, manifests.hash_file(weights), device)
        folder = self._workspace.get_features_folder(manifests.hash_json(described))

        def plan(store: FeatureStore) -> CachedFeatures:
            self._stores[folder] = store
            return features.plan_features(settings, (data.train, data.val), data.sha256, store, head)

        planned = plan(self._stores.get(folder) or FeatureStore(folder))
        if planned.count_missing():
            with lock_folder(folder, "computes these features", "wait until it has", lambda busy: self._say(busy, bar)):
                files.remove_leftovers(folder)
                planned = plan(FeatureStore(folder))  # another process may have added some
                if planned.count_missing():
                    manifests.write_manifest(planned.heldout.store.settings_path, described)
                    self._compute(planned, settings, weights, data, device, bar)
                    planned = plan(FeatureStore(folder))
        views = format_count(len(planned.train), "training view")
        self._say(f"features: {views} of {format_count(len(data.train), 'image')} in {folder}", bar)
        return planned

    def _compute(
        self,
        planned: CachedFeatures,
        settings: Config,
        weights: Path,
        data: PreparedData,
        device: Device,
        bar: Bar | None,
    ) -> None:
        from ffdi.training import features
        from ffdi.training.runtime import device as devices

        self._say(f"features: {settings.model.backbone} computes them once for all folds", bar)
        missing = planned.count_missing()
        with devices.explain_oom(settings, device):
            whole = _build(settings, weights, device)
            done = features.compute_missing(planned, settings, data.train, data.val, whole, device)
            if bar is not None:
                for _ in done:
                    pass
                return
            with console.bar(f"features by {settings.model.backbone}", missing, unit="images") as own:
                for count in done:
                    own.advance(count)

    def _find_head(self, settings: Config, weights: Path, device: Device) -> HeadDetector | None:
        """The head of a network; None if its logit does not come from one vector of features alone."""
        from ffdi.models import head as heads

        key = (settings.model.model_dump_json(), weights)
        if key not in self._heads:
            self._heads[key] = heads.separate_head(_build(settings, weights, device), settings.training_size)
        return self._heads[key]

    def _say(self, line: str, bar: Bar | None) -> None:
        """Prints a line once."""
        if line not in self._described:
            self._described.add(line)
            (console.say if bar is None else bar.say)(line)


def _build(settings: Config, weights: Path, device: Device) -> Detector:
    from ffdi.models import detector

    return device.prepare(detector.build_detector(settings.model, weights)).eval()


def _explain_images(settings: Config, options: EngineOptions) -> str:
    """Why a training with views runs on images; empty if it can run on features."""
    reasons = {
        "augment.mixup and augment.cutmix mix images": max(settings.augment.mixup, settings.augment.cutmix) > 0,
        "train.consistency compares two views of an image": settings.train.consistency > 0,
        "train.sampling = 'paired' gives an image the view of another one": settings.train.needs_pairs,
        "of all pseudo-fakes, those of self_blend alone are the same in all folds": settings.pseudo_fakes.fraction > 0
        and settings.pseudo_fakes.methods != ["self_blend"],
        "--engine ray trains on other machines": options.engine == "ray",
        "--gpus-per-fold splits batches of images": options.gpus_per_fold > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
