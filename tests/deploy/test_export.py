"""Several networks in one graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ffdi.config import ModelConfig
from ffdi.deploy import export, runtime
from ffdi.errors import DeviceError
from ffdi.scoring import ensemble
from ffdi.scoring.calibration import Calibration
from ffdi.scoring.ensemble import Combination
from ffdi.training import detector as detectors
from ffdi.training.detector import Scorer


def scorers(count: int = 2, tta: str = "none") -> list[Scorer]:
    """Small networks whose BatchNorm has seen data."""
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = detectors.build(ModelConfig(backbone="test_resnet", size=32), None)
        torch.nn.init.normal_(network.backbone.get_classifier().weight)
        for _ in range(3):
            network.train()(torch.from_numpy(images(16, seed)))
        made.append(Scorer(network, tta).eval())
    return made


def images(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, 32, 32, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


COMBINATIONS = {
    "mean": ensemble.equal("mean", 2),
    "logit_mean": ensemble.equal("logit_mean", 2),
    "greedy": Combination("greedy", np.array([0.75, 0.25])),
    "stacking": Combination("stacking", np.array([0.75, 1.5]), bias=-0.4),
}
CALIBRATIONS = {
    "none": Calibration("none"),
    "temperature": Calibration("temperature", temperature=1.7),
    "isotonic": Calibration("isotonic", x=(0.0, 0.3, 0.5, 0.8, 1.0), y=(0.1, 0.2, 0.6, 0.7, 0.95)),
}


@pytest.mark.parametrize(
    ("method", "tta", "calibration"),
    [(method, "none", "none") for method in COMBINATIONS]
    + [("mean", "hflip", "none"), ("stacking", "hflip", "temperature"), ("mean", "none", "temperature")]
    + [("mean", "none", "isotonic"), ("stacking", "none", "isotonic")],
)
def test_the_graph_the_network_and_numpy_agree_at_any_batch_size(
    method: str, tta: str, calibration: str, tmp_path: Path
) -> None:
    members, combination, calibrated = scorers(tta=tta), COMBINATIONS[method], CALIBRATIONS[calibration]
    graph = export.Graph(members, combination.spread([1, 1]), combination, calibrated).eval()
    export.to_onnx(graph, 32, tmp_path / "model.onnx", {"ffdi": "test"})
    served = runtime.open_graph(tmp_path / "model.onnx")
    for count in (1, 2, 5, 33):
        batch = images(count, seed=count)
        with torch.inference_mode():
            logits = np.stack([member(torch.from_numpy(batch)).numpy() for member in members])
        expected = calibrated.apply(combination.combine(logits, [1, 1]))
        y_pred = served.run(batch)
        assert (y_pred.shape, y_pred.dtype) == ((count,), np.float32)
        assert np.abs(y_pred - expected).max() < 1e-5
        assert np.abs(graph.score(batch) - expected).max() < 1e-6
    assert np.ptp(y_pred) > 1e-3


def test_the_file_is_one_and_carries_its_words(tmp_path: Path) -> None:
    graph = export.Graph(scorers(1), np.ones(1), ensemble.equal("mean", 1), Calibration("none")).eval()
    export.to_onnx(graph, 32, tmp_path / "model.onnx", {"ffdi": "1.2.3"})
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props}["ffdi"] == "1.2.3"
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["y_pred"]
    assert not model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(DeviceError) as caught:
        runtime.open_graph(tmp_path / "model.onnx")
    assert caught.value.what.startswith("the graph cannot be opened: ")
