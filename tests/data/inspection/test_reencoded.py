from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ffdi.core.errors import DataError
from ffdi.data.inspection import matched_filter, pixel_traces, reencoded
from ffdi.data.inspection.matched_filter import ClassSums
from ffdi.data.inspection.pixel_traces import COARSE, EDGE, SIDES, STEPS
from ffdi.data.labels.table import Table
from ffdi.demo import portraits
from ffdi.synthetic import operations

Change = Callable[[np.ndarray], np.ndarray]
PIXELS = 96
COUNT = 80


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Portraits with a camera's grain."""
    rng = np.random.default_rng(0)
    drawn = [portraits.draw_portrait(np.random.default_rng([3, number]), PIXELS) for number in range(COUNT)]
    return [np.clip(one + rng.normal(0, 3, one.shape), 0, 255).astype(np.uint8) for one in drawn]


def make_table(folder: Path, target: list[int] | None, group: list[str] | None = None) -> Table:
    names = np.array([f"{number}.png" for number in range(len(target or [0]))])
    labels = None if target is None else np.array(target)
    return Table("train", folder, names, labels, None if group is None else np.array(group), folder)


def plant(folder: Path, pictures: list[np.ndarray], fake: Change, real: Change = lambda one: one) -> dict[str, Any]:
    """Gives pictures random labels, changes those of each class, saves all as PNG, and measures them."""
    target = np.random.default_rng(1).permutation(np.arange(len(pictures)) % 2).tolist()
    table = make_table(folder, target)
    for row, (picture, label) in enumerate(zip(pictures, target, strict=True)):
        cv2.imwrite(str(table.path(row)), (fake if label else real)(picture)[..., ::-1])
    sample = reencoded.Sample(table, edge=60)
    for image in reencoded.measure_images(sample, threads=2):
        sample.record(image)
    return reencoded.describe(sample, {"bytes": np.arange(len(pictures))})["predictors"]


def list_shortcuts(found: dict[str, Any]) -> list[str]:
    return [name for name, one in found.items() if one["shortcut"]]


