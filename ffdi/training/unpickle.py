"""A .pth file made a .safetensors file, in a process of its own: `python -m ffdi.training.unpickle IN OUT`.

A pickle can be made to run code, or to fill the memory. Only tensors are read, in a child that may take so much memory
and time and no more; what reaches the training is a file that cannot run anything.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SECONDS = 300
GROWTH = 6 * 2**30
"""Bytes that the child may take beside a few times the file."""

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Under which a training script may have put the weights; averaged ones first, as timm does."""


def convert(weights: Path, converted: Path) -> str:
    """Writes the tensors of a .pth as safetensors.

    Returns:
        What is wrong with the file; empty where nothing is.
    """
    words = [sys.executable, "-m", "ffdi.training.unpickle", str(weights), str(converted)]
    root = Path(__file__).resolve().parent.parent.parent
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"reading it took more than {SECONDS} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"its reader died (exit status {done.returncode})"


def _limit(weights: Path) -> None:
    """What this process may take."""
    try:
        import resource
    except ImportError:  # Windows knows no such limits
        return
    most = GROWTH + 4 * weights.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def main(weights: Path, converted: Path) -> None:
    """In the child."""
    import safetensors.torch
    import torch

    _limit(weights)
    torch.set_num_threads(1)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
        tensors = {name: value.contiguous().clone() for name, value in state.items() if torch.is_tensor(value)}
        safetensors.torch.save_file(tensors, converted)
    except Exception as error:  # what is no weights file can make its reader fail in any way
        sys.exit((str(error).splitlines() or [type(error).__name__])[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
