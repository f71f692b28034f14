from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ffdi.data.loading import augment

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


def test_grain_has_the_drawn_strength_grey_or_coloured() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    deviations, kinds = [], Counter()
    for seed in range(60):
        compose = augment.A.Compose([augment.Grain(p=1)], seed=seed)
        noise = compose(image=flat)["image"].astype(float) - 128
        deviations.append(noise.std())
        kinds["grey" if (noise == noise[..., :1]).all() else "coloured"] += 1
        assert abs(noise.mean()) < 1
    assert 1 < min(deviations) < 3
    assert 10 < max(deviations) < 12.5
    assert min(kinds["grey"], kinds["coloured"]) > 15
