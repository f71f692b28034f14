"""The head of a frozen backbone alone: a linear probe on features that were computed before."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from ffdi.models import detector, tuning
from ffdi.models.detector import Detector

if TYPE_CHECKING:
    from ffdi.models.weights import Backbone

TOLERANCE = 1e-6
"""Largest difference between the logits of a network and of its head alone; the head starts with small weights."""


class HeadDetector(Detector):
    """The classifier of a Detector, by the same names in `state_dict`: features float32 [B, D] -> logit float32 [B].

    Attributes:
        whole_parameters: parameters of the whole network.
    """

    def __init__(self, whole: Detector) -> None:
        mean, std = whole.mean.flatten() / 255, whole.std.flatten() / 255
        super().__init__(cast("Backbone", _Classifier(whole.backbone)), tuple(mean.tolist()), tuple(std.tolist()))
        self.tune, self.whole_parameters = "head", tuning.count_parameters(whole)

    def _compute_logits(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.backbone(images).squeeze(1).float(), None

    def start(self, seed: int) -> HeadDetector:
        """A copy with the weights with which the whole network starts, if torch is seeded so before it is built."""
        network = copy.deepcopy(self)
        torch.manual_seed(seed)
        detector.reset_head(network.backbone)
        return network


class HeadScorer(nn.Module):
    """A HeadDetector for the views of test-time augmentation: features [B, W, D] -> mean logit, float32 [B]."""

    def __init__(self, head: Detector) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        together = features.transpose(0, 1).flatten(0, 1)
        return self.head(together).reshape(features.shape[1], -1).mean(0)


class _Classifier(nn.Module):
    """The classifier of a backbone at its place in it; the rest is left out."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        classifier = backbone.get_classifier()
        self.place = next(name for name, module in backbone.named_modules() if module is classifier)
        *above, last = self.place.split(".")
        parent: nn.Module = self
        for name in above:
            parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        parent.add_module(last, copy.deepcopy(cast(nn.Module, classifier)))

    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.place)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.get_classifier()(features)


def compute_features(whole: Detector, images: torch.Tensor) -> torch.Tensor:
    """The input of the classifier: uint8 [B, S, S, 3] -> float32 [B, D].

    It is the input before `model.normalize_features`, which belongs to the head.

    Raises:
        ValueError: the network has no such input.
    """
    return _run(whole, images)[1].float()


def separate_head(whole: Detector, edge: int) -> HeadDetector | None:
    """The head alone, on the CPU, if it gives the network's logits of two images of noise; else None.

    It does not for networks with two classifiers, or with a classifier for maps of features, or with top-k pooling.

    Args:
        whole: in evaluation mode.
        edge: of the images, in pixels.
    """
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, edge, edge, 3), dtype=torch.uint8, generator=noise).to(whole.mean.device)
    try:
        with torch.inference_mode():
            logits, features = _run(whole, images)
    except ValueError:
        return None
    head = HeadDetector(whole).eval()  # not in inference mode, whose tensors cannot be trained
    with torch.inference_mode():
        same = (head(features) - logits).abs().max().item() <= TOLERANCE
    return head.cpu() if same else None


def _run(whole: Detector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits, and the input of the classifier."""
    classifier, given = whole.backbone.get_classifier(), list[torch.Tensor]()
    if not isinstance(classifier, nn.Module):
        raise ValueError("the network has two classifiers")
    with classifier.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]), prepend=True):
        logits = whole(images)
    if [one.shape[:-1] for one in given] != [(len(images),)]:
        raise ValueError("the classifier does not get one vector for each image")
    return logits, given[0]
