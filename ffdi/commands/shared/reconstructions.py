"""Makes the reconstructions that `pseudo_fakes.methods = ["reconstruction"]` needs, once for all trainings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ffdi.commands.shared.options import DeviceOptions
from ffdi.config.schema import PseudoFakesConfig
from ffdi.core import console, machine, manifests
from ffdi.core.errors import ConfigError, DeviceError, ExperimentError, format_count
from ffdi.data.images import cache, reconstructions
from ffdi.data.labels.table import Table
from ffdi.experiments.workspace import Workspace

MULTIPLE = 64
"""Images are extended to multiples of this, by mirroring their borders: autoencoders shrink by powers of 2."""
HINT = "name a folder of diffusers or an ONNX file with pseudo_fakes.autoencoder in config.toml"


def find_autoencoder(root: Path, config: PseudoFakesConfig) -> Path | None:
    """The autoencoder of an experiment; None if it needs none.

    Args:
        root: the folder that `pseudo_fakes.autoencoder` is relative to.
        config: names it.

    Raises:
        ConfigError: none is named, or it does not exist.
    """
    if not config.needs_reconstructions:
        return None
    if config.autoencoder is None:
        raise ConfigError("pseudo_fakes.methods has 'reconstruction', which needs an autoencoder", hint=HINT)
    path = root / config.autoencoder
    if not path.exists():
        raise ConfigError(f"pseudo_fakes.autoencoder names {path}, which does not exist", hint=HINT)
    return path


def hash_autoencoder(path: Path) -> str:
    """The hash of an ONNX file, or of a folder's config and weights."""
    if path.is_file():
        return manifests.hash_file(path)
    return manifests.hash_json([[part.name, manifests.hash_file(part)] for part in _list_files(path)])


def copy_autoencoder(path: Path, there: Path) -> None:
    """Copies an ONNX file, or the files of a folder that diffusers needs."""
    if path.is_file():
        shutil.copy(path, there)
        return
    there.mkdir(exist_ok=True)
    for part in _list_files(path):
        shutil.copy(part, there / part.name)


def _list_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])


def add_reconstructions(
    workspace: Workspace, config: PseudoFakesConfig, train: Table, sha256: np.ndarray, options: DeviceOptions
) -> tuple[Table, str | None]:
    """Makes the reconstructions that are missing, and adds the paths of all to the table.

    Args:
        workspace: has the folder of reconstructions.
        config: has the autoencoder.
        train: the training images.
        sha256: uint8 [N, 32], hashes of their files.
        options: have the device for a folder of diffusers; an ONNX file runs on the CPU.

    Returns:
        The table, and the hash of the autoencoder; the same table and None if no reconstructions are needed.

    Raises:
        ConfigError: the autoencoder is missing or cannot be used.
        DataError: an image cannot be read.
    """
    if (autoencoder := find_autoencoder(workspace.root, config)) is None:
        return train, None
    assert train.target is not None
    digest = hash_autoencoder(autoencoder)
    folder = workspace.get_reconstructions_folder(digest)
    real = np.flatnonzero(train.target == 0).tolist()
    paths = {row: folder / reconstructions.get_name(sha256[row].tobytes()) for row in real}
    if missing := [row for row in real if not paths[row].is_file()]:
        reconstruct, where = _open(autoencoder, options)
        console.say(
            f"reconstructions: missing in {folder}: {len(missing)} of {format_count(len(real), 'real image')}; {where}"
        )
        with console.bar("reconstructing real images", len(missing), unit="images") as bar:
            for row in missing:
                image = cache.read_pixels(train, row)
                try:
                    reconstructions.write(paths[row], reconstruct_image(reconstruct, image))
                except (RuntimeError, MemoryError) as error:
                    if not machine.is_memory_error(error):
                        raise
                    raise DeviceError(
                        f"there is too little memory to reconstruct {train.path(row)}, which has "
                        f"{image.shape[1]} x {image.shape[0]} pixels",
                        hint="shrink the images, pass --device cpu, or use a smaller autoencoder",
                    ) from None
                bar.advance()
    names = [str(paths[row]) if row in paths else "" for row in range(len(train))]
    return replace(train, reconstruction=np.array(names)), digest


def reconstruct_image(reconstruct: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Encodes and decodes an image: uint8 RGB [H, W, 3] -> the same shape."""
    height, width = image.shape[:2]
    below, right = -height % MULTIPLE, -width % MULTIPLE
    whole = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    made = reconstruct(np.ascontiguousarray(whole.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1))
    pixels = (made[0].transpose(1, 2, 0)[:height, :width] + 1) * 127.5
    return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _open(autoencoder: Path, options: DeviceOptions) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """The autoencoder, and a line that says where it runs."""
    if autoencoder.is_dir():
        from ffdi.models.autoencoder import load_autoencoder
        from ffdi.training.runtime import device as devices

        device = devices.choose_device(options.device, "fp32", None)
        return load_autoencoder(autoencoder, device.torch), f"device: {device.why}"
    from ffdi.inference import onnx_safety, onnxruntime

    try:
        onnx_safety.check_autoencoder(autoencoder)
    except ExperimentError as error:
        raise ConfigError(error.what, hint=HINT) from None
    threads = machine.count_cores()
    where = f"ONNX Runtime on the CPU, {format_count(threads, 'thread')}"
    return onnxruntime.open_autoencoder(autoencoder, threads), where
