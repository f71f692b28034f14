"""Small networks with the shapes of MediaPipe's: their faces are bright discs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ffdi.faces import detection, networks
from ffdi.faces.finder import OUTER_EYE_CORNERS

SIZE = networks.KINDS["mesh"].size


def write_mesh(path: Path) -> Path:
    """Writes a network that puts its points on the border of the bright disc in the middle of a crop, or beside it.

    The outer corners of the eyes are the left and the right end. The logit of the presence grows with the brightness.
    """
    angles = 2 * np.pi * np.arange(networks.POINTS) / networks.POINTS
    circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    circle[list(OUTER_EYE_CORNERS)] = [[-1, 0, 0], [1, 0, 0]]
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    weights = {
        "half": np.array(0.5),
        "little": np.array(1e-6),
        "two": np.array(2.0),
        "x": columns,
        "y": rows,
        "circle": circle,
        "zero": np.zeros((1, 1)),
        "scale": np.array(0.02),
        "offset": np.array(-10.0),
        "row": np.array([1, 1], np.int64),
        "all": np.array([1, 1, 1, -1], np.int64),
    }
    nodes = [
        ("ReduceMean", ["pixels"], "grey", {"axes": [0, 3], "keepdims": 0}),
        ("Sub", ["grey", "half"], "above", {}),
        ("Relu", ["above"], "light", {}),
        ("ReduceSum", ["light"], "sum", {"keepdims": 0}),
        ("Add", ["sum", "little"], "total", {}),
        *(
            node
            for axis in "xy"
            for node in (
                ("Mul", ["light", axis], f"moment_{axis}", {}),
                ("ReduceSum", [f"moment_{axis}"], f"whole_{axis}", {"keepdims": 0}),
                ("Div", [f"whole_{axis}", "total"], f"centre_{axis}", {}),
                ("Sub", [axis, f"centre_{axis}"], f"away_{axis}", {}),
                ("Mul", [f"away_{axis}", f"away_{axis}"], f"square_{axis}", {}),
                ("Reshape", [f"centre_{axis}", "row"], f"one_{axis}", {}),
            )
        ),
        ("Add", ["square_x", "square_y"], "squares", {}),
        ("Mul", ["squares", "light"], "spread", {}),
        ("ReduceSum", ["spread"], "spreads", {"keepdims": 0}),
        ("Div", ["spreads", "total"], "variance", {}),
        ("Mul", ["variance", "two"], "radius_2", {}),  # a disc of radius r has a variance of r^2 / 2
        ("Sqrt", ["radius_2"], "radius", {}),
        ("Mul", ["circle", "radius"], "around", {}),
        ("Concat", ["one_x", "one_y", "zero"], "centre", {"axis": 1}),
        ("Add", ["around", "centre"], "places", {}),
        ("Reshape", ["places", "all"], "points", {}),
        ("Mul", ["total", "scale"], "bright", {}),
        ("Add", ["bright", "offset"], "logit", {}),
        ("Reshape", ["logit", "all"], "presence", {}),
    ]
    outputs = {"points": [1, 1, 1, 3 * networks.POINTS], "presence": [1, 1, 1, 1]}
    return _save(path, nodes, weights, SIZE, outputs)


def write_detector(path: Path, corners: np.ndarray | None) -> Path:
    """Writes a network that always finds one box, float [2, 2] in parts of its input, with level eyes; or none."""
    count = len(detection.ANCHORS)
    values, logits = np.zeros((1, count, detection.VALUES)), np.full((1, count, 1), -50.0)
    if corners is not None:
        anchor = count // 2
        centre = corners.mean(axis=0)
        eyes = np.array([[-0.1, 0], [0.1, 0]]) + centre
        pairs = np.stack(
            [centre - detection.ANCHORS[anchor], corners[1] - corners[0], *eyes - detection.ANCHORS[anchor]]
        )
        values[0, anchor, :8] = pairs.ravel() * detection.SIZE
        logits[0, anchor] = 5
    nodes = [
        ("ReduceMean", ["pixels"], "grey", {"keepdims": 0}),
        ("Mul", ["grey", "nothing"], "unused", {}),  # an output has to depend on the input
        ("Add", ["unused", "values"], "boxes", {}),
        ("Add", ["unused", "logits"], "scores", {}),
    ]
    weights = {"nothing": np.array(0.0), "values": values, "logits": logits}
    outputs = {"scores": [1, count, 1], "boxes": [1, count, detection.VALUES]}
    return _save(path, nodes, weights, detection.SIZE, outputs)


def _save(
    path: Path,
    nodes: list[tuple[str, list[str], str, dict[str, object]]],
    weights: dict[str, np.ndarray],
    size: int,
    outputs: dict[str, list[int]],
) -> Path:
    tensors = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in nodes],
        "faces",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, size, size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def draw_disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """uint8 RGB [H, W, 3]: a white disc on grey that is too dark for a face; lengths in pixels."""
    pixels = np.full((*shape, 3), 60, np.uint8)
    x, y = (round(16 * (place - 0.5)) for place in centre)
    cv2.circle(pixels, (x, y), round(16 * radius), (255, 255, 255), -1, cv2.LINE_AA, 4)
    return pixels
