"""A graph in fewer bits: between the first and the last layers of its networks, never in front of them or behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from ffdi.core import console
from ffdi.core.errors import ConfigError, nearest
from ffdi.inference.bundle import INPUT, OUTPUT

CALIBRATION_IMAGES = 128
"""Training images from which int8 learns how large the activations are."""
CALIBRATION_BATCH = 8

Training = Callable[[], np.ndarray]
"""() -> uint8 [N, S, S, 3]: images that no score is judged by."""
Convert = Callable[[onnx.ModelProto, Training], onnx.ModelProto]
"""A graph in fp32 -> the graph in fewer bits."""


def convert(kind: str, model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    """A graph that multiplies in something else; its inputs, outputs, preparation and combination stay as they are.

    Args:
        kind: a key of KINDS.
        model: in fp32.
        training: asked for only where images are looked at.
    """
    return KINDS[kind](model, training)


def check_precision(name: str) -> None:
    """Refuses a precision that is not there.

    Raises:
        ConfigError: names the nearest one.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"--precision {name}: {nearest(name, PRECISIONS)}", hint="pass --precision fp32")


def _fp32(model: onnx.ModelProto, _training: Training) -> onnx.ModelProto:
    return model


def _fp16(model: onnx.ModelProto, _training: Training) -> onnx.ModelProto:
    return convert_to_fp16(_copied(model), _outside(model))


def _int8(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    return _quantized(model, training, _outside(model))


def _int8_and_fp32(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    return _quantized(model, training, [*_outside(model), *_delicate(model)])


def _quantized(model: onnx.ModelProto, training: Training, excluded: list[str]) -> onnx.ModelProto:
    """Weights per channel, activations per tensor, static: what every runtime knows (QDQ)."""
    with tempfile.TemporaryDirectory() as folder, console.silence():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            _copied(model),
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


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Conversions change what they are given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _outside(model: onnx.ModelProto) -> list[str]:
    """The nodes that prepare images, and those that combine logits."""
    return [node.name for node in model.graph.node if node.name.partition("/")[0] in (INPUT, OUTPUT)]


def _delicate(model: onnx.ModelProto) -> list[str]:
    """Convolutions with few multiplications and much to lose: of the images themselves, and of each channel alone."""
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


KINDS: dict[str, Convert] = {"fp32": _fp32, "fp16": _fp16, "int8": _int8, "int8+fp32": _int8_and_fp32}
"""What a graph can multiply in; 'int8+fp32' leaves the delicate convolutions as they are."""
PRECISIONS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8", "int8+fp32")}
"""What can be asked for, and the kinds that it may become: the fastest first, each more careful than the one before."""


ALWAYS_FP32 = frozenset({"Resize", "Range", "TopK", "CumSum"})
"""Operators that know no fp16, or take their parameters in fp32."""


def convert_to_fp16(model: onnx.ModelProto, outside: Collection[str]) -> onnx.ModelProto:
    """A graph in half the bits, but for some nodes; a cast stands wherever a value goes in or out.

    ONNX Runtime's own conversion takes a value that passes between two nodes outside through fp16, and casts a weight
    that two of them share twice under one name.

    Args:
        model: in fp32; it is changed.
        outside: names of the nodes that stay in fp32.
    """
    graph = model.graph
    fp32 = {node.name for node in graph.node if node.name in outside or node.op_type in ALWAYS_FP32}
    floats = _floats(model)
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
    _replace(graph, border)
    return model


class _Border:
    """The nodes of a new graph in order, with the casts between them, each made once."""

    def __init__(self, weights: dict[str, TensorProto]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights = weights
        self._made: dict[tuple[str, int], str] = {}

    def cast(self, value: str, to: int) -> str:
        """The name of a value in another type."""
        name = self._made.get((value, to))
        if name is None:
            name = self._made[value, to] = f"{value}.{'fp16' if to == TensorProto.FLOAT16 else 'fp32'}"
            if value in self.weights:
                array = numpy_helper.to_array(self.weights[value]).astype(np.float16)
                self.weights[name] = numpy_helper.from_array(array, name)
            else:
                self.nodes.append(helper.make_node("Cast", [value], [name], name=name, to=to))
        return name


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of all values and weights that are fp32."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    named = {one.name for one in values if one.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {one.name for one in graph.initializer if one.data_type == TensorProto.FLOAT}


def _halve_attributes(node: onnx.NodeProto) -> None:
    """Types that stand in a node itself."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))


def _replace(graph: onnx.GraphProto, border: _Border) -> None:
    """Puts the new nodes in, and the weights that they use; types that were inferred before are forgotten."""
    used = {value for node in border.nodes for value in node.input}
    weights = [one for name, one in border.weights.items() if name in used]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in border.nodes]  # they live in the old list
    weights = [TensorProto.FromString(one.SerializeToString()) for one in weights]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
