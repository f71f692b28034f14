"""The network: what goes in, what comes out, and where its weights come from."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from ffdi.config.schema import ModelConfig
from ffdi.core.errors import ConfigError, ExperimentError
from ffdi.models import detector as detectors
from ffdi.models.detector import Detector, Scorer

TINY = ModelConfig(backbone="test_resnet", pretrained=False, size=32)


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    """uint8 [count, size, size, 3]."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def test_uint8_images_go_in_and_one_logit_comes_out() -> None:
    logits = detectors.build_detector(TINY, None).eval()(images())
    assert (logits.shape, logits.dtype) == ((3,), torch.float32)


def test_normalisation_is_that_of_the_backbone() -> None:
    class Mean(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))[:, :1]

    detector = Detector(Mean(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    red = images()[..., 0].float() / 255
    assert torch.allclose(detector(images()), ((red - 0.485) / 0.229).mean((1, 2)), atol=1e-5)


def test_one_logit_equals_a_two_class_softmax() -> None:
    two = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = (torch.arange(64) % 3 == 0).long()
    one = two[:, 1] - two[:, 0]
    assert torch.allclose(two.softmax(1)[:, 1], one.sigmoid())
    cross_entropy = functional.cross_entropy(two, target)
    assert torch.allclose(cross_entropy, functional.binary_cross_entropy_with_logits(one, target.double()))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_convnext"])
def test_topk_pooling_takes_the_highest_patches(backbone: str) -> None:
    torch.manual_seed(0)
    config = TINY.model_copy(update={"backbone": backbone, "size": 160, "pool": "topk", "topk_fraction": 0.2})
    detector = detectors.build_detector(config, None).eval()
    with torch.inference_mode():
        logits, features = detector(images(3, 160), features=True)
        assert torch.equal(logits, detector(images(3, 160)))
        assert features.shape[0] == 3
        last = detectors.starting.list_last_layers(detector.backbone)[0]
        assert torch.allclose(functional.linear(features, last.weight.flatten(1), last.bias)[:, 0], logits, atol=1e-5)
        detector.topk = 1.0
        mean = detector(images(3, 160))
        detector.topk = 1e-9
        assert (detector(images(3, 160)) >= logits).all()
        assert (logits > mean).all()
        if backbone == "test_resnet":  # a linear head of mean features is the mean of its logits
            detector.topk = None
            assert torch.allclose(detector(images(3, 160)), mean, atol=1e-6)


def test_flip_tta_is_the_mean_of_both_views_and_symmetric() -> None:
    detector = detectors.build_detector(TINY, None).eval()
    scorer = Scorer(detector, "hflip")
    with torch.inference_mode():
        mean = (detector(images()) + detector(images().flip(2))) / 2
        assert torch.allclose(scorer(images()), mean)
        assert torch.allclose(scorer(images()), scorer(images().flip(2)), atol=1e-6)
        assert not torch.allclose(detector(images()), detector(images().flip(2)), atol=1e-6)


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    detector = detectors.build_detector(TINY, None).eval()
    detectors.save_detector(detector, tmp_path / "weights.safetensors")
    again = detectors.load_detector(TINY, tmp_path / "weights.safetensors")
    with torch.inference_mode():
        assert torch.equal(detector(images()), again(images()))
    assert not again.training


def test_trained_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fold_0" / "weights.safetensors"
    detectors.save_detector(detectors.build_detector(TINY, None), path)
    with pytest.raises(ExperimentError) as caught:
        detectors.load_detector(TINY.model_copy(update={"backbone": "test_vit"}), path)
    assert caught.value.what.startswith(f"{path} does not hold weights of test_vit: ")


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_every_network_begins_near_probability_one_half(backbone: str) -> None:
    config = ModelConfig(backbone=backbone, size=160)
    torch.manual_seed(0)
    probability = detectors.build_detector(config, None).eval()(images(4, 160)).sigmoid()
    assert ((probability - 0.5).abs() < 0.1).all()


@pytest.mark.parametrize(("tta", "views"), [("hflip", 2), ("crops", 5), ("hflip+crops", 10)])
def test_a_score_is_the_mean_over_its_views(tta: str, views: int) -> None:
    detector = detectors.build_detector(TINY, None).eval()
    with torch.inference_mode():
        seen = detectors.VIEWS[tta](images())
        assert len(seen) == views
        assert all(view.shape == images().shape for view in seen)
        mean = torch.stack([detector(view) for view in seen]).mean(0)
        assert torch.allclose(Scorer(detector, tta)(images()), mean, atol=1e-6)


def test_crops_are_the_corners_enlarged() -> None:
    flat = torch.zeros((1, 32, 32, 3), dtype=torch.uint8)
    flat[:, :16, :16] = 200
    whole, *corners = detectors.VIEWS["crops"](flat)
    assert torch.equal(whole, flat.float())
    shares = [corner.mean().item() / 200 for corner in corners]
    assert shares == pytest.approx([(16 / 28) ** 2, 16 / 28 * 12 / 28, 16 / 28 * 12 / 28, (12 / 28) ** 2], abs=0.01)


def test_strided_convolutions_of_few_channels_have_the_right_gradients() -> None:
    """oneDNN's gradients of them are wrong, or it crashes: fp64, which it does not compute, is the reference."""
    torch.manual_seed(0)
    network = detectors.build_detector(ModelConfig(backbone="fastvit_t8"), None).eval()
    given, name = images(4, 64), "backbone.stem.0.conv_scale.conv"
    conv, exact = network.get_submodule(name), copy.deepcopy(network).double()
    plain = timm.create_model("fastvit_t8", num_classes=1).eval().double()
    plain.load_state_dict(exact.backbone.state_dict())
    with torch.no_grad():
        assert torch.allclose(exact(given), plain(exact.normalize(given)).squeeze(1).float(), atol=1e-6)
    network(given).sum().backward()
    exact(given).sum().backward()
    wanted = exact.get_submodule(name).weight.grad
    assert wanted.abs().max() > 0
    assert (conv.weight.grad - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_a_size_that_a_network_does_not_take_is_refused() -> None:
    detectors.check_size(detectors.build_detector(TINY, None), "model.size", 96)
    with pytest.raises(ConfigError) as caught:
        detectors.check_size(detectors.build_detector(ModelConfig(backbone="test_vit"), None), "augment.crop_size", 100)
    assert str(caught.value) == (
        "augment.crop_size = 100: the backbone does not take images of that size: Input height (100) should be "
        "divisible by patch size (16).\n"
        "next: correct augment.crop_size in config.toml; timm's weights of this backbone are for 160 px"
    )


def test_a_size_that_is_refused_without_a_reason() -> None:
    with pytest.raises(ConfigError) as caught:
        detectors.check_size(detectors.build_detector(ModelConfig(backbone="halonet_h1"), None), "model.size", 128)
    assert str(caught.value) == (
        "model.size = 128: the backbone does not take images of that size\n"
        "next: correct model.size in config.toml; timm's weights of this backbone are for 256 px"
    )


def test_a_batch_that_batchnorm_cannot_normalise_is_refused() -> None:
    detectors.check_batch(detectors.build_detector(TINY, None), 2, 32)
    detectors.check_batch(detectors.build_detector(TINY, None), 1, 64)
    with pytest.raises(ConfigError) as caught:
        detectors.check_batch(detectors.build_detector(TINY, None), 1, 32)
    assert str(caught.value) == (
        "train.batch_size = 1: the backbone does not train on that: Expected more than 1 value per channel when "
        "training, got input size torch.Size([1, 96, 1, 1])\nnext: set a larger train.batch_size in config.toml"
    )
