"""From a row to pixels: what is drawn from what."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ffdi.config.schema import Config
from ffdi.data.images import decode, reconstructions, resizing
from ffdi.data.images.cache import ImageStore
from ffdi.data.images.resizing import ResizePolicy
from ffdi.data.inspection import packing
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels.table import Table
from ffdi.data.loading import augment
from ffdi.data.loading.dataset import EvalDataset, Sample, TrainDataset
from ffdi.data.loading.loader import Batch, collate
from ffdi.data.loading.sampler import SampleKey
from ffdi.synthetic import operations, pseudo_fakes
from ffdi.synthetic.operations import Step
from ffdi.training import inputs
from ffdi.training.runtime import device as devices

Gallery = Callable[..., Table]
FRAMING = ResizePolicy(32, "squash")


def training(
    table: Table,
    kinds: list[str],
    recipe: str = "none",
    resize_policy: ResizePolicy = FRAMING,
    window: int = 0,
    share: float = 0.2,
    device: bool = False,
) -> TrainDataset:
    config = Config(
        seed=3,
        model={"size": resize_policy.size, "resize": resize_policy.resize},
        augment={"recipe": recipe, "crop_size": window, "device": device},
        pseudo_fakes={"methods": kinds, "fraction": share},
    )
    return TrainDataset(table, config, fold=1)


def pixels(samples: TrainDataset, *draw: object) -> np.ndarray:
    sample = samples[SampleKey(*draw)]  # type: ignore[arg-type]
    assert isinstance(sample, tuple)
    return sample[0]


@pytest.mark.parametrize("kind", pseudo_fakes.METHODS)
def test_a_pseudo_fake_is_made_from_its_row(kind: str, gallery: Gallery) -> None:
    samples = training(gallery(6), [kind])
    image, target, row, *_ = samples[SampleKey(0, 2, True)]  # type: ignore[misc]
    assert (target, row, image.shape, image.dtype) == (1.0, 2, (32, 32, 3), np.uint8)
    real, label, *_ = samples[SampleKey(0, 2)]  # type: ignore[misc]
    assert label == 0.0
    assert not np.array_equal(image, real)
    corners = np.array_equal(image[:2, :2], real[:2, :2])  # which are far from any face
    assert corners or kind == "self_blend"


@pytest.mark.parametrize("kind", ["self_blend", "face_swap"])
def test_the_draw_alone_decides(kind: str, gallery: Gallery) -> None:
    table = gallery(6)
    draws = [SampleKey(epoch, row, True) for epoch in (0, 1) for row in (0, 2, 4)]
    first = [pixels(training(table, [kind]), *draw).tobytes() for draw in draws]
    samples = training(table, [kind])
    assert [pixels(samples, *draw).tobytes() for draw in draws[::-1]] == first[::-1]
    assert len(set(first)) == 6


def test_a_fake_is_changed_as_its_real_image_is(gallery: Gallery) -> None:
    """Only the manipulation differs: both are mirrored, or neither."""
    samples = training(gallery(40), ["face_swap"], "flips")
    for row in range(0, 40, 2):
        real, fake = pixels(samples, 0, row), pixels(samples, 0, row, True)
        assert np.array_equal(real[[0, 0, -1, -1], [0, -1, 0, -1]], fake[[0, 0, -1, -1], [0, -1, 0, -1]])


def reconstructed(table: Table, folder: Path, change: int) -> Table:
    """With the reconstructions of real images: the images themselves, brighter."""
    assert table.target is not None
    paths = [str(folder / f"{row}.png") if table.target[row] == 0 else "" for row in range(len(table))]
    for row in np.flatnonzero(table.target == 0).tolist():
        pixels = decode.read_image(table.path(row)).astype(int) + change
        reconstructions.write(Path(paths[row]), np.clip(pixels, 0, 255).astype(np.uint8))
    return replace(table, reconstruction=np.array(paths))


@pytest.mark.parametrize("decoded", [False, True])
def test_a_reconstruction_is_mixed_with_its_image(decoded: bool, gallery: Gallery, tmp_path: Path) -> None:
    table = reconstructed(gallery(4), tmp_path, 20)
    config = Config(
        seed=3,
        model={"size": 32},
        augment={"recipe": "none"},
        pseudo_fakes={"methods": ["reconstruction"], "fraction": 0.2, "match_jpeg": False},
        cache={"decoded": decoded},
    )
    samples = TrainDataset(table, config, fold=1)
    real = pixels(samples, 0, 0).astype(int)
    brighter = {round((pixels(samples, epoch, 0, True) - real)[real < 230].mean()) for epoch in range(20)}
    assert min(brighter) >= 6
    assert max(brighter) <= 20
    assert len(brighter) > 5


def test_a_mixed_reconstruction_has_the_encoding_of_its_image(gallery: Gallery, tmp_path: Path) -> None:
    """So one that changes nothing is the real image, encoded twice."""
    table = gallery(2, edge=64)
    path = table.path(0)
    cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 30])
    names = table.img_name.copy()
    names[0] = path.with_suffix(".jpg").name
    table = reconstructed(replace(table, img_name=names), tmp_path, 0)
    real = decode.read_image(table.path(0))
    once = reconstructions.encode_like(table, 0, real).astype(int)
    assert np.abs(once - real).mean() < 1
    noise = np.random.default_rng(0).integers(0, 256, real.shape, np.uint8)
    assert np.abs(reconstructions.encode_like(table, 0, noise).astype(int) - noise).mean() > 20
    assert np.array_equal(reconstructions.encode_like(table, 1, noise), noise)  # a PNG


def test_landmarks_locate_the_face(gallery: Gallery) -> None:
    table = gallery(4)
    corner = np.array([[0.0, 0.0], [0.3, 0.0], [0.3, 0.3], [0.0, 0.3]], np.float32)
    marked = replace(table, landmarks=np.stack([corner] * 3 + [np.full((4, 2), np.nan, np.float32)]))
    samples = training(marked, ["self_blend"])
    real = pixels(samples, 0, 0)
    local = []
    for epoch in range(40):
        changed = (pixels(samples, epoch, 0, True) != real).any(-1)
        local.append(changed[:10, :10].any() and not changed[20:, 20:].any())
    assert 10 < sum(local) < 30  # else it is the inner face that was left as it was


@pytest.mark.parametrize("resize", resizing.RESIZES)
def test_a_zooming_recipe_crops_the_image(resize: str, gallery: Gallery) -> None:
    samples = training(gallery(2), ["self_blend"], "strong", ResizePolicy(40, resize))
    assert len({pixels(samples, epoch, 0).tobytes() for epoch in range(8)}) == 8


def test_samples_are_resized_and_labelled(gallery: Gallery) -> None:
    table = gallery(4)
    sample = EvalDataset(table, ResizePolicy(16, "crop"))[3]
    assert isinstance(sample, Sample)
    assert np.array_equal(sample.pixels, decode.read_image(table.path(3))[8:24, 8:24])
    assert sample[1:3] == (1.0, 3)
    assert math.isnan(sample.soft_logit)
    assert sample[4:] == (None, None, None)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 16), (0.2, 4, 12)])
def test_a_crop_is_unscaled_and_anywhere_or_near_the_middle(
    share: float, least: int, most: int, gallery: Gallery
) -> None:
    table = gallery(2)
    whole = decode.read_image(table.path(0))
    samples = training(table, ["self_blend"], window=16, share=share)
    places = []
    for epoch in range(300):
        view = samples._augmentation.choose_crop((3, 1, epoch, 0))
        shown = pixels(samples, epoch, 0)
        top, left = (round((0.5 + samples._spread * (place - 0.5)) * 16) for place in (view.y, view.x))
        assert np.array_equal(shown, whole[top : top + 16, left : left + 16])
        places += [top, left]
    assert (min(places), max(places)) == (least, most)


def test_training_samples_have_the_crop_size(gallery: Gallery) -> None:
    assert pixels(training(gallery(2), ["self_blend"], "strong", window=20), 0, 0).shape == (20, 20, 3)


def test_a_cached_image_gets_the_same_strength(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of resized images leaves no trace of their own size in the pixels; the cache has a note of it."""
    scales: list[float] = []
    monkeypatch.setattr(
        augment.Augmentation, "__call__", lambda _self, image, _key, scale, _corner: (scales.append(scale), image)[1]
    )
    table, policy = gallery(2, edge=64), ResizePolicy(32)
    store = ImageStore(tmp_path / "pixels", policy)
    findings = ScanStore(tmp_path / "findings.sqlite")
    for _ in packing.fill_cache(store, [store.attach(table)], findings, 1):
        pass
    findings.close()
    stored = ImageStore(tmp_path / "pixels", policy).attach(table)
    config = Config(model={"size": 32}, cache={"decoded": True})
    shown = [TrainDataset(one, config, fold=0)[SampleKey(0, 0)][0] for one in (table, stored)]  # type: ignore[index]
    assert scales == [0.5, 0.5]
    assert np.array_equal(shown[0], shown[1])
    TrainDataset(table, Config(model={"size": 32}), fold=0)[SampleKey(0, 0)]
    assert scales[-1] == 0.5


