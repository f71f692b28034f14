"""A graph that came from elsewhere, opened in a process of its own before any runtime opens it in this one.

First it is read, and refused where it can do what no graph of ffdi's does: open other files, run operators of
somebody's own, loop, draw random numbers, or take sizes from the pixels. What it takes then depends on the number of
images alone, so a run on noise shows it: each size of batch that is used on a CPU is tried within bounds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from onnx.defs import OpSchema, SchemaError, get_schema

from ffdi.core import limited_process, machine
from ffdi.core.errors import ExperimentError
from ffdi.core.limited_process import Bounds
from ffdi.inference import onnxruntime
from ffdi.inference.backend import Load

DOMAINS = frozenset({"", "ai.onnx"})
"""Whose operators a graph of ffdi's has."""
REFUSED = frozenset(
    {
        *("NonZero", "Compress", "Unique", "NonMaxSuppression"),  # outputs as large as the pixels say
        *("RoiAlign", "MaxRoiPool", "ImageDecoder", "TfIdfVectorizer"),  # time as the pixels say
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    }
)
"""Operators that no graph of ffdi's has, beside all that hold graphs (Loop, Scan, If) or take sequences."""
SIZES = {"Range": 0, "Resize": 1, "Upsample": 1, "OneHot": 1}
"""Operators that take sizes as other numbers than integers, and the first of their inputs that are sizes."""
INDEXING = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "QLinearConv"})
"""Operators whose integers are no sizes."""
BATCHES = range(1, onnxruntime.CPU_BATCH + 1)
"""Images at a time: all numbers that a CPU is asked for."""
INTEGERS = frozenset({"tensor(int32)", "tensor(int64)"})
NO_TENSORS = ("seq(", "optional(", "map(", "tensor(string)")
LARGEST = 2**31
"""Bytes of a graph; protobuf writes no larger one."""

# Bounds that honest graphs keep away from. A fold of ConvNeXt-Base at 384 px has 350 MB in fp32. With the ten views of
# "hflip+crops" an image takes it 10 x 45 = 450 billion multiplications: 45 s of a core that does 10 billion a second,
# against 206 s here. In int8 it has a quarter of the bytes, and 52 s. Five folds take and have five times as much. A
# network with as few weights for its work as DenseNet-121, five folds at 224 px with two views, takes 29 billion in a
# file of 160 MB: 3 s, against 32 s.
SECONDS = 60.0
"""For a start of Python and of the runtime, on a machine that is busy."""
RATE = 4e-12
"""Seconds for an image, for each byte of the file and each pixel of the image."""
SLOWEST = 7200.0
"""Seconds for all images."""
MEMORY = 2**30
"""Bytes for what the runtime and its threads take."""
COPIES = 5
"""Of the file: it is read twice, and the runtime lays the weights out as it needs them."""
# With two views that ConvNeXt-Base was seen to take 2.5 GiB, of which about 1.5 were for a batch: 2,600 bytes for each
# of its 4 x 384 x 384 pixels, so 13,000 with ten views. Here it has 18,000; of a small file 4,096. Networks are as wide
# as their files are large, at most.
DEPTH = 4096
"""Bytes for each pixel of a batch."""
WIDTH = 1 / 25_000
"""More of them for each byte of the file."""
MOST = 8 * 2**30
"""Bytes for pixels, at most."""


def check_graph(path: Path, size: int) -> None:
    """Refuses a graph that does what no graph of ffdi's does, or takes more time or memory than its size explains.

    Args:
        path: an ONNX file.
        size: edge of the images that it says to take.

    Raises:
        ExperimentError: it is no ONNX graph, keeps weights in other files, names operators that are refused, or could
            not be opened and run within the bounds.
    """
    bytes_ = path.stat().st_size
    fault = f"has {bytes_} bytes; the limit is {LARGEST}" if bytes_ >= LARGEST else ""
    if fault := fault or limited_process.run_limited(
        "ffdi.inference.onnx_safety", [str(path.resolve()), str(size)], bounds(bytes_, size)
    ):
        raise ExperimentError(
            f"{path} {fault}", hint="do not use this file; export again, or ask whoever gave it to you"
        )


