"""Pictures of a page: images and heat maps as data URLs."""

from __future__ import annotations

import base64

import cv2
import numpy as np

EDGE = 256
"""The largest edge of an image in the page, in pixels."""
THUMBNAIL_EDGE = 56
MAX_EDGE = 1024
"""The largest edge of the input of a view, in pixels."""
QUALITY = 82


def encode_picture(pixels: np.ndarray, edge: int = EDGE) -> str:
    """RGB uint8 [H, W, 3] as the data URL of a WebP, with its longer side reduced to `edge` pixels if it has more."""
    return encode_webp(cv2.cvtColor(shrink(pixels, edge), cv2.COLOR_RGB2BGR))


def encode_overlay(heat: np.ndarray) -> str:
    """A heat map float [h, w] as the data URL of a WebP with the heat as opacity; 1 and more is opaque."""
    strength = np.clip(heat * 255, 0, 255).astype(np.uint8)
    return encode_webp(np.dstack([cv2.applyColorMap(strength, cv2.COLORMAP_HOT), strength]))


def encode_webp(pixels: np.ndarray) -> str:
    """BGR uint8 [H, W, 3], or BGRA, as the data URL of a WebP."""
    encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def shrink(pixels: np.ndarray, edge: int = MAX_EDGE) -> np.ndarray:
    """uint8 [H, W, C] -> the image, with its longer side reduced to `edge` pixels if it has more."""
    scale = edge / max(pixels.shape[:2])
    return pixels if scale >= 1 else cv2.resize(pixels, scale_size(pixels, scale), interpolation=cv2.INTER_AREA)


def scale_size(pixels: np.ndarray, scale: float) -> tuple[int, int]:
    """Scaled width and height, at least 1."""
    height, width = pixels.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def crop_square(pixels: np.ndarray, edge: int) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> the middle square, uint8 [edge, edge, 3]."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(pixels[top : top + side, left : left + side], (edge, edge), interpolation=cv2.INTER_AREA)
