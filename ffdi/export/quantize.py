"""A graph in fewer bits: between the first and the last layers of its networks, never in front of them or behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from ffdi.core import console
from ffdi.core.errors import ConfigError, nearest
from ffdi.export.half import halved
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
    return halved(_copied(model), _outside(model))


def _int8(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    return _quantized(model, training, _outside(model))


def _int8_and_fp32(model: onnx.ModelProto, training: Training) -> onnx.ModelProto:
    return _quantized(model, training, [*_outside(model), *_delicate(model)])


def _quantized(model: onnx.ModelProto, training: Training, excluded: list[str]) -> onnx.ModelProto:
    """Weights per channel, activations per tensor, static: what every runtime knows (QDQ)."""
    with tempfile.TemporaryDirectory() as folder, console.hushed():
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
