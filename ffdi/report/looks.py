"""What the field looks at in a face: eyes and mouth, light and shadow, the noise of its pixels, what is behind it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

EDGE = 192
"""Pixels of the longer side of what is shown; details are enlarged to it without smoothing."""
LARGEST = 1024
"""Pixels of the longer side beyond which an image is shrunk before it is looked at."""
EYES = (0.30, 0.58, 0.12, 0.88)
"""Top, bottom, left, right in parts of a face crop: where faces that fill it have their eyes."""
MOUTH = (0.62, 0.88, 0.24, 0.76)
BROAD = 1 / 12
"""Deviation of the blur that leaves light and shadow of the greys, in parts of the edge."""
GAIN = 8
"""By which a pixel's distance from its neighbours' median is multiplied, around mid grey."""
FACE = (0.40, 0.54)
"""Half axes of the ellipse that has the face, in parts of width and height."""
MID = 128


def reduced(pixels: np.ndarray, edge: int = LARGEST) -> np.ndarray:
    """uint8 [H, W, C] -> the same image, shrunk by area where its longer side has more than `edge` pixels."""
    scale = edge / max(pixels.shape[:2])
    return pixels if scale >= 1 else cv2.resize(pixels, _scaled(pixels, scale), interpolation=cv2.INTER_AREA)


def eyes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the part where a face crop has its eyes, enlarged."""
    return _enlarged(_part(pixels, EYES))


def mouth(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the part where a face crop has its mouth, enlarged."""
    return _enlarged(_part(pixels, MOUTH))


def light(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> where light falls: its greys blurred and stretched, from violet (dark) to yellow (bright)."""
    pixels = reduced(pixels, EDGE)  # the blur takes more pixels the larger the image is, and leaves as little of it
    greys = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    broad = cv2.GaussianBlur(greys, (0, 0), max(greys.shape) * BROAD)
    stretched = cv2.normalize(broad, np.empty_like(broad), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return _enlarged(cv2.cvtColor(cv2.applyColorMap(stretched, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB))


def noise(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> each pixel less the median of its neighbours, times eight, around mid grey.

    The noise that a camera, a generator or a blend leaves (Fridrich and Kodovsky, IEEE TIFS 2012, begin from such
    residuals); where it changes, pixels came from elsewhere.
    """
    rest = pixels.astype(np.int16) - cv2.medianBlur(pixels, 3)
    return _enlarged(np.clip(rest * GAIN + MID, 0, 255).astype(np.uint8))


def ground(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the image without the middle, where the face is."""
    return _enlarged(_face(pixels.copy(), (MID, MID, MID)))


def parts(height: int, width: int) -> dict[str, np.ndarray]:
    """Where a face crop has what, bool [height, width] by name; together they are the whole image, once."""
    face = _face(np.zeros((height, width), np.uint8), (1,)) > 0
    found: dict[str, np.ndarray] = {}
    for name, box in (("eyes", EYES), ("mouth", MOUTH)):
        found[name] = np.zeros((height, width), bool)
        _part(found[name], box)[:] = True
    found["rest of the face"] = face & ~found["eyes"] & ~found["mouth"]
    found["background"] = ~face & ~found["eyes"] & ~found["mouth"]
    return found


def _face(pixels: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Fills the ellipse in which a face crop has its face."""
    height, width = pixels.shape[:2]
    axes = (round(width * FACE[0]), round(height * FACE[1]))
    return cv2.ellipse(pixels, (width // 2, height // 2), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def _part(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """A view on a part."""
    height, width = pixels.shape[:2]
    top, left = int(box[0] * height), int(box[2] * width)
    return pixels[top : max(round(box[1] * height), top + 1), left : max(round(box[3] * width), left + 1)]


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """Brought to `EDGE`, pixels as squares where it has fewer."""
    scale = EDGE / max(pixels.shape[:2])
    how = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    return cv2.resize(pixels, _scaled(pixels, scale), interpolation=how)


def _scaled(pixels: np.ndarray, scale: float) -> tuple[int, int]:
    """Width and height, a pixel at least."""
    height, width = pixels.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


LOOKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "eyes": eyes,
    "mouth": mouth,
    "light and shadow": light,
    "noise of the pixels": noise,
    "background": ground,
}
"""By the name under which a page shows it."""
