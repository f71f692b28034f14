"""A graph in fewer bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from ffdi.core.errors import ConfigError
from ffdi.ensemble import combine
from ffdi.ensemble.calibration import Calibration
from ffdi.export import onnx as export
from ffdi.export import quantize
from ffdi.inference import select
from ffdi.inference.backend import Load
from tests.export.test_onnx import images, networks


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Two networks, one of which shrinks its images, calibrated."""
    calibration = Calibration("temperature", temperature=1.7)
    graph = export.Graph(
        networks((40, 32), size=40), np.array([0.5, 0.5]), combine.make_equal_combination("mean", 2), calibration
    )
    return export.convert_to_onnx(graph.eval(), 40)


def converted(name: str, model: onnx.ModelProto, folder: Path) -> Path:
    """The graph in a precision, as a file."""
    path = folder / f"{name}.onnx"
    export.save_graph(quantize.convert(name, model, lambda: images(32, size=40)), path, {})
    return path


def has_vnni() -> bool:
    """Whether this CPU adds products of 8 bits in 32; assumed if unknown."""
    known = Path("/proc/cpuinfo")
    return not known.is_file() or "vnni" in known.read_text()


@pytest.mark.parametrize(
    ("name", "apart", "smaller"), [("fp16", 0.01, 1.7), ("int8", 0.2, 2.5), ("int8+fp32", 0.15, 2.5)]
)
@pytest.mark.parametrize("runtime", ["cpu", "openvino"])
def test_lower_precision_gives_similar_scores_in_a_smaller_file(
    name: str, apart: float, smaller: float, runtime: str, model: onnx.ModelProto, tmp_path: Path
) -> None:
    whole, less = (converted(one, model, tmp_path) for one in ("fp32", name))
    batch = images(40, seed=9, size=40)
    before, after = (select.RUNTIMES[runtime].open(path, 0, Load(40, 1, 1)).run(batch) for path in (whole, less))
    assert 0 < np.abs(before - after).max() < apart
    saturates = name == "int8" and not has_vnni()  # sums of 8-bit products, where a CPU adds them in 16 bits
    assert np.corrcoef(before, after)[0, 1] > (0.9 if saturates else 0.97)
    assert whole.stat().st_size > smaller * less.stat().st_size


@pytest.mark.parametrize("name", ["fp16", "int8", "int8+fp32"])
def test_images_are_prepared_and_logits_combined_in_fp32(name: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    graph = onnx.load(converted(name, model, tmp_path)).graph
    types = {one.name: one.data_type for one in graph.initializer}
    borders = ("Cast", "QuantizeLinear", "DequantizeLinear")
    outside = [node for node in graph.node if node.name.startswith(("images/", "y_pred/"))]
    outside = [node for node in outside if node.op_type not in borders]
    assert len(outside) >= 8
    few = {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert not any(types.get(value) in few for node in outside for value in node.input)
    from_few = {value for node in graph.node if node.op_type in borders for value in node.output}
    prepared = {value for node in outside if node.name.startswith("images/") for value in node.input}
    assert prepared & from_few <= {"images/Cast"}  # the graph's own, from uint8
    inside = {types[name] for node in graph.node if "/conv" in node.name for name in node.input if name in types}
    assert few & inside


def test_only_int8_reads_training_images(model: onnx.ModelProto) -> None:
    calls = []

    def training() -> np.ndarray:
        calls.append(True)
        return images(16, size=40)

    for name in ("fp32", "fp16", "int8"):
        quantize.convert(name, model, training)
        assert len(calls) == (name == "int8")


def test_an_unknown_precision_is_refused() -> None:
    quantize.check_precision("fp16")
    with pytest.raises(ConfigError) as caught:
        quantize.check_precision("int4")
    assert str(caught.value) == "--precision int4: did you mean 'int8'?\nnext: pass --precision fp32"


@pytest.mark.parametrize(("name", "of_the_image"), [("int8", "INT8"), ("int8+fp32", "FLOAT")])
def test_sensitive_convolutions_are_in_int8_or_fp32(
    name: str, of_the_image: str, model: onnx.ModelProto, tmp_path: Path
) -> None:
    graph = onnx.load(converted(name, model, tmp_path)).graph
    types = {one.name: one.data_type for one in graph.initializer}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    kinds = {
        node.name: types[source.get(node.input[1], node.input[1])] for node in graph.node if node.op_type == "Conv"
    }
    stem = {name for name in kinds if name.partition("/")[2] in ("conv1.0/Conv", "conv1/Conv")}
    assert len(stem) == 2
    assert {kinds[name] for name in stem} == {getattr(onnx.TensorProto, of_the_image)}
    assert {kinds[name] for name in kinds.keys() - stem} == {onnx.TensorProto.INT8}
