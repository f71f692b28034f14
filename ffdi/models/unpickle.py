"""Converts a .pth file to a .safetensors file in a child process with limits.

A pickle may run code or fill the memory. The child reads nothing but tensors, with limited memory and time, and the
training gets a file that cannot run code. The child imports this module alone: it has to stay without timm.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ffdi.core import limited_process
from ffdi.core.limited_process import Bounds

SECONDS = 300
GROWTH = 6 * 2**30
"""Memory limit of the child in bytes, in addition to a few times the file's size."""

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts store the weights; averaged weights first, as in timm."""
PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.", "net.", "network.")
"""Starts of all names in checkpoints of DDP, Lightning, segmentation libraries and torch.compile."""
HARMLESS: list[Any] = [argparse.Namespace]
"""Classes in checkpoints of training scripts that hold settings and no code; timm stores its arguments so."""


def convert_to_safetensors(weights: Path, converted: Path) -> str:
    """Writes the tensors of a .pth as safetensors.

    Returns:
        The fault of the file; empty if there is none.
    """
    bounds = Bounds(SECONDS, GROWTH + 4 * weights.stat().st_size, "to be read")
    return limited_process.run_limited(
        "ffdi.models.unpickle", [str(weights.resolve()), str(converted.resolve())], bounds
    )


def main(weights: str, converted: str) -> None:
    """Runs in the child process."""
    torch.set_num_threads(1)
    try:
        with torch.serialization.safe_globals(HARMLESS):
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        # torch's message explains how to run the code in the file
        raise ValueError("is damaged, or has more than tensors in it") from None
    state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    tensors = {name: value.contiguous().clone() for name, value in state.items() if torch.is_tensor(value)}
    safetensors.torch.save_file(strip_prefixes(tensors), converted)


def strip_prefixes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Removes the prefixes that all names share, such as 'model.' of a Lightning module."""
    while prefix := find_prefix(tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def find_prefix(names: Collection[str]) -> str:
    """One of PREFIXES that all names share; empty if there is none."""
    return next((one for one in PREFIXES if names and all(name.startswith(one) for name in names)), "")
