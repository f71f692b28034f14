"""Claim: tuning few weights of a network takes at most an eighth of the bytes of a checkpoint of a whole training, and
a step takes at most 1.1 times as long.

    python benchmarks/tuning.py [--backbone NAME ...] [--size 128] [--batch 32] [--rounds 5]

Random images and starting weights, fp32, one thread, whole steps with optimizer and averaged weights. The values of
model.tune take turns in every round; the first round does not count. Printed for each: the trained parameters, the
bytes of a checkpoint and of a fold's weights, the bytes that are stored once for all folds, and the median over the
rounds of the ratio of a step's CPU time to that of model.tune = "all" in the same round, with its range.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cpu_precision import make_step, take_turns
from loader import describe

from ffdi.config.schema import Config, ModelConfig
from ffdi.models import detector, tuning
from ffdi.models.weights import save_tensors
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState

BACKBONES = ("tf_efficientnet_lite0", "vit_small_patch16_224")
TUNES = ("all", "head", "norm", "lora", "svd")
MIB = 2**20


def main() -> None:
    """Lets the values of model.tune take turns, and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", nargs="+", default=BACKBONES)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    for backbone in asked.backbone:
        with tempfile.TemporaryDirectory() as folder:
            compare(asked, backbone, Path(folder))


def compare(asked: argparse.Namespace, backbone: str, folder: Path) -> None:
    started = detector.build_detector(ModelConfig(backbone=backbone, size=asked.size), None)
    starting = folder / "start.safetensors"
    save_tensors({name.removeprefix("backbone."): one for name, one in started.state_dict().items()}, starting)
    device = devices.choose_device("cpu", "fp32", 0)
    configs = {tune: configure(asked, backbone, tune) for tune in TUNES}
    states = {tune: create(config, starting, device) for tune, config in configs.items()}
    turns = {tune: make_step(states[tune], config, device) for tune, config in configs.items()}
    times = take_turns(turns, asked.rounds)
    for tune, state in states.items():
        trained = sum(one.numel() for one in state.detector.parameters() if one.requires_grad)
        sizes = [
            measure(tensors, folder)
            for tensors in (
                state.state_dict(),
                tuning.get_trained(state.eval_model),
                tuning.get_frozen(state.eval_model),
            )
        ]
        shown = "  ".join(
            f"{name} {size:8.3f} MiB" for name, size in zip(("checkpoint", "fold", "once"), sizes, strict=True)
        )
        print(
            f"{backbone:24} {tune:5} {trained:11,} parameters  {shown}  step {np.median(times[tune]):5.0f} ms, "
            f"{describe(times[tune], times['all'])}",
            flush=True,
        )


def configure(asked: argparse.Namespace, backbone: str, tune: str) -> Config:
    return Config.model_validate(
        {
            "model": {"backbone": backbone, "size": asked.size, "tune": tune},
            "train": {"batch_size": asked.batch, "precision": "fp32"},
        }
    )


def create(config: Config, starting: Path, device: Device) -> TrainingState:
    network = device.prepare(detector.build_detector(config.model, starting))
    tuning.set_trainable(network)
    return TrainingState.create(network, config.train, device)


def measure(tensors: tuning.Tensors, folder: Path) -> float:
    """The MiB of a file with these tensors."""
    path = folder / "measured.safetensors"
    safetensors.torch.save_file({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, path)
    return path.stat().st_size / MIB


if __name__ == "__main__":
    main()
