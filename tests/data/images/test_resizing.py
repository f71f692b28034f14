"""Any image becomes a network's input, in the same way for training and scoring."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ffdi.data.images import resizing
from ffdi.data.images.resizing import WHOLE_IMAGE, CropBox, ResizePolicy
from ffdi.synthetic import operations

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)


def test_load_reads_decodes_and_resizes(tmp_path: Path) -> None:
    path = tmp_path / "naïve name 图.JPG"
    Image.fromarray(NOISE).save(path, "PNG")
    assert np.array_equal(ResizePolicy(16).load(path), ResizePolicy(16).apply(NOISE))


def test_an_image_of_the_right_size_is_left_alone() -> None:
    square = NOISE[:20, :20]
    assert np.array_equal(ResizePolicy(20).apply(square), square)


def test_shrinking_averages_areas() -> None:
    board = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (32, 32))[..., None].repeat(3, axis=2)
    assert np.abs(ResizePolicy(32).apply(board).astype(int) - 127.5).max() < 1


@pytest.mark.parametrize("shape", [(10, 10), (10, 200), (200, 10)])
def test_growing_in_any_direction_is_cubic(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(ResizePolicy(32).apply(pixels), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (70_000, 3), (33, 31)])
def test_any_aspect_ratio_becomes_a_square(shape: tuple[int, int]) -> None:
    squared = ResizePolicy(32).apply(np.full((*shape, 3), (10, 200, 30), np.uint8))
    assert squared.dtype == np.uint8
    assert squared.shape == (32, 32, 3)
    assert (squared == (10, 200, 30)).all()


@pytest.mark.parametrize(("large", "small"), [(96, 32), (80, 50), (256, 224), (33, 32), (40, 40)])
def test_the_area_matrix_equals_resize(large: int, small: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (large, large, 3), np.uint8)
    area = resizing.make_area_matrix(large, small)
    assert (area.shape, area.dtype) == ((small, large), np.float32)
    assert np.allclose(area.sum(1), 1, atol=1e-6)
    by_matrix = np.einsum("ij,jkc,lk->ilc", area, pixels.astype(np.float64), area, optimize=True)
    assert np.abs(by_matrix - ResizePolicy(small).apply(pixels)).max() <= 0.51


def marked(height: int, width: int) -> np.ndarray:
    """Every pixel tells where it is: red its row, green its column."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(height)[:, None], np.arange(width)
    return pixels


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (61, 33)])
def test_a_crop_is_the_middle_as_it_is(shape: tuple[int, int]) -> None:
    cropped, pixels = ResizePolicy(32, "crop").apply(marked(*shape)), marked(*shape)
    top, left = int(cropped[0, 0, 0]), int(cropped[0, 0, 1])
    assert np.array_equal(cropped, pixels[top : top + 32, left : left + 32])
    assert abs(top - (shape[0] - 32) / 2) <= 0.5
    assert abs(left - (shape[1] - 32) / 2) <= 0.5


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (1, 1), (31, 500)])
def test_a_crop_of_a_small_image_is_enlarged_until_it_fits(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (10, 200, 30), np.uint8)
    cropped = ResizePolicy(32, "crop").apply(pixels)
    assert cropped.shape == (32, 32, 3)
    assert (cropped == (10, 200, 30)).all()


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 2)])
def test_a_strip_is_cut_before_it_is_enlarged(shape: tuple[int, int]) -> None:
    """Enlarged whole it would have gigabytes, in which OpenCV does not count."""
    pixels = np.zeros((*shape, 3), np.uint8)
    middle = tuple(slice(max(0, length // 2 - 2), length // 2 + 2) for length in shape)
    pixels[middle] = 250
    assert (ResizePolicy(512, "crop").apply(pixels)[200:312, 200:312] > 200).all()


@pytest.mark.parametrize(("shape", "black"), [((60, 120), [0, 1]), ((120, 60), [2, 3]), ((64, 64), [])])
def test_a_padded_image_keeps_its_shape(shape: tuple[int, int], black: list[int]) -> None:
    padded = ResizePolicy(32, "pad").apply(np.full((*shape, 3), 200, np.uint8))
    sides = [padded[:8], padded[-8:], padded[:, :8], padded[:, -8:]]
    assert [number for number, side in enumerate(sides) if not side.any()] == black
    assert (padded[12:20, 12:20] == 200).all()


@pytest.mark.parametrize("resize", resizing.RESIZES)
@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (33, 70), (300, 2)])
def test_any_view_of_any_image_has_the_networks_size(resize: str, shape: tuple[int, int]) -> None:
    policy = ResizePolicy(32, resize)
    for box in (WHOLE_IMAGE, CropBox(0.3, 1.5, 0.0, 1.0), CropBox(0.01, 0.2, 1.0, 0.0)):
        view = policy.crop(marked(*shape), box)
        resized = view.finish(view.pixels)
        assert (resized.shape, resized.dtype, resized.flags.c_contiguous) == ((32, 32, 3), np.uint8, True)
        assert view.pixels.size <= max(marked(*shape).size, resized.size)
    assert policy.apply(marked(*shape)).shape == (32, 32, 3)


@pytest.mark.parametrize("resize", resizing.RESIZES)
@pytest.mark.parametrize("shape", [(40, 40), (33, 70), (90, 40), (20, 24), (128, 128)])
def test_a_whole_image_is_resized_alike_for_training_and_scoring(resize: str, shape: tuple[int, int]) -> None:
    policy = ResizePolicy(32, resize)
    view = policy.crop(marked(*shape), WHOLE_IMAGE)
    assert np.abs(view.finish(view.pixels).astype(int) - policy.apply(marked(*shape))).max() <= 2


def test_a_crop_shows_its_part() -> None:
    corner = ResizePolicy(32, "squash").crop(marked(64, 64), CropBox(0.5, 1.0, 1.0, 0.0))
    assert np.array_equal(corner.finish(corner.pixels), marked(64, 64)[:32, 32:])
    assert (corner.scale, corner.corner) == (1, (32, 0))
    moved = ResizePolicy(32, "crop").crop(marked(64, 64), CropBox(1.0, 1.0, 0.0, 1.0))
    assert np.array_equal(moved.finish(moved.pixels), marked(64, 64)[32:, :32])
    assert (moved.scale, moved.corner) == (1, (0, 32))


def test_a_view_has_the_smaller_of_both_scales() -> None:
    assert ResizePolicy(32).crop(marked(64, 64), WHOLE_IMAGE).scale == 0.5
    small = ResizePolicy(32).crop(marked(20, 24), WHOLE_IMAGE)
    assert (small.pixels.shape, small.scale) == ((20, 24, 3), 1)


@pytest.mark.parametrize("resize", resizing.RESIZES)
@pytest.mark.parametrize("box", [WHOLE_IMAGE, CropBox(0.8, 1.0, 0.3, 0.9), CropBox(0.75, 1.1, 0.0, 0.5)])
def test_a_whole_image_can_be_shrunk_around_its_box(resize: str, box: CropBox) -> None:
    """The box of the shrunk image has the network's size already, so that it is not resized twice."""
    image, policy = marked(200, 200), ResizePolicy(32, resize)
    shrunk = policy.shrink_around(image, box)
    view = policy.crop(shrunk, box)
    assert view.scale == pytest.approx(1, abs=0.02)
    if resize == "squash":
        assert view.pixels.shape == (32, 32, 3)
        direct = policy.crop(image, box)
        assert np.abs(view.pixels.astype(int) - direct.pixels).mean() < 12
    assert np.array_equal(policy.shrink_around(marked(20, 24), box), marked(20, 24))


@pytest.mark.parametrize(("small", "large"), [(28, 32), (32, 40), (20, 64)])
def test_the_cubic_matrix_equals_cubic_interpolation(small: int, large: int) -> None:
    pixels = np.random.default_rng(0).integers(60, 196, (small, small, 3), np.uint8)
    matrix = resizing.make_cubic_matrix(small, large)
    by_matrix = np.einsum("ij,jkc,lk->ilc", matrix, pixels.astype(np.float64), matrix, optimize=True)
    expected = cv2.resize(pixels.astype(np.float32), (large, large), interpolation=cv2.INTER_CUBIC)
    assert np.abs(by_matrix - expected).max() < 0.01


def is_shrunk_in_blocks(old: int, new: int) -> bool:
    return old % new == 0 or sum(map(len, operations._list_weights(old, new))) <= operations.MOST_WEIGHTS


@pytest.mark.parametrize("size", [96, 224, 320, 384])
def test_crops_have_lengths_that_are_shrunk_in_less_time(size: int) -> None:
    """OpenCV would shrink them pixel by pixel."""
    policy, shape, shrunk = ResizePolicy(size), (512, 640, 3), 0
    for zoom, ratio, x, y in np.random.default_rng(0).random((200, 4)).tolist():
        box = CropBox(0.75 + 0.25 * zoom, 1.1 ** (2 * ratio - 1), x, y)
        lengths = resizing.measure(policy.locate(shape, box).part)
        wanted = shape[0] * box.zoom / box.ratio**0.5, shape[1] * box.zoom * box.ratio**0.5
        assert np.allclose(lengths, np.minimum(wanted, shape[:2]), rtol=0.05)
        if min(lengths) >= size:
            shrunk += 1
            assert all(is_shrunk_in_blocks(length, size) for length in lengths)
        whole = policy.shrink_around(np.zeros(shape, np.uint8), box).shape
        assert all(is_shrunk_in_blocks(*pair) for pair in zip(shape[:2], whole[:2], strict=True))
    assert shrunk > 100


def test_other_lengths_stay_as_they_are() -> None:
    for size, box, expected in [
        (320, WHOLE_IMAGE, (511, 640)),
        (320, CropBox(0.5), (256, 320)),  # grows
        (250, CropBox(0.8), (409, 512)),  # is no multiple
        (320, CropBox(0.8), (400, 520)),
    ]:
        assert resizing.measure(ResizePolicy(size).locate((511, 640, 3), box).part) == expected
