"""Small files and small data sets for the tests of ffdi.data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffdi.data.inspection import scan
from ffdi.data.inspection.scan import ScanResult
from ffdi.data.inspection.scan_store import ScanStore
from ffdi.data.labels.table import Table

Put = Callable[..., Path]
Gallery = Callable[..., Table]


@pytest.fixture
def findings(tmp_path: Path) -> Iterator[ScanStore]:
    """An empty store."""
    store = ScanStore(tmp_path / "store" / "findings.sqlite")
    yield store
    store.close()


def scan_table(table: Table, findings: ScanStore) -> ScanResult:
    """Scans all images of a table."""
    result = ScanResult(table)
    for seen in scan.scan_images(table, findings, 2):
        result.record(seen)
    return result


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put(name, content=b"") writes a file under tmp_path, with the folders on its way."""

    def write(name: str, content: bytes | str = b"") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """gallery(n, same=False, edge=32) writes n PNGs of noise, all alike or each its own, and gives their table."""

    def write(count: int, *, same: bool = False, edge: int = 32) -> Table:
        folder = tmp_path / "trainset"
        folder.mkdir()
        names = [f"{index}.png" for index in range(count)]
        for index, name in enumerate(names):
            pixels = np.random.default_rng(0 if same else index).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
            (folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        target = np.arange(count, dtype=np.int64) % 2
        return Table("train", folder, np.array(names, dtype=str), target, None, tmp_path / "train_label.txt")

    return write
