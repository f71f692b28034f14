"""Where heat maps are hot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ffdi.config.schema import ModelConfig
from ffdi.models import detector
from ffdi.models.detector import Detector
from ffdi.training.runtime import device
from ffdi.training.tools import gradcam

SIZE = 64


class Corner(nn.Module):
    """A backbone whose logit is how bright one corner is, less a half."""

    feature_info = [{"module": "pool", "reduction": 4}]  # noqa: RUF012

    def __init__(self, rows: slice, sign: int) -> None:
        super().__init__()
        self.pool, self.rows, self.sign = nn.AvgPool2d(4), rows, sign
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.pool(self.gain * images)[:, :, self.rows, self.rows]
        return self.sign * (seen.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] - 0.1)


class NoMap(Corner):
    """The same, without a layer that timm's list of features names."""

    feature_info = [{"module": "stage", "reduction": 4}]  # noqa: RUF012


@pytest.mark.parametrize("kind", [Corner, NoMap])
@pytest.mark.parametrize("sign", [1, -1], ids=["fake", "real"])
@pytest.mark.parametrize("rows", [slice(0, 4), slice(12, 16)], ids=["top left", "bottom right"])
def test_heat_is_where_the_evidence_is_for_both_classes(kind: type[Corner], rows: slice, sign: int) -> None:
    network = Detector(kind(rows, sign), (0.0,) * 3, (1.0,) * 3)
    layer = gradcam.find_layer(network, SIZE)
    assert (layer is None) == (kind is NoMap)
    images = np.full((2, SIZE, SIZE, 3), 200, np.uint8)
    heat = gradcam.compute_heat_map(network, images, device.choose_device("cpu", None, 0), layer)
    assert (heat.shape, heat.dtype) == ((2, gradcam.EDGE, gradcam.EDGE), np.float32)
    hot = np.zeros((gradcam.EDGE, gradcam.EDGE), bool)
    edge = slice(rows.start * gradcam.EDGE // 16, rows.stop * gradcam.EDGE // 16)
    hot[edge, edge] = True
    assert heat[0][hot].min() > 0
    margin = 2 if kind is Corner else 8  # a blur
    around = slice(max(0, edge.start - margin), edge.stop + margin)
    hot[around, around] = True
    assert heat[0][~hot].max() < 1e-2


@pytest.mark.parametrize(
    ("backbone", "edge"),
    [
        ("test_resnet", SIZE), ("test_efficientnet", SIZE), ("test_convnext", SIZE), ("test_vit", 160),
        ("pit_ti_224", 224), ("coat_lite_tiny", 64), ("twins_pcpvt_small", 64), ("hrnet_w18_small", 64),
        ("mvitv2_tiny", 64), ("crossvit_tiny_240", 240),
    ],
)  # fmt: skip
def test_all_kinds_of_backbones_have_heat_maps(backbone: str, edge: int) -> None:
    config = ModelConfig(backbone=backbone, pretrained=False, size=edge)
    torch.manual_seed(0)
    network = detector.build_detector(config, None)
    images = np.random.default_rng(0).integers(0, 256, (3, edge, edge, 3), np.uint8)
    heat = gradcam.compute_heat_map(
        network, images, device.choose_device("cpu", None, 0), gradcam.find_layer(network, edge)
    )
    assert heat.shape == (3, gradcam.EDGE, gradcam.EDGE)
    assert heat.min() >= 0
    assert np.isfinite(heat).all()
    assert (heat.max(axis=(1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in network.parameters())
