"""Vets an untrusted graph in a process of its own, before any runtime opens it in this process.

First the graph is read. It is refused if it can do more than graphs of ffdi: open other files, run custom operators,
loop, draw random numbers, or take sizes from pixels. The time and memory of other graphs depend only on the number of
images. So the child then scores noise, with each batch size of the CPU runtime, within limits.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from onnx.defs import OpSchema, SchemaError, get_schema

from ffdi.core import limited_process, machine
from ffdi.core.errors import ExperimentError, format_count, get_first_line
from ffdi.core.limited_process import Bounds
from ffdi.inference import onnxruntime
from ffdi.inference.backend import Load

DOMAINS = frozenset({"", "ai.onnx"})
"""Domains of the allowed operators."""
REFUSED = frozenset(
    {
        *("NonZero", "Compress", "Unique", "NonMaxSuppression"),  # the size of their output depends on pixels
        *("RoiAlign", "MaxRoiPool", "ImageDecoder", "TfIdfVectorizer"),  # their time depends on pixels
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    }
)
"""Refused operators, in addition to those with subgraphs (Loop, Scan, If) or sequences."""
SIZES = {"Range": 0, "Resize": 1, "Upsample": 1, "OneHot": 1}
"""Operators with sizes that may be floats, and the position of their first size."""
INDEXING = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "QLinearConv"})
"""Operators with integers that are not sizes."""
EDGES = (64, 128)
"""Heights and widths of the images that an autoencoder is tried with."""
BATCHES = range(1, onnxruntime.CPU_BATCH + 1)
"""All batch sizes of the CPU runtime."""
INTEGERS = frozenset({"tensor(int32)", "tensor(int64)"})
NO_TENSORS = ("seq(", "optional(", "map(", "tensor(string)")
MAX_BYTES = 2**31
"""Limit of a file; protobuf supports no larger one."""

# Limits far above the needs of real graphs. A fold of ConvNeXt-Base at 384 px has 350 MB in fp32. With the ten views of
# "hflip+crops" an image takes it 10 x 45 = 450 billion multiplications: 45 s of a core that does 10 billion a second,
# against 206 s here. In int8 it has a quarter of the bytes, and 52 s. Five folds take and have five times as much. A
# network with as few weights for its work as DenseNet-121, five folds at 224 px with two views, takes 29 billion in a
# file of 160 MB: 3 s, against 32 s.
SECONDS = 60.0
"""Time for the start of Python and of the runtime on a busy machine."""
RATE = 4e-12
"""Seconds of an image, per byte of the file and pixel of the image."""
MAX_SECONDS = 7200.0
"""Limit of the seconds for all images."""
MEMORY = 2**30
"""Bytes for the runtime and its threads."""
COPIES = 5
"""Copies of the file in memory: it is read twice, and the runtime rearranges the weights."""
# With two views that ConvNeXt-Base took 2.5 GiB, about 1.5 of it for a batch: 2,600 bytes for each of the 4 x 384 x 384
# pixels, so 13,000 with ten views. Its limit here is 18,000, and 4,096 for a small file: the size of a file limits the
# width of its network.
DEPTH = 4096
"""Bytes per pixel of a batch."""
WIDTH = 1 / 25_000
"""Additional bytes per pixel, for each byte of the file."""
MAX_PIXEL_BYTES = 8 * 2**30
"""Limit of the bytes for pixels."""


def check_graph(path: Path, size: int) -> None:
    """Refuses a graph that can do more than graphs of ffdi, or takes too much time or memory for its size.

    Args:
        path: an ONNX file.
        size: edge of its images, as in bundle.json.

    Raises:
        ExperimentError: it is not an ONNX graph, has weights in other files or refused operators, or could not be
            opened and run within the limits.
    """
    _check(path, size, "scores")


def check_autoencoder(path: Path) -> None:
    """Does the same with a graph that gives images back, float32 [1, 3, H, W] from -1 to 1, for any H and W of EDGES.

    Raises:
        ExperimentError: as in `check_graph`.
    """
    _check(path, max(EDGES), "images")


def _check(path: Path, size: int, gives: str) -> None:
    bytes_ = path.stat().st_size
    fault = f"has {format_count(bytes_, 'byte')}; the limit is {MAX_BYTES}" if bytes_ >= MAX_BYTES else ""
    if fault := fault or limited_process.run_limited(
        "ffdi.inference.onnx_safety", [str(path.resolve()), str(size), gives], compute_bounds(bytes_, size)
    ):
        raise ExperimentError(
            f"{path} {fault}", hint="do not use this file; export again, or ask whoever gave it to you"
        )


def compute_bounds(bytes_: int, size: int) -> Bounds:
    """Computes the limits of a graph from the bytes of its file and the edge of its images."""
    images = sum(BATCHES)
    pixels = round(max(BATCHES) * size**2 * (DEPTH + WIDTH * bytes_))
    memory = MEMORY + machine.count_cores() * machine.read_stack_size() + COPIES * bytes_ + min(MAX_PIXEL_BYTES, pixels)
    seconds = SECONDS + min(MAX_SECONDS, RATE * bytes_ * size**2 * images)
    return Bounds(seconds, memory, f"to be opened and to score {format_count(images, 'image')}")


def main(path: str, size: str, gives: str = "scores") -> None:
    """Vets a graph in the child process.

    Args:
        path: of the graph.
        size: edge of its images.
        gives: 'scores' or 'images'.

    Raises:
        ExperimentError: why the graph is refused, in words that follow its name.
    """
    inspect_graph(Path(path))
    try:
        fault = _try_scores(Path(path), int(size)) if gives == "scores" else _try_images(Path(path))
    except Exception as error:  # the base class of ONNX Runtime's errors
        raise ExperimentError(f"cannot be opened and run: {get_first_line(error)}") from None
    if fault:
        raise ExperimentError(fault)


def _try_scores(path: Path, size: int) -> str:
    """What is wrong with the scores of noise; '' if nothing is."""
    threads, largest = machine.count_cores(), max(BATCHES)
    noise = np.random.default_rng(0).integers(0, 256, (largest, size, size, 3), np.uint8)
    graph = onnxruntime.RUNTIMES["cpu"].open(path, 0, Load(largest, 1, threads))
    found = [graph.run(noise[:count]) for count in BATCHES]
    right = all(
        y_pred.shape == (count,) and y_pred.dtype == np.float32 for count, y_pred in zip(BATCHES, found, strict=True)
    )
    return "" if right else "does not give one score for each image"


def _try_images(path: Path) -> str:
    """What is wrong with the images that noise gives; '' if nothing is."""
    run = onnxruntime.open_autoencoder(path, machine.count_cores())
    for height, width in itertools.product(EDGES, EDGES):
        noise = np.random.default_rng(0).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
        found = run(noise)
        if found.shape != noise.shape or found.dtype != np.float32:
            return f"gives {found.dtype} {list(found.shape)} for an image of float32 {list(noise.shape)}"
        if not np.isfinite(found).all():
            return "gives values that are not finite"
    return ""


def inspect_graph(path: Path) -> None:
    """Reads a graph without running it.

    Raises:
        ExperimentError: why it is refused, in words that follow its name.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # the base class of protobuf's errors
        if machine.is_memory_error(error) or "alloc" in str(error):  # protobuf: "Arena alloc failed"
            raise MemoryError from None
        raise ExperimentError(f"is not an ONNX graph: {type(error).__name__}") from None
    if model.functions:
        raise ExperimentError("has functions of its own, unlike graphs of ffdi")
    graph = model.graph
    tensors = [*graph.initializer, *(part for one in graph.sparse_initializer for part in (one.values, one.indices))]
    for tensor in tensors:
        _check_weights(tensor)
    weights = {one.name for one in tensors}
    given = {one.name for one in graph.input} - weights
    if len(given) != 1 or len(graph.output) != 1:
        raise ExperimentError(
            f"has {format_count(len(given), 'input')} and {format_count(len(graph.output), 'output')}; "
            "graphs of ffdi have one each"
        )
    opset = next((one.version for one in model.opset_import if one.domain in DOMAINS), 1)
    known, pixels = weights | given | {""}, set(given)
    for node in graph.node:
        schema = _find_schema(node, opset)
        if not known.issuperset(node.input):
            raise ExperimentError("does not have its nodes in order")
        known.update(node.output)
        seen = [name in pixels for name in node.input]
        if any(there and _is_size(schema, place) for place, there in enumerate(seen)):
            raise ExperimentError(f"takes sizes from the pixels ({node.op_type})")
        if any(seen) and node.op_type not in ("Shape", "Size"):
            pixels.update(node.output)


