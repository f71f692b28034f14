"""Reconstructions of real images by an autoencoder, made once and kept as PNG, by the hash of the image's file."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from ffdi.core import files
from ffdi.core.errors import DataError
from ffdi.data.images import cache, decode
from ffdi.data.labels.table import Table


def get_name(sha256: bytes) -> str:
    """The path of a reconstruction in its folder, by the hash of the image's file."""
    digest = sha256.hex()
    return f"{digest[:2]}/{digest[2:32]}.png"


def write(path: Path, pixels: np.ndarray) -> None:
    """Writes a reconstruction, uint8 RGB [H, W, 3], atomically."""
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    with files.open_atomic(path) as beside:
        beside.write_bytes(encoded.tobytes())


def read(table: Table, row: int, shape: tuple[int, ...]) -> np.ndarray:
    """The reconstruction of a row's image: uint8 RGB [H, W, 3].

    Raises:
        DataError: it is missing, damaged, or of another shape than the image.
    """
    assert table.reconstruction is not None
    path, hint = Path(table.reconstruction[row]), "make it again: remove this file and run the same command again"
    try:
        pixels = decode.decode(decode.read_bytes(path), str(path))
    except DataError as error:
        raise DataError(error.what, hint=hint) from None
    if pixels.shape != shape:
        raise DataError(
            f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, and its image another size", hint=hint
        )
    return pixels


def encode_like(table: Table, row: int, pixels: np.ndarray) -> np.ndarray:
    """Encodes and decodes an image with the JPEG tables of a row's file: uint8 RGB [H, W, 3] -> the same shape.

    The image stays as it is if the file is no JPEG.
    """
    with Image.open(io.BytesIO(cache.read_file(table, row))) as real:
        if not isinstance(real, JpegImagePlugin.JpegImageFile):
            return pixels
        tables, sampling = real.quantization, JpegImagePlugin.get_sampling(real)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", qtables=tables, subsampling=sampling)
    return decode.decode_rgb(content.getvalue(), str(table.path(row)))
