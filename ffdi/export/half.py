"""A graph whose networks multiply in fp16.

ONNX Runtime's own conversion takes a value that passes between two nodes outside through fp16, and casts a weight that
two of them share twice under one name.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ALWAYS_FP32 = frozenset({"Resize", "Range", "TopK", "CumSum"})
"""Operators that know no fp16, or take their parameters in fp32."""


def halved(model: onnx.ModelProto, outside: Collection[str]) -> onnx.ModelProto:
    """A graph in half the bits, but for some nodes; a cast stands wherever a value goes in or out.

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
