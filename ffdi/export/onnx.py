"""All folds of all experiments in one ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ffdi.core import console
from ffdi.ensemble.calibration import BLEND, Calibration
from ffdi.ensemble.combine import Combination
from ffdi.inference.bundle import INPUT, LOGITS, OUTPUT


class Graph(nn.Module):
    """uint8 [N, S, S, 3] RGB -> y_pred float32 [N]: members side by side, combined and calibrated as a blend does.

    Args:
        members: networks by a name that people read, each uint8 [N, S, S, 3] -> logit [N].
        weights: float [M], how much each member counts.
        combination: pointwise; its space and bias.
        calibration: what the combined score goes through.
    """

    weights: torch.Tensor

    def __init__(
        self,
        members: Mapping[str, nn.Module],
        weights: np.ndarray,
        combination: Combination,
        calibration: Calibration,
    ) -> None:
        super().__init__()
        self.names = list(members)
        self.members = nn.ModuleList(members.values())
        self.space, self.bias = combination.space, combination.bias
        self.calibrated = _Calibrated(calibration)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """y_pred [N], and the members' logits [N, M] that it is made of."""
        logits = torch.stack([member(images) for member in self.members], 1)
        if self.space == "probability":
            return self.calibrated((self.weights * torch.sigmoid(logits)).sum(1)), logits
        return self.calibrated(torch.sigmoid((self.weights * logits).sum(1) + self.bias)), logits

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, 3] -> y_pred float32 [N], in numpy."""
        with torch.inference_mode():
            return self(torch.from_numpy(images))[0].numpy()


class _Calibrated(nn.Module):
    """`Calibration.apply` for a graph: y_pred float32 [N] -> float32 [N]."""

    knots: torch.Tensor
    slopes: torch.Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.kind, self.temperature = calibration.kind, calibration.temperature
        self.least, knots, slopes = calibration.pieces()
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float32))
        self.register_buffer("slopes", torch.tensor(slopes, dtype=torch.float32))

    def forward(self, y_pred: torch.Tensor) -> torch.Tensor:
        if self.kind == "temperature":
            share = BLEND["temperature"]
            logit = torch.log(y_pred) - torch.log1p(-y_pred)
            y_pred = (1 - share) * torch.sigmoid(logit / self.temperature) + share * y_pred
        elif self.kind == "isotonic":
            y_pred = self.least + (torch.relu(y_pred.unsqueeze(1) - self.knots) * self.slopes).sum(1)
        return y_pred.clamp(0, 1)


def to_onnx(graph: Graph, size: int) -> onnx.ModelProto:
    """A graph as ONNX, with any number of images as its batch; its outputs are y_pred and the members' logits.

    Args:
        graph: on the CPU, in evaluation mode.
        size: edge length of the images.
    """
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)  # of one image the batch would be taken for fixed
    with console.silence():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT, LOGITS],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    _named(model.graph, graph.names)
    return model


def save(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str], output: str = OUTPUT) -> None:
    """Writes a graph into one file, and checks that as strictly as ONNX can.

    Args:
        model: the graph.
        path: the file.
        metadata: words that travel inside the file.
        output: the one output that it will have.
    """
    served = _only(model, output)
    del served.metadata_props[:]
    for key, value in metadata.items():
        served.metadata_props.add(key=key, value=value)
    onnx.save(served, path)
    onnx.checker.check_model(path, full_check=True)


def _only(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """A copy of a graph with that output alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [one for one in copy.graph.output if one.name == output]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    return copy


def _named(graph: onnx.GraphProto, members: list[str]) -> None:
    """Names every node and value after the member and layer whose weights it uses, or comes after.

    The exporter's own names are numbers, and its notes hold this machine's paths.
    """
    layer: dict[str, str] = {}
    names: dict[str, str] = {one.name: one.name for one in (*graph.input, *graph.output)}
    for weights in graph.initializer:
        names[weights.name] = _readable(weights.name, members)
    seen: Counter[str] = Counter()
    for node in graph.node:
        own = [_layer(names[name]) for name in node.input if name not in layer and "/" in names.get(name, "")]
        before = [layer[name] for name in node.input if name in layer]
        place = OUTPUT if LOGITS in node.output else next(iter([*own, *before]), INPUT)
        title = f"{place}/{node.op_type}"
        seen[title] += 1
        node.name = title if seen[title] == 1 else f"{title}_{seen[title]}"
        for number, value in enumerate(node.output):
            layer[value] = OUTPUT if value == LOGITS else place
            names.setdefault(value, node.name if number == 0 else f"{node.name}:{number}")
        del node.metadata_props[:]
        node.doc_string = ""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for one in (*graph.initializer, *graph.value_info):
        one.name = names.get(one.name, one.name)
        del one.metadata_props[:]


def _readable(name: str, members: list[str]) -> str:
    """'members.0.detector.backbone.conv1.weight' -> 'resnet18.fold_0/conv1.weight'; what prepares images is theirs."""
    if not name.startswith("members."):
        return name
    _, number, rest = name.split(".", 2)
    *_, last = rest.split(".")
    member = members[int(number)]
    if last in PREPARES and "backbone" not in rest:
        return f"{INPUT}/{member}.{last}"
    return f"{member}/{rest.rpartition('backbone.')[2]}"


def _layer(weights: str) -> str:
    """'resnet18.fold_0/conv1.weight' -> 'resnet18.fold_0/conv1'."""
    return INPUT if weights.startswith(f"{INPUT}/") else weights.rpartition(".")[0]


PREPARES = ("mean", "std", "area", "kernels")
"""Buffers that images go through before the first layer."""