def test_a_larger_cache_gives_crops_of_its_own_resolution(gallery: Gallery) -> None:
    table, keys = gallery(2, edge=96), {"model": {"size": 32}, "augment": {"recipe": "flips"}}
    samples = TrainDataset(table, Config.model_validate({**keys, "cache": {"decoded": True, "size": 64}}), fold=0)
    image, scale = samples._load(0)
    assert np.array_equal(image, ResizePolicy(64).apply(decode.read_image(table.path(0))))
    assert scale == pytest.approx(64 / 96)
    here = pixels(samples, 0, 0)
    assert here.shape == (32, 32, 3)
    files = pixels(TrainDataset(table, Config.model_validate(keys), fold=0), 0, 0)
    assert np.abs(here.astype(int) - files).max() <= 2  # 96 to 64 to 32 by area: only the rounding differs


@pytest.mark.parametrize("resize", resizing.RESIZES)
def test_a_fake_of_a_large_image_is_made_where_it_has_the_networks_size(resize: str, gallery: Gallery) -> None:
    shapes: list[tuple[int, ...]] = []
    samples = training(gallery(2, edge=64), ["self_blend"], "strong", ResizePolicy(32, resize))
    make = samples._make_fake

    def make_fake(*given: Any) -> tuple[np.ndarray, float]:
        fake, scale = make(*given)
        shapes.append(fake.shape)
        assert scale == pytest.approx((fake.shape[0] * fake.shape[1]) ** 0.5 / 64, abs=0.02)
        return fake, scale

    samples._make_fake = make_fake  # type: ignore[assignment]
    for epoch in range(20):
        assert pixels(samples, epoch, 0, True).shape == (32, 32, 3)
    edges = [max(shape) for shape in shapes]
    assert edges == [64] * 20 if resize == "crop" else max(edges) <= 32 / 0.75 * 1.1


