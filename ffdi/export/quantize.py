"""Converts a graph to fp16 or int8: the layers of its networks, but not the image preparation or the ensemble."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from ffdi.core import console
from ffdi.core.errors import ConfigError, suggest_nearest
from ffdi.inference.bundle import INPUT, OUTPUT

CALIBRATION_IMAGES = 128
"""Training images that calibrate the ranges of int8 activations."""
CALIBRATION_BATCH = 8

Training = Callable[[], np.ndarray]
"""() -> uint8 [N, S, S, 3]: images that are not in the equivalence check."""
Convert = Callable[[onnx.ModelProto, Training], onnx.ModelProto]
"""A graph in fp32 -> the graph in another precision."""


def convert(kind: str, model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    """Converts a graph to another precision; inputs, outputs, preparation and ensemble do not change.

    Args:
        kind: a key of KINDS.
        model: in fp32.
        training: loads images; called only for int8.
    """
    return KINDS[kind](model, training)


def check_precision(name: str) -> None:
    """Refuses an unknown precision.

    Raises:
        ConfigError: names the nearest one.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"--precision {name}: {suggest_nearest(name, PRECISIONS)}", hint="pass --precision fp32")


def _keep_fp32(model: onnx.ModelProto, _training: Training) -> onnx.ModelProto:
    return model


def _convert_fp16(model: onnx.ModelProto, _training: Training) -> onnx.ModelProto:
    return convert_to_fp16(_copy(model), _list_outer_nodes(model))


def _quantize_int8(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    return _quantize(model, training, _list_outer_nodes(model))


def _quantize_int8_fp32(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    return _quantize(model, training, [*_list_outer_nodes(model), *_list_sensitive_convolutions(model)])


def _quantize(model: onnx.ModelProto, training: Training, excluded: list[str]) -> onnx.ModelProto:
    """Static quantisation, per channel for weights, per tensor for activations: QDQ, which all runtimes support."""
    with tempfile.TemporaryDirectory() as folder, console.silence():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            _copy(model),
            path,
            _Batches(training()),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=excluded,
            extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.05},
        )
        return onnx.load(path)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copies a graph, because conversions change their argument."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _list_outer_nodes(model: onnx.ModelProto) -> list[str]:
    """Lists the nodes that prepare images or combine logits."""
    return [node.name for node in model.graph.node if node.name.partition("/")[0] in (INPUT, OUTPUT)]


def _list_sensitive_convolutions(model: onnx.ModelProto) -> list[str]:
    """Lists convolutions that are cheap and lose much in int8: the first ones and those with groups."""
    prepared = {value for node in model.graph.node if node.name.startswith(f"{INPUT}/") for value in node.output}
    groups = {node.name: next((one.i for one in node.attribute if one.name == "group"), 1) for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if groups[node.name] > 1 or node.input[0] in prepared]


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # a class of a library without types
    def __init__(self, training: np.ndarray) -> None:
        self._batches = iter(np.split(training, range(CALIBRATION_BATCH, len(training), CALIBRATION_BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


KINDS: dict[str, Convert] = {
    "fp32": _keep_fp32,
    "fp16": _convert_fp16,
    "int8": _quantize_int8,
    "int8+fp32": _quantize_int8_fp32,
}
"""Conversions by kind; 'int8+fp32' keeps the sensitive convolutions in fp32."""
PRECISIONS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8", "int8+fp32")}
"""The kinds to try for each --precision: the fastest first, the most accurate last."""


ALWAYS_FP32 = frozenset({"Resize", "Range", "TopK", "CumSum"})
"""Operators without fp16, or with parameters in fp32."""


def convert_to_fp16(model: onnx.ModelProto, outside: Collection[str]) -> onnx.ModelProto:
    """Converts a graph to fp16 except for some nodes, with casts between the two.

    ONNX Runtime's own converter sends a value between two excluded nodes through fp16, and casts a weight that two of
    them share twice under one name.

    Args:
        model: in fp32; it is changed.
        outside: names of the nodes that stay in fp32.
    """
    graph = model.graph
    fp32 = {node.name for node in graph.node if node.name in outside or node.op_type in ALWAYS_FP32}
    floats = _find_fp32_values(model)
    half = {value for node in graph.node if node.name not in fp32 for value in node.output} & floats
    border = _Border({one.name: one for one in graph.initializer})
    for node in graph.node:
        for place, value in enumerate(node.input):
            if node.name in fp32 and value in half:
                node.input[place] = border.cast(value, TensorProto.FLOAT)
            elif node.name not in fp32 and value in floats - half:
                node.input[place] = border.cast(value, TensorProto.FLOAT16)
        if node.name not in fp32:
            _halve_attributes(node)
        border.nodes.append(node)
    _replace_nodes(graph, border)
    return model


class _Border:
    """The nodes of the new graph in order, with each cast once."""

    def __init__(self, weights: dict[str, TensorProto]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights = weights
        self._made: dict[tuple[str, int], str] = {}

    def cast(self, value: str, to: int) -> str:
        """Returns the name of a value in another type."""
        name = self._made.get((value, to))
        if name is None:
            name = self._made[value, to] = f"{value}.{'fp16' if to == TensorProto.FLOAT16 else 'fp32'}"
            if value in self.weights:
                array = numpy_helper.to_array(self.weights[value]).astype(np.float16)
                self.weights[name] = numpy_helper.from_array(array, name)
            else:
                self.nodes.append(helper.make_node("Cast", [value], [name], name=name, to=to))
        return name


def _find_fp32_values(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    named = {one.name for one in values if one.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {one.name for one in graph.initializer if one.data_type == TensorProto.FLOAT}


def _halve_attributes(node: onnx.NodeProto) -> None:
    """Changes fp32 in the attributes of a node to fp16."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))


def _replace_nodes(graph: onnx.GraphProto, border: _Border) -> None:
    """Replaces the nodes and weights of a graph, and removes the inferred types."""
    used = {value for node in border.nodes for value in node.input}
    weights = [one for name, one in border.weights.items() if name in used]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in border.nodes]  # the old list is deleted
    weights = [TensorProto.FromString(one.SerializeToString()) for one in weights]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