def _find_schema(node: onnx.NodeProto, opset: int) -> OpSchema:
    """Finds the schema of a node's operator.

    Raises:
        ExperimentError: the operator is refused.
    """
    name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    try:
        schema = get_schema(node.op_type, opset, "") if node.domain in DOMAINS else None
    except SchemaError:
        schema = None
    if schema is None:
        raise ExperimentError(f"has the operator '{name}', which is unknown or not used by ffdi")
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            raise ExperimentError(f"has a graph inside a node ({name}), such as a loop")
        sparse = attribute.sparse_tensor
        for tensor in (attribute.t, *attribute.tensors, sparse.values, sparse.indices):
            _check_weights(tensor)
    takes_others = any(
        all(kind.startswith(NO_TENSORS) for kind in one.types) for one in (*schema.inputs, *schema.outputs)
    )
    if takes_others or name in REFUSED:
        raise ExperimentError(f"has the operator '{name}', which ffdi never uses")
    return schema


def _is_size(schema: OpSchema, place: int) -> bool:
    """True if an input sets the size of an output, or a number of repetitions."""
    if schema.name in SIZES:
        return place >= SIZES[schema.name]
    kinds = schema.inputs[min(place, len(schema.inputs) - 1)].types
    return kinds <= INTEGERS and schema.name not in INDEXING


def _check_weights(tensor: TensorProto) -> None:
    """Refuses weights outside the file.

    Raises:
        ExperimentError: names their file.
    """
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        raise ExperimentError(f"keeps weights in another file: {places[0] if places else 'without a name'}")
