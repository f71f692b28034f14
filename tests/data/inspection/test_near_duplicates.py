"""Near duplicates: fingerprints, the search, the comparison of a pair, clusters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffdi.data.images import descriptors
from ffdi.data.inspection import likeness, near_duplicates
from ffdi.demo import portraits
from ffdi.synthetic.manipulations import MANIPULATIONS

COLOURS = np.array([[0.6, 0.2, 0.1], [0.2, 0.5, 0.2], [0.1, 0.1, 0.6]])
SIZE = 192
PEOPLE = 10


@cache
def portrait(seed: int) -> np.ndarray:
    return portraits.draw_portrait(np.random.default_rng([41, seed]), SIZE)


def jpeg(pixels: np.ndarray, quality: int = 70) -> np.ndarray:
    content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)


def brighter(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "left": lambda pixels: pixels[:, 4:],
    "top": lambda pixels: pixels[4:],
    "right": lambda pixels: pixels[:, :-4],
    "bottom": lambda pixels: pixels[:-4],
    "around": lambda pixels: pixels[4:-4, 4:-4],
    "jpeg": jpeg,
    "half": lambda pixels: scaled(pixels, 0.5),
    "three quarters": lambda pixels: scaled(pixels, 0.75),
    "larger": lambda pixels: scaled(pixels, 1.25),
    "much larger": lambda pixels: scaled(pixels, 1.5),
    "brighter": lambda pixels: brighter(pixels, 1.2),
    "darker": lambda pixels: brighter(pixels, 0.8),
    "around, jpeg": lambda pixels: jpeg(pixels[4:-4, 4:-4]),
    "left, half": lambda pixels: scaled(pixels[:, 4:], 0.5),
    "brighter, jpeg": lambda pixels: jpeg(brighter(pixels, 1.1)),
    "mirrored": lambda pixels: pixels[:, ::-1],
    "on its side": lambda pixels: np.rot90(pixels),
    "turned": lambda pixels: turned(pixels, 5),
    "corner": lambda pixels: pixels[19:, 19:],
    "grey": lambda pixels: cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "bars": lambda pixels: cv2.copyMakeBorder(pixels, 30, 30, 0, 0, cv2.BORDER_CONSTANT),
    "quarter": lambda pixels: scaled(pixels, 0.25),
    "mirrored, other colours, half": lambda pixels: scaled((pixels[:, ::-1] @ COLOURS).astype(np.uint8), 0.5),
}
ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "logo": lambda pixels: covered(pixels),
    "dark": lambda pixels: np.rint(255 * (pixels / 255) ** 2).astype(np.uint8),
    "jpeg 15": lambda pixels: jpeg(pixels, 15),
}
"""Copies that may be no more than one scene."""


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((SIZE / 2 - 0.5, SIZE / 2 - 0.5), degrees, 1)
    return cv2.warpAffine(pixels, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def covered(pixels: np.ndarray) -> np.ndarray:
    """A fifth of it under a logo."""
    changed = pixels.copy()
    changed[:86, :86] = (200, 40, 90)
    changed[20:60, 30:50] = 255
    return changed


def describe_pictures(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints and keypoints."""
    greys = [cv2.cvtColor(np.ascontiguousarray(one), cv2.COLOR_RGB2GRAY) for one in pictures]
    return np.stack([descriptors.compute_fingerprint(grey) for grey in greys]), np.stack(
        [descriptors.compute_keypoints(grey) for grey in greys]
    )


def found(prints: np.ndarray, points: np.ndarray | None = None, threads: int = 1) -> set[tuple[int, int]]:
    """The candidates; none may come twice."""
    points = np.zeros((len(prints), descriptors.COUNT), np.uint64) if points is None else points
    pairs = np.concatenate(list(near_duplicates.find_candidates(prints, points, threads)))
    assert pairs.dtype == np.int64
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    return {(int(first), int(second)) for first, second in pairs}


