"""Partial tuning: which weights of a network are trained, by `model.tune`.

| tune | trained besides the head |
|---|---|
| all | everything |
| head | nothing |
| norm | normalization layers, with the statistics of BatchNorm |
| lora | low-rank updates of all matrices (Hu et al., LoRA, ICLR 2022) |
| svd | the smallest singular components of all matrices (Yan et al., Effort, ICML 2025, without its two extra losses) |

A matrix is the weight of a linear or convolutional layer, one row for each output. All else is frozen: it has no
gradients, moments or moving average, and its tensors are those of the starting weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from ffdi.config.schema import ModelConfig
from ffdi.models.weights import head_modules

if TYPE_CHECKING:
    from ffdi.models.weights import Backbone

Tensors = dict[str, torch.Tensor]


class TunedNetwork(nn.Module):
    """A network that can be tuned in part.

    Attributes:
        tune: `model.tune`.
        trained: names in `state_dict` of all that a training changes, and of all that the starting weights lack; the
            others are frozen.
    """

    backbone: Backbone
    tune: str
    trained: frozenset[str]


class LowRankUpdate(nn.Module):
    """weight + alpha / rank * up @ down, with up = 0 at the start."""

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        matrix = weight.flatten(1)
        self.up = nn.Parameter(matrix.new_zeros((len(matrix), rank)))
        self.down = nn.Parameter(matrix.new_empty((rank, matrix.shape[1])))
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))
        self.scale = alpha / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.scale * self.up @ self.down).reshape(weight.shape)


class ResidualUpdate(nn.Module):
    """Replaces the smallest `rank` singular components of a weight by trained ones, which start as these components.

    The starting components are kept, so that the weight itself stays that of the starting weights.
    """

    start_left: torch.Tensor
    start_right: torch.Tensor

    def __init__(self, weight: torch.Tensor, rank: int, *, decompose: bool) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        left, value = matrix.new_zeros(len(matrix), rank), matrix.new_zeros(rank)
        right = matrix.new_zeros(rank, matrix.shape[1])
        if decompose:
            parts = torch.linalg.svd(matrix.double(), full_matrices=False)
            left, value, right = (part.to(matrix) for part in (parts.U[:, -rank:], parts.S[-rank:], parts.Vh[-rank:]))
        self.left, self.value, self.right = nn.Parameter(left), nn.Parameter(value), nn.Parameter(right.contiguous())
        self.register_buffer("start_left", left * value)
        self.register_buffer("start_right", right.clone())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        left = torch.cat([self.left * self.value, -self.start_left], dim=1)
        right = torch.cat([self.right, self.start_right])
        return weight + (left @ right).reshape(weight.shape)


def prepare(network: TunedNetwork, config: ModelConfig, *, starts: bool) -> None:
    """Adds the updates to a network with starting weights, and freezes what is not trained.

    Args:
        network: changed in place.
        config: `tune`, `tune_rank` and `tune_alpha`. A matrix with no more rows or columns than the rank is trained as
            it is.
        starts: whether the network starts a training; its weights are loaded otherwise, and need no decomposition.
    """
    if config.tune == "all":
        return
    network.tune, whole = config.tune, set[str]()
    for name, layer in _list_matrices(network) if config.tune in ("lora", "svd") else ():
        weight = layer.weight
        if min(len(weight), weight[0].numel()) <= config.tune_rank:
            whole.add(f"{name}.weight")
        elif config.tune == "lora":
            parametrize.register_parametrization(
                layer, "weight", LowRankUpdate(weight, config.tune_rank, config.tune_alpha), unsafe=True
            )
        else:
            parametrize.register_parametrization(
                layer, "weight", ResidualUpdate(weight, config.tune_rank, decompose=starts), unsafe=True
            )
    network.trained = frozenset({*whole, *_list_trained(network, config.tune)})
    set_trainable(network)


def _list_matrices(network: TunedNetwork) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers with matrices, without the head, by their names in the network."""
    head = set(map(id, head_modules(network.backbone)))
    return [
        (f"backbone.{name}", layer)
        for name, layer in network.backbone.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and id(layer) not in head
    ]


def _list_trained(network: TunedNetwork, tune: str) -> Iterator[str]:
    """Names of the tensors of the head, of normalization layers and of updates, where they are trained."""
    head = set(map(id, head_modules(network.backbone)))
    for name, module in network.backbone.named_modules():
        update = isinstance(module, LowRankUpdate | ResidualUpdate)
        if id(module) in head or update or (tune == "norm" and _is_normalization(module)):
            own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            yield from (f"backbone.{name}.{key}" for key in own)


def _is_normalization(module: nn.Module) -> bool:
    """By the name of its class: timm and torch have many such classes, and no base class."""
    return "norm" in type(module).__name__.lower()


def set_trainable(network: TunedNetwork, *, head_only: bool = False) -> None:
    """Puts a network into training mode.

    A frozen BatchNorm layer keeps its statistics. A backbone of which only the head is trained has no dropout.

    Args:
        network: changed in place.
        head_only: whether the head alone is trained for now, and the others wait (`train.freeze_epochs`).
    """
    head = head_modules(network.backbone)
    of_head = {id(parameter) for module in head for parameter in module.parameters(recurse=False)}
    network.backbone.train(not head_only and network.tune != "head")
    for name, parameter in network.backbone.named_parameters():
        wanted = not head_only or id(parameter) in of_head
        parameter.requires_grad_(wanted and f"backbone.{name}" in network.trained)
    for name, module in network.backbone.named_modules():
        if isinstance(module, _BatchNorm) and f"backbone.{name}.running_mean" not in network.trained:
            module.eval()
    for module in head:
        module.train()


def get_trained(network: TunedNetwork) -> Tensors:
    """The tensors that a training changes, by their names in `state_dict`."""
    return {name: value for name, value in network.state_dict().items() if name in network.trained}


def get_frozen(network: TunedNetwork) -> Tensors:
    """The other tensors."""
    return {name: value for name, value in network.state_dict().items() if name not in network.trained}


def load_trained(network: TunedNetwork, tensors: Tensors) -> None:
    """Loads what `get_trained` returned.

    Raises:
        RuntimeError: the tensors are of another network, or of another `model.tune`.
    """
    network.load_state_dict({**get_frozen(network), **tensors})


def share_frozen(network: TunedNetwork, other: TunedNetwork) -> None:
    """Makes a copy of a network use the frozen tensors of the other one, whose memory they then share."""
    for (name, module), source in zip(network.named_modules(), other.modules(), strict=True):
        for own, shared in ((module._parameters, source._parameters), (module._buffers, source._buffers)):
            own.update({key: value for key, value in shared.items() if f"{name}.{key}" not in network.trained})


def merge(network: TunedNetwork) -> None:
    """Adds the updates to the weights: the network is timm's again, with the same outputs, and nothing is frozen."""
    for module in list(network.backbone.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    network.requires_grad_(True)
    network.tune, network.trained = "all", frozenset(network.state_dict())


def count_parameters(network: TunedNetwork) -> int:
    """The parameters of the merged network."""
    updates = [one for one in network.modules() if isinstance(one, LowRankUpdate | ResidualUpdate)]
    added = sum(parameter.numel() for one in updates for parameter in one.parameters())
    return sum(parameter.numel() for parameter in network.parameters()) - added