def mark(picture: np.ndarray) -> np.ndarray:
    """White bars with an opacity of 12 % at the lower right."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[67:81, 60:81:4] = 1
    return np.rint(picture + 0.12 * mask[..., None] * (255.0 - picture)).astype(np.uint8)


def draw_border(picture: np.ndarray) -> np.ndarray:
    """The last column and the first two rows are darker by 20 levels."""
    changed = picture.astype(int)
    changed[:, -1] -= 20
    changed[:2, :-1] -= 20
    return np.clip(changed, 0, 255).astype(np.uint8)


def save_as(quality: int) -> Change:
    return lambda picture: operations.compress(operations.compress(picture, quality, 0, 0), 95, 0, 0)


def test_a_watermark_is_found_and_located(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    found = plant(tmp_path, pictures, mark)
    assert list_shortcuts(found) == ["detail"]
    detail = found["detail"]
    assert detail["as they are"]["interval"][0] > 0.75
    where = detail["where"]
    assert where["left"] == pytest.approx(60 / 96, abs=0.05)
    assert where["right"] == pytest.approx(81 / 96, abs=0.05)
    assert where["top"] == pytest.approx(67 / 96, abs=0.05)
    assert where["bottom"] == pytest.approx(81 / 96, abs=0.05)
    assert where["share"] > 0.5
    (line,) = reencoded.list_shortcuts("train", {"predictors": found})
    assert line.startswith(f"detail of the train images: AUC {detail['as they are']['auc']:.3f} (")
    assert f", re-encoded {detail['re-encoded']['auc']:.3f}; x 0.6" in line


def test_a_border_is_found_with_its_sides(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    found = plant(tmp_path, pictures, draw_border)
    assert "edges" in list_shortcuts(found)
    assert found["edges"]["where"] == {"top": 2, "right": 1}
    assert reencoded.format_place("edges", found["edges"]) == "top 2 px, right 1 px"


def test_an_earlier_jpeg_quality_is_found_and_vanishes(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    found = plant(tmp_path, pictures, save_as(75), save_as(90))
    assert list_shortcuts(found) == ["encoding"]
    assert found["encoding"]["as they are"]["auc"] > 0.95
    assert found["encoding"]["re-encoded"]["auc"] < 0.65
    assert "where" not in found["encoding"]


def test_images_without_a_shortcut_raise_no_alarm(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    found = plant(tmp_path, pictures, lambda one: one)
    assert list_shortcuts(found) == []
    assert set(found) == {"bytes", "detail", "brightness", "edges", "encoding"}
    assert all(0.25 < found[name]["as they are"]["auc"] < 0.75 for name in found)


def test_a_difference_of_the_whole_picture_is_no_mark(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    found = plant(tmp_path, pictures, lambda one: np.clip(one.astype(int) + 60, 0, 255).astype(np.uint8))
    brightness = found["brightness"]
    assert brightness["as they are"]["interval"][0] > 0.75
    assert brightness["effect"] > reencoded.LEAST_EFFECT
    assert brightness["area"] > 2 * reencoded.MOST_AREA
    assert not brightness["shortcut"]


def test_a_changed_image_is_named(tmp_path: Path) -> None:
    sample = reencoded.Sample(make_table(tmp_path, [0, 1]), edge=60)
    with pytest.raises(DataError, match=r"0\.png cannot be read"):
        list(reencoded.measure_images(sample, threads=1))


# --- the sample ----------------------------------------------------------------------------------------------------


def test_the_same_share_of_each_class_is_drawn() -> None:
    target = np.array([0] * 300 + [1] * 900)
    rows = reencoded.draw_rows(target, most=400)
    assert np.bincount(target[rows]).tolist() == [100, 300]
    assert np.array_equal(rows, reencoded.draw_rows(target, most=400))
    assert np.array_equal(reencoded.draw_rows(target), np.arange(1200))


@pytest.mark.parametrize(
    ("width", "height", "edge"),
    [([256, 300], [256, 256], 120), ([96, 100], [200, 96], 60), ([28, 28], [28, 28], 32)],
)
def test_re_encoded_images_are_smaller(width: list[int], height: list[int], edge: int) -> None:
    assert reencoded.choose_edge(np.array(width), np.array(height)) == edge


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (None, "train: 1 image without labels"),
        ([0] * 30, "train: 30 real and 0 fake"),
        ([1], "train: 0 real and 1 fake"),
        ([0] * 30 + [1] * 9, "train: 30 real and 9 fake"),
    ],
)
def test_too_few_labels_are_refused(target: list[int] | None, line: str) -> None:
    with pytest.raises(DataError) as caught:
        reencoded.check_labels({"train": make_table(Path("/data"), target)})
    assert str(caught.value) == (
        f"--reencoded needs a split with at least 10 usable images of each class\n  {line}\n"
        "next: run the doctor without --reencoded, or label more images"
    )


def test_one_split_with_enough_labels_is_enough() -> None:
    enough, without = make_table(Path("/data"), [0, 1] * 10), make_table(Path("/data"), None)
    reencoded.check_labels({"train": enough, "test": without})


# --- traces --------------------------------------------------------------------------------------------------------


def test_a_jpeg_rounds_the_waves_of_its_blocks(pictures: list[np.ndarray]) -> None:
    """The first wave of JPEG 75 is a multiple of 6 (ITU-T T.81, table K.1, scaled)."""
    place = list(pixel_traces.PERIODS).index(6)
    as_is, saved = (
        pixel_traces.measure(one).encoding for one in (pictures[0], operations.compress(pictures[0], 75, 0, 0))
    )
    assert pixel_traces.LOWEST[0] == 1
    assert abs(as_is[place]) < 0.3
    assert saved[place] > 0.6


def test_edges_are_steps_from_the_outside(pictures: list[np.ndarray]) -> None:
    before, after = (pixel_traces.measure(one).edges for one in (pictures[0], draw_border(pictures[0])))
    change = (after.astype(int) - before).reshape(len(SIDES), STEPS, COARSE).mean(2)
    expected = np.zeros((len(SIDES), STEPS))
    expected[0, 1] = expected[1, 0] = -127
    assert np.allclose(change, expected, atol=40)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (11, 200), (16, 16)])
def test_images_of_any_size_are_measured(shape: tuple[int, int]) -> None:
    traces = pixel_traces.measure(np.full((*shape, 3), 77, np.uint8))
    assert [len(one) for one in traces] == [EDGE**2, COARSE**2, len(SIDES) * STEPS * COARSE, 293]
    assert np.isfinite(traces.encoding).all()
    assert not traces.detail.any()
    assert (traces.brightness == 77 - 128).all()


# --- the matched filter --------------------------------------------------------------------------------------------


def test_groups_are_never_split() -> None:
    rng = np.random.default_rng(0)
    group, target = rng.integers(0, 30, 200).astype(str), rng.integers(0, 2, 200)
    fold = matched_filter.assign_folds(target, group)
    assert all(len(np.unique(fold[group == one])) == 1 for one in np.unique(group))
    assert sorted(np.unique(fold)) == list(range(matched_filter.FOLDS))
    alone = matched_filter.assign_folds(target, None)
    shares = [target[alone == number].mean() for number in range(matched_filter.FOLDS)]
    assert np.ptp(shares) < 0.05


def test_a_group_of_all_images_gets_no_scores() -> None:
    values, target = np.ones((20, 100), np.int8), np.arange(20) % 2
    fold = matched_filter.assign_folds(target, np.full(20, "one"))
    score, _ = matched_filter.score_by_positions(values, target, fold, (10, 10), shared=False)
    assert not score.any()
    assert not matched_filter.score_by_features(values.astype(np.float32), target, fold).any()


def test_the_filter_uses_the_positions_that_differ() -> None:
    rng, target = np.random.default_rng(0), np.arange(200) % 2
    values = np.rint(rng.normal(0, 20, (200, 10_000))).astype(np.int8)
    values[target == 1, 500:520] += 20
    fold = matched_filter.assign_folds(target, None)
    score, fitted = matched_filter.score_by_positions(values, target, fold, (100, 100), shared=False)
    assert score[target == 1].mean() - score[target == 0].mean() > 2 * score[target == 0].std()
    assert set(np.flatnonzero(np.abs(fitted.effect) > 0.7)) <= set(range(500, 520))
    assert np.count_nonzero(fitted.weight) == 100
    assert fitted.weight[500:520].all()


def test_a_pattern_of_both_classes_is_no_mark() -> None:
    shape = (20, 20)
    mean = np.zeros((2, *shape))
    mean[0, 10, 10], mean[1, 10, 10] = 5, 9  # an eye that is sharper in fakes
    mean[1, 12, 11] = 3  # beside it, as by another alignment
    mean[1, 2, 2] = 3  # a mark
    count = np.full(2, 400.0)
    flat = mean.reshape(2, -1)
    sums = ClassSums(count, count[:, None] * flat, count[:, None] * (flat**2 + 4))
    plain, exact = (matched_filter.fit(sums, shape, shared).effect.reshape(shape) for shared in (False, True))
    assert (plain[10, 10], plain[12, 11], plain[2, 2]) == pytest.approx((1.9, 1.4, 1.4), abs=0.1)
    assert (exact[10, 10], exact[12, 11]) == (0, 0)
    assert exact[2, 2] == plain[2, 2]
