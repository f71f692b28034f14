"""The augmentation on the device does what that of a loader worker does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ffdi.data.loading.augment import RECIPES, Augmentation
from ffdi.synthetic import operations
from ffdi.synthetic.operations import Step
from ffdi.training import augment
from ffdi.training.runtime import device
from tests.training.conftest import Refuse

CPU = device.choose_device("cpu", "fp32", 0)
NOISE_END = operations.NOISE_VALUES - 5
COLOURS = [
    Step("colours", tuple(operations.make_colour_matrix(**changes).ravel().tolist()))
    for changes in ({"brightness": 30, "contrast": 1.2}, {"saturation": 0}, {"hue": 10, "gain": 0.93, "brightness": -9})
]
EXAMPLES: dict[str, list[Step]] = {
    "mirror": [Step("mirror", (across, down)) for across in (0, 1) for down in (0, 1)],
    "move": [Step("move", numbers) for numbers in ((12, 0.05, -0.05), (-7.3, 0.01, 0.04), (0, 0.1, 0), (0.4, 0, 0))],
    "colours": COLOURS,
    "gamma": [Step("gamma", (exponent,)) for exponent in (0.7, 1, 1.4)],
    "posterize": [Step("posterize", (bits,)) for bits in (5, 6, 7)],
    "contrast": [Step("contrast", ())],
    "equalize": [Step("equalize", (limit,)) for limit in (1, 1.3, 2, 4)],
    "resample": [
        Step("resample", (scale, down, up)) for scale in (0.4, 0.5, 0.77, 0.95) for down in range(4) for up in (1, 2)
    ],
    "blur": [Step("blur", (deviation,)) for deviation in (0.1, 0.3, 1, 1.8, 3)],
    "motion": [Step("motion", numbers) for numbers in ((1, 0), (3, 45), (5, 100), (2.6, 170))],
    "sharpen": [Step("sharpen", (strength,)) for strength in (0.03, 0.1, 0.4)],
    "noise": [Step("noise", numbers) for numbers in ((12, 3, 77), (-7, 1, NOISE_END), (1, 3, 0), (-3.3, 3, NOISE_END))],
    "compress": [
        Step("compress", (quality, left, top))
        for quality, left, top in ((1, 0, 0), (30, 3, 15), (49.6, 8, 0), (75, 0, 7), (95, 15, 1), (100, 5, 5))
    ],
    "erase": [
        Step("erase", (0.1, 0.2, 0.4, 0.5)),
        Step("erase", (0.31, 0, 0.5, 0.22, 0, 0.7, 0.3, 1, 0.5, 0.5, 0.7, 0.7)),
    ],
}
MOST = {"move": 6, **dict.fromkeys(("mirror", "gamma", "posterize", "erase"), 0)}
"""Largest differences in grey levels, 2 for all others. Older versions of OpenCV move in steps of 1 / 32 of a pixel."""


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with edges, texture and noise."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(
        rng.uniform(10, 245, (9, 9, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    texture = cv2.GaussianBlur(rng.normal(0, 40, smooth.shape).astype(np.float32), (0, 0), 1.5)
    image = np.clip(smooth + 3 * texture + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    for _ in range(6):
        x, y, radius, *colour = rng.integers(0, [width, height, 30, 256, 256, 256]).tolist()
        cv2.circle(image, (x, y), radius, colour, -1)
    return image


def changed(images: np.ndarray, steps: Sequence[Sequence[Step]]) -> np.ndarray:
    packed = torch.from_numpy(operations.pack_steps(steps))
    return augment.apply_steps(torch.from_numpy(images), packed, CPU).numpy()


def expected(images: np.ndarray, steps: Sequence[Sequence[Step]]) -> np.ndarray:
    return np.stack([operations.apply_steps(image, some) for image, some in zip(images, steps, strict=True)])


def drawn(recipe: str, count: int, scale: float = 0.6) -> list[list[Step]]:
    draws = Augmentation(recipe)
    return [operations.place_steps(draws.draw_steps((3, 1, 0, row)), scale, (row, 3 * row)) for row in range(count)]


def test_every_operation_runs_on_the_device_and_has_examples() -> None:
    assert set(augment.OPERATIONS) == set(operations.OPERATIONS) == set(EXAMPLES)


@pytest.mark.parametrize("shape", [(32, 32), (90, 131), (160, 160)])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_operation_does_what_it_does_in_a_loader_worker(name: str, shape: tuple[int, int]) -> None:
    steps = [[step] for step in EXAMPLES[name]]
    images = np.stack([picture(*shape, seed) for seed in range(len(steps))])
    difference = np.abs(changed(images, steps).astype(int) - expected(images, steps))
    assert difference.max() <= MOST.get(name, 2)
    assert difference.mean() < 0.25


def test_flat_colours_stay_flat() -> None:
    """No operation makes an image darker by the roundings of its weights."""
    images = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 1, 128, 254, 255)])
    for name in ("move", "contrast", "resample", "blur", "motion", "sharpen"):
        for step in EXAMPLES[name]:
            assert np.array_equal(changed(images, [[step]] * 5), images), step


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_the_same_images_within_a_grey_level(recipe: str) -> None:
    steps = drawn(recipe, 48)
    images = np.stack([picture(96, 96, seed) for seed in range(48)])
    difference = np.abs(changed(images, steps).astype(int) - expected(images, steps))
    assert difference.mean() < 0.5


def test_an_image_does_not_depend_on_its_batch() -> None:
    """Bit by bit, with another number of images, other neighbours, and in parts where memory is short."""
    steps = drawn("strong", 32)
    images = np.stack([picture(64, 64, seed) for seed in range(32)])
    whole = changed(images, steps)
    for size in (1, 7):
        parts = [changed(images[at : at + size], steps[at : at + size]) for at in range(0, 32, size)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(changed(images[::-1].copy(), steps[::-1])[::-1], whole)


def test_a_large_batch_is_changed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = drawn("strong", 32)
    images = np.stack([picture(64, 64, seed) for seed in range(32)])
    whole, sizes = changed(images, steps), []
    compress = augment.OPERATIONS["compress"]
    counting = compress._replace(
        apply=lambda pixels, *rest: (sizes.append(len(pixels)), compress.apply(pixels, *rest))[1]
    )
    monkeypatch.setitem(augment.OPERATIONS, "compress", counting)
    monkeypatch.setattr(augment, "PIXELS", 5 * 64 * 64)
    assert np.array_equal(changed(images, steps), whole)
    assert sizes[:-1] == [5] * (len(sizes) - 1)
    assert len(sizes) > 2


def test_steps_follow_each_other_in_the_order_of_their_image() -> None:
    one, other = Step("compress", (30, 0, 0)), Step("blur", (1.5,))
    images = np.stack([picture(64, 64)] * 3)
    steps = [[one, other], [other, one], [COLOURS[0], other, COLOURS[1], one, COLOURS[2]]]
    result = changed(images, steps)
    assert np.abs(result.astype(int) - expected(images, steps)).mean() < 0.5
    assert np.abs(result[0].astype(int) - result[1]).mean() > 1


@pytest.mark.parametrize(("recipe", "most"), [("postprocess", 9), ("strong", 18)])
def test_a_batch_is_changed_in_few_groups(recipe: str, most: int) -> None:
    """Each takes the time of a few kernels, however small it is."""
    steps = drawn(recipe, 128)
    groups = augment.group_steps(operations.pack_steps(steps))
    assert len(groups) <= most
    order: list[list[Step]] = [[] for _ in steps]
    for group in groups:
        for image, numbers in zip(group.images.tolist(), group.numbers.tolist(), strict=True):
            known = steps[image][len(order[image])].numbers
            order[image].append(Step(group.name, tuple(numbers[: len(known)])))
    assert order == steps


def test_images_without_steps_and_the_argument_stay() -> None:
    images = np.stack([picture(48, 48, seed) for seed in range(3)])
    before = images.copy()
    result = changed(images, [[], [Step("mirror", (1, 0))], []])
    assert np.array_equal(images, before)
    assert np.array_equal(result[[0, 2]], before[[0, 2]])
    assert np.array_equal(result[1], before[1, :, ::-1])
    assert np.array_equal(changed(images, [[], [], []]), before)


def test_a_blur_may_reach_farther_than_the_image() -> None:
    images = picture(32, 32)[None]
    assert (
        np.abs(changed(images, [[Step("blur", (14.0,))]]).astype(int) - images.mean((1, 2), keepdims=True)).max() < 40
    )


def test_the_layout_in_memory_stays() -> None:
    """Some operations of MPS are wrong in channels_last."""
    images = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(4)]))
    packed = torch.from_numpy(operations.pack_steps(drawn("strong", 4)))
    planar = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    result = augment.apply_steps(planar, packed, CPU)
    assert result.stride() == planar.stride()
    assert torch.equal(result, augment.apply_steps(images, packed, CPU))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_host_never_waits_for_the_device(name: str) -> None:
    images = torch.from_numpy(np.stack([picture(64, 64)] * len(EXAMPLES[name])))
    packed = torch.from_numpy(operations.pack_steps([[step] for step in EXAMPLES[name]]))
    with Refuse():
        augment.apply_steps(images, packed, CPU)
    with pytest.raises(AssertionError, match="nonzero"), Refuse():
        images.nonzero()


def test_all_that_the_host_makes_is_sent_at_once_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy from other memory would wait for the device."""
    pinned: list[torch.Tensor] = []
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(device.Device, "pin", lambda _self, tensor: (pinned.append(tensor.clone()), pinned[-1])[1])
    monkeypatch.setattr(device.Device, "send", lambda _self, tensor: (sent.append(tensor), tensor)[1])
    changed(np.stack([picture(64, 64, seed) for seed in range(16)]), drawn("strong", 16))
    assert len(sent) == 1
    assert sent[0] is pinned[0]


