from __future__ import annotations

import io
import itertools
import math

import albumentations as A
import cv2
import numpy as np
import pytest
from PIL import Image

from ffdi.synthetic import operations
from ffdi.synthetic.operations import LUMA, Step

EXAMPLES = [
    Step("mirror", (1, 0)),
    Step("move", (7, 0.03, -0.02)),
    Step("colours", tuple(operations.make_colour_matrix(brightness=9, contrast=1.1, hue=8).ravel().tolist())),
    Step("gamma", (1.3,)),
    Step("posterize", (5,)),
    Step("contrast", ()),
    Step("equalize", (1.7,)),
    Step("resample", (0.6, 3, 2)),
    Step("blur", (1.2,)),
    Step("motion", (5, 30)),
    Step("sharpen", (0.3,)),
    Step("noise", (6, 3, 77)),
    Step("compress", (60, 0, 0)),
    Step("erase", (0.1, 0.2, 0.4, 0.5)),
]


def picture(height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (5, 5, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int))


def test_every_operation_has_an_example() -> None:
    assert {step.name for step in EXAMPLES} == set(operations.OPERATIONS)


@pytest.mark.parametrize("step", EXAMPLES, ids=lambda step: step.name)
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 70), (33, 32), (64, 64)])
def test_shape_and_argument_stay(step: Step, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    changed = operations.apply_steps(image, [step])
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, picture(*shape))
    if shape == (64, 64):
        assert not np.array_equal(changed, image)


