"""Resizing on the device gives the images of a loader worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ffdi.data.images import deferred, resizing
from ffdi.data.images.deferred import Axis, Resize
from ffdi.data.images.resizing import WHOLE_IMAGE, CropBox, ResizePolicy
from ffdi.training import resize
from ffdi.training.runtime import device
from tests.training.conftest import Refuse

CPU = device.choose_device("cpu", "fp32", 0)
SIZE = 40
MOST_BY_AREA, MOST_CUBIC = 2, 1
"""Largest differences in grey levels from the result of a worker, which rounds the shrunk rows in between."""
Left = tuple[np.ndarray, Resize]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, half of it smoothed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return noise if seed % 2 else cv2.GaussianBlur(noise, (0, 0), 1.5)


def draw(rng: np.random.Generator, seed: int) -> tuple[Left | None, np.ndarray]:
    """What is left to the device, and the result of a worker, for some image, policy, box and window."""
    image = picture(*rng.integers(1, 110, 2).tolist(), seed)
    policy = ResizePolicy(SIZE, ("squash", "crop")[rng.integers(2)])
    drawn = CropBox(rng.uniform(0.6, 1), rng.uniform(0.8, 1.25), rng.random(), rng.random())
    box = WHOLE_IMAGE if seed % 3 == 0 else drawn
    window = resizing.locate_window(SIZE, 32 if seed % 4 == 0 else SIZE, rng.random(), rng.random())
    view = policy.crop(image, box)
    geometry = policy.locate(image.shape, box)
    return deferred.defer_resize(image, geometry, SIZE, window), view.finish(view.pixels)[window]


def mixed(count: int = 24) -> list[Left]:
    """Images of many sizes, some of which have the right one."""
    shapes = np.random.default_rng(1).integers(20, 80, (count, 2)).tolist()
    shapes[:3] = [[SIZE, SIZE], [SIZE, 70], [12, 130]]
    images = [picture(*shape, seed) for seed, shape in enumerate(shapes)]
    left = [
        deferred.defer_resize(image, ResizePolicy(SIZE).locate(image.shape, WHOLE_IMAGE), SIZE, (slice(0, SIZE),) * 2)
        for image in images
    ]
    found = [one for one in left if one is not None]
    assert len(found) > count // 2
    return found


def packed(left: Sequence[Left]) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in left])
    return torch.from_numpy(pixels), torch.from_numpy(deferred.pack_resizes([one for _, one in left]))


def resized(left: Sequence[Left]) -> np.ndarray:
    return resize.resize_images(*packed(left), CPU).numpy()


def test_any_image_gets_the_pixels_of_a_worker() -> None:
    rng, worst, counts = np.random.default_rng(0), {True: 0, False: 0}, {True: 0, False: 0}
    for seed in range(600):
        left, expected = draw(rng, seed)
        if left is None:
            continue
        difference = np.abs(resized([left])[0].astype(int) - expected)
        cubic = left[1].rows.cubic
        worst[cubic], counts[cubic] = max(worst[cubic], int(difference.max())), counts[cubic] + 1
        assert difference.mean() < 0.3
    assert worst[False] <= MOST_BY_AREA
    assert worst[True] <= MOST_CUBIC
    assert min(counts.values()) > 50


def test_shrinking_by_area_is_exact_up_to_rounding() -> None:
    image = picture(63, 57, 1)
    left = deferred.defer_resize(
        image, ResizePolicy(SIZE).locate(image.shape, WHOLE_IMAGE), SIZE, (slice(0, SIZE),) * 2
    )
    assert left is not None
    rows, columns = (resizing.make_area_matrix(length, SIZE).astype(float) for length in (63, 57))
    expected = np.einsum("ij,jkc,lk->ilc", rows, image.astype(float), columns)
    assert np.abs(resized([left])[0] - expected).max() <= 0.5 + 1e-4


def test_an_image_does_not_depend_on_its_batch() -> None:
    """Bit by bit, with another number of images, and other neighbours of other sizes."""
    left = mixed()
    whole = resized(left)
    for count in (1, 5):
        parts = [resized(left[at : at + count]) for at in range(0, len(left), count)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(resized(left[::-1])[::-1], whole)


def test_a_large_batch_is_resized_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    left = mixed()
    whole, sizes = resized(left), []
    run = resize._resize
    monkeypatch.setattr(resize, "_resize", lambda *given: (sizes.append(len(given[1])), run(*given))[1])
    monkeypatch.setattr(resize, "PIXELS", 100 * SIZE)
    assert np.array_equal(resized(left), whole)
    assert sum(sizes) == len(left)
    assert 1 < max(sizes) < 8
    sizes.clear()
    monkeypatch.setattr(resize, "PIXELS", 1)
    assert np.array_equal(resized(left), whole)
    assert sizes == [1] * len(left)


def test_flat_colours_stay_flat() -> None:
    for level in (0, 1, 128, 254, 255):
        left = [(np.full_like(image, level), one) for image, one in mixed()]
        assert (resized(left) == level).all()


def test_images_of_the_right_size_stay_as_they_are() -> None:
    images = [picture(SIZE, SIZE, seed) for seed in range(3)]
    left = [deferred.keep_size(image) for image in images]
    pixels, resizes = packed(left)
    shown = resize.resize_images(pixels, resizes, CPU)
    assert shown.data_ptr() == pixels.data_ptr()
    assert np.array_equal(shown.numpy(), np.stack(images))
    among_others = resized([*left, mixed()[5]])
    assert np.array_equal(among_others[:3], np.stack(images))


def test_a_batch_without_resizes_stays_as_it_is() -> None:
    images = torch.zeros((2, 8, 8, 3), dtype=torch.uint8)
    assert resize.resize_images(images, None, CPU) is images


def test_nothing_is_computed_in_less_than_fp32() -> None:
    left = mixed()
    with torch.autocast("cpu", torch.bfloat16):
        shown = resized(left)
    assert np.array_equal(shown, resized(left))


@pytest.mark.usefixtures("deterministic")
def test_the_host_never_waits_for_the_device() -> None:
    pixels, resizes = packed(mixed())
    with Refuse():
        shown = resize.resize_images(pixels, resizes, CPU)
    assert shown.shape[1:] == (SIZE, SIZE, 3)
    with pytest.raises(AssertionError), Refuse():
        pixels.nonzero()


def test_the_layout_is_that_of_the_device() -> None:
    """Some operations of MPS are wrong in channels_last."""
    batch = packed(mixed())
    mps = replace(CPU, name="mps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device.Device, "send", lambda _self, tensor: tensor)
        shown = resize.resize_images(*batch, mps)
    assert shown.permute(0, 3, 1, 2).is_contiguous()
    assert torch.equal(shown, resize.resize_images(*batch, CPU))


def test_a_probe_shrinks_and_enlarges() -> None:
    pixels, resizes = resize.make_probe(32)
    assert resizes[:, 0, 6].tolist() == [0, 1]
    assert resize.resize_images(pixels, resizes, CPU).shape == (2, 32, 32, 3)


def test_long_edges_do_not_overflow() -> None:
    """A crop of an image of 100,000 pixels in a row."""
    axis = Axis(50, 60_000, 100_000, 80_000, 48_001, 32, cubic=False)
    pixels = picture(50, 50, 1)
    shown = resized([(pixels, Resize(axis, axis))])[0]
    edges, old = np.arange(48_001, 48_034) * 1.25, np.arange(60_000, 60_050)
    covered = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    matrix = covered.clip(0) / 1.25
    assert np.abs(shown - np.einsum("ij,jkc,lk->ilc", matrix, pixels.astype(float), matrix)).max() < 0.6


@pytest.mark.gpu
def test_a_gpu_does_the_same_and_is_never_waited_for() -> None:
    gpu = device.choose_device("cuda:0", None, 0)
    gpu.select()
    pixels, resizes = packed(mixed())
    there = gpu.send(pixels)
    with gpu.deterministic():
        resize.resize_images(there, resizes, gpu)  # the first call may load kernels
        gpu.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            shown = resize.resize_images(there, resizes, gpu)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        first = int(resizes[0, :, 0].prod())
        alone = resize.resize_images(there[:first], resizes[:1], gpu)
    assert (shown.cpu().int() - resize.resize_images(pixels, resizes, CPU).int()).abs().max() <= 1
    assert torch.equal(alone, shown[:1])
