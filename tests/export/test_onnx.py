"""Several networks in one graph."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from timm.models import maxxvit

from ffdi.config.schema import Config, ModelConfig
from ffdi.core.errors import ConfigError, DeviceError
from ffdi.data.images.resizing import ResizePolicy
from ffdi.ensemble import combine
from ffdi.ensemble.calibration import Calibration
from ffdi.ensemble.combine import Combination
from ffdi.evaluation.predictions import sigmoid
from ffdi.export import onnx as export
from ffdi.inference import select
from ffdi.inference.backend import Load
from ffdi.models import detector

LOAD = Load(100, 1, 1)


def networks(sizes: tuple[int, ...] = (32, 32), tta: str = "none", size: int = 32) -> dict[str, torch.nn.Module]:
    """Small networks whose BatchNorm has seen data, for images of `size`."""
    made = {}
    for seed, own in enumerate(sizes):
        torch.manual_seed(seed)
        config = Config.model_validate({"model": {"backbone": "test_resnet", "size": own}, "predict": {"tta": tta}})
        network = detector.build_detector(ModelConfig(backbone="test_resnet", size=own), None)
        torch.nn.init.normal_(network.backbone.get_classifier().weight)
        for _ in range(3):
            network.train()(torch.from_numpy(images(16, seed)))
        made[f"small.fold_{seed}"] = detector.prepare_for_inference(network.eval(), config, size)
    return made


def images(count: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """uint8 [count, size, size, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def written(graph: export.Graph, path: Path, size: int = 32, **words: str) -> Path:
    """The graph as a file, with words in it."""
    export.save_graph(export.convert_to_onnx(graph, size), path, {"ffdi": "1.2.3", **words})
    return path


def single() -> export.Graph:
    """A graph with one network."""
    return export.Graph(
        networks((32,)), np.ones(1), combine.make_equal_combination("mean", 1), Calibration("none")
    ).eval()


@cache
def exported(sizes: tuple[int, ...] = (32,)) -> onnx.ModelProto:
    """The mean of networks of these sizes; exporting takes seconds, so it is done once, and not to be changed."""
    members, equal = networks(sizes), combine.make_equal_combination("mean", len(sizes))
    return export.convert_to_onnx(export.Graph(members, equal.weights, equal, Calibration("none")).eval(), 32)


COMBINATIONS = {
    "mean": combine.make_equal_combination("mean", 2),
    "logit_mean": combine.make_equal_combination("logit_mean", 2),
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
    [
        *(("mean", "hflip", "none"), ("greedy", "none", "temperature"), ("mean", "none", "isotonic")),
        *(("logit_mean", "none", "none"), ("stacking", "hflip", "temperature"), ("stacking", "none", "isotonic")),
    ],
)
def test_the_graph_the_network_and_numpy_agree_at_any_batch_size(
    method: str, tta: str, calibration: str, tmp_path: Path
) -> None:
    members, combination, calibrated = networks(tta=tta), COMBINATIONS[method], CALIBRATIONS[calibration]
    graph = export.Graph(members, combination.spread_weights([1, 1]), combination, calibrated).eval()
    path = written(graph, tmp_path / "model.onnx")
    served = [select.RUNTIMES[name].open(path, 0, LOAD) for name in ("cpu", "openvino")]
    for count in (1, 2, 5, 33):
        batch = images(count, seed=count)
        with torch.inference_mode():
            logits = np.stack([member(torch.from_numpy(batch)).numpy() for member in members.values()])
        expected = calibrated.apply(combination.combine(logits, [1, 1]))
        for one in served:
            y_pred = one.run(batch)
            assert (y_pred.shape, y_pred.dtype) == ((count,), np.float32)
            assert np.abs(y_pred - expected).max() < 1e-5
        assert np.abs(graph.score(batch) - expected).max() < 1e-6
    assert np.ptp(expected) > 1e-3


def test_a_smaller_member_sees_the_images_shrunk_by_area(tmp_path: Path) -> None:
    members = networks((48, 32), size=48)
    graph = export.Graph(
        members, np.array([0.5, 0.5]), combine.make_equal_combination("mean", 2), Calibration("none")
    ).eval()
    served = select.RUNTIMES["cpu"].open(written(graph, tmp_path / "model.onnx", 48), 0, LOAD)
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), 2) for one in images(6, size=48)])
    small = np.stack([ResizePolicy(32).apply(one) for one in smooth])
    first, second = members.values()
    with torch.inference_mode():
        alone = second.network(torch.from_numpy(small)).numpy()  # what it would say of the images in its own size
        assert np.abs(alone - second(torch.from_numpy(smooth)).numpy()).max() < 0.05
        logits = np.stack([one(torch.from_numpy(smooth)).numpy() for one in (first, second)])
    assert np.abs(served.run(smooth) - sigmoid(logits).mean(0)).max() < 1e-5


def test_a_smaller_member_sees_the_middle_of_cropped_images() -> None:
    config = Config(
        model={"backbone": "test_resnet", "pretrained": False, "size": 32, "resize": "crop"}, predict={"tta": "none"}
    )
    torch.manual_seed(1)
    network = detector.build_detector(config.model, None).eval()
    large = np.random.default_rng(0).integers(0, 256, (3, 47, 47, 3), np.uint8)
    middle = np.stack([ResizePolicy(32, "crop").apply(one) for one in large])
    with torch.inference_mode():
        through = detector.prepare_for_inference(network, config, 47)(torch.from_numpy(large))
        assert torch.equal(through, network(torch.from_numpy(middle)))