# --- the rest on the device ----------------------------------------------------------------------------------------


def finished(sample: object) -> np.ndarray:
    """The image of a sample, resized as a device resizes it."""
    assert isinstance(sample, Sample)
    batch = collate([sample])
    assert isinstance(batch, Batch)
    device = devices.choose_device("cpu", "fp32", 0)
    return inputs.make_images(batch._replace(steps=None), device)[0].numpy()


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("edge", [24, 32, 45, 64, 96])
@pytest.mark.parametrize("fake", [False, True])
def test_a_device_gets_images_and_what_remains_to_be_done(
    fake: bool, edge: int, resize: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, policy = gallery(2, edge=edge), ResizePolicy(32, resize)
    here, there = (training(table, ["self_blend"], "postprocess", policy, device=device) for device in (False, True))
    key = (3, 1, 4, 0)
    sample = there[SampleKey(4, 0, fake)]
    assert isinstance(sample, Sample)
    cut = resize == "crop" and edge > 32
    box = there._augmentation.choose_crop(key)
    corner = (round((edge - 32) * box.x), round((edge - 32) * box.y)) if cut else (0, 0)
    draws = augment.Augmentation("postprocess").draw_steps(key)
    assert sample.steps == operations.place_steps(draws, 1.0 if cut else 32 / edge, corner)
    assert sample.steps
    if edge == 45 and resize == "squash" and not fake:
        assert np.array_equal(sample.pixels, decode.read_image(table.path(0)))
    monkeypatch.setattr(augment.Augmentation, "draw_steps", lambda *_: [])
    assert np.abs(finished(sample).astype(int) - pixels(here, 4, 0, fake)).max() <= 2


@pytest.mark.parametrize("recipe", ["postprocess", "strong"])
@pytest.mark.parametrize(("edge", "resize"), [(20, "squash"), (70, "squash"), (20, "crop"), (70, "crop")])
def test_a_device_gets_what_a_crop_needs(
    edge: int, resize: str, recipe: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, policy = gallery(2, edge=edge), ResizePolicy(40, resize)
    here, there = (training(table, ["self_blend"], recipe, policy, 32, device=device) for device in (False, True))
    given: list[tuple[list[Step], float, tuple[float, float]]] = []
    place = operations.place_steps
    monkeypatch.setattr(operations, "place_steps", lambda *numbers: (given.append(numbers), place(*numbers))[1])
    sample = there[SampleKey(5, 1)]
    pixels(here, 5, 1)
    assert given[0] == given[1]
    assert isinstance(sample, Sample)
    assert sample.steps == place(*given[0])
    monkeypatch.setattr(augment.Augmentation, "draw_steps", lambda *_: [])
    assert np.abs(finished(sample).astype(int) - pixels(here, 5, 1)).max() <= 2


def test_a_device_gets_decoded_images(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment.Augmentation, "draw_steps", lambda *_: [])
    table = gallery(2, edge=90)
    for decoded in (False, True):
        sections = {"model": {"size": 64}, "cache": {"decoded": decoded}}
        here, there = (
            TrainDataset(table, Config(augment={"recipe": "strong", "device": device}, **sections), 0)
            for device in (False, True)
        )
        for epoch in range(4):
            shown = finished(there[SampleKey(epoch, 0)])
            assert shown.shape == (64, 64, 3)
            assert np.abs(shown.astype(int) - pixels(here, epoch, 0)).max() <= 2


def test_the_scale_of_steps_is_that_of_a_cached_image(gallery: Gallery) -> None:
    """A device gets the strength for the image's own size."""
    table = gallery(2, edge=64)
    config = Config(model={"size": 32}, cache={"decoded": True}, augment={"device": True})
    sample = TrainDataset(table, config, fold=0)[SampleKey(0, 0)]
    assert isinstance(sample, Sample)
    assert sample.pixels.shape == (32, 32, 3)
    assert sample.steps == operations.place_steps(
        augment.Augmentation("postprocess").draw_steps((0, 0, 0, 0)), 0.5, (0, 0)
    )


@pytest.mark.parametrize("resize", resizing.RESIZES)
@pytest.mark.parametrize("shape", [(20, 20), (64, 64), (20, 64), (64, 20), (33, 31)])
def test_growth_is_that_of_the_finished_image(shape: tuple[int, int], resize: str) -> None:
    """Measured by the slopes of ramps."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = np.stack([3 * rows, 3 * columns, rows + columns], 2).astype(np.uint8)
    view = ResizePolicy(40, resize).crop(image, resizing.CropBox(0.8, 1.1, 0.3, 0.6))
    finished = view.finish(view.pixels)[16:24, 16:24].astype(float)
    slopes = [np.polyfit(np.arange(8), finished[..., axis].mean(1 - axis), 1)[0] for axis in (0, 1)]
    grown = 3 / (slopes[0] * slopes[1]) ** 0.5
    assert view.scale * view.growth == pytest.approx(grown, rel=0.06)


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_both_images_of_a_pair_get_the_same_view(gallery: Gallery, resize: str) -> None:
    table = gallery(6)
    samples = training(table, ["self_blend"], "strong", ResizePolicy(32, resize), window=24)
    alone, pair = pixels(samples, 4, 1), pixels(samples, 4, 1, False, 3)
    assert not np.array_equal(alone, pair)
    samples.table = table.take(np.array([0, 3, 2, 1, 4, 5]))  # the image of row 3 now has the image of row 1
    assert np.array_equal(pixels(samples, 4, 3), pair)


@pytest.mark.parametrize("window", [0, 24])
@pytest.mark.parametrize("fake", [False, True])
def test_a_clean_view_has_the_crop_and_the_fake_but_no_augmentation(gallery: Gallery, window: int, fake: bool) -> None:
    key, table = SampleKey(2, 1, fake), gallery(4)
    augmented, plain = (
        training(table, ["self_blend"], recipe, ResizePolicy(32, "crop"), window) for recipe in ("postprocess", "none")
    )
    expected = pixels(plain, *key)
    assert np.array_equal(pixels(augmented, *key._replace(clean=True)), expected)
    assert not np.array_equal(pixels(augmented, *key), expected)


def test_a_clean_view_leaves_no_steps_to_the_device(gallery: Gallery) -> None:
    samples = training(gallery(4), ["self_blend"], "postprocess", device=True)
    clean, augmented = samples[SampleKey(2, 1, clean=True)], samples[SampleKey(2, 1)]
    assert isinstance(clean, Sample)
    assert isinstance(augmented, Sample)
    assert clean.steps == []
    assert augmented.steps


# --- views ---------------------------------------------------------------------------------------------------------


def viewed(table: Table, views: int, fold: int, recipe: str = "strong", methods: str = "self_blend") -> TrainDataset:
    keys = {"model": {"size": 32}, "augment": {"recipe": recipe, "views": views}}
    fakes = {"methods": [methods], "fraction": 0.2}
    return TrainDataset(table, Config.model_validate({"seed": 3, **keys, "pseudo_fakes": fakes}), fold)


@pytest.mark.parametrize("fake", [False, True])
def test_an_image_has_as_many_views_as_asked_for(fake: bool, gallery: Gallery) -> None:
    samples = viewed(gallery(6), 3, 1)
    shown = [pixels(samples, epoch, 2, fake).tobytes() for epoch in range(6)]
    assert shown[:3] == shown[3:]
    assert len(set(shown)) == 3
    assert pixels(samples, 0, 2).tobytes() != pixels(viewed(samples.table, 0, 1), 0, 2).tobytes()


@pytest.mark.parametrize("fake", [False, True])
def test_views_are_the_same_in_all_folds(fake: bool, gallery: Gallery) -> None:
    """A fold has other images, so that an image has another row."""
    table = gallery(8)
    rows = [np.array([0, 1, 4, 5, 6, 7]), np.array([2, 3, 4, 7])]
    places = [int(np.flatnonzero(chosen == 4)[0]) for chosen in rows]
    for epoch in range(2):
        first, second = (
            pixels(viewed(table.take(chosen), 2, fold), epoch, place, fake)
            for fold, (chosen, place) in enumerate(zip(rows, places, strict=True))
        )
        assert np.array_equal(first, second)


def test_views_differ_between_images_and_seeds(gallery: Gallery) -> None:
    keys = {augment.make_view_key(seed, view, name) for seed in (0, 1) for view in (0, 1) for name in ("a", "b", "é")}
    assert len(keys) == 12
    steps = [str(augment.Augmentation("strong").draw_steps(key)) for key in sorted(keys)]
    assert len(set(steps)) == 12
    table = gallery(2, same=True)
    assert not np.array_equal(*(pixels(viewed(table, 2, 0), 0, row) for row in (0, 1)))


def test_one_view_never_changes_an_image(gallery: Gallery) -> None:
    table = gallery(2)
    assert [viewed(table, views, 0).changes_images for views in (0, 1, 2)] == [True, False, True]


def test_both_images_of_a_pair_get_the_same_of_their_views(gallery: Gallery) -> None:
    samples = viewed(gallery(6), 2, 0)
    pair = pixels(samples, 4, 1, False, 3)
    assert np.array_equal(pair, pixels(samples, 0, 1, False, 3))
    assert not np.array_equal(pair, pixels(samples, 4, 1))
