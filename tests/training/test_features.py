"""Linear probes on cached features: the same as on images, and computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch

from ffdi.config.schema import Config, InputHashes
from ffdi.core import signals
from ffdi.core.signals import Interrupted
from ffdi.data.labels import layout
from ffdi.data.labels.table import Table
from ffdi.data.loading.feature_store import FeatureStore
from ffdi.evaluation.predictions import read_predictions
from ffdi.experiments.fold import FoldFolder, Identity
from ffdi.models import detector
from ffdi.models import head as heads
from ffdi.training import features, fold
from ffdi.training.checkpointing import ResumeEvent
from ffdi.training.features import CachedFeatures, View
from ffdi.training.fold import FoldJob, TrainingPlan
from ffdi.training.loop import Step
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device

CPU = devices.choose_device("cpu", "fp32", 0)
KEYS: dict[str, Any] = {
    "seed": 3,
    "model": {"backbone": "test_resnet", "size": 32, "tune": "head"},
    "augment": {"recipe": "light", "views": 2},
    "train": {"epochs": 3, "batch_size": 8, "lr": 1e-2, "ema_decay": 0.9},
}


class Images(NamedTuple):
    """The images of a competition with the hashes of their files, and starting weights."""

    train: Table
    val: Table
    sha256: tuple[np.ndarray, np.ndarray]
    weights: Path


@pytest.fixture(scope="module")
def images(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    torch.manual_seed(1)
    weights = tmp_path_factory.mktemp("weights") / "start.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    dataset = layout.find_dataset(competition, Config().data)
    train, val = dataset.split("train").take(np.arange(40)), dataset.split("val").take(np.arange(16))
    return Images(train, val, (hash_files(train), hash_files(val)), weights)


def hash_files(table: Table) -> np.ndarray:
    hashes = [hashlib.sha256(table.path(row).read_bytes()).digest() for row in range(len(table))]
    return np.array([np.frombuffer(one, np.uint8) for one in hashes])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 24 images, in batches of 8."""
    monkeypatch.setattr(features, "BLOCK", 24)
    monkeypatch.setattr(features, "BATCH", 8)


def configure(**changes: dict[str, Any]) -> Config:
    return Config.model_validate({**KEYS, **{key: {**KEYS.get(key, {}), **part} for key, part in changes.items()}})


def build(config: Config, images: Images) -> detector.Detector:
    return CPU.prepare(detector.build_detector(config.model, images.weights)).eval()


def plan(config: Config, images: Images, store: Path) -> CachedFeatures:
    head = heads.separate_head(build(config, images), 32)
    assert head is not None
    return features.plan_features(config, images[:2], images.sha256, FeatureStore(store), head)


def fill(config: Config, images: Images, store: Path, device: Device = CPU) -> CachedFeatures:
    """All features, of which the missing ones were computed."""
    planned = plan(config, images, store)
    missing = planned.count_missing()
    whole = build(config, images)
    assert sum(features.compute_missing(planned, config, *images[:2], whole, device)) == missing
    return plan(config, images, store)


def make_plan(config: Config, images: Images, cached: CachedFeatures | None) -> TrainingPlan:
    """Two folds."""
    fold_of, identity = np.arange(len(images.train)) // 2 % 2, Identity.from_config(config, "0", InputHashes("0"))
    return TrainingPlan(config, identity, images.train, fold_of, "0", images.weights, images.val, cached)


def train(
    config: Config, images: Images, folder: Path, cached: CachedFeatures | None, device: Device = CPU, **job: Any
) -> list[object]:
    """Trains fold 0; the events."""
    return list(fold.train(FoldJob(make_plan(config, images, cached), FoldFolder(folder, 0), "fp32", **job), device))


@pytest.mark.parametrize(
    ("changes", "device"),
    [
        ({}, CPU),
        ({}, replace(CPU, precision="bf16")),
        ({"pseudo_fakes": {"fraction": 0.25}, "predict": {"tta": "hflip+crops"}}, CPU),
        (
            {
                "model": {"normalize_features": True, "drop_rate": 0.2},
                "train": {"alignment": 0.1, "layer_decay": 0.7, "sampling": "all", "select": "best", "sam_rho": 0.05},
                "augment": {"crop_size": 32, "views": 3},
            },
            CPU,
        ),
    ],
    ids=["plain", "bf16", "pseudo-fakes", "other settings"],
)
def test_a_training_on_features_equals_one_on_images(
    changes: dict[str, Any], device: Device, images: Images, tmp_path: Path
) -> None:
    config = configure(**changes)
    train(config, images, tmp_path / "images", None, device)
    train(config, images, tmp_path / "features", fill(config, images, tmp_path / "store", device), device)
    folders = [FoldFolder(tmp_path / name, 0) for name in ("images", "features")]
    expected, found = (safetensors.torch.load_file(one.weights_path) for one in folders)
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in expected.items()
    }
    first, second = (pd.read_csv(one.history_path) for one in folders)
    # in bf16, the head rounds too where it is trained on images; Adam makes a step of 0.01 of any gradient near zero
    close = 1e-5 if device is CPU else 0.03
    assert np.allclose(first["train_loss"], second["train_loss"], rtol=0, atol=close)
    assert np.allclose(first["heldout_loss"], second["heldout_loss"], rtol=0, atol=close)
    for path in ("oof_path", "val_path"):
        one, other = (read_predictions(getattr(folder, path)) for folder in folders)
        assert one.img_name.tolist() == other.img_name.tolist()
        assert np.abs(one.logit - other.logit).max() < close
    manifests = [json.loads(one.manifest_path.read_text()) for one in folders]
    assert manifests[0]["parameters"] == manifests[1]["parameters"] > 300_000


