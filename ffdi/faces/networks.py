"""Opens MediaPipe's networks with OpenVINO, which reads .tflite files; before that, a child process tries them.

OpenVINO parses a model file in C++. Such a file comes from elsewhere, and may be damaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from ffdi.core import limited_process, machine
from ffdi.core.errors import ConfigError, DeviceError, format_count, get_first_line
from ffdi.core.limited_process import Bounds
from ffdi.faces import detection
from ffdi.inference import openvino

POINTS = 468
"""Points of the face mesh."""
ENDINGS = (".tflite", ".onnx")
"""OpenVINO takes the format from the ending."""
MAX_BYTES = 64 * 2**20
"""Limit of a model file; MediaPipe's have 0.2 and 1.2 MB."""
BOUNDS = Bounds(120, 2 * 2**30, "to be opened and to run once")
"""For the start of Python and OpenVINO on a busy machine."""
SHOWN_PORTS = 4
"""Inputs or outputs that an error shows."""


class Kind(NamedTuple):
    """A network, by its shapes.

    Attributes:
        words: for errors.
        flag: that names its file.
        size: edge of its input, float32 RGB [1, size, size, 3].
        outputs: numbers in each output.
        source: its usual file.
    """

    words: str
    flag: str
    size: int
    outputs: tuple[int, ...]
    source: str


KINDS = {
    "mesh": Kind("a face mesh", "--model", 192, (POINTS * 3, 1), "face_landmark.tflite"),
    "detector": Kind(
        "a face detector",
        "--detector",
        detection.SIZE,
        (len(detection.ANCHORS) * detection.VALUES, len(detection.ANCHORS)),
        "face_detection_short_range.tflite",
    ),
}
"""The mesh gives x, y and z of each point in pixels of its input, and the logit of a face's presence."""


class Network:
    """An opened network, for parallel calls."""

    def __init__(self, kind: str, compiled: Any, streams: int) -> None:
        self._sizes, self._free = KINDS[kind].outputs, SimpleQueue[Any]()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Runs the network on one image.

        Args:
            pixels: float32 RGB [size, size, 3].

        Returns:
            Its outputs in the order of the kind, each flat, float32.
        """
        request = self._free.get()
        try:
            found = {
                value.size: np.array(value, np.float32).ravel() for value in request.infer([pixels[None]]).values()
            }
        finally:
            self._free.put(request)
        return [found[size] for size in self._sizes]


def open_network(path: Path, kind: str, streams: int, flag: str | None = None) -> Network:
    """Opens a network, after a child process has opened and run it.

    Args:
        path: a file with one of ENDINGS.
        kind: a key of KINDS.
        streams: number of parallel calls.
        flag: that names the file, for errors; None: that of the kind.

    Raises:
        ConfigError: the file is missing, too large, damaged, or not a network of this kind.
        DeviceError: OpenVINO is not installed.
    """
    wanted = KINDS[kind]
    flag = flag or wanted.flag
    hint = f"pass {flag} {wanted.source}; docs/data.md says where it comes from"
    if find_spec("openvino") is None:
        raise DeviceError("openvino is not installed", hint="pip install -e '.[openvino]'")
    if not path.is_file():
        raise ConfigError(f"{flag} {path} is not a file", hint=hint)
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{flag} {path}: its name ends neither in {' nor in '.join(ENDINGS)}", hint=hint)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ConfigError(f"{flag} {path} has {format_count(size, 'byte')}; the limit is {MAX_BYTES}", hint=hint)
    words = [str(path.resolve()), kind]
    if fault := limited_process.run_limited(__name__, words, BOUNDS):
        raise ConfigError(f"{flag} {path} is not {wanted.words} that can be used: it {fault}", hint=hint)
    return Network(kind, _compile(path, kind, streams), streams)


def main(path: str, kind: str) -> None:
    """Opens and runs a network in the child process.

    Raises:
        ConfigError: why it is refused, in words that follow 'it'.
    """
    network = Network(kind, _compile(Path(path), kind, 1), 1)
    size = KINDS[kind].size
    noise = np.random.default_rng(0).random((size, size, 3), np.float32)
    try:
        found = network.run(noise)
    except RuntimeError as error:
        raise ConfigError(f"cannot be run: {get_first_line(error)}") from None
    if not all(np.isfinite(values).all() for values in found):
        raise ConfigError("gives numbers that are not finite")


def _compile(path: Path, kind: str, streams: int) -> Any:
    """Reads and compiles a network for the CPU, in fp32 on every CPU.

    Raises:
        ConfigError: why it is refused, in words that follow 'it'.
    """
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,  # the threads that decode share the cores
    }
    try:
        model = openvino.get_core().read_model(str(path))
        _check_shapes(model, kind)
        return openvino.get_core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        if machine.is_memory_error(error):
            raise
        why = str(error).strip().splitlines()[-1].partition(" Please check")[0]
        raise ConfigError(f"cannot be read by OpenVINO: {why}") from None


def _check_shapes(model: Any, kind: str) -> None:
    wanted = KINDS[kind]
    taken, given = _describe_ports(model.inputs), _describe_ports(model.outputs)
    expected = f"f32 [1,{wanted.size},{wanted.size},3]"
    counts = [_count_numbers(port) for port in model.outputs]
    if taken != expected or sorted(counts) != sorted(wanted.outputs):
        numbers = " and ".join(map(str, wanted.outputs))
        raise ConfigError(f"takes {taken} and gives {given}; expected {expected}, and outputs of {numbers} numbers")


def _count_numbers(port: Any) -> int:
    """The float32 numbers of an input or output; 0 if it has another type, or no fixed shape."""
    shape = port.get_partial_shape()
    is_fixed = shape.is_static and port.get_element_type().to_string() == "f32"
    return math.prod(shape.to_shape()) if is_fixed else 0


def _describe_ports(ports: Sequence[Any]) -> str:
    """Types and shapes of inputs or outputs, such as 'f32 [1,192,192,3]'."""
    shown = [f"{port.get_element_type().to_string()} {port.get_partial_shape()}" for port in ports]
    return ", ".join(shown[:SHOWN_PORTS]) + (", ..." if len(shown) > SHOWN_PORTS else "") or "nothing"
