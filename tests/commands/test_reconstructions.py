"""Reconstructions by an autoencoder as pseudo-fakes, as a person types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import TINY, Invoke

WORDS = ("train-folds", "--experiment", "tiny", "--data")


def write_autoencoder(path: Path, channels: int = 3, strength: float = 1.0) -> None:
    """Blurs: a convolution of each channel with a 3 x 3 box."""
    weight = np.zeros((channels, 3, 3, 3), np.float32)
    for channel in range(min(3, channels)):
        weight[channel, channel] = strength / 9
    shape = [1, 3, "height", "width"]
    node = helper.make_node("Conv", ["images", "weight"], ["made"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "autoencoder",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, [1, channels, "height", "width"])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_diffusers_folder(experiment: Path, **channels: int) -> None:
    """A network of diffusers, which the experiment then uses."""
    diffusers = pytest.importorskip("diffusers")
    widths = (8, 8)
    network = diffusers.AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        **channels,
    )
    network.save_pretrained(experiment.parents[1] / "vae")
    config = experiment / "config.toml"
    config.write_text(config.read_text().replace("autoencoder.onnx", "vae"))


@pytest.fixture
def reconstructing(workspace: Path) -> Path:
    """The folder of the experiment, which makes a fourth of each batch from reconstructions, and pools by top-k."""
    write_autoencoder(workspace / "autoencoder.onnx")
    folder = workspace / "experiments" / "tiny"
    (folder / "config.toml").write_text(
        TINY.replace("epochs = 3", "epochs = 1").replace("size = 32", 'size = 32\npool = "topk"')
        + '[pseudo_fakes]\nfraction = 0.25\nmethods = ["reconstruction", "self_blend"]\n'
        + 'autoencoder = "autoencoder.onnx"'
    )
    return folder


def test_reconstructions_are_made_once_and_belong_to_the_training(
    reconstructing: Path, competition: Path, invoke: Invoke
) -> None:
    root = reconstructing.parents[1]
    answer = invoke(*WORDS, str(competition))
    assert answer.code == 0, answer.err
    assert ": 32 of 32 real images; " in answer.out
    made = sorted((root / "data" / "reconstructions").rglob("*.png"))
    assert len(made) == 32
    resolved = json.loads((reconstructing / "resolved.json").read_text())
    assert len(resolved["config"]["pseudo_fakes"]["autoencoder_sha256"]) == 64
    before = [path.stat().st_mtime_ns for path in made]
    weights = (reconstructing / "fold_0" / "weights.safetensors").read_bytes()
    shutil.rmtree(reconstructing / "fold_0")
    answer = invoke(*WORDS, str(competition), "--jobs", "2")
    assert answer.code == 0, answer.err
    assert "are missing" not in answer.out
    assert [path.stat().st_mtime_ns for path in made] == before
    assert (reconstructing / "fold_0" / "weights.safetensors").read_bytes() == weights
    for command in ("export-onnx", "ensemble-submit"):
        answer = invoke(command, "--experiment", "tiny", "--data", str(competition))
        assert answer.code == 0, answer.err

    write_autoencoder(root / "autoencoder.onnx", strength=0.9)
    answer = invoke(*WORDS, str(competition))
    assert answer.code == 1
    assert "pseudo_fakes.autoencoder_sha256" in answer.err


def test_a_damaged_reconstruction_is_named(reconstructing: Path, competition: Path, invoke: Invoke) -> None:
    assert invoke(*WORDS, str(competition), "--folds", "0").code == 0
    for path in (reconstructing.parents[1] / "data" / "reconstructions").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:100])
    answer = invoke(*WORDS, str(competition))
    assert answer.code == 1
    assert ".png is truncated or damaged" in answer.err
    assert "remove this file" in answer.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.onnx", "does not exist"),
        ("text.onnx", "is not an ONNX graph"),
        ("five.onnx", "[1, 5, 64, 64]"),
        ("folder", "no config.json of diffusers"),
        ("", "needs an autoencoder"),
    ],
)
def test_what_is_no_autoencoder_is_refused(
    name: str, message: str, reconstructing: Path, competition: Path, invoke: Invoke
) -> None:
    root, config = reconstructing.parents[1], reconstructing / "config.toml"
    (root / "text.onnx").write_text("autoencoder")
    (root / "folder").mkdir()
    write_autoencoder(root / "five.onnx", channels=5)
    line = f'autoencoder = "{name}"' if name else ""
    config.write_text(config.read_text().replace('autoencoder = "autoencoder.onnx"', line))
    answer = invoke(*WORDS, str(competition))
    assert answer.code == 1
    assert message in answer.err
    assert "pseudo_fakes.autoencoder" in answer.err
    assert not (reconstructing / "resolved.json").exists()


def test_a_folder_of_diffusers_gives_its_reconstructions(
    reconstructing: Path, competition: Path, invoke: Invoke
) -> None:
    write_diffusers_folder(reconstructing)
    answer = invoke(*WORDS, str(competition), "--folds", "0")
    assert answer.code == 0, answer.err
    assert len(list((reconstructing.parents[1] / "data" / "reconstructions").rglob("*.png"))) == 32


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"in_channels": 4}, "[1, 3, 64, 64] it fails: "),
        ({"out_channels": 5}, "[1, 3, 64, 64] it gives [1, 5, 64, 64]"),
    ],
)
def test_a_folder_of_diffusers_for_other_images_is_refused(
    channels: dict[str, int], message: str, reconstructing: Path, competition: Path, invoke: Invoke
) -> None:
    write_diffusers_folder(reconstructing, **channels)
    answer = invoke(*WORDS, str(competition))
    assert answer.code == 1
    assert f"vae, which cannot reconstruct an image: for {message}" in answer.err
    assert not (reconstructing / "resolved.json").exists()


def test_a_sweep_does_not_change_the_autoencoder(reconstructing: Path, competition: Path, invoke: Invoke) -> None:
    words = ("sweep", "--experiment", "tiny", "--data", str(competition))
    answer = invoke(*words, "--set", "pseudo_fakes.autoencoder=a.onnx,b.onnx")
    assert answer.code == 1
    assert "reconstructions are made before the first trial" in answer.err
    config = reconstructing / "config.toml"
    config.write_text(config.read_text().replace("fraction = 0.25", "fraction = 0.0"))
    answer = invoke(*words, "--set", "pseudo_fakes.fraction=0.0,0.25")
    assert answer.code == 1
    assert "needs reconstructions" in answer.err