def test_a_gpu_copies_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    assert replace(CPU, name="cuda:0").pin(torch.zeros(1)).item() == 1
    assert CPU.pin(torch.zeros(1)).item() == 0


def test_nothing_is_computed_in_less_than_fp32() -> None:
    images = np.stack([picture(64, 64, seed) for seed in range(8)])
    steps = drawn("strong", 8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = changed(images, steps)
    assert np.array_equal(mixed, changed(images, steps))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_probe_has_every_operation_of_a_recipe(recipe: str) -> None:
    names = {step.name for row in range(400) for step in Augmentation(recipe).draw_steps((7, 0, 0, row))}
    probe = augment.draw_probe(recipe)
    assert {augment.NAMES[int(place)] for place in probe[:, 1].tolist()} == names
    images = torch.zeros((2, 32, 32, 3), dtype=torch.uint8)
    assert augment.apply_steps(images, probe, CPU).shape == images.shape


def test_a_step_with_too_many_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="could not broadcast"):
        operations.pack_steps([[Step("erase", (0.0,) * 16)]])


@pytest.mark.gpu
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_gpu_does_the_same_and_is_never_waited_for(name: str) -> None:
    gpu = device.choose_device("cuda:0", None, 0)
    gpu.select()
    images = torch.from_numpy(np.stack([picture(160, 160, seed) for seed in range(len(EXAMPLES[name]))]))
    packed = torch.from_numpy(operations.pack_steps([[step] for step in EXAMPLES[name]]))
    there = gpu.send(images)
    with gpu.deterministic():
        augment.apply_steps(there, packed, gpu)  # the first call may load kernels, and sends the table of noise
        gpu.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            result = augment.apply_steps(there, packed, gpu)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        alone = augment.apply_steps(there[:1], packed[:1], gpu)
    difference = result.cpu().int() - augment.apply_steps(images, packed, CPU).int()
    assert difference.abs().max() <= 1
    assert torch.equal(alone, result[:1])
