"""A .pth file made a .safetensors file, in a process of its own.

A pickle can be made to run code, or to fill the memory. Only tensors are read, in a child that may take so much memory
and time and no more; what reaches the training is a file that cannot run anything.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from ffdi.core import limited_process
from ffdi.core.limited_process import Bounds

SECONDS = 300
GROWTH = 6 * 2**30
"""Bytes that the child may take beside a few times the file."""

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Under which a training script may have put the weights; averaged ones first, as timm does."""


def convert_to_safetensors(weights: Path, converted: Path) -> str:
    """Writes the tensors of a .pth as safetensors.

    Returns:
        What is wrong with the file; empty where nothing is.
    """
    bounds = Bounds(SECONDS, GROWTH + 4 * weights.stat().st_size, "to be read")
    return limited_process.run_limited(
        "ffdi.models.unpickle", [str(weights.resolve()), str(converted.resolve())], bounds
    )


def main(weights: str, converted: str) -> None:
    """In the child."""
    torch.set_num_threads(1)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    tensors = {name: value.contiguous().clone() for name, value in state.items() if torch.is_tensor(value)}
    safetensors.torch.save_file(tensors, converted)
