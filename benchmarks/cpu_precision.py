"""Claim: on a CPU with bf16 units, a training step of a network with depthwise convolutions takes at most 0.9 of the
CPU time in ffdi's bf16, with these convolutions in fp32, that it takes in fp32; torch's autocast alone, with all
convolutions in bf16, takes longer than ffdi for each of these networks.

    python benchmarks/cpu_precision.py [--backbone NAME ...] [--size 128] [--batch 32] [--rounds 7]

Random images and weights, one thread, whole steps with optimizer and averaged weights. The three take turns in every
round; the first round does not count. Printed: the median over the rounds of the CPU time of each, and of its ratios to
fp32 in the same round, with their range.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loader import describe

from ffdi.config.schema import Config
from ffdi.data.loading.loader import Batch
from ffdi.models import detector, tuning
from ffdi.training import optim
from ffdi.training.loop import train_step, update_ema
from ffdi.training.runtime import device as devices
from ffdi.training.runtime.device import Device
from ffdi.training.state import TrainingState

BACKBONES = (
    "tf_efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "efficientnet_b0",
    "mobilenetv3_large_100",
    "convnext_nano",
    "fastvit_t8",
)


def main() -> None:
    """Lets the precisions of each network take turns, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=BACKBONES)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    for backbone in asked.backbone:
        turns = {
            "fp32": make_turn(backbone, asked.size, asked.batch, "fp32"),
            "bf16": make_turn(backbone, asked.size, asked.batch, "bf16"),
            "all in bf16": make_turn(backbone, asked.size, asked.batch, "bf16", whole=True),
        }
        times = take_turns(turns, asked.rounds)
        shown = [f"{name} {np.median(own):.0f} ms, {describe(own, times['fp32'])}" for name, own in times.items()]
        print(f"{backbone:24} {'   '.join(shown)}", flush=True)


def make_turn(backbone: str, size: int, batch_size: int, precision: str, *, whole: bool = False) -> Callable[[], float]:
    """Trains a step, and returns its CPU time; `whole` leaves all convolutions to torch's autocast."""
    device = devices.choose_device("cpu", precision, 0, threads=1)
    config = Config.model_validate(
        {
            "model": {"backbone": backbone, "pretrained": False, "size": size},
            "train": {"batch_size": batch_size, "precision": precision},
        }
    )
    network = device.prepare(detector.build_initialized(config, None))
    tuning.set_trainable(network)
    take_step = make_step(TrainingState.create(network, config.train, device), config, device)

    def train() -> float:
        with mock.patch.object(devices, "_DepthwiseInFp32", nullcontext) if whole else nullcontext():
            return take_step()

    return train


def make_step(state: TrainingState, config: Config, device: Device) -> Callable[[], float]:
    """Trains a step on random images, and returns its CPU time."""
    size, batch_size = config.model.size, config.train.batch_size
    images = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8)
    batch = Batch(images, torch.arange(batch_size).remainder(2).float(), torch.arange(batch_size))
    criterion = optim.create_loss(config.train, 0.5)

    def take_step() -> float:
        started = time.process_time()
        train_step(state.detector, state, batch, criterion, config, device)
        update_ema(state)
        return time.process_time() - started

    return take_step


def take_turns(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The milliseconds of each in every round; a first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            seconds = turn()
            if number:
                times[name].append(1000 * seconds)
    return times


if __name__ == "__main__":
    main()
