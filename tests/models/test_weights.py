"""Starting weights: from a file, from the hub, and refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import pytest
import safetensors.torch
import timm
import torch

from ffdi.config.schema import ModelConfig
from ffdi.core.errors import ConfigError
from ffdi.models import detector as detectors
from ffdi.models import weights

TINY = ModelConfig(backbone="test_resnet", pretrained=False, size=32)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_weights_file_gives_the_backbone_its_start(ending: str, tmp_path: Path) -> None:
    donor = timm.create_model("test_resnet", num_classes=1000)
    path = tmp_path / f"donor{ending}"
    if ending == ".pth":
        torch.save(donor.state_dict(), path)
    else:
        safetensors.torch.save_file(donor.state_dict(), path)
    config = TINY.model_copy(update={"weights_file": path.name})
    assert weights.find_weights(config, tmp_path) == path
    detector = detectors.build_detector(config, path)
    ours, theirs = detector.backbone.state_dict(), donor.state_dict()
    shared = [name for name in ours if not name.startswith("fc.")]
    assert len(shared) > 20
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "model.module.", "_orig_mod.net."])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_checkpoints_of_other_trainers_are_read(prefix: str, ending: str, tmp_path: Path) -> None:
    donor = timm.create_model("test_resnet", num_classes=1000)
    state = {f"{prefix}{name}": tensor for name, tensor in donor.state_dict().items()}
    path = tmp_path / f"donor{ending}"
    if ending == ".pth":
        arguments = argparse.Namespace(model="test_resnet", lr=0.1)
        torch.save({"state_dict": state, "args": arguments, "epoch": 3, "hyper_parameters": {"lr": 0.1}}, path)
    else:
        safetensors.torch.save_file(state, path)
    detector = detectors.build_detector(TINY, path)
    assert torch.equal(detector.backbone.state_dict()["conv1.0.weight"], donor.state_dict()["conv1.0.weight"])


def test_only_the_last_layer_is_new(tmp_path: Path) -> None:
    donor = timm.create_model("caformer_s18", num_classes=1000)
    path = tmp_path / "donor.safetensors"
    safetensors.torch.save_file(donor.state_dict(), path)
    backbone = detectors.build_detector(ModelConfig(backbone="caformer_s18", size=64), path).backbone
    assert torch.equal(backbone.head.fc.fc1.weight, donor.head.fc.fc1.weight)
    assert backbone.head.fc.fc2.weight.shape[0] == 1
    assert backbone.head.fc.fc2.weight.std().item() == pytest.approx(detectors.HEAD_STD, rel=0.2)


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", 96), ("test_vit2", 128), ("swin_tiny_patch4_window7_224", 256)]
)
def test_position_embeddings_are_resampled_to_another_size(name: str, size: int, tmp_path: Path) -> None:
    donor = timm.create_model(name, num_classes=10)
    path = tmp_path / "donor.safetensors"
    safetensors.torch.save_file(donor.state_dict(), path)
    config = ModelConfig(backbone=name, size=size)
    detector = detectors.build_detector(config, path)
    detectors.check_size(detector, "model.size", size)
    detectors.save_detector(detector, tmp_path / "trained.safetensors")
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    loaded = detectors.load_detector(config, tmp_path / "trained.safetensors")
    assert torch.equal(loaded(images), detector.eval()(images))


@pytest.mark.parametrize(
    ("name", "resolved"),
    [
        ("tf_efficientnet_b7_ns", "tf_efficientnet_b7.ns_jft_in1k"),
        ("xception", "legacy_xception"),
        ("vit_base_patch16_224_in21k", "vit_base_patch16_224.augreg_in21k"),
        ("hf_hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("hf-hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("timm/resnet18", "resnet18"),
        ("resnet18", "resnet18"),
    ],
)
def test_other_names_of_a_backbone_are_resolved(name: str, resolved: str) -> None:
    assert weights.resolve_name(name) == resolved


def test_a_network_of_others_on_the_hub_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        weights.resolve_name("hf_hub:someone/detector")
    assert str(caught.value) == (
        "'hf_hub:someone/detector' is not one of timm's own networks on the hub\n"
        "next: set model.backbone to timm's name of this network, and model.weights_file to its downloaded weights"
    )


def test_weights_with_an_address_only_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def download(url: str, path: str, progress: bool) -> None:
        requests.append((url, progress))
        Path(path).write_bytes(b"x")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        path = weights.find_weights(ModelConfig(backbone="xception"), tmp_path)
        assert path == tmp_path / "checkpoints" / "xception-43020ad28.pth"
    assert len(requests) == 1

    def fail(*_what: object, **_options: object) -> None:
        raise OSError("no network")

    path.unlink()
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConfigError) as caught:
        weights.find_weights(ModelConfig(backbone="xception"), tmp_path)
    assert caught.value.what == (
        "the weights of legacy_xception are not on this machine and cannot be downloaded: no network"
    )


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "attacked",)

    path = tmp_path / "weights.pth"
    torch.save({"weight": Attack()}, path)
    with pytest.raises(ConfigError) as caught:
        detectors.build_detector(TINY, path)
    assert caught.value.what.startswith(f"{path} cannot be read as weights: ")
    assert not (tmp_path / "attacked").exists()


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(ConfigError) as caught:
        detectors.build_detector(TINY, path)
    assert str(caught.value) == (
        f"{path} does not hold weights of test_resnet: it lacks 15 tensors, such as conv1.0.weight\n"
        "next: correct model.weights_file or model.backbone in config.toml"
    )


def test_weights_in_the_hubs_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *what: requests.append(what) or str(tmp_path / "cached"))
    monkeypatch.setattr(hub, "get_session", lambda: pytest.fail("the hub was contacted"))
    config = ModelConfig(backbone="resnet18")
    assert weights.find_weights(config, tmp_path) == tmp_path / "cached"
    assert requests == [("timm/resnet18.a1_in1k", "model.safetensors")]


def test_weights_are_downloaded_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, url: str, timeout: float) -> None:
            assert (url, timeout) == (hub.constants.ENDPOINT, 5)

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_what: None)
    monkeypatch.setattr(hub, "get_session", Session)
    monkeypatch.setattr(hub, "hf_hub_download", lambda repository, name: f"{tmp_path}/{repository}/{name}")
    path = weights.find_weights(ModelConfig(backbone="resnet18"), tmp_path)
    assert path == tmp_path / "timm/resnet18.a1_in1k/model.safetensors"


class Reached:
    """A session whose requests are answered."""

    def head(self, _url: str, *, timeout: float) -> None:
        assert timeout == 5


class Unreached(Reached):
    def head(self, _url: str, *, timeout: float) -> None:
        raise ConnectionError(f"no answer in {timeout} s")


WAYS_OUT = (
    "next: set model.weights_file in config.toml to a .safetensors or .pth of this backbone; or set HF_ENDPOINT to the "
    "address of a mirror of the hub; or run once with a network: "
    "python -c \"import timm; timm.create_model('resnet18', pretrained=True)\" and bring its cache along ($HF_HOME); "
    "model.pretrained = false starts from random weights"
)


@pytest.mark.parametrize(
    ("session", "mirror", "fault"),
    [
        (Unreached, None, "the hub cannot be reached (ConnectionError)"),
        (
            Unreached,
            "https://a.example",
            "the hub at HF_ENDPOINT=https://a.example cannot be reached (ConnectionError)",
        ),
        (Reached, None, "their download from the hub failed (403 Forbidden)"),
    ],
)
def test_weights_that_cannot_be_downloaded_come_from_a_mirror_or_a_file(
    session: type, mirror: str | None, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_what: str) -> str:
        raise OSError("403 Forbidden\nsee the log")

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_what: None)
    monkeypatch.setattr(hub, "get_session", session)
    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror)
        monkeypatch.setattr(hub.constants, "ENDPOINT", mirror)
    with pytest.raises(ConfigError) as caught:
        weights.find_weights(ModelConfig(backbone="resnet18"), tmp_path)
    what = "the ImageNet weights of resnet18 are not on this machine and"
    assert str(caught.value) == f"{what} {fault}\n{WAYS_OUT}"


def test_a_backbone_without_published_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        weights.find_weights(ModelConfig(backbone="convnextv2_small"), tmp_path)
    assert str(caught.value) == (
        "timm has no published weights of convnextv2_small\n"
        "next: set model.pretrained = false, or model.weights_file, in config.toml"
    )


@pytest.mark.parametrize(
    ("keys", "name", "free"),
    [
        ({"backbone": "resnet18"}, "apache-2.0", True),
        ({"backbone": "hf_hub:timm/vit_small_patch16_dinov3.lvd1689m"}, "dinov3-license", False),
        ({"backbone": "convnextv2_tiny"}, "cc-by-nc-4.0", False),
        ({"backbone": "resnet18", "weights_file": "mine.pth"}, "", False),
        ({"backbone": "resnet18", "pretrained": False}, None, False),
    ],
)
def test_the_licence_is_that_of_the_starting_weights(keys: dict[str, Any], name: str | None, free: bool) -> None:
    found = weights.find_licence(ModelConfig(**keys))
    assert (None if found is None else found.name) == name
    assert found is None or found.is_free == free


def test_an_unknown_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        weights.find_weights(ModelConfig(backbone="resnet18.a3_in1"), tmp_path)
    assert str(caught.value) == (
        "unknown weights 'a3_in1' of resnet18: did you mean 'a3_in1k'?\nnext: correct model.backbone in config.toml"
    )
