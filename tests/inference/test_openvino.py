"""OpenVINO: which precision really runs, and many calls side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import DeviceError
from ffdi.export import onnx
from ffdi.inference import openvino
from ffdi.inference.backend import Load
from tests.export.test_onnx import exported, images, single


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with one network."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save_graph(exported(), path, {})
    return path


def test_parallel_calls_get_their_own_scores(model: Path) -> None:
    graph = openvino.RUNTIMES["openvino"].open(model, 0, Load(1000, 3, 1))
    assert (graph.provider, graph.streams, graph.batch) == ("OpenVINO CPU f32", 3, openvino.BATCH)
    batches = [images(5, seed) for seed in range(12)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(graph.run, batches))
    network = single()
    for batch, y_pred in zip(batches, found, strict=True):
        assert np.abs(y_pred - network.score(batch)).max() < 1e-5


def test_a_single_image_is_a_batch_of_one(model: Path) -> None:
    graph = openvino.RUNTIMES["openvino"].open(model, 0, Load(1, 1, 2))
    assert (graph.batch, graph.streams) == (1, 1)
    assert np.abs(graph.run(images(3)) - single().score(images(3))).max() < 1e-5


class Core:
    """OpenVINO on a CPU without bf16: it always computes in fp32."""

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["FP32", "INT8"]


def test_a_cpu_without_bf16_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "get_core", Core)
    assert openvino.RUNTIMES["openvino-bf16"].missing(0) == "this CPU does not support bf16"
    assert openvino.RUNTIMES["openvino"].missing(0) == ""


def test_a_missing_package_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "find_spec", lambda _name: None)
    assert openvino.RUNTIMES["openvino"].missing(0) == "openvino is not installed: pip install -e '.[openvino]'"


def test_another_precision_than_requested_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = openvino.get_core()

    class Fp32Core:
        """Compiles always in fp32."""

        read_model = staticmethod(real.read_model)

        def compile_model(self, graph: object, device: str, options: dict[str, object]) -> object:
            return real.compile_model(graph, device, {**options, "INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(openvino, "get_core", Fp32Core)
    with pytest.raises(DeviceError) as caught:
        openvino.RUNTIMES["openvino-bf16"].open(model, 0, Load(1, 1, 1))
    assert str(caught.value) == "--device openvino-bf16: OpenVINO computes in f32 here\nnext: pass --device auto"
