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
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loader import describe

from ffdi.config.schema import Config, ModelConfig
from ffdi.data.loading.loader import Batch
from ffdi.models import detector, tuning
from ffdi.models.weights import save_tensors
from ffdi.training import optim
from ffdi.training.loop import train_step, update_ema
from ffdi.training.runtime import device as devices
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
    states = {tune: create(backbone, tune, asked.size, starting) for tune in TUNES}
    turns = {tune: make_turn(*state, asked.size, asked.batch) for tune, state in states.items()}
    times: dict[str, list[float]] = {tune: [] for tune in TUNES}
    for number in range(asked.rounds + 1):
        for tune, turn in turns.items():
            seconds = turn()
            if number:
                times[tune].append(1000 * seconds)
    for tune, (state, _) in states.items():
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


def create(backbone: str, tune: str, size: int, starting: Path) -> tuple[TrainingState, Config]:
    config = Config.model_validate(
        {"model": {"backbone": backbone, "size": size, "tune": tune}, "train": {"precision": "fp32"}}
    )
    device = devices.choose_device("cpu", "fp32", 0)
    network = device.prepare(detector.build_detector(config.model, starting))
    tuning.set_trainable(network)
    return TrainingState.create(network, config.train, device), config


def make_turn(state: TrainingState, config: Config, size: int, count: int) -> Callable[[], float]:
    """A function that takes a step, and returns its seconds of CPU time."""
    device = devices.choose_device("cpu", "fp32", 0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    batch, criterion = (
        Batch(images, torch.arange(count) % 2.0, torch.arange(count)),
        optim.create_loss(config.train, 0.5),
    )

    def take_step() -> float:
        started = time.process_time()
        train_step(state.detector, state, batch, criterion, config, device)
        update_ema(state)
        return time.process_time() - started

    return take_step


def measure(tensors: tuning.Tensors, folder: Path) -> float:
    """The MiB of a file with these tensors."""
    path = folder / "measured.safetensors"
    safetensors.torch.save_file({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, path)
    return path.stat().st_size / MIB


if __name__ == "__main__":
    main()
