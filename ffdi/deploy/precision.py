"""A graph in fewer bits: between the first and the last layers of its networks, never in front of them or behind."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from ffdi.deploy.bundle import INPUT, OUTPUT
from ffdi.errors import ConfigError, nearest

CALIBRATION_IMAGES = 128
"""Training images from which int8 learns how large the activations are."""
CALIBRATION_BATCH = 8

ALWAYS_FP32 = frozenset({"Resize", "Range", "TopK", "CumSum"})
"""Operators that know no fp16, or take their parameters in fp32."""

Training = Callable[[], np.ndarray]
"""() -> uint8 [N, S, S, 3]: images that no score is judged by."""
Convert = Callable[[onnx.ModelProto, Training], onnx.ModelProto]
"""A graph in fp32 -> the graph in fewer bits."""


def convert(name: str, model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    """A graph in another precision; its inputs, outputs, preparation and combination stay as they are.

    Args:
        name: a key of PRECISIONS.
        model: in fp32.
        training: asked for only where images are looked at.
    """
    return PRECISIONS[name](model, training)


def check(name: str) -> None:
    """Refuses a precision that is not there.

    Raises:
        ConfigError: names the nearest one.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"--precision {name}: {nearest(name, PRECISIONS)}", hint="pass --precision fp32")


def _fp32(model: onnx.ModelProto, _training: Training) -> onnx.ModelProto:
    return model


def _fp16(model: onnx.ModelProto, _training: Training) -> onnx.ModelProto:
    """Weights and activations inside in half the bits; a cast stands wherever a value goes in or out.

    ONNX Runtime's own conversion takes values that pass from one node outside to the next through fp16.
    """
    halved = _copied(model)
    graph, outside = halved.graph, set(_outside(model))
    outside |= {node.name for node in graph.node if node.op_type in ALWAYS_FP32}
    floats = _floats(model)
    weights = {one.name: one for one in graph.initializer}
    inside_values = {value for node in graph.node if node.name not in outside for value in node.output} & floats
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()

    def cast(value: str, to: int, ending: str) -> str:
        name = f"{value}.{ending}"
        if name not in made and value in weights:
            array = onnx.numpy_helper.to_array(weights[value]).astype(np.float16)
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        elif name not in made:
            nodes.append(onnx.helper.make_node("Cast", [value], [name], name=name, to=to))
        made.add(name)
        return name

    for node in graph.node:
        for place, value in enumerate(node.input):
            if node.name in outside and value in inside_values:
                node.input[place] = cast(value, onnx.TensorProto.FLOAT, "fp32")
            elif node.name not in outside and value in floats - inside_values:
                node.input[place] = cast(value, onnx.TensorProto.FLOAT16, "fp16")
        if node.name not in outside:
            _halve_attributes(node)
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    _drop_unused_weights(graph)
    return halved


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of all values and weights that are fp32."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    named = {one.name for one in values if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return named | {one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT}


def _halve_attributes(node: onnx.NodeProto) -> None:
    """Types that stand in a node itself."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.FLOAT16
        elif attribute.t.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(array))


def _drop_unused_weights(graph: onnx.GraphProto) -> None:
    used = {value for node in graph.node for value in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _int8(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    """Weights per channel, activations per tensor, static: what every runtime knows (QDQ)."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
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
            nodes_to_exclude=[*_outside(model), *_delicate(model)],
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


class _Batches(CalibrationDataReader):
    def __init__(self, training: np.ndarray) -> None:
        self._batches = iter(np.split(training, range(CALIBRATION_BATCH, len(training), CALIBRATION_BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


PRECISIONS: dict[str, Convert] = {"fp32": _fp32, "fp16": _fp16, "int8": _int8}
