"""The map of all images."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from ffdi.reporting import image_map
from ffdi.reporting.image_map import CELL, COLUMNS, ImageMap
from tests.reporting.test_pictures import decoded


def fingerprints(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of three scenes in turn, and the scene of each."""
    rng = np.random.default_rng(0)
    scenes, scene = rng.integers(0, 256, (3, 256)), np.arange(count) % 3
    return np.clip(scenes[scene] + rng.normal(0, 8, (count, 256)), 0, 255).astype(np.uint8), scene


@pytest.mark.parametrize("sample", [300, 60])
def test_images_of_a_scene_lie_together_sampled_or_not(sample: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_map, "SAMPLE", sample)
    pixels, scene = fingerprints(150)
    brighter = np.clip(pixels.astype(int) // 2 + 60, 0, 255).astype(np.uint8)
    places = image_map.place_images(image_map.compute_features(np.where(scene[:, None] == 0, brighter, pixels), 0), 0)
    assert (places.min(), places.max()) == (0, 1)
    middle = np.stack([places[scene == one].mean(0) for one in range(3)])
    nearest = np.linalg.norm(places[:, None] - middle, axis=2).argmin(1)
    assert (nearest == scene).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_images_have_places_too(count: int) -> None:
    places = image_map.place_images(image_map.compute_features(fingerprints(count)[0], 0), 0)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_thumbnails_of_chosen_images_come_first() -> None:
    rows = image_map.choose_thumbnails(5000, [7, 4999], 0)
    assert rows[:2] == [7, 4999]
    assert len(rows) == len(set(rows)) == image_map.MAX_THUMBNAILS
    assert sorted(image_map.choose_thumbnails(5, [3], 0)) == [0, 1, 2, 3, 4]


def test_a_thumbnail_has_its_cell_of_the_sheet() -> None:
    sheet = decoded(image_map.draw_sheet(COLUMNS + 2, lambda place: np.full((30, 20, 3), 4 * place, np.uint8)))
    assert sheet.shape == (2 * CELL, COLUMNS * CELL, 3)
    for place in (1, COLUMNS - 1, COLUMNS + 1):
        down, across = divmod(place, COLUMNS)
        assert abs(int(sheet[down * CELL + CELL // 2, across * CELL + CELL // 2, 0]) - 4 * place) < 6


def test_the_pages_columns_are_the_maps() -> None:
    found = ImageMap(
        np.array(["a", "b"]), np.array([[0, 1], [0.5, 0]]), np.array([1, 0]), np.array(["swap", ""]),
        np.array([0.25, 1.0]), [1], "",
    ).describe()  # fmt: skip

    def read(key: str, kind: str) -> list[int]:
        return np.frombuffer(base64.b64decode(found[key]), kind).tolist()

    assert read("places", "<u2") == [0, 65535, 32768, 0]
    assert read("scores", "<u2") == [16384, 65535]
    assert read("target", "<u1") == [1, 0]
    assert [found["kinds"][number] for number in read("kind", "<u2")] == ["swap", ""]
    assert found["names"] == ["a", "b"]
