"""Duplicates: fingerprints, the search among them, the close look at a pair, clusters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffdi.data import duplicates, fingerprint, likeness
from ffdi.forge import portraits
from ffdi.forge.manipulations import MANIPULATIONS

SIZE = 192
PEOPLE = 10


@cache
def portrait(seed: int) -> np.ndarray:
    return portraits.draw(np.random.default_rng([41, seed]), SIZE)


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
}


def found(prints: np.ndarray, threads: int = 1, rows: int = duplicates.ROWS) -> set[tuple[int, int]]:
    """The candidates; none may come twice."""
    pairs = np.concatenate(list(duplicates.candidates(prints, threads, rows)))
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


def test_a_fingerprint_has_256_bytes_whatever_the_size() -> None:
    for shape in ((1, 1), (3, 700), (512, 512), (201, 199)):
        assert fingerprint.of(np.full(shape, 90, np.uint8)).tolist() == [90] * 256


def test_equal_greys_have_equal_fingerprints_and_views_are_taken() -> None:
    grey = portrait(0)[..., 1].copy()
    view = np.flip(np.flip(grey, 1).copy(), 1)
    assert not view.flags.c_contiguous
    assert (fingerprint.of(view) == fingerprint.of(grey)).all()


def test_a_fingerprint_is_the_picture_blurred_and_shrunk() -> None:
    grey = cv2.resize(portrait(0)[..., 1], (64, 64), interpolation=cv2.INTER_AREA)
    half = cv2.resize(grey.astype(np.float64), (32, 32), interpolation=cv2.INTER_AREA)
    small = cv2.resize(cv2.GaussianBlur(half, (0, 0), 1.0), (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(fingerprint.of(grey).reshape(16, 16) - small).max() <= 0.51


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_all_and_is_near(change: str) -> None:
    copies = [np.ascontiguousarray(CHANGES[change](portrait(seed))) for seed in range(PEOPLE)]
    greys = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in [*map(portrait, range(PEOPLE)), *copies]]
    prints = np.stack([fingerprint.of(grey) for grey in greys])
    pairs = found(prints) & {(seed, PEOPLE + seed) for seed in range(PEOPLE)}
    near = [seed for seed, _ in pairs if likeness.compare(portrait(seed), copies[seed]) == "near"]
    assert len(near) >= PEOPLE - 1


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
        assert likeness.compare(portrait(seed), altered) is None


def test_the_next_frame_is_another_picture() -> None:
    """The face moves a twentieth of its width before the same backdrop."""
    inner = np.zeros((SIZE, SIZE, 1), np.float32)
    cv2.ellipse(inner, (SIZE // 2, SIZE // 2), (50, 70), 0, 0, 360, 1, -1)
    inner = cv2.GaussianBlur(inner, (0, 0), 4)[..., None]
    for seed in range(PEOPLE):
        moved = np.roll(portrait(seed), 5, axis=1)
        frame = np.rint(inner * moved + (1 - inner) * portrait(seed)).astype(np.uint8)
        assert likeness.compare(portrait(seed), frame) is None


def test_another_colour_of_the_lips_is_another_picture() -> None:
    altered = portrait(1).astype(int)
    altered[118:140, 75:117] += (14, -7, -6)  # hardly any change of grey
    assert likeness.compare(portrait(1), np.clip(altered, 0, 255).astype(np.uint8)) is None


def test_a_mirror_image_is_another_picture() -> None:
    assert likeness.compare(portrait(2), portrait(2)[:, ::-1]) is None


def test_equal_pixels_are_exact_and_one_grey_level_is_near() -> None:
    one = portrait(3).copy()
    assert likeness.compare(portrait(3), one) == "exact"
    one[5, 5, 0] ^= 1
    assert likeness.compare(portrait(3), one) == "near"


@pytest.mark.parametrize("change", ["around", "half", "brighter, jpeg", "left"])
def test_the_order_of_two_images_does_not_matter(change: str) -> None:
    for other in (CHANGES[change](portrait(4)), portrait(5)):
        assert likeness.difference(portrait(4), other) == likeness.difference(other, portrait(4))


def test_pictures_without_detail_are_not_near() -> None:
    """A black frame and a grey wall agree everywhere, and prove nothing."""
    black, wall = np.zeros((80, 80, 3), np.uint8), np.full((90, 90, 3), 120, np.uint8)
    noisy = wall + np.random.default_rng(0).integers(0, 3, wall.shape, np.uint8)
    for first, second in ((black, wall), (wall, noisy), (black, portrait(0)), (black[:1, :1], wall)):
        assert likeness.compare(first, second) is None
    assert likeness.compare(wall, wall.copy()) == "exact"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 70), st.integers(1, 3))
def test_candidates_are_those_of_all_pairs_whatever_the_blocks(seed: int, images: int, rows: int, threads: int) -> None:
    prints = crowd(seed, images)
    first_of = {print_.tobytes(): index for index, print_ in reversed(list(enumerate(prints)))}
    unlike = sorted(first_of.values())
    every = {(one, other) for one in unlike for other in unlike if one < other and _alike(prints[one], prints[other])}
    chained = images - len(unlike)
    pairs = found(prints, threads, rows)
    equal = {pair for pair in pairs if (prints[pair[0]] == prints[pair[1]]).all()}
    assert pairs - equal == every
    assert len(equal) == chained
    linked = duplicates.clusters(images, np.array(sorted(equal)).reshape(-1, 2))
    assert linked.tolist() == [first_of[print_.tobytes()] for print_ in prints]


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """The two rules, for one pair."""
    one, other = (duplicates._descriptors(print_[None])[0].astype(np.int64) for print_ in (first, second))
    similar = int(one @ other) > duplicates.SIMILAR * duplicates.SCALE**2
    return similar and bool(duplicates._rest(first[None], second[None])[0] <= duplicates.REST)


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
def test_clusters_are_what_chains_of_pairs_join(graph: tuple[int, list[tuple[int, int]]], random: object) -> None:
    images, pairs = graph
    smallest = list(range(images))
    for _ in range(images):  # a union by brute force: as many rounds as the longest chain
        for first, second in pairs:
            smallest[first] = smallest[second] = min(smallest[first], smallest[second])
    assert duplicates.clusters(images, np.array(pairs, np.int64)).tolist() == smallest
    random.shuffle(pairs)
    swapped = np.array([pair[::-1] for pair in pairs], np.int64)
    assert duplicates.clusters(images, swapped).tolist() == smallest
