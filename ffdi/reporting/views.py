"""Views of a face that show typical errors of fakes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from ffdi.reporting import pictures
from ffdi.reporting.face_parts import FaceParts
from ffdi.reporting.pictures import shrink

EDGE = 192
"""The edge of a view in pixels; details are enlarged to it without smoothing."""
BLUR = 1 / 12
"""The standard deviation of the blur for light and shadow, as a fraction of the edge."""
GAIN = 8
"""The factor of the difference between a pixel and the median of its neighbours."""
MID_GREY = 128

View = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] -> uint8 [h, w, 3], the larger edge of `EDGE` pixels."""


def list_views(parts: FaceParts | None) -> dict[str, View]:
    """The views by their names in the page: of the parts of a face if they are known, else of the image's halves."""
    everywhere: dict[str, View] = {"light and shadow": show_light, "noise of the pixels": show_noise}
    if parts is None:
        halves: dict[str, View] = {"upper half": show_upper_half, "lower half": show_lower_half}
        return {**halves, **everywhere}
    return {
        "eyes": partial(show_box, box=parts.eyes),
        "mouth": partial(show_box, box=parts.mouth),
        **everywhere,
        "background": partial(show_background, parts=parts),
    }


def render_views(pixels: np.ndarray, parts: FaceParts | None) -> dict[str, str]:
    """Data URLs of the views of RGB uint8 [H, W, 3], by name."""
    pixels = shrink(pixels)
    return {name: pictures.encode_picture(show(pixels)) for name, show in list_views(parts).items()}


def show_box(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """uint8 [H, W, 3] -> a part, enlarged; top, bottom, left and right in parts of height and width."""
    height, width = pixels.shape[:2]
    top, left = min(int(box[0] * height), height - 1), min(int(box[2] * width), width - 1)
    part = pixels[top : max(round(box[1] * height), top + 1), left : max(round(box[3] * width), left + 1)]
    return _enlarge(part)


def show_upper_half(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> its upper half, enlarged."""
    return show_box(pixels, (0, 0.5, 0, 1))


def show_lower_half(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> its lower half, enlarged."""
    return show_box(pixels, (0.5, 1, 0, 1))


def show_light(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> light and shadow: blurred and stretched greys, from violet (dark) to yellow (bright)."""
    pixels = shrink(pixels, EDGE)  # the blur grows with the image, and so no details are lost
    greys = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred = cv2.GaussianBlur(greys, (0, 0), max(greys.shape) * BLUR)
    stretched = cv2.normalize(blurred, np.empty_like(blurred), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return _enlarge(cv2.cvtColor(cv2.applyColorMap(stretched, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB))


def show_noise(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the difference of each pixel to the median of its neighbours, times eight, around mid grey.

    This is the noise of a camera, a generator or a blend (Fridrich and Kodovsky, IEEE TIFS 2012, start from such
    residuals); a change of the noise can show an inserted part.
    """
    residual = pixels.astype(np.int16) - cv2.medianBlur(pixels, 3)
    return _enlarge(np.clip(residual * GAIN + MID_GREY, 0, 255).astype(np.uint8))


def show_background(pixels: np.ndarray, parts: FaceParts) -> np.ndarray:
    """uint8 [H, W, 3] -> the image with the face masked."""
    shown = pixels.copy()
    shown[parts.mask_face(*pixels.shape[:2])] = MID_GREY
    return _enlarge(shown)


def _enlarge(pixels: np.ndarray) -> np.ndarray:
    """Resizes to `EDGE`; a smaller image is enlarged without smoothing."""
    scale = EDGE / max(pixels.shape[:2])
    interpolation = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    return cv2.resize(pixels, pictures.scale_size(pixels, scale), interpolation=interpolation)
