"""Tensors in a file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

_NUMBER = re.compile(r"\(os error ([0-9]+)\)")


def save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes a safetensors file.

    Args:
        tensors: contiguous, on the CPU, none of them twice.
        path: where to.

    Raises:
        OSError: the disk is full, or the place cannot be written; safetensors has an error of its own for that.
    """
    path.touch()
    usual = path.stat().st_mode
    try:
        safetensors.torch.save_file(dict(tensors), path)
    except safetensors.SafetensorError as error:
        if found := _NUMBER.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number)) from error
        raise
    path.chmod(usual)  # safetensors leaves what nobody but its writer may read
