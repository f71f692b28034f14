"""The demonstration competition: its layout, its balance, and that nothing but the pixels tells the label."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock
from sklearn.metrics import roc_auc_score

from ffdi.core import manifests
from ffdi.demo import competition
from ffdi.synthetic.manipulations import MANIPULATIONS

SPLITS = ("train", "val", "test")
SMALL = {"train": 16, "val": 8, "test": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition as everybody gets it; made once for all processes that run tests, which takes half a minute."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with FileLock(place / "demo.lock"):
        if not competition.is_made(place / "demo"):
            competition.write_competition(place / "demo")
    return place / "demo"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(competition, "COUNTS", SMALL)


def _rows(path: Path) -> list[list[str]]:
    content = path.read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"\n")
    return [line.split(",") for line in content.decode("utf-8").splitlines()]


def _families(made: Path) -> list[list[str]]:
    return _rows(made / "families.csv")[1:]


def test_the_layout_is_the_competitions(made: Path) -> None:
    folders = {f"{split}set" for split in SPLITS}
    labels = {f"{split}set_label.txt" for split in SPLITS}
    assert {path.name for path in made.iterdir()} == folders | labels | {"families.csv", "manifest.json"}


@pytest.mark.parametrize("split", SPLITS)
def test_labels_name_every_image_once_and_in_order(made: Path, split: str) -> None:
    header, *rows = _rows(made / f"{split}set_label.txt")
    assert header == ["img_name", "target"]
    names = [name for name, _ in rows]
    assert names == sorted(set(names))
    assert set(names) == {path.name for path in (made / f"{split}set").iterdir()}
    assert len(names) == competition.COUNTS[split]
    assert all(re.fullmatch(r"[0-9a-f]{32}\.jpg", name) for name in names)
    assert Counter(target for _, target in rows) == {"0": len(rows) // 2, "1": len(rows) // 2}


def test_families_are_balanced_and_agree_with_the_labels(made: Path) -> None:
    assert _rows(made / "families.csv")[0] == ["img_name", "split", "family"]
    for split in SPLITS:
        targets = dict(_rows(made / f"{split}set_label.txt")[1:])
        own = {name: family for name, where, family in _families(made) if where == split}
        assert {name: str(int(family != "real")) for name, family in own.items()} == targets
        counts = Counter(family for family in own.values() if family != "real")
        assert set(counts) == set(MANIPULATIONS)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_no_image_stands_twice(made: Path) -> None:
    names = [name for name, _, _ in _families(made)]
    assert len(set(names)) == len(names)
    contents = {
        hashlib.sha256((made / f"{split}set" / name).read_bytes()).digest() for name, split, _ in _families(made)
    }
    assert len(contents) == len(names)


def test_the_order_of_names_does_not_tell_the_label(made: Path) -> None:
    targets = np.array([family != "real" for _, split, family in sorted(_families(made)) if split == "train"])
    assert _separation(targets, np.arange(len(targets))) <= 0.55
    assert 0.4 < np.mean(targets[1:] != targets[:-1]) < 0.6


def _separation(targets: np.ndarray, values: np.ndarray) -> float:
    """AUC of one number, whichever way it points."""
    area = float(roc_auc_score(targets, values))
    return max(area, 1 - area)


def _measured(made: Path, measure: Callable[[Path], float], *splits: str) -> float:
    """How well one number of the file separates fakes from real images."""
    rows = [row for row in _families(made) if row[1] in splits]
    values = np.array([measure(made / f"{split}set" / name) for name, split, _ in rows])
    return _separation(np.array([family != "real" for _, _, family in rows]), values)


@pytest.mark.parametrize("splits", [("train",), SPLITS])
def test_the_size_of_the_file_does_not_tell_the_label(made: Path, splits: tuple[str, ...]) -> None:
    assert _measured(made, lambda path: path.stat().st_size, *splits) <= 0.55


def test_format_and_dimensions_are_the_same_for_all(made: Path) -> None:
    for name, split, _ in _families(made):
        path = made / f"{split}set" / name
        content = path.read_bytes()
        assert content.startswith(b"\xff\xd8\xff\xe0")
        assert content.endswith(b"\xff\xd9")
        assert cv2.imread(str(path)).shape == (competition.SIZE, competition.SIZE, 3)


@pytest.mark.parametrize("splits", [("train",), SPLITS])
def test_brightness_and_saturation_do_not_tell_the_label(made: Path, splits: tuple[str, ...]) -> None:
    def brightness(path: Path) -> float:
        return float(cv2.imread(str(path)).mean())

    def saturation(path: Path) -> float:
        return float(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2HSV)[..., 1].mean())

    assert _measured(made, brightness, *splits) < 0.58
    assert _measured(made, saturation, *splits) < 0.58


def test_the_manifest_describes_the_competition(made: Path) -> None:
    manifest = manifests.read_manifest(made / "manifest.json")
    assert (manifest["version"], manifest["seed"]) == (competition.VERSION, 0)
    assert manifest["images"] == sum(competition.COUNTS.values()) == len(_families(made))
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["digest"])


def test_is_made_asks_for_version_and_seed(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert competition.is_made(made)
    assert not competition.is_made(made, seed=1)
    assert not competition.is_made(tmp_path)
    monkeypatch.setattr(competition, "VERSION", competition.VERSION + 1)
    assert not competition.is_made(made)


def _digest(folder: Path, seed: int) -> str:
    competition.write_competition(folder, seed)
    return str(manifests.read_manifest(folder / "manifest.json")["digest"])


@pytest.mark.usefixtures("small")
def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    one, same, other = (_digest(tmp_path / name, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert one == same
    assert one != other
    first, second = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second


@pytest.mark.usefixtures("small")
def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = _digest(tmp_path / "one", 0)
        cv2.setNumThreads(4)
        four = _digest(tmp_path / "four", 0)
    finally:
        cv2.setNumThreads(threads)
    assert one == four


@pytest.mark.usefixtures("small")
def test_an_interrupted_make_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = competition._write_split

    def failing(root: Path, split: str, samples: list[competition.Sample]) -> None:
        if split == "test":
            raise KeyboardInterrupt
        write(root, split, samples)

    monkeypatch.setattr(competition, "_write_split", failing)
    with pytest.raises(KeyboardInterrupt):
        competition.write_competition(tmp_path / "competition")
    assert list(tmp_path.iterdir()) == []
    assert not competition.is_made(tmp_path / "competition")


@pytest.mark.usefixtures("small")
def test_making_again_replaces_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "competition"
    folder.mkdir()
    (folder / "left-over").write_text("x")
    competition.write_competition(folder)
    assert competition.is_made(folder)
    assert not (folder / "left-over").exists()
