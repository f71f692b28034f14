"""Features on the disk: what was written is read, and what was damaged is missing."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from ffdi.core.errors import DataError, ExperimentError
from ffdi.data.loading.feature_store import RECORD, FeatureStore, FeatureWriter

KEYS = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
BLOCKS = [np.random.default_rng(number).normal(size=(4 + number, 5)).astype(np.float32) for number in range(3)]


def write(folder: Path, *numbers: int) -> None:
    with FeatureWriter(FeatureStore(folder)) as writer:
        for number in numbers:
            writer.add(KEYS[number], BLOCKS[number])


def find(folder: Path) -> list[int]:
    """The blocks that are there; each of them is as it was written."""
    store = FeatureStore(folder)
    found = [number for number, key in enumerate(KEYS) if store.has(key)]
    assert all(np.array_equal(store.read(KEYS[number]), BLOCKS[number]) for number in found)
    return found


def test_blocks_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert find(tmp_path / "features") == []
    write(tmp_path / "features", 0, 2)
    assert find(tmp_path / "features") == [0, 2]
    write(tmp_path / "features", 1)
    assert find(tmp_path / "features") == [0, 1, 2]
    store = pickle.loads(pickle.dumps(FeatureStore(tmp_path / "features")))
    block = store.read(KEYS[1])
    assert (block.dtype, block.flags.writeable) == (np.float32, False)
    assert np.array_equal(block, BLOCKS[1])


@pytest.mark.parametrize("name", ["pack", "index"])
@pytest.mark.parametrize("harm", ["flipped", "cut"])
def test_a_damaged_block_is_missing_and_written_again(name: str, harm: str, tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    place = 6 * BLOCKS[0].nbytes // 5 if name == "pack" else RECORD.itemsize + 3  # in the second block
    content[place] ^= 1
    path.write_bytes(content if harm == "flipped" else content[: place + 1])
    left = [0, 2] if harm == "flipped" else [0]
    assert find(tmp_path) == left
    write(tmp_path, *sorted({0, 1, 2} - set(left)))
    assert find(tmp_path) == [0, 1, 2]


def test_a_killed_writer_leaves_no_damage(tmp_path: Path) -> None:
    """It was killed before the record, or in the middle of it."""
    write(tmp_path, 0)
    index = (tmp_path / "index").read_bytes()
    write(tmp_path, 1)
    for count in (0, RECORD.itemsize - 1):
        (tmp_path / "index").write_bytes(index + (tmp_path / "index").read_bytes()[len(index) :][:count])
        assert find(tmp_path) == [0]
        write(tmp_path, 1)
        assert find(tmp_path) == [0, 1]


def test_a_block_that_is_damaged_later_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 0)
    store = FeatureStore(tmp_path)
    (tmp_path / "pack").write_bytes(bytes(BLOCKS[0].nbytes))
    with pytest.raises(DataError, match="run the same command again"):
        FeatureStore(tmp_path).read(KEYS[0])
    with pytest.raises(DataError, match="has lost features"):
        store.read(KEYS[1])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features")
    (tmp_path / "features").write_text("in its place")
    with pytest.raises(ExperimentError, match="cannot be written"):
        FeatureWriter(store)
