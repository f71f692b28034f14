"""The image gallery of a report: the selection of images, their heat maps, and views of faces."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from ffdi.evaluation import error_analysis

MAX_IMAGES = 30
"""For each kind."""
PICTURE_EDGE = 256
"""The largest edge of an image in the page, in pixels."""
QUALITY = 82
KINDS = {
    "missed": "missed fakes",
    "alarm": "false alarms",
    "uncertain": "most uncertain",
    "suspect": "label suspects",
}
"""The kinds of images, and their names in the page."""


class Exhibit(NamedTuple):
    """An image of the gallery.

    Attributes:
        fold: that holds the image out.
        target: the label, 1 = fake.
        y_pred: the out-of-fold score.
        kinds: keys of KINDS.
        picture: the image as a data URL.
        heat: the heat map as a data URL, with the evidence as opacity.
        views: data URLs of `VIEWS`, by name.
    """

    img_name: str
    fold: int
    target: int
    y_pred: float
    kinds: list[str]
    picture: str
    heat: str
    views: dict[str, str]

    @property
    def error(self) -> float:
        return abs(self.y_pred - self.target)


def pick_images(target: np.ndarray, y_pred: np.ndarray) -> dict[int, list[str]]:
    """Selects rows for the gallery, with their kinds; of each kind the most confident errors come first.

    Args:
        target: int [N], 1 = fake.
        y_pred: float [N] in [0, 1], out of fold.
    """
    error = np.abs(y_pred - target)
    rows = {
        "missed": _take_first(-error, (error > 0.5) & (target == 1)),
        "alarm": _take_first(-error, (error > 0.5) & (target == 0)),
        "uncertain": _take_first(np.abs(y_pred - 0.5), np.full(len(target), True)),
        "suspect": _take_first(-error, error_analysis.find_label_errors(target, y_pred)),
    }
    picked: dict[int, list[str]] = {}
    for kind in KINDS:
        for row in rows[kind]:
            picked.setdefault(row, []).append(kind)
    return picked


def encode_picture(pixels: np.ndarray) -> str:
    """RGB uint8 [H, W, 3] as the data URL of a WebP, of `PICTURE_EDGE` pixels at most."""
    return _encode_webp(cv2.cvtColor(shrink(pixels, PICTURE_EDGE), cv2.COLOR_RGB2BGR))


def encode_overlay(heat: np.ndarray) -> str:
    """A heat map float [h, w] from 0 to 1 as the data URL of a WebP with the heat as opacity."""
    strength = np.clip(heat * 255, 0, 255).astype(np.uint8)
    return _encode_webp(np.dstack([cv2.applyColorMap(strength, cv2.COLORMAP_HOT), strength]))


def render_views(pixels: np.ndarray) -> dict[str, str]:
    """Data URLs of the `VIEWS` of RGB uint8 [H, W, 3], by name."""
    pixels = shrink(pixels)
    return {name: encode_picture(make_view(pixels)) for name, make_view in VIEWS.items()}


def count_kinds(picked: Mapping[int, list[str]]) -> dict[str, int]:
    return {kind: sum(kind in kinds for kinds in picked.values()) for kind in KINDS}


def _take_first(order: np.ndarray, mask: np.ndarray) -> list[int]:
    """The `MAX_IMAGES` rows with the smallest `order` where `mask` is True."""
    rows = np.flatnonzero(mask)
    return rows[np.argsort(order[rows], kind="stable")[:MAX_IMAGES]].tolist()


def _encode_webp(pixels: np.ndarray) -> str:
    encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"


VIEW_EDGE = 192
"""The edge of a view in pixels; details are enlarged to it without smoothing."""
MAX_EDGE = 1024
"""The largest edge of the input of a view, in pixels."""
EYES = (0.30, 0.58, 0.12, 0.88)
"""Top, bottom, left and right of the eyes, as fractions of a face crop."""
MOUTH = (0.62, 0.88, 0.24, 0.76)
BLUR = 1 / 12
"""The standard deviation of the blur for light and shadow, as a fraction of the edge."""
GAIN = 8
"""The factor of the difference between a pixel and the median of its neighbours."""
FACE = (0.40, 0.54)
"""The half axes of the ellipse of the face, as fractions of width and height."""
MID_GREY = 128


def shrink(pixels: np.ndarray, edge: int = MAX_EDGE) -> np.ndarray:
    """uint8 [H, W, C] -> the image, with its longer side reduced to `edge` pixels if it has more."""
    scale = edge / max(pixels.shape[:2])
    return pixels if scale >= 1 else cv2.resize(pixels, _scale_size(pixels, scale), interpolation=cv2.INTER_AREA)


def crop_eyes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the eyes of a face crop, enlarged."""
    return _enlarge(_take_part(pixels, EYES))


def crop_mouth(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the mouth of a face crop, enlarged."""
    return _enlarge(_take_part(pixels, MOUTH))


def show_light(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> light and shadow: blurred and stretched greys, from violet (dark) to yellow (bright)."""
    pixels = shrink(pixels, VIEW_EDGE)  # the blur grows with the image, and so no details are lost
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


def show_background(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> the image with the face masked."""
    return _enlarge(_fill_face(pixels.copy(), (MID_GREY, MID_GREY, MID_GREY)))


def segment_face(height: int, width: int) -> dict[str, np.ndarray]:
    """Masks bool [height, width] of the parts of a face crop, by name; each pixel is in one mask."""
    face = _fill_face(np.zeros((height, width), np.uint8), (1,)) > 0
    masks: dict[str, np.ndarray] = {}
    for name, box in (("eyes", EYES), ("mouth", MOUTH)):
        masks[name] = np.zeros((height, width), bool)
        _take_part(masks[name], box)[:] = True
    masks["rest of the face"] = face & ~masks["eyes"] & ~masks["mouth"]
    masks["background"] = ~face & ~masks["eyes"] & ~masks["mouth"]
    return masks


def _fill_face(pixels: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Fills the ellipse of the face of a face crop."""
    height, width = pixels.shape[:2]
    axes = (round(width * FACE[0]), round(height * FACE[1]))
    return cv2.ellipse(pixels, (width // 2, height // 2), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def _take_part(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """A view, not a copy, of a box."""
    height, width = pixels.shape[:2]
    top, left = int(box[0] * height), int(box[2] * width)
    return pixels[top : max(round(box[1] * height), top + 1), left : max(round(box[3] * width), left + 1)]


def _enlarge(pixels: np.ndarray) -> np.ndarray:
    """Resizes to `VIEW_EDGE`; a smaller image is enlarged without smoothing."""
    scale = VIEW_EDGE / max(pixels.shape[:2])
    interpolation = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    return cv2.resize(pixels, _scale_size(pixels, scale), interpolation=interpolation)


def _scale_size(pixels: np.ndarray, scale: float) -> tuple[int, int]:
    """Scaled width and height, at least 1."""
    height, width = pixels.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "eyes": crop_eyes,
    "mouth": crop_mouth,
    "light and shadow": show_light,
    "noise of the pixels": show_noise,
    "background": show_background,
}
"""The views of a face that show typical errors of fakes, by their names in the page."""
