"""Autoencoders of diffusers, which encode an image into few numbers and decode it again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ffdi.core import machine
from ffdi.core.errors import ConfigError, get_first_line

CONFIG = "config.json"
CLASSES = (
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderDC",
    "AutoencoderKLFlux2",
    "AsymmetricAutoencoderKL",
    "VQModel",
)
"""Classes of diffusers for single images; all take and give float [B, 3, H, W] from -1 to 1."""
TRIED = ((1, 3, 64, 64), (1, 3, 64, 128))
"""Shapes of the images that a network has to reconstruct before it is used."""
MOST_PIXELS = 2**20
"""Larger images are reconstructed in parts, which overlap: attention takes memory by the square of the pixels."""
EXTRA = "pip install -e '.[diffusers]'"


def load_autoencoder(folder: Path, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    """Loads an autoencoder in fp32 from a folder that diffusers has saved: config.json and a .safetensors file.

    Returns:
        A function: float32 [1, 3, H, W] from -1 to 1, H and W multiples of 64 -> the same shape, without random
        numbers.

    Raises:
        ConfigError: diffusers is missing, or the folder has no such autoencoder, or it cannot reconstruct an image.
    """
    name = _read_class(folder)
    network = _load(folder, name).eval().requires_grad_(False).to(device)
    tiles = name != "AutoencoderTiny" and hasattr(network, "enable_tiling")  # small ones need little memory

    def reconstruct(pixels: np.ndarray) -> np.ndarray:
        if tiles:
            network.enable_tiling(pixels[0, 0].size > MOST_PIXELS)
        with torch.inference_mode():
            made = network(torch.from_numpy(pixels).to(device), return_dict=False)[0]
        result: np.ndarray = made.float().cpu().numpy()
        return result

    _try_images(folder, reconstruct)
    return reconstruct


def _try_images(folder: Path, reconstruct: Callable[[np.ndarray], np.ndarray]) -> None:
    for shape in TRIED:
        try:
            made = reconstruct(np.zeros(shape, np.float32))
            fault = f"gives {list(made.shape)}" if made.shape != shape else ""
        except (RuntimeError, ValueError, TypeError) as error:
            if machine.is_memory_error(error):
                raise
            fault = f"fails: {get_first_line(error)}"
        if fault:
            raise ConfigError(
                f"pseudo_fakes.autoencoder names {folder}, which cannot reconstruct an image: "
                f"for {list(shape)} it {fault}",
                hint="name the folder of an autoencoder for RGB images",
            )


def _read_class(folder: Path) -> str:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        name = str(config["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"pseudo_fakes.autoencoder names {folder}, which has no {CONFIG} of diffusers",
            hint="name the folder of the autoencoder, such as 'vae' of a downloaded pipeline, or an ONNX file",
        ) from None
    if name not in CLASSES:
        raise ConfigError(
            f"{folder} holds a {name}; ffdi uses {', '.join(CLASSES)}",
            hint="name the folder of an autoencoder for images with pseudo_fakes.autoencoder in config.toml",
        )
    return name


def _load(folder: Path, name: str) -> Any:
    try:
        import diffusers
    except ModuleNotFoundError:
        raise ConfigError(
            f"pseudo_fakes.autoencoder names {folder}, and diffusers is not installed",
            hint=f"{EXTRA}, or name an ONNX file",
        ) from None
    diffusers.utils.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(diffusers, name).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32
            )
    except (AttributeError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"{folder} cannot be loaded as a {name}: {get_first_line(error)}",
            hint="save the autoencoder again with save_pretrained(), with safe_serialization=True",
        ) from None
