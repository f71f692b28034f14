"""Which weights are trained, and what is stored of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from timm.utils import ModelEmaV3
from torch import nn

from ffdi.config.schema import Config
from ffdi.core.errors import ExperimentError
from ffdi.data.loading.loader import Batch
from ffdi.models import detector, tuning
from ffdi.models.detector import Detector
from ffdi.models.weights import head_modules
from ffdi.training import loop, optim
from ffdi.training.runtime import device as devices
from ffdi.training.state import TrainingState

SIZES = {"test_resnet": 32, "test_vit": 160, "test_efficientnet": 32}
PARTIAL = ("head", "norm", "lora", "svd")
WHERE = devices.choose_device("cpu", "fp32", 0)


def configure(backbone: str, tune: str, rank: int = 2, **train: object) -> Config:
    model = {"backbone": backbone, "pretrained": False, "size": SIZES[backbone], "tune": tune, "tune_rank": rank}
    return Config.model_validate(
        {"model": model, "train": {"lr": 1e-2, "warmup_epochs": 0, "clip_grad": 0.0, "ema_decay": 0.9, **train}}
    )


def build(config: Config) -> Detector:
    """The same starting weights for every `tune`; those of the updates come after them."""
    torch.manual_seed(0)
    network = detector.build_detector(config.model, None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # timm starts some with 0: what comes before them would have no gradient
    return network


def train(config: Config, steps: int = 3) -> TrainingState:
    """Some steps on noise."""
    state = TrainingState.create(build(config), config.train, WHERE)
    tuning.set_trainable(state.detector)
    criterion, size = optim.create_loss(config.train, 0.5), config.model.size
    for step in range(steps):
        images = np.random.default_rng(step).integers(0, 256, (4, size, size, 3), np.uint8)
        batch = Batch(torch.from_numpy(images), torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.arange(4))
        loop.train_step(state.detector, state, batch, criterion, config, WHERE)
        state.global_step += 1
        loop.update_ema(state)
    return state


def images(config: Config) -> torch.Tensor:
    size = config.model.size
    return torch.from_numpy(np.random.default_rng(9).integers(0, 256, (3, size, size, 3), np.uint8))


def ask(network: nn.Module, config: Config) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = network.eval()(images(config))
    return logits


def count_expected(config: Config) -> int:
    """The trained parameters, from the shapes of the layers."""
    plain, tune, rank = build(configure(config.model.backbone, "all")), config.model.tune, config.model.tune_rank
    head = {id(module) for module in head_modules(plain.backbone)}
    total = sum(one.numel() for module in head_modules(plain.backbone) for one in module.parameters(recurse=False))
    for module in plain.backbone.modules():
        if tune == "norm" and isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            total += sum(one.numel() for one in module.parameters())
        if tune in ("lora", "svd") and isinstance(module, nn.Linear | nn.Conv2d) and id(module) not in head:
            rows, columns = len(module.weight), module.weight[0].numel()
            update = rank * (rows + columns + (tune == "svd"))
            total += rows * columns if min(rows, columns) <= rank else update
    return total


@pytest.mark.parametrize("backbone", SIZES)
@pytest.mark.parametrize("tune", PARTIAL)
def test_what_is_trained_follows_from_the_layers(backbone: str, tune: str) -> None:
    config = configure(backbone, tune)
    network = build(config)
    assert sum(one.numel() for one in network.parameters() if one.requires_grad) == count_expected(config)
    plain = build(configure(backbone, "all"))
    assert tuning.count_parameters(network) == sum(one.numel() for one in plain.parameters())
    optimizer = optim.create_optimizer(config.train, network.backbone)
    held = sum(one.numel() for group in optimizer.param_groups for one in group["params"])
    assert held == count_expected(config)


@pytest.mark.parametrize("backbone", SIZES)
@pytest.mark.parametrize("tune", PARTIAL)
def test_only_what_is_trained_changes(backbone: str, tune: str) -> None:
    config = configure(backbone, tune)
    before = {name: value.clone() for name, value in build(config).state_dict().items()}
    after = train(config).detector
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= after.trained
    parameters = {name for name, one in after.named_parameters() if one.requires_grad}
    assert parameters - changed <= {name for name in parameters if name.endswith(".bias")}  # before a BatchNorm
    if tune == "norm" and backbone != "test_vit":
        assert any(name.endswith("running_mean") for name in changed)
    else:
        assert not any("running" in name for name in changed)


@pytest.mark.parametrize("backbone", SIZES)
@pytest.mark.parametrize("tune", PARTIAL)
def test_a_network_starts_as_its_starting_weights(backbone: str, tune: str) -> None:
    config = configure(backbone, tune)
    plain, tuned = (ask(build(configure(backbone, one)), config) for one in ("all", tune))
    assert torch.allclose(plain, tuned, atol=1e-5)


@pytest.mark.parametrize("backbone", SIZES)
@pytest.mark.parametrize("tune", ["lora", "svd"])
def test_merged_weights_give_the_same_scores_in_timms_network(backbone: str, tune: str) -> None:
    config = configure(backbone, tune)
    network = train(config).detector
    expected = ask(network, config)
    tuning.merge(network)
    plain = build(configure(backbone, "all"))
    plain.load_state_dict(network.state_dict())
    assert torch.allclose(ask(plain, config), expected, atol=1e-5)


def test_singular_components_of_full_rank_are_tuned_as_all_weights_are() -> None:
    full, parts = (train(configure("test_vit", tune, rank=4096), steps=1).detector for tune in ("all", "svd"))
    assert "backbone.blocks.0.attn.qkv.weight" in parts.trained
    for name in parts.trained:
        assert torch.allclose(full.state_dict()[name], parts.state_dict()[name], atol=1e-5)


def test_the_smallest_singular_components_are_those_that_learn() -> None:
    weight = torch.randn(6, 4, 1, 1)
    update = tuning.ResidualUpdate(weight, 2, decompose=True)
    kept = weight.flatten(1) - update.start_left @ update.start_right
    values = torch.linalg.svdvals(weight.flatten(1))
    assert torch.allclose(torch.linalg.svdvals(kept)[:2], values[:2], atol=1e-5)
    assert torch.allclose(torch.linalg.svdvals(kept)[2:], torch.zeros(2), atol=1e-5)
    assert torch.allclose(update(weight), weight, atol=1e-6)


@pytest.mark.parametrize("tune", PARTIAL)
def test_the_average_is_timms_and_shares_what_is_frozen(tune: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("test_resnet", tune)
    state = train(config)
    assert state.ema is not None
    own, average = state.detector.state_dict(keep_vars=True), state.ema.module.state_dict(keep_vars=True)
    assert {name for name in own if own[name].data_ptr() == average[name].data_ptr()} == set(
        own
    ) - state.detector.trained
    monkeypatch.setattr(optim, "_PartialEma", ModelEmaV3)
    expected = train(config)
    assert expected.ema is not None
    assert all(torch.equal(average[name], value) for name, value in expected.ema.module.state_dict().items())


@pytest.mark.parametrize("tune", PARTIAL)
def test_a_checkpoint_has_only_what_is_trained(tune: str) -> None:
    state = train(configure("test_vit", tune))
    names = {name for name in state.state_dict() if name.startswith(("model/", "ema/"))}
    assert names == {f"{part}/{name}" for part in ("model", "ema") for name in state.detector.trained}


@pytest.mark.parametrize("tune", PARTIAL)
def test_files_of_frozen_and_trained_weights_make_the_network(tune: str, tmp_path: Path) -> None:
    config = configure("test_resnet", tune)
    state = train(config)
    path = tmp_path / "fold_0" / "weights.safetensors"
    path.parent.mkdir()
    detector.save_frozen(build(config), tmp_path / "frozen.safetensors")
    detector.save_detector(state.detector, path)
    assert set(safetensors.torch.load_file(path)) == state.detector.trained
    loaded = detector.load_detector(config.model, path)
    assert torch.allclose(ask(loaded, config), ask(state.detector, config), atol=1e-5)
    assert set(loaded.state_dict()) == set(build(configure("test_resnet", "all")).state_dict())
    with pytest.raises(ExperimentError, match="does not hold weights of test_resnet"):
        detector.load_detector(configure("test_resnet", "all").model, path)
    (tmp_path / "frozen.safetensors").unlink()
    with pytest.raises(ExperimentError, match="does not hold weights of test_resnet"):
        detector.load_detector(config.model, path)


@pytest.mark.parametrize("backbone", SIZES)
@pytest.mark.parametrize("tune", ["all", *PARTIAL])
def test_freezing_for_some_epochs_trains_the_head_alone(backbone: str, tune: str) -> None:
    network = build(configure(backbone, tune))
    head = {id(one) for module in head_modules(network.backbone) for one in module.parameters()}
    tuning.set_trainable(network, head_only=True)
    assert {id(one) for one in network.backbone.parameters() if one.requires_grad} == head
    assert not any(one.training for one in network.backbone.modules() if isinstance(one, nn.BatchNorm2d))
    tuning.set_trainable(network)
    assert sum(one.numel() for one in network.parameters() if one.requires_grad) == (
        sum(one.numel() for one in network.parameters()) if tune == "all" else count_expected(configure(backbone, tune))
    )


def test_a_small_alpha_makes_a_small_update() -> None:
    weight = torch.randn(5, 7)
    torch.manual_seed(0)
    one = tuning.LowRankUpdate(weight, 2, 16.0)
    nn.init.ones_(one.up)
    assert torch.allclose(one(weight) - weight, 8 * one.up @ one.down, atol=1e-5)
