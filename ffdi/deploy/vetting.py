"""A graph that came from elsewhere, looked at before any runtime opens it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from ffdi.errors import ExperimentError

Graph = onnx.GraphProto | onnx.FunctionProto
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Whose operators a graph of ffdi's may have: those that every ONNX Runtime brings along."""


def check(path: Path) -> None:
    """Refuses a graph that would open other files, or run operators of somebody's own.

    Raises:
        ExperimentError: it is no ONNX graph, keeps weights in other files, or names operators that no runtime has.
    """
    hint = "do not use this file; export again, or ask whoever gave it to you"
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes derive from Exception
        raise ExperimentError(f"{path} is no ONNX graph: {type(error).__name__}", hint=hint) from None
    graphs = [inner for graph in (model.graph, *model.functions) for inner in _with_inner(graph)]
    for place in _elsewhere(graphs):
        raise ExperimentError(f"{path} keeps weights in another file: {place}", hint=hint)
    named = {one.domain for one in model.opset_import} | {one.domain for one in model.functions}
    named |= {node.domain for graph in graphs for node in graph.node}
    if foreign := sorted(named - DOMAINS):
        raise ExperimentError(f"{path} wants operators of '{foreign[0]}', which no runtime has", hint=hint)


def _with_inner(graph: Graph) -> Iterator[Graph]:
    """A graph, and those inside of its nodes."""
    yield graph
    for attribute in _attributes(graph):
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _with_inner(inner)


def _tensors(graph: Graph) -> Iterator[onnx.TensorProto]:
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in _attributes(graph):
        yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _attributes(graph: Graph) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in graph.node for attribute in node.attribute)


def _elsewhere(graphs: Iterable[Graph]) -> Iterator[str]:
    """Where weights lie that are not in the file."""
    for tensor in (one for graph in graphs for one in _tensors(graph)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            yield places[0] if places else "without a name"