def bounds(bytes_: int, size: int) -> Bounds:
    """What a graph may take that has so many bytes and takes images of `size` px."""
    images = sum(BATCHES)
    pixels = round(max(BATCHES) * size**2 * (DEPTH + WIDTH * bytes_))
    memory = MEMORY + COPIES * bytes_ + min(MOST, pixels)
    seconds = SECONDS + min(SLOWEST, RATE * bytes_ * size**2 * images)
    return Bounds(seconds, memory, f"to be opened and to score {images} images")


def main(path: str, size: str) -> None:
    """In the child.

    Raises:
        ExperimentError: why the graph is refused, in words that follow its name.
    """
    examine(Path(path))
    threads, largest = machine.cores(), max(BATCHES)
    noise = np.random.default_rng(0).integers(0, 256, (largest, int(size), int(size), 3), np.uint8)
    try:
        graph = onnxruntime.RUNTIMES["cpu"].open(Path(path), 0, Load(largest, 1, threads))
        found = [graph.run(noise[:count]) for count in BATCHES]
    except Exception as error:  # ONNX Runtime's own classes derive from Exception
        raise ExperimentError(f"cannot be opened and run: {(str(error).splitlines() or [''])[0]}") from None
    if any(
        y_pred.shape != (count,) or y_pred.dtype != np.float32 for count, y_pred in zip(BATCHES, found, strict=True)
    ):
        raise ExperimentError("does not give one score for each image")


def examine(path: Path) -> None:
    """Reads a graph without running it.

    Raises:
        ExperimentError: why it is refused, in words that follow its name.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes derive from Exception
        if isinstance(error, MemoryError) or "alloc" in str(error):
            raise MemoryError from None
        raise ExperimentError(f"is no ONNX graph: {type(error).__name__}") from None
    if model.functions:
        raise ExperimentError("has functions of its own, which no graph of ffdi's has")
    graph = model.graph
    tensors = [*graph.initializer, *(part for one in graph.sparse_initializer for part in (one.values, one.indices))]
    for tensor in tensors:
        _check_inside(tensor)
    weights = {one.name for one in tensors}
    given = {one.name for one in graph.input} - weights
    if len(given) != 1 or len(graph.output) != 1:
        raise ExperimentError(f"has {len(given)} inputs and {len(graph.output)} outputs in place of one and one")
    opset = next((one.version for one in model.opset_import if one.domain in DOMAINS), 1)
    known, pixels = weights | given | {""}, set(given)
    for node in graph.node:
        schema = _schema(node, opset)
        if not known.issuperset(node.input):
            raise ExperimentError("does not have its nodes in order")
        known.update(node.output)
        seen = [name in pixels for name in node.input]
        if any(there and _is_size(schema, place) for place, there in enumerate(seen)):
            raise ExperimentError(f"takes sizes from the pixels ({node.op_type})")
        if any(seen) and node.op_type not in ("Shape", "Size"):
            pixels.update(node.output)


def _schema(node: onnx.NodeProto, opset: int) -> OpSchema:
    """What ONNX says of a node's operator.

    Raises:
        ExperimentError: it is refused.
    """
    name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    try:
        schema = get_schema(node.op_type, opset, "") if node.domain in DOMAINS else None
    except SchemaError:
        schema = None
    if schema is None:
        raise ExperimentError(f"wants the operator '{name}', which no runtime has or no graph of ffdi's")
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            raise ExperimentError(f"has a graph inside of a node ({name}), as loops have")
        sparse = attribute.sparse_tensor
        for tensor in (attribute.t, *attribute.tensors, sparse.values, sparse.indices):
            _check_inside(tensor)
    takes_others = any(
        all(kind.startswith(NO_TENSORS) for kind in one.types) for one in (*schema.inputs, *schema.outputs)
    )
    if takes_others or name in REFUSED:
        raise ExperimentError(f"wants the operator '{name}', which no graph of ffdi's has")
    return schema


def _is_size(schema: OpSchema, place: int) -> bool:
    """Whether an input says how large an output is, or how often something is done."""
    if schema.name in SIZES:
        return place >= SIZES[schema.name]
    kinds = schema.inputs[min(place, len(schema.inputs) - 1)].types
    return kinds <= INTEGERS and schema.name not in INDEXING


def _check_inside(tensor: TensorProto) -> None:
    """Refuses weights that are not in the file.

    Raises:
        ExperimentError: says where they are.
    """
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        raise ExperimentError(f"keeps weights in another file: {places[0] if places else 'without a name'}")
