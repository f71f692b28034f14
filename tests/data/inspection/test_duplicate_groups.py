"""Copies among the images of several tables."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.data.images import decode
from ffdi.data.inspection import duplicate_groups
from ffdi.data.inspection.duplicate_groups import DuplicateGroups
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels import folders
from ffdi.data.labels.table import Table
from ffdi.demo import portraits
from tests.data.conftest import scan_table

SIZE = 160


def portrait(number: int, size: int = SIZE) -> np.ndarray:
    return portraits.draw_portrait(np.random.default_rng([99, number]), size)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)


def folder(place: Path, pictures: dict[str, np.ndarray]) -> Table:
    place.mkdir()
    for name, pixels in pictures.items():
        cv2.imwrite(str(place / name), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return folders.list_folder(place)


def searched(splits: list[Table], findings: ScanStore) -> DuplicateGroups:
    scans = [scan_table(table, findings) for table in splits]
    search = duplicate_groups.Search(scans, findings, 2)
    *_, pairs = search.find_candidates()
    *_, result = search.compare_candidates(pairs)
    return result


def together(result: DuplicateGroups, row: int) -> list[int]:
    return np.flatnonzero(result.cluster == result.cluster[row]).tolist()


def test_copies_are_found_across_tables_and_encodings(tmp_path: Path, findings: ScanStore) -> None:
    a, b, c = (portrait(number) for number in range(3))
    train = folder(tmp_path / "train", {"0.png": a, "1.png": b, "2.png": c, "3.png": a[3:-3, 3:-3]})
    test = folder(tmp_path / "test", {"0.png": portrait(9), "1.bmp": b, "2.png": jpeg(a, 70)})
    (tmp_path / "test" / "9.png").write_bytes((tmp_path / "test" / "0.png").read_bytes())
    test = folders.list_folder(tmp_path / "test")
    result = searched([train, test], findings)
    assert [together(result, row) for row in range(8)] == [
        [0, 3, 6],
        [1, 5],
        [2],
        [0, 3, 6],
        [4, 7],
        [1, 5],
        [0, 3, 6],
        [4, 7],
    ]
    assert result.near == {int(result.cluster[0])}


def test_a_scene_is_not_a_copy_and_has_its_own_number(tmp_path: Path, findings: ScanStore) -> None:
    covered = portrait(0).copy()
    covered[:60, :60] = (200, 40, 90)
    table = folder(tmp_path / "train", {"0.png": portrait(0), "1.png": covered, "2.png": jpeg(portrait(0), 80)})
    result = searched([table], findings)
    assert together(result, 0) == [0, 2]
    assert len(set(result.scene.tolist())) == 1
    again = duplicate_groups.load_known([scan_table(table, findings)], findings)
    assert again is not None
    assert again.scene.tolist() == result.scene.tolist()


def test_unusable_images_have_no_duplicates(tmp_path: Path, findings: ScanStore) -> None:
    table = folder(tmp_path / "train", {"0.png": portrait(0), "1.png": portrait(1)})
    for name in ("2.png", "3.png"):
        (tmp_path / "train" / name).write_bytes(b"")
    table = folders.list_folder(tmp_path / "train")
    assert len(set(searched([table], findings).cluster.tolist())) == 4


def test_pairs_are_compared_once(tmp_path: Path, findings: ScanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = portrait(0)
    changed = pixels.copy()
    changed[60:100, 60:100] = portrait(50)[60:100, 60:100]
    table = folder(tmp_path / "train", {"0.png": pixels, "1.png": jpeg(pixels, 80), "2.png": changed})
    first = searched([table], findings)
    monkeypatch.setattr(decode, "read_image", lambda path: pytest.fail(f"{path} was read again"))
    again = searched([table], findings)
    assert np.array_equal(first.cluster, again.cluster)
    assert first.near == again.near
    assert together(first, 0) == [0, 1]


def test_a_thousand_copies_of_one_file_are_no_thousand_pairs(tmp_path: Path, findings: ScanStore) -> None:
    table = folder(tmp_path / "train", {"0.png": portrait(0, 64), "1.png": portrait(1, 64)})
    for number in range(2, 300):
        (tmp_path / "train" / f"{number:03}.png").hardlink_to(tmp_path / "train" / f"{number % 2}.png")
    table = folders.list_folder(tmp_path / "train")
    search = duplicate_groups.Search([scan_table(table, findings)], findings, 2)
    *_, pairs = search.find_candidates()
    assert (search.files, len(pairs)) == (2, 0)
    *_, result = search.compare_candidates(pairs)
    assert np.unique(result.cluster, return_counts=True)[1].tolist() == [150, 150]
