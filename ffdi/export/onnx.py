"""Exports all folds of all experiments into one ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from ffdi.core import console, machine
from ffdi.core.errors import ConfigError, format_count
from ffdi.ensemble.calibration import IDENTITY_FRACTION, Calibration
from ffdi.ensemble.combine import Combination
from ffdi.inference.bundle import INPUT, LOGITS, OUTPUT

MAX_REASON = 200
"""Characters of an exporter's error that are shown."""


class Graph(nn.Module):
    """uint8 [N, S, S, 3] RGB -> y_pred float32 [N]: parallel members, combined and calibrated as in the ensemble.

    Args:
        members: networks by readable name, each uint8 [N, S, S, 3] -> logit [N].
        weights: float [M], of the members.
        combination: pointwise; its space and bias.
        calibration: of the combined score.
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
        self.calibrated = _CalibrationLayer(calibration)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns y_pred [N] and the logits of the members [N, M]."""
        logits = torch.stack([member(images) for member in self.members], 1)
        if self.space == "probability":
            return self.calibrated((self.weights * torch.sigmoid(logits)).sum(1)), logits
        return self.calibrated(torch.sigmoid((self.weights * logits).sum(1) + self.bias)), logits

    def score(self, images: np.ndarray) -> np.ndarray:
        """Scores numpy images: uint8 [N, S, S, 3] -> y_pred float32 [N]."""
        with torch.inference_mode():
            return self(torch.from_numpy(images))[0].numpy()


class _CalibrationLayer(nn.Module):
    """`Calibration.apply` as a module: y_pred float32 [N] -> float32 [N]."""

    knots: torch.Tensor
    slopes: torch.Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.kind, self.temperature = calibration.kind, calibration.temperature
        self.least, knots, slopes = calibration.list_pieces()
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float32))
        self.register_buffer("slopes", torch.tensor(slopes, dtype=torch.float32))

    def forward(self, y_pred: torch.Tensor) -> torch.Tensor:
        if self.kind == "temperature":
            share = IDENTITY_FRACTION["temperature"]
            logit = torch.log(y_pred) - torch.log1p(-y_pred)
            y_pred = (1 - share) * torch.sigmoid(logit / self.temperature) + share * y_pred
        elif self.kind == "isotonic":
            y_pred = self.least + (torch.relu(y_pred.unsqueeze(1) - self.knots) * self.slopes).sum(1)
        return y_pred.clamp(0, 1)


def convert_to_onnx(graph: Graph, size: int) -> onnx.ModelProto:
    """Converts a graph to ONNX with a dynamic batch; its outputs are y_pred and the logits of the members.

    Args:
        graph: on the CPU, in evaluation mode.
        size: edge length of the images.

    Raises:
        ConfigError: the weights do not fit into one file, or the exporter does not support an operation.
    """
    weights = sum(tensor.nbytes for tensor in (*graph.parameters(), *graph.buffers()))
    if weights > (most := onnx.checker.MAXIMUM_PROTOBUF):
        raise ConfigError(
            f"the weights of {format_count(len(graph.names), 'network')} have {weights / 2**30:.1f} GiB, and one ONNX "
            f"file holds at most {most / 2**30:.1f} GiB",
            hint="submit with invoke ensemble-submit, which needs no ONNX, or train a smaller model.backbone",
        )
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)  # a batch of one image would be exported as a constant
    try:
        with console.silence(), _disable_fused_attention(graph):
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT, LOGITS],
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
                external_data=False,
            )
    except Exception as error:  # it passes on whatever goes wrong in torch, ONNX Script and the network
        if machine.is_memory_error(cause := error.__cause__ or error):
            raise cause from None
        raise _refuse_network(cause) from error
    assert program is not None
    model = program.model_proto
    _name_nodes(model.graph, graph.names)
    return model


def check_exportable(scorer: nn.Module, size: int) -> None:
    """Tries to export a network; one with other weights can be exported if this one can.

    Args:
        scorer: uint8 [N, size, size, 3] -> logit [N]; on the CPU, in evaluation mode.
        size: edge length of the images.

    Raises:
        ConfigError: as `convert_to_onnx` and `save_graph`.
    """
    graph = Graph({"network": scorer}, np.ones(1), Combination("mean", np.ones(1)), Calibration("none"))
    _check_graph(convert_to_onnx(graph.eval(), size))


def _refuse_network(error: BaseException) -> ConfigError:
    reason = " ".join(str(error).partition("\n\n")[0].split())[:MAX_REASON] or type(error).__name__
    return ConfigError(
        f"torch {torch.__version__} cannot export this network to ONNX: {reason}",
        hint="submit with invoke ensemble-submit, which needs no ONNX, or train another model.backbone",
    )


@contextmanager
def _disable_fused_attention(graph: nn.Module) -> Iterator[None]:
    """Replaces timm's fused attention by products: that of the exporter has other strides, which MaxViT refuses."""
    fused: list[Any] = [module for module in graph.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True


def save_graph(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str], output: str = OUTPUT) -> None:
    """Writes a graph into one file, and runs the full check of ONNX.

    Args:
        model: the graph.
        path: the file.
        metadata: stored in the file.
        output: the only output of the file.

    Raises:
        ConfigError: the exporter has written an invalid graph.
    """
    served = _select_output(model, output)
    del served.metadata_props[:]
    for key, value in metadata.items():
        served.metadata_props.add(key=key, value=value)
    onnx.save(served, path)
    _check_graph(path)


def _check_graph(model: onnx.ModelProto | Path) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _refuse_network(error) from error


def _select_output(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    selected = [one for one in copy.graph.output if one.name == output]
    del copy.graph.output[:]
    copy.graph.output.extend(selected)
    return copy


def _name_nodes(graph: onnx.GraphProto, members: list[str]) -> None:
    """Names every node and value by its member and layer.

    The names of the exporter are numbers, and its metadata contains paths of this machine.
    """
    layer: dict[str, str] = {}
    names: dict[str, str] = {one.name: one.name for one in (*graph.input, *graph.output)}
    for weights in graph.initializer:
        names[weights.name] = _format_weight_name(weights.name, members)
    seen: Counter[str] = Counter()
    for node in graph.node:
        own = [_format_layer(names[name]) for name in node.input if name not in layer and "/" in names.get(name, "")]
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


def _format_weight_name(name: str, members: list[str]) -> str:
    """'members.0.detector.backbone.conv1.weight' -> 'resnet18.fold_0/conv1.weight'; else 'images/...'."""
    if not name.startswith("members."):
        return name
    _, number, rest = name.split(".", 2)
    *_, last = rest.split(".")
    member = members[int(number)]
    if last in PREPARATION_BUFFERS and "backbone" not in rest:
        return f"{INPUT}/{member}.{last}"
    return f"{member}/{rest.rpartition('backbone.')[2]}"


def _format_layer(weights: str) -> str:
    """'resnet18.fold_0/conv1.weight' -> 'resnet18.fold_0/conv1'."""
    return INPUT if weights.startswith(f"{INPUT}/") else weights.rpartition(".")[0]


PREPARATION_BUFFERS = ("mean", "std", "area", "kernels")
"""Buffers of the image preparation, before the first layer."""