def test_steps_follow_each_other() -> None:
    expected = operations.compress(operations.mirror(picture(), 1, 0), 40, 0, 0)
    assert np.array_equal(
        operations.apply_steps(picture(), [Step("mirror", (1, 0)), Step("compress", (40, 0, 0))]), expected
    )


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_a_line_stays_as_it_is(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    assert np.array_equal(operations.apply_steps(image, EXAMPLES), image)


# --- colours -------------------------------------------------------------------------------------------------------


def test_brightness_and_contrast_are_those_of_albumentations() -> None:
    expected = A.RandomBrightnessContrast((0.1, 0.1), (0.2, 0.2), p=1)(image=picture())["image"]
    matrix = operations.make_colour_matrix(brightness=25.5, contrast=1.2)
    assert difference(operations.transform_colours(picture(), *matrix.ravel()), expected).max() <= 1


def test_grey_has_the_brightness_of_the_colours() -> None:
    grey = operations.transform_colours(picture(), *operations.make_colour_matrix(saturation=0).ravel())
    expected = cv2.cvtColor(picture(), cv2.COLOR_RGB2GRAY)
    assert difference(grey, expected[..., None]).max() <= 1


def test_the_hue_turns_by_the_angle_and_grey_stays_grey() -> None:
    matrix = operations.make_colour_matrix(hue=120)
    assert matrix[:, :3] @ [1, 0, 0] == pytest.approx([0, 1, 0])  # red becomes green
    assert operations.make_colour_matrix(hue=37)[:, :3] @ [1, 1, 1] == pytest.approx([1, 1, 1])
    small = picture()
    hue = [
        cv2.cvtColor(one, cv2.COLOR_RGB2HSV_FULL)[..., 0].astype(int)
        for one in (small, operations.transform_colours(small, *operations.make_colour_matrix(hue=10).ravel()))
    ]
    turned = (hue[1] - hue[0] + 128) % 256 - 128
    assert np.median(turned) == pytest.approx(10 / 360 * 256, abs=2)


def test_more_saturation_moves_colours_away_from_grey() -> None:
    vivid = operations.transform_colours(picture(), *operations.make_colour_matrix(saturation=1.15).ravel())

    def distance(image: np.ndarray) -> float:
        return float(np.abs(image - (image @ np.array(LUMA))[..., None]).mean())

    assert distance(vivid) == pytest.approx(1.15 * distance(picture()), rel=0.03)


def test_two_changes_of_colour_in_one() -> None:
    first = operations.make_colour_matrix(brightness=4, contrast=1.05).ravel()
    then = operations.make_colour_matrix(hue=9, saturation=0.9).ravel()
    both = operations.transform_colours(picture(), *operations.chain_colours(first, then))
    one_by_one = operations.transform_colours(operations.transform_colours(picture(), *first), *then)
    assert difference(both, one_by_one).max() <= 1


def test_contrast_reaches_black_and_white_in_each_channel() -> None:
    stretched = operations.stretch_contrast(picture() // 2 + 20)
    assert (stretched.min((0, 1)).tolist(), stretched.max((0, 1)).tolist()) == ([0] * 3, [255] * 3)
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert np.array_equal(operations.stretch_contrast(flat), flat)


def test_tone_curves() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(operations.posterize(ramp, 5), ramp // 8 * 8)
    assert operations.change_gamma(ramp, 2)[8, 0, 0] == round(255 * (128 / 255) ** 2)
    equalized = operations.equalize(picture() // 4 + 100, 2)
    assert equalized.std() > 1.1 * (picture() // 4).std()
    red_share = equalized[..., 0].mean() - equalized[..., 2].mean()
    assert red_share == pytest.approx((picture() // 4)[..., 0].mean() - (picture() // 4)[..., 2].mean(), abs=4)


# --- geometry and filters ------------------------------------------------------------------------------------------


def test_mirror_and_move() -> None:
    image = picture(40, 60)
    assert np.array_equal(operations.mirror(image, 1, 0), image[:, ::-1])
    assert np.array_equal(operations.mirror(image, 0, 1), image[::-1])
    assert np.array_equal(operations.mirror(image, 1, 1), image[::-1, ::-1])
    shifted = operations.move(image, 0, 0.1, 0)
    assert difference(shifted[:, 6:], image[:, :-6]).max() == 0
    turned = operations.move(image[:, :40], 90, 0, 0)
    assert np.median(difference(turned, np.rot90(image[:, :40]))) == 0


@pytest.mark.parametrize("deviation", [0.4, 1.0, 1.8])
def test_the_blur_is_gaussian(deviation: float) -> None:
    assert difference(operations.blur(picture(), deviation), cv2.GaussianBlur(picture(), (0, 0), deviation)).max() <= 3
    kernel = operations.make_blur_kernel(deviation)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[len(kernel) // 2] / kernel[len(kernel) // 2 + 1] == pytest.approx(math.exp(0.5 / deviation**2))


@pytest.mark.parametrize(("length", "degrees"), [(3, 0), (5, 0), (5, 90), (4.2, 33)])
def test_motion_blurs_along_its_line_only(length: float, degrees: float) -> None:
    kernel = operations.make_motion_kernel(length, degrees).astype(float)
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    angle = math.radians(degrees)
    along = (kernel * (x * math.cos(angle) + y * math.sin(angle)) ** 2).sum()
    across = (kernel * (x * math.sin(angle) - y * math.cos(angle)) ** 2).sum()
    assert along == pytest.approx((length - 1) ** 2 / 12, abs=0.35)
    assert across < 0.25
    assert operations.make_motion_kernel(1, degrees).max() == 1


def test_sharpening_is_that_of_albumentations() -> None:
    expected = A.Sharpen((0.3, 0.3), (1, 1), p=1)(image=picture())["image"]
    assert difference(operations.sharpen(picture(), 0.3), expected).max() <= 1


def test_erased_rectangles_are_black_and_the_rest_stays() -> None:
    erased = operations.erase(picture(), 0.25, 0.5, 0.5, 0.75, 0, 0, 0.125, 0.125)
    inside = np.zeros((64, 64), bool)
    inside[32:48, 16:32] = inside[:8, :8] = True
    assert not erased[inside].any()
    assert np.array_equal(erased[~inside], picture()[~inside])


# --- noise and compression -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_has_its_deviation_and_depends_on_the_offset(channels: int) -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    noise = operations.add_noise(flat, 6, channels, 5).astype(float) - 128
    assert noise.std() == pytest.approx(6, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert (noise == noise[..., :1]).all() == (channels == 1)
    assert np.array_equal(operations.add_noise(flat, -6, channels, 5).astype(float) - 128, -noise)
    other = operations.add_noise(flat, 6, channels, 6).astype(float) - 128
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_for_an_image_larger_than_the_table() -> None:
    count = operations.NOISE_VALUES + 10
    noise = operations.take_noise(7, count)
    assert len(noise) == count
    assert np.array_equal(noise[-10:], noise[:10])
    assert np.array_equal(operations.take_noise(operations.NOISE_VALUES - 1, 2), operations.make_noise()[[-1, 0]])


def test_compression_halves_the_size_of_chroma_only() -> None:
    """albumentations takes red for blue, and so keeps the wrong brightness."""
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "JPEG", quality=40, subsampling="4:2:0")
    expected = np.asarray(Image.open(file))
    assert difference(operations.compress(picture(), 40, 0, 0), expected).max() <= 2


def test_the_blocks_of_a_part_are_those_of_the_whole() -> None:
    whole = operations.compress(picture(), 30, 0, 0)
    part = operations.compress(np.ascontiguousarray(picture()[5:, 3:]), 30, 3, 5)
    inside = np.s_[16:, 16:]
    expected = whole[5:, 3:][inside]
    assert np.median(difference(part[inside], expected)) == 0
    shifted = operations.compress(np.ascontiguousarray(picture()[5:, 3:]), 30, 0, 0)
    assert difference(part[inside], expected).mean() < 0.2 * difference(shifted[inside], expected).mean()


# --- shrinking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((512, 512), (320, 320)),
        ((256, 256), (224, 224)),
        ((48, 96), (30, 32)),
        ((500, 400), (320, 320)),
        ((1024, 640), (320, 320)),
        ((299, 299), (224, 224)),
        ((96, 64), (32, 32)),
        ((33, 33), (33, 33)),
        ((70, 40), (35, 40)),
    ],
)
def test_steps_shrink_as_opencv_does(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    shrunk = operations.shrink_in_steps(image, *size)
    expected = operations.shrink(image, *size)
    assert (shrunk.shape, shrunk.dtype) == ((*size, 3), np.uint8)
    assert difference(shrunk, expected).max() <= 2
    assert (shrunk.astype(int) - expected).mean() == pytest.approx(0, abs=0.03)  # neither darker nor lighter


def test_any_part_of_an_array_can_be_shrunk() -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    part = image[3:67, 5:69]
    assert np.array_equal(
        operations.shrink_in_steps(part, 40, 40), operations.shrink_in_steps(np.ascontiguousarray(part), 40, 40)
    )


def place(step: Step, scale: float) -> Step:
    return operations.place_steps([step], scale, (0, 0))[0]


def test_at_its_own_scale_a_step_stays() -> None:
    assert operations.place_steps(EXAMPLES, 1, (0, 0)) == EXAMPLES


@pytest.mark.parametrize("deviation", [0.8, 1.2, 1.8])
def test_a_blur_before_shrinking_is_a_smaller_blur_behind_it(deviation: float) -> None:
    image = picture(160, 160)
    before = operations.shrink(operations.blur(image, deviation), 100, 100)
    behind = operations.apply_steps(operations.shrink(image, 100, 100), [place(Step("blur", (deviation,)), 0.625)])
    unplaced = operations.blur(operations.shrink(image, 100, 100), deviation)
    assert difference(before, behind).mean() < 0.85 * difference(before, unplaced).mean()


@pytest.mark.parametrize("step", [Step("noise", (9, 3, 0)), Step("compress", (35, 0, 0)), Step("compress", (75, 0, 0))])
def test_what_is_lost_before_shrinking_is_as_much_behind_it(step: Step) -> None:
    image = picture(320, 320)
    shrunk = operations.shrink(image, 200, 200)
    before = difference(operations.shrink(operations.apply_steps(image, [step]), 200, 200), shrunk)
    behind = difference(operations.apply_steps(shrunk, [place(step, 0.625)]), shrunk)
    unplaced = difference(operations.apply_steps(shrunk, [step]), shrunk)
    assert abs(behind.mean() / before.mean() - 1) < 0.35
    assert abs(behind.mean() / before.mean() - 1) < abs(unplaced.mean() / before.mean() - 1)


def test_resampling_goes_down_to_the_same_resolution() -> None:
    assert place(Step("resample", (0.4, 1, 1)), 0.5).numbers == (0.8, 1, 1)
    assert place(Step("resample", (0.9, 1, 1)), 0.5).numbers == (operations.LEAST_RESAMPLING, 1, 1)


def test_noise_and_compression_of_an_enlarged_image_are_not_stronger() -> None:
    for step in (Step("noise", (9, 3, 0)), Step("compress", (35, 0, 0))):
        assert place(step, 2).numbers == pytest.approx(step.numbers)


@pytest.mark.parametrize("quality", range(1, 101, 9))
def test_the_quality_at_another_scale_is_a_quality(quality: int) -> None:
    for scale, other in itertools.pairwise((1, 0.7, 0.3, 0.01)):
        better = place(Step("compress", (quality, 0, 0)), other).numbers[0]
        assert 1 <= place(Step("compress", (quality, 0, 0)), scale).numbers[0] <= better <= 100


def test_blocks_start_where_the_whole_image_starts() -> None:
    placed = operations.place_steps([Step("compress", (50, 0, 0))], 1, (35.0, 16.0))
    assert placed == [Step("compress", (50, 3, 0))]
