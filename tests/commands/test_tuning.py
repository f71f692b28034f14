"""Networks that are tuned in part, as a person types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from tests.conftest import TINY, Invoke

LOSSES = "alignment = 0.1\nuniformity = 0.1\nconsistency = 1.0"
WORDS = ("--experiment", "tiny", "--data")


@pytest.fixture(params=["head", "norm", "lora", "svd"])
def tuned(request: pytest.FixtureRequest, workspace: Path) -> Path:
    """The folder of the experiment, whose network has starting weights and is tuned in part."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=0)
    safetensors.torch.save_file(network.state_dict(), workspace / "start.safetensors")
    folder = workspace / "experiments" / "tiny"
    lines = f'weights_file = "start.safetensors"\ntune = "{request.param}"\ntune_rank = 2\nnormalize_features = true'
    (folder / "config.toml").write_text(
        TINY.replace("pretrained = false", lines)
        .replace("epochs = 3", "epochs = 1")
        .replace("lr = 3e-3", f"lr = 1e-2\n{LOSSES}")
    )
    return folder


def test_a_partly_tuned_network_is_trained_exported_and_checked(tuned: Path, competition: Path, invoke: Invoke) -> None:
    answer = invoke("train-folds", *WORDS, str(competition))
    assert answer.code == 0, answer.err
    assert "parameters are trained, and the network has" in answer.out
    whole = (tuned.parents[1] / "start.safetensors").stat().st_size
    sizes = [(tuned / f"fold_{fold}" / "weights.safetensors").stat().st_size for fold in (0, 1)]
    assert max(sizes) < 0.2 * whole
    assert (tuned / "frozen.safetensors").stat().st_size > 0.9 * whole
    for words in (("export-onnx", *WORDS), ("ensemble-submit", *WORDS), ("report", *WORDS)):
        answer = invoke(*words, str(competition))
        assert answer.code == 0, answer.err
        assert ("licence: that of the weights in start.safetensors" in answer.out) == (words[0] == "export-onnx")
    assert invoke("verify").code == 0
    bundle = json.loads((tuned.parents[1] / "exports" / "tiny" / "bundle.json").read_text())
    assert bundle["files"]

    frozen = tuned / "frozen.safetensors"
    frozen.write_bytes(frozen.read_bytes()[:-1] + b"\1")
    answer = invoke("ensemble-submit", *WORDS, str(competition))
    assert answer.code == 1
    assert "frozen.safetensors" in answer.err
    assert "--restart" in answer.err
    answer = invoke("verify")
    assert answer.code == 1
    assert "frozen.safetensors" in answer.err
    answer = invoke("train-folds", *WORDS, str(competition), "--restart")
    assert answer.code == 0, answer.err
    assert invoke("verify").code == 0


@pytest.mark.parametrize("tuned", ["lora"], indirect=True)
def test_folds_in_other_processes_give_the_same_weights(tuned: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke("train-folds", *WORDS, str(competition)).code == 0
    paths = [tuned / f"fold_{fold}" / "weights.safetensors" for fold in (0, 1)]
    expected = [path.read_bytes() for path in paths]
    for path in paths:
        shutil.rmtree(path.parent)
    assert invoke("train-folds", *WORDS, str(competition), "--jobs", "2").code == 0
    assert [path.read_bytes() for path in paths] == expected


@pytest.mark.parametrize("tuned", ["head"], indirect=True)
def test_experiments_share_what_is_frozen(
    tuned: Path, competition: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("second", "third"):
        shutil.copytree(tuned, tuned.parent / name)
    for name in ("tiny", "second"):
        assert invoke("train-folds", "--experiment", name, "--data", str(competition), "--folds", "0").code == 0
    monkeypatch.setattr("os.link", no_links)
    assert invoke("train-folds", "--experiment", "third", "--data", str(competition), "--folds", "0").code == 0
    frozen = [tuned.parent / name / "frozen.safetensors" for name in ("tiny", "second", "third")]
    assert frozen[0].samefile(frozen[1])
    assert not frozen[0].samefile(frozen[2])
    assert frozen[0].read_bytes() == frozen[2].read_bytes()
    assert [path.name for path in (tuned.parent / "third").iterdir() if path.name.endswith(".tmp")] == []


def no_links(*_words: object) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("tuned", ["norm"], indirect=True)
def test_a_network_without_starting_weights_cannot_be_tuned_in_part(
    tuned: Path, competition: Path, invoke: Invoke
) -> None:
    path = tuned / "config.toml"
    path.write_text(path.read_text().replace('weights_file = "start.safetensors"', "pretrained = false"))
    answer = invoke("train-folds", *WORDS, str(competition))
    assert answer.code == 1
    assert answer.err == (
        "error: model.tune = 'norm' freezes most of the network, and it has no starting weights\n"
        "next: set model.pretrained = true, or model.weights_file, or model.tune = 'all', in config.toml\n"
    )