def crowd(seed: int, images: int) -> np.ndarray:
    """uint8 [images, 256]: some unlike, some alike, some equal, some without contrast."""
    rng = np.random.default_rng(seed)
    base = cv2.GaussianBlur(rng.normal(0, 1, (16, 16, images)), (0, 0), 1.0).reshape(256, -1).T * 120 + 128
    source = rng.integers(images // 2 + 1, size=images)
    noise = rng.choice([0, 0, 2, 12], (images, 1)) * rng.normal(0, 1, (images, 256))
    prints = np.clip(np.rint(base[source] + noise), 0, 255).astype(np.uint8)
    prints[rng.random(images) < 0.1] = 70
    return prints


def test_a_fingerprint_has_256_bytes_for_any_size() -> None:
    for shape in ((1, 1), (3, 700), (512, 512), (201, 199)):
        assert descriptors.compute_fingerprint(np.full(shape, 90, np.uint8)).tolist() == [90] * 256


def test_equal_greys_have_equal_fingerprints_and_views_are_taken() -> None:
    grey = portrait(0)[..., 1].copy()
    view = np.flip(np.flip(grey, 1).copy(), 1)
    assert not view.flags.c_contiguous
    assert (descriptors.compute_fingerprint(view) == descriptors.compute_fingerprint(grey)).all()


def test_a_fingerprint_is_the_picture_blurred_and_shrunk() -> None:
    grey = cv2.resize(portrait(0)[..., 1], (64, 64), interpolation=cv2.INTER_AREA)
    half = cv2.resize(grey.astype(np.float64), (32, 32), interpolation=cv2.INTER_AREA)
    small = cv2.resize(cv2.GaussianBlur(half, (0, 0), 1.0), (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(descriptors.compute_fingerprint(grey).reshape(16, 16) - small).max() <= 0.51


def verdicts(change: Callable[[np.ndarray], np.ndarray]) -> list[str | None]:
    """What is found of a copy of each portrait among all of them."""
    copies = [np.ascontiguousarray(change(portrait(seed))) for seed in range(PEOPLE)]
    pairs = found(*describe_pictures([*map(portrait, range(PEOPLE)), *copies]))
    return [
        likeness.compare(portrait(seed), copies[seed]) if (seed, PEOPLE + seed) in pairs else None
        for seed in range(PEOPLE)
    ]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_all_and_is_near(change: str) -> None:
    assert verdicts(CHANGES[change]).count("near") >= PEOPLE - 1


@pytest.mark.parametrize("change", ALTERED)
def test_an_altered_copy_is_found_and_shows_one_scene_at_least(change: str) -> None:
    assert verdicts(ALTERED[change]).count(None) <= 1


def test_different_people_are_different_pictures() -> None:
    for seed in range(PEOPLE):
        assert likeness.compare(portrait(seed), portrait((seed + 1) % PEOPLE)) is None


@pytest.mark.parametrize("family", MANIPULATIONS)
def test_a_fake_is_another_picture_than_its_frame(family: str) -> None:
    verdicts = []
    for seed in range(PEOPLE):
        rng = np.random.default_rng([5, seed])
        fake, mask = MANIPULATIONS[family](portrait(seed), portrait(PEOPLE + seed), rng)
        if np.abs(fake.astype(int) - portrait(seed))[mask > 0.5].mean() > 6:  # else no eye could tell, either
            verdicts.append(likeness.compare(portrait(seed), jpeg(fake, 90)))
    assert verdicts.count("near") == 0


@pytest.mark.parametrize(("top", "left"), [(70, 50), (70, 110), (120, 80), (20, 80)])
def test_a_replaced_patch_is_another_picture(top: int, left: int) -> None:
    for seed in range(PEOPLE):
        altered = portrait(seed).copy()
        patch = np.s_[top : top + 28, left : left + 36]
        altered[patch] = portrait(PEOPLE + seed)[patch]
        assert likeness.compare(portrait(seed), altered) in (None, "scene")


def test_the_next_frame_is_another_picture() -> None:
    """The face moves a twentieth of its width before the same backdrop."""
    inner = np.zeros((SIZE, SIZE, 1), np.float32)
    cv2.ellipse(inner, (SIZE // 2, SIZE // 2), (50, 70), 0, 0, 360, 1, -1)
    inner = cv2.GaussianBlur(inner, (0, 0), 4)[..., None]
    for seed in range(PEOPLE):
        moved = np.roll(portrait(seed), 5, axis=1)
        frame = np.rint(inner * moved + (1 - inner) * portrait(seed)).astype(np.uint8)
        assert likeness.compare(portrait(seed), frame) in (None, "scene")


def test_another_colour_of_the_lips_is_another_picture() -> None:
    altered = portrait(1).astype(int)
    altered[118:140, 75:117] += (14, -7, -6)  # hardly any change of grey
    assert likeness.compare(portrait(1), np.clip(altered, 0, 255).astype(np.uint8)) in (None, "scene")


def test_equal_pixels_are_exact_and_one_grey_level_is_near() -> None:
    one = portrait(3).copy()
    assert likeness.compare(portrait(3), one) == "exact"
    one[5, 5, 0] ^= 1
    assert likeness.compare(portrait(3), one) == "near"


@pytest.mark.parametrize("change", ["around", "half", "brighter, jpeg", "left"])
def test_the_order_of_two_images_does_not_matter(change: str) -> None:
    for other in (CHANGES[change](portrait(4)), portrait(5)):
        assert likeness.measure_agreement(portrait(4), other) == likeness.measure_agreement(other, portrait(4))


def test_pictures_without_detail_are_not_near() -> None:
    """A black frame and a grey wall agree everywhere, and prove nothing."""
    black, wall = np.zeros((80, 80, 3), np.uint8), np.full((90, 90, 3), 120, np.uint8)
    noisy = wall + np.random.default_rng(0).integers(0, 3, wall.shape, np.uint8)
    for first, second in ((black, wall), (wall, noisy), (black, portrait(0)), (black[:1, :1], wall)):
        assert likeness.compare(first, second) is None
    assert likeness.compare(wall, wall.copy()) == "exact"


def test_a_mirrored_and_turned_picture_has_the_same_codes() -> None:
    grey = cv2.cvtColor(portrait(0), cv2.COLOR_RGB2GRAY)
    codes = set(descriptors.get_codes(descriptors.compute_keypoints(grey)).tolist())
    for view in (grey[:, ::-1], grey[::-1], grey[::-1, ::-1], grey.T, grey[::-1].T):
        again = set(descriptors.get_codes(descriptors.compute_keypoints(np.ascontiguousarray(view))).tolist())
        assert len(codes & again) >= 0.9 * len(codes)


def test_matching_keypoints_are_at_the_same_places() -> None:
    grey = cv2.cvtColor(portrait(1), cv2.COLOR_RGB2GRAY)
    here, there = descriptors.match_keypoints(
        descriptors.compute_keypoints(grey), descriptors.compute_keypoints(np.ascontiguousarray(grey[:, ::-1]))
    )
    assert len(here) >= 30
    assert np.median(np.abs(here * (-1, 1) - there)) < 0.02


def test_bars_are_cut_off_and_nothing_else() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
    down, across = descriptors.trim_bars(cv2.copyMakeBorder(grey, 30, 20, 0, 0, cv2.BORDER_CONSTANT, value=16))
    assert abs(down.start - 30) <= 2
    assert abs(down.stop - 30 - SIZE) <= 2
    assert (across.start, across.stop) == (0, SIZE)
    assert descriptors.trim_bars(grey) == (slice(0, SIZE), slice(0, SIZE))


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (96, 96), (5, 9)])
def test_images_of_any_shape_have_keypoints_and_walls_are_like_nothing(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert descriptors.compute_keypoints(noise).shape == (descriptors.COUNT,)
    wall = descriptors.compute_keypoints(np.full(shape, 90, np.uint8))
    assert found(np.arange(512, dtype=np.uint16).view(np.uint8).reshape(2, -1), np.stack([wall, wall])) == set()


def test_candidates_do_not_depend_on_threads_nor_on_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    prints, points = describe_pictures(
        [*map(portrait, range(8)), *(jpeg(portrait(seed)[:, ::-1]) for seed in range(8))]
    )
    once = found(prints, points)
    assert {(seed, 8 + seed) for seed in range(8)} <= once
    assert found(prints, points, threads=3) == once
    monkeypatch.setattr(near_duplicates, "LOT", 200)
    assert found(prints, points) == once


def test_hundreds_of_copies_of_one_picture_are_joined_by_few_pairs() -> None:
    """Each copy differs from all others in one bit of each code."""
    rng = np.random.default_rng(0)
    _, points = describe_pictures([portrait(seed) for seed in range(PEOPLE)])
    copies = np.repeat(points[:1], 400, axis=0) ^ (np.uint64(1) << rng.integers(0, 31, (400, 40)).astype(np.uint64))
    prints = rng.integers(0, 256, (400 + PEOPLE - 1, 256), np.uint8)
    pairs = found(prints, np.concatenate([points[1:], copies]))
    assert len(pairs) < 400 * 399 / 2
    root = near_duplicates.cluster_pairs(len(prints), np.array(sorted(pairs)))
    assert (root[PEOPLE - 1 :] == PEOPLE - 1).all()


def test_equal_fingerprints_are_chained_not_squared() -> None:
    prints = np.repeat(crowd(1, 2)[:1], 5000, axis=0)
    assert len(found(prints)) == 4999


def test_no_image_and_one_image_have_no_candidates() -> None:
    assert found(np.empty((0, 256), np.uint8)) == found(np.zeros((1, 256), np.uint8)) == set()


edges = st.integers(1, 25).flatmap(
    lambda images: st.tuples(
        st.just(images), st.lists(st.tuples(st.integers(0, images - 1), st.integers(0, images - 1)), max_size=30)
    )
)


@given(edges, st.randoms(use_true_random=False))
def test_clusters_join_chains_of_pairs(graph: tuple[int, list[tuple[int, int]]], random: object) -> None:
    images, pairs = graph
    smallest = list(range(images))
    for _ in range(images):  # a union by brute force: as many rounds as the longest chain
        for first, second in pairs:
            smallest[first] = smallest[second] = min(smallest[first], smallest[second])
    assert near_duplicates.cluster_pairs(images, np.array(pairs, np.int64)).tolist() == smallest
    random.shuffle(pairs)
    swapped = np.array([pair[::-1] for pair in pairs], np.int64)
    assert near_duplicates.cluster_pairs(images, swapped).tolist() == smallest