def test_the_scores_of_features_are_those_of_the_saved_network(images: Images, tmp_path: Path) -> None:
    """Which ffdi loads for submissions and exports."""
    config = configure(predict={"tta": "hflip"})
    train(config, images, tmp_path / "fold_0", fill(config, images, tmp_path / "store"))
    folder = FoldFolder(tmp_path / "fold_0", 0)
    detector.save_frozen(build(config, images), tmp_path / "frozen.safetensors")
    network = detector.Scorer(detector.load_detector(config.model, folder.weights_path), "hflip")
    batches = fold.make_eval_batches(images.val, config, CPU)
    logit = fold.predict.predict_logits([network], batches, CPU)[0]
    assert np.abs(read_predictions(folder.val_path).logit - logit).max() < 1e-5


def test_a_head_starts_as_the_whole_network_does(images: Images, tmp_path: Path) -> None:
    config = configure()
    head = plan(config, images, tmp_path).head.start(7)
    torch.manual_seed(7)
    whole = detector.build_detector(config.model, images.weights)
    assert head.trained == whole.trained
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize("backbone", ["deit_tiny_distilled_patch16_224", "mobilenetv3_small_050", "crossvit_tiny_240"])
def test_a_head_is_separated_only_where_it_is_all_that_follows(backbone: str) -> None:
    config = configure(model={"backbone": backbone, "tune": "all", "size": 240 if "cross" in backbone else 32}).model
    whole = detector.build_detector(config, None).eval()
    assert (heads.separate_head(whole, config.size) is not None) == backbone.startswith("mobilenet")


def test_a_head_that_scores_patches_is_not_separated() -> None:
    config = configure(model={"backbone": "mobilenetv3_small_050", "tune": "all", "pool": "topk", "size": 96}).model
    assert heads.separate_head(detector.build_detector(config, None).eval(), config.size) is None


def test_what_was_computed_is_not_computed_again(images: Images, tmp_path: Path) -> None:
    config = configure()
    filled = fill(config, images, tmp_path)
    before = (tmp_path / "pack").read_bytes()
    assert filled.count_missing() == 0
    assert len(filled.train) == 2
    assert plan(configure(train={"lr": 0.1, "epochs": 1}), images, tmp_path).count_missing() == 0
    more = plan(configure(augment={"views": 3}), images, tmp_path)
    assert (more.count_missing(), len(more.train)) == (40, 3)
    assert plan(configure(predict={"tta": "none"}), images, tmp_path).count_missing() == 40 + 16
    fill(configure(augment={"views": 3}), images, tmp_path)
    assert (tmp_path / "pack").read_bytes().startswith(before)


def test_a_changed_image_makes_its_blocks_new(images: Images, tmp_path: Path) -> None:
    config = configure()
    fill(config, images, tmp_path)
    changed = images.sha256[0].copy()
    changed[30] ^= 1
    other = images._replace(sha256=(changed, images.sha256[1]))
    planned = plan(config, other, tmp_path)
    assert planned.count_missing() == 3 * 16
    assert [block.rows.tolist() for block in planned.heldout.list_missing()] == [list(range(24, 40))]


