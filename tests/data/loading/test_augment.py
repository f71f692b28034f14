from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from ffdi.data.loading import augment
from ffdi.synthetic.operations import Step

RANDOM = [name for name in augment.RECIPES if name != "none"]


def noise(size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def drawn(name: str, keys: list[augment.Key], image: np.ndarray | None = None) -> list[bytes]:
    apply = augment.Augmentation(name)
    return [apply(noise() if image is None else image, key).tobytes() for key in keys]


@pytest.mark.parametrize("name", augment.RECIPES)
@pytest.mark.parametrize("size", [32, 33, 64])
def test_shape_and_type_are_kept(name: str, size: int) -> None:
    apply = augment.Augmentation(name)
    for index in range(40):
        changed = apply(noise(size), (0, 0, 0, index))
        assert (changed.shape, changed.dtype, changed.flags.c_contiguous) == ((size, size, 3), np.uint8, True)


@pytest.mark.parametrize("name", augment.RECIPES)
def test_augmentation_does_not_change_its_argument(name: str) -> None:
    image = noise()
    drawn(name, [(0, 0, 0, index) for index in range(40)], image)
    assert np.array_equal(image, noise())


def test_the_recipe_none_changes_nothing() -> None:
    assert np.array_equal(augment.Augmentation("none")(noise(), (0, 0, 0, 0)), noise())


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_key_gives_the_same_result(name: str) -> None:
    keys = [(2**31 - 1, fold, epoch, index) for fold in (0, 4) for epoch in (0, 9) for index in range(10)]
    assert drawn(name, keys) == drawn(name, keys[::-1])[::-1]


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("part", range(4), ids=["seed", "fold", "epoch", "index"])
def test_every_part_of_the_key_counts(name: str, part: int) -> None:
    keys = [tuple(value if place == part else 7 for place in range(4)) for value in range(40)]
    assert len(set(drawn(name, keys))) > 1  # type: ignore[arg-type]


def test_flips_draw_both_directions_independently() -> None:
    image = noise()
    names = {
        image.tobytes(): "as it was",
        image[:, ::-1].tobytes(): "mirrored",
        image[::-1].tobytes(): "upside down",
        image[::-1, ::-1].tobytes(): "both",
    }
    counts = Counter(names[pixels] for pixels in drawn("flips", [(0, 0, 0, index) for index in range(800)]))
    assert all(150 < counts[name] < 250 for name in names.values())


def test_the_operations_of_a_recipe_have_chances_of_their_own() -> None:
    """Were they drawn alike, an image would stay as it was whenever it is not mirrored."""
    counts = Counter(drawn("light", [(0, 0, 0, index) for index in range(400)]))
    untouched, mirrored_only = counts[noise().tobytes()], counts[noise()[:, ::-1].tobytes()]
    assert 100 < untouched < 180
    assert 100 < mirrored_only < 180


@pytest.mark.parametrize("name", augment.RECIPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (2, 3), (3, 200), (5, 5)])
def test_an_image_of_a_few_pixels_keeps_its_shape(name: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    apply = augment.Augmentation(name)
    assert {apply(image, (0, 0, 0, index)).shape for index in range(100)} == {(*shape, 3)}


@pytest.mark.parametrize("name", augment.RECIPES)
def test_a_view_is_inside_of_the_image_and_the_key_alone_decides(name: str) -> None:
    apply, recipe = augment.Augmentation(name), augment.RECIPES[name]
    views = [apply.choose_crop((0, 0, 0, index)) for index in range(200)]
    assert views == [apply.choose_crop((0, 0, 0, index)) for index in range(200)]
    assert all(recipe.zoom <= view.zoom <= 1 for view in views)
    assert all(1 / recipe.stretch <= view.ratio <= recipe.stretch for view in views)
    assert all(0 <= place <= 1 for view in views for place in (view.x, view.y))
    assert len({(view.x, view.y) for view in views}) == 200
    if recipe.zoom < 1:
        assert min(view.zoom for view in views) < recipe.zoom + 0.05
        assert max(view.zoom for view in views) > 0.95


def steps(name: str, count: int = 2000) -> list[list[Step]]:
    recipe = augment.Augmentation(name)
    return [recipe.draw_steps((0, 0, 0, row)) for row in range(count)]


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("postprocess", {"mirror": 0.5, "resample": 0.25, "blur": 1 / 12, "motion": 1 / 12, "sharpen": 1 / 12,
                         "colours": 1 - 0.75**2, "noise": 0.25, "compress": 0.5}),
        ("strong", {"move": 0.4, "gamma": 0.04, "equalize": 0.04, "posterize": 0.04, "contrast": 0.04,
                    "resample": 0.35, "noise": 0.35, "compress": 0.7, "erase": 0.25}),
    ],
)  # fmt: skip
def test_how_often_each_operation_is_drawn(name: str, shares: dict[str, float]) -> None:
    counts = Counter(step.name for drawn_steps in steps(name) for step in drawn_steps)
    for operation, share in shares.items():
        assert counts[operation] / 2000 == pytest.approx(share, abs=0.04), operation


def test_the_steps_follow_the_life_of_an_image() -> None:
    order = ["mirror", "resample", "blur", "motion", "sharpen", "colours", "noise", "compress"]
    for drawn_steps in steps("postprocess"):
        places = [order.index(step.name) for step in drawn_steps]
        assert places == sorted(places)


def test_changes_of_colour_that_follow_each_other_are_one_step() -> None:
    names = [[step.name for step in drawn_steps] for drawn_steps in steps("strong")]
    assert all("colours,colours" not in ",".join(one) for one in names)
    assert any(one.count("colours") == 2 for one in names)  # grey, and behind a blur another change


def test_the_strengths_fill_their_ranges() -> None:
    drawn_steps = [step for one in steps("postprocess") for step in one]
    noise = np.array([step.numbers for step in drawn_steps if step.name == "noise"])
    assert 1 <= np.abs(noise[:, 0]).min() < 1.5
    assert 11.5 < np.abs(noise[:, 0]).max() <= 12
    assert {1, 3} == set(noise[:, 1])
    quality = [step.numbers[0] for step in drawn_steps if step.name == "compress"]
    assert (min(quality), max(quality)) == (30, 95)
    pairs = {step.numbers[1:] for step in drawn_steps if step.name == "resample"}
    assert pairs == {(down, up) for down in range(4) for up in (1, 2)}


def test_the_scale_weakens_the_steps() -> None:
    image = cv2.GaussianBlur(noise(64), (0, 0), 2)
    apply = augment.Augmentation("postprocess")
    keys = [(0, 0, 0, row) for row in range(200)]
    rough, fine = (
        np.mean([np.abs(apply(image, key, scale).astype(int) - apply(image, key, 0.01)).mean() for key in keys])
        for scale in (1, 0.5)
    )
    assert fine < 0.8 * rough
