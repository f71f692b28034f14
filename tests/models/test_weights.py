"""Starting weights: from a file, from the hub, and refused."""

from __future__ import annotations

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
        f"{path} does not hold weights of test_resnet: conv1.0.weight and 14 more are not in it\n"
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


def test_a_backbone_without_published_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        weights.find_weights(ModelConfig(backbone="convnextv2_small"), tmp_path)
    assert str(caught.value) == (
        "timm has no published weights of convnextv2_small\n"
        "next: set model.pretrained = false, or model.weights_file, in config.toml"
    )


def test_an_unknown_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        weights.find_weights(ModelConfig(backbone="resnet18.a3_in1"), tmp_path)
    assert str(caught.value) == (
        "unknown weights 'a3_in1' of resnet18: did you mean 'a3_in1k'?\nnext: correct model.backbone in config.toml"
    )