def test_a_changed_name_makes_other_views_and_the_same_scores(images: Images, tmp_path: Path) -> None:
    config = configure()
    fill(config, images, tmp_path)
    names = images.train.img_name.copy()
    names[0] = "other.jpg"
    planned = plan(config, images._replace(train=replace(images.train, img_name=names)), tmp_path)
    assert [len(one.list_missing()) for one in (planned.train[View(0)], planned.heldout)] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"train": {"lr": 0.5, "epochs": 9, "batch_size": 16}}, True),
        ({"model": {"drop_rate": 0.5, "normalize_features": True, "tune_rank": 2}}, True),
        ({"augment": {"views": 5}}, True),
        ({"folds": {"k": 3}}, True),
        ({"model": {"size": 64}}, False),
        ({"model": {"resize": "crop"}}, False),
        ({"model": {"noise_residual": "srm"}}, False),
        ({"augment": {"recipe": "strong"}}, False),
        ({"augment": {"crop_size": 32}}, False),
        ({"pseudo_fakes": {"fraction": 0.2}}, False),
        ({"cache": {"decoded": True}}, False),
    ],
)
def test_features_are_shared_by_settings_that_do_not_change_them(changes: dict[str, Any], same: bool) -> None:
    first, second = (features.describe_features(one, "0", CPU) for one in (configure(), configure(**changes)))
    assert (first == second) == same


def test_features_depend_on_seed_weights_and_device() -> None:
    config = configure()
    described = [
        features.describe_features(config, "0", CPU),
        features.describe_features(config.model_copy(update={"seed": 4}), "0", CPU),
        features.describe_features(config, "1", CPU),
        features.describe_features(config, "0", replace(CPU, precision="bf16")),
    ]
    assert len({json.dumps(one) for one in described}) == 4


def test_an_interrupted_computation_keeps_its_blocks_and_ends_in_the_same_bits(images: Images, tmp_path: Path) -> None:
    config = configure(pseudo_fakes={"fraction": 0.25})
    expected = fill(config, images, tmp_path / "whole")
    planned = plan(config, images, tmp_path / "parts")
    whole, total, done = build(config, images), planned.count_missing(), 0
    with signals.handle_signals(), pytest.raises(Interrupted):
        for count in features.compute_missing(planned, config, *images[:2], whole, CPU):
            done += count
            if done == 48:
                signals.signal.raise_signal(signals.signal.SIGTERM)
    assert plan(config, images, tmp_path / "parts").count_missing() == total - 40
    found = fill(config, images, tmp_path / "parts")
    for view, one in expected.train.items():
        assert np.array_equal(one.take(one.rows), found.train[view].take(one.rows))
    assert np.array_equal(*(one.heldout.take(one.heldout.rows) for one in (expected, found)))


def test_the_features_of_an_image_are_those_of_its_pixels(images: Images, tmp_path: Path) -> None:
    config = configure(predict={"tta": "hflip"})
    filled, whole, rows = fill(config, images, tmp_path), build(config, images), np.array([30, 3])
    batch = next(iter(fold.make_eval_batches(images.train.take(rows), config, CPU)))
    with torch.inference_mode():
        views = [heads.compute_features(whole, one).numpy() for one in detector.make_views(batch.images, "hflip")]
    assert np.abs(filled.heldout.take(rows) - np.concatenate(views, axis=1)).max() < 1e-4
    batches = features.ScoredFeatureBatches(filled.heldout, images.train.target, rows, 8)  # type: ignore[arg-type]
    (scored,) = batches
    assert scored.images.shape == (2, 2, views[0].shape[1])
    assert np.abs(scored.images[:, 1].numpy() - views[1]).max() < 1e-4


@pytest.fixture
def end(tmp_path: Path) -> Callable[[str], dict[str, bytes]]:
    """The files of a fold, without times."""

    def read(name: str) -> dict[str, bytes]:
        folder = FoldFolder(tmp_path / name, 0)
        history = pd.read_csv(folder.history_path).drop(columns=["seconds", "images_per_second", "waiting"])
        paths = (folder.weights_path, folder.oof_path, folder.val_path)
        return {"history": history.to_csv().encode(), **{path.name: path.read_bytes() for path in paths}}

    return read


def test_a_resumed_training_ends_in_the_same_bytes(
    images: Images, tmp_path: Path, end: Callable[[str], dict[str, bytes]]
) -> None:
    config = configure(pseudo_fakes={"fraction": 0.25})
    cached = fill(config, images, tmp_path / "store")
    train(config, images, tmp_path / "whole", cached)
    train(config, images, tmp_path / "parts", cached, stop_after=1)
    assert not FoldFolder(tmp_path / "parts", 0).manifest_path.exists()
    with signals.handle_signals(), pytest.raises(Interrupted):
        job = FoldJob(make_plan(config, images, cached), FoldFolder(tmp_path / "parts", 0), "fp32")
        for event in fold.train(job, CPU):
            if isinstance(event, Step) and (event.epoch, event.step) == (2, 1):
                signals.signal.raise_signal(signals.signal.SIGTERM)
    events = train(config, images, tmp_path / "parts", plan(config, images, tmp_path / "store"))
    resumed = events[0]
    assert isinstance(resumed, ResumeEvent)
    assert (resumed.epoch, resumed.step) == (2, 2)
    assert end("parts") == end("whole")
