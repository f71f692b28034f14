"""Graphs that loop or swell end within their bounds; those that ffdi exports pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ffdi.core import limited_process
from ffdi.core.errors import ExperimentError
from ffdi.inference import onnx_safety

SIZE = 32


def graph(*nodes: onnx.NodeProto, **weights: object) -> bytes:
    """A graph with nodes that compute `y_pred`."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    y_pred = helper.make_tensor_value_info("y_pred", TensorProto.FLOAT, ["batch"])
    tensors = [numpy_helper.from_array(np.array(value), name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "graph", [images], [y_pred], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def node(kind: str, given: str, made: str, **attributes: object) -> onnx.NodeProto:
    """A node, its inputs and outputs by name with spaces between."""
    return helper.make_node(kind, given.split(), made.split(), **attributes)


MEAN = [node("Cast", "images", "float", to=TensorProto.FLOAT), node("ReduceMean", "float axes", "mean", keepdims=0)]
"""The mean of each image, float32 [batch]."""
AXES = np.array([1, 2, 3])


def swelling(large: str) -> list[onnx.NodeProto]:
    """Adds the mean of what is large to the scores."""
    return [*MEAN, node("ReduceMean", large, "one", keepdims=0), node("Add", "mean one", "y_pred")]


def folded() -> bytes:
    """8 GB that are there as soon as constants are folded."""
    filled = node("ConstantOfShape", "shape", "large", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1]))
    return graph(filled, *swelling("large"), shape=np.array([2000, 1000, 1000]), axes=AXES)


def for_three() -> bytes:
    """8 GB where there are three images, and nothing else where there are others."""
    nodes = [
        node("Shape", "images", "batch", end=1),
        node("Equal", "batch three", "is_three"),
        node("Where", "is_three huge tiny", "shape"),
        node("ConstantOfShape", "shape", "large", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1])),
    ]
    sizes = {"three": np.array([3]), "huge": np.array([2 * 10**9]), "tiny": np.array([1])}
    return graph(*nodes, *swelling("large"), **sizes, axes=AXES)


def endless() -> bytes:
    """Products of constants that take minutes, when they are folded or when it runs."""
    filled = node("ConstantOfShape", "shape", "m0", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1e-3]))
    products = [node("MatMul", f"m{number} m{number}", f"m{number + 1}") for number in range(200)]
    return graph(filled, *products, *swelling("m200"), shape=np.array([2500, 2500]), axes=AXES)


def crowded(count: int = 3_000_000) -> bytes:
    """So many nodes of two bytes each, which take a hundred times as much when they are read."""
    inside = b"\x0a\x00" * count
    length = bytes([len(inside) >> 7 * place & 127 | 128 for place in range(4)])
    return b"\x3a" + length + bytes([len(inside) >> 28]) + inside


@pytest.mark.parametrize("make", [folded, for_three, crowded])
def test_a_graph_that_needs_too_much_memory_is_stopped(
    make: Callable[[], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_safety, "MEMORY", 128 * 2**20)
    path = tmp_path / "model.onnx"
    path.write_bytes(make())
    with pytest.raises(ExperimentError, match=r"took more than \d+ MiB of memory to be opened and to score 10 images"):
        onnx_safety.check_graph(path, SIZE)


def test_a_graph_that_needs_too_much_time_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_safety, "SECONDS", 3.0)
    path = tmp_path / "model.onnx"
    path.write_bytes(endless())
    with pytest.raises(ExperimentError, match="took more than 3 s to be opened and to score 10 images"):
        onnx_safety.check_graph(path, SIZE)


def test_a_graph_gives_one_score_for_each_image(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(*MEAN, node("Identity", "mean", "y_pred"), axes=AXES))
    onnx_safety.main(str(path), str(SIZE))
    path.write_bytes(graph(*MEAN, node("ReduceMean", "mean", "y_pred"), axes=AXES))
    with pytest.raises(ExperimentError, match="does not give one score for each image"):
        onnx_safety.main(str(path), str(SIZE))
    with pytest.raises(ExperimentError, match=r"cannot be opened and run: .*INVALID_ARGUMENT"):
        onnx_safety.main(str(path), str(2 * SIZE))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_process, "run_limited", lambda *_: pytest.fail("it was read"))
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(onnx_safety.MAX_BYTES)
    with pytest.raises(ExperimentError, match="has 2147483648 bytes; the limit is 2147483648"):
        onnx_safety.check_graph(path, SIZE)


@pytest.mark.parametrize("folds", [1, 5])
def test_limits_allow_large_networks(folds: int) -> None:
    file, views = folds * 4 * 88_600_000, 10  # ConvNeXt-Base at 384 px
    found = onnx_safety.compute_bounds(file, 384)
    assert found.seconds > 2 * 10 * folds * views * 45e9 / 10e9  # at 10 billion multiplications a second
    assert found.memory > 3 * file + 4 * 384**2 * 1300 * views
    assert found.seconds <= onnx_safety.SECONDS + onnx_safety.MAX_SECONDS
    assert onnx_safety.compute_bounds(file, 2048).memory < 18 * 2**30


def test_limits_of_a_small_file_are_small() -> None:
    found = onnx_safety.compute_bounds(10_000, 384)
    assert (round(found.seconds), found.memory < 3.5 * 2**30) == (60, True)