class MaxViTBlock(torch.nn.Module):
    """An image's logit by an attention of MaxViT, and with it the exporter's trouble."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = maxxvit.PartitionAttentionCl(64, cfg=maxxvit.MaxxVitTransformerCfg(window_size=(4, 4)))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.attention(given.float().mean(3, keepdim=True).expand(-1, -1, -1, 64) / 255).mean((1, 2, 3))


def test_attention_of_maxvit_is_exported_and_stays_fused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = MaxViTBlock().eval()
    graph = export.Graph({"max": block}, np.ones(1), combine.make_equal_combination("mean", 1), Calibration("none"))
    assert block.attention.attn.fused_attn
    served = select.RUNTIMES["cpu"].open(written(graph.eval(), tmp_path / "model.onnx", 8), 0, LOAD)
    assert block.attention.attn.fused_attn
    for count in (1, 3, 7):
        assert np.abs(served.run(batch := images(count, size=8)) - graph.score(batch)).max() < 1e-6


class Branching(torch.nn.Module):
    """A network whose path depends on the image."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        logit = given.float().mean((1, 2, 3))
        return logit if bool(logit.sum() > 0) else -logit


def test_a_network_that_cannot_be_exported_is_named_in_one_line() -> None:
    with pytest.raises(ConfigError) as fault:
        export.check_exportable(Branching(), 32)
    what = rf"torch {re.escape(torch.__version__)} cannot export this network to ONNX: .*[Dd]ata-dependent.*"
    assert re.fullmatch(what, fault.value.what)
    assert len(fault.value.what) < 300
    export.check_exportable(next(iter(networks((32,)).values())), 32)


def test_weights_that_do_not_fit_into_one_file_are_refused_before_the_export(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = single()
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("exported"))
    monkeypatch.setattr(onnx.checker, "MAXIMUM_PROTOBUF", size // 2)
    with pytest.raises(ConfigError, match=r"^the weights of 1 network have 0\.0 GiB, and one ONNX file holds at"):
        export.check_exportable(next(iter(networks((32,)).values())), 32)


def test_an_exporter_that_writes_an_invalid_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported())
    model.graph.node[0].input[0] = "nothing"  # as onnxscript 0.7.2 does to Gemma 4's vision transformer
    monkeypatch.setattr(export, "convert_to_onnx", lambda *_arguments: model)
    with pytest.raises(ConfigError, match=r"cannot export this network to ONNX: Nodes in a graph must be topolog"):
        export.check_exportable(next(iter(networks((32,)).values())), 32)


@pytest.mark.parametrize(("tta", "residual"), [("hflip", "none"), ("crops", "srm"), ("hflip+crops", "highpass")])
def test_views_and_residuals_are_in_the_graph(tta: str, residual: str, tmp_path: Path) -> None:
    model = {"backbone": "test_resnet", "pretrained": False, "size": 32, "noise_residual": residual}
    config = Config(model=model, predict={"tta": tta})
    torch.manual_seed(1)
    network = detector.prepare_for_inference(detector.build_detector(config.model, None).eval(), config, 32)
    graph = export.Graph(
        {"a.fold_0": network}, np.ones(1), combine.make_equal_combination("mean", 1), Calibration("none")
    ).eval()
    served = select.RUNTIMES["cpu"].open(written(graph, tmp_path / "model.onnx"), 0, LOAD)
    pixels = images(5)
    assert np.abs(served.run(pixels) - graph.score(pixels)).max() < 1e-5
    prepares = [one.name for one in onnx.load(tmp_path / "model.onnx").graph.node if one.name.startswith("images/")]
    convolved = [name for name in prepares if name.startswith("images/Conv")]
    assert bool(convolved) == (residual != "none")


def test_the_graph_is_one_file_with_metadata(tmp_path: Path) -> None:
    export.save_graph(exported(), tmp_path / "model.onnx", {"ffdi": "1.2.3"})
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"ffdi": "1.2.3"}
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["y_pred"]
    assert not model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def test_every_node_is_named_after_its_layer_without_paths(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export.save_graph(exported((32, 32)), path, {"ffdi": "1.2.3"})
    nodes = [node.name for node in onnx.load(path).graph.node]
    assert len(set(nodes)) == len(nodes)
    assert {name.partition("/")[0] for name in nodes} == {"images", "small.fold_0", "small.fold_1", "y_pred"}
    assert "small.fold_1/layer2.0.conv1/Conv" in nodes
    content = path.read_bytes()
    for word in (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent.parent), "stack_trace"):
        assert word.encode() not in content


def test_an_invalid_graph_is_refused(tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(exported().SerializeToString())
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64  # only the full check sees it
    onnx.checker.check_model(model)
    with pytest.raises(ConfigError, match=r"cannot export this network to ONNX: .*TypeInferenceError"):
        export.save_graph(model, tmp_path / "model.onnx", {})


def test_the_logits_of_members_are_an_output(tmp_path: Path) -> None:
    export.save_graph(exported((32, 32)), tmp_path / "logits.onnx", {}, output="logits")
    batch = images(7)
    with torch.inference_mode():
        expected = np.stack([member(torch.from_numpy(batch)).numpy() for member in networks().values()], 1)
    for name in ("cpu", "openvino"):
        found = select.RUNTIMES[name].open(tmp_path / "logits.onnx", 0, LOAD).run(batch)
        assert found.shape == (7, 2)
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["cpu", "openvino"])
def test_a_file_that_is_not_a_graph_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(DeviceError) as caught:
        select.RUNTIMES[name].open(tmp_path / "model.onnx", 0, LOAD)
    assert caught.value.what.startswith("the graph cannot be opened: ")
